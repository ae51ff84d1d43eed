"""Frames -> a regular grid: order, duplicates, gantry tilt, missing slices, uneven spacing.

What can be corrected is corrected and said; what would have to be invented is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.dicom_frames import Frame
from medsegagent.images.volume import Grid

_SAME_PLACE_MM = 1e-3
_EVEN = 0.05
"""Deviation from an even spacing, as a share of it, that is rounding and no more."""
_WHOLE = 0.1
"""The same for a gap, in spacings, that stands for whole missing slices."""
_WIDEST_GAP = 3.05
"""Largest step that is filled by interpolation, in spacings: two slices missing in a row."""
_MOST_MISSING = 0.1
_STEEPEST_TILT = 1.0
"""Tangent; real gantries reach tan 30 degrees."""
_PIXEL_TOLERANCE = 0.1
"""In-plane displacement over the whole stack, in pixels, that is rounding and no more."""


@dataclass(frozen=True)
class Layout:
    """How a stack of frames becomes a volume.

    Attributes:
        frames: One per slice, in the order of the grid's z axis.
        duplicates: (Index of the slice, a further frame at the same place.)
        grid: The volume's grid after the corrections.
        offsets: In-plane start of each slice on that grid, `(N, 2)`, rows and columns, in voxels; None for a stack
            without tilt.
        levels: Place of each slice along z, `(N,)`, in voxels of the grid; None where that is 0, 1, 2, ...
        warnings: What was corrected.
    """

    frames: tuple[Frame, ...]
    duplicates: tuple[tuple[int, Frame], ...]
    grid: Grid
    offsets: NDArray[np.float64] | None
    levels: NDArray[np.float64] | None
    warnings: tuple[str, ...]


def arrange(frames: Sequence[Frame]) -> Layout:
    """Arrange parallel frames of one size into a volume.

    The z axis runs along row x column, so the grid is right-handed. A tilted stack is sheared upright and gaps are
    filled along z, both by linear interpolation when the pixels are read.

    Args:
        frames: At least one; all with the same shape, orientation and spacing.

    Raises:
        ImageError: If a position, orientation or spacing is absent or impossible, or if filling the gaps would
            invent too much: more than 10 % of the slices, or more than two in a row.
    """
    first = frames[0]
    if first.row is None or first.column is None or first.spacing is None or any(f.position is None for f in frames):
        raise _refused("the headers do not say where the slices lie (position, orientation or pixel spacing)")
    row, column = np.array(first.row), np.array(first.column)
    if abs(row @ row - 1) > 0.01 or abs(column @ column - 1) > 0.01 or abs(row @ column) > 0.01:
        raise _refused("the image orientation is not a pair of perpendicular unit vectors")
    row = row / np.linalg.norm(row)
    column = column - (column @ row) * row
    column = column / np.linalg.norm(column)
    normal = np.cross(row, column)

    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    kept, duplicates = _distinct(order, positions)
    heights = (positions @ normal)[kept]
    step, levels, warnings = _spacing(heights, first.thickness)
    offsets, lowest, more = _offsets(positions[kept] @ np.stack([column, row], axis=1), heights, first.spacing)

    rows, columns = first.shape
    grown = (0, 0) if offsets is None else np.ceil(offsets.max(axis=0) - 1e-6).astype(int)
    slices = len(kept) if levels is None else round(float(levels[-1])) + 1
    origin = positions[kept[0]] + lowest[0] * column + lowest[1] * row
    if duplicates:
        warnings += (f"duplicate slices left out: {len(duplicates)}",)
    return Layout(
        frames=tuple(frames[i] for i in kept),
        duplicates=tuple((slot, frames[i]) for slot, i in duplicates),
        grid=Grid(
            size=(columns + int(grown[1]), rows + int(grown[0]), slices),
            spacing=(first.spacing[1], first.spacing[0], step),
            origin=(float(origin[0]), float(origin[1]), float(origin[2])),
            direction=tuple(float(value) for value in np.stack([row, column, normal], axis=1).ravel()),
        ),
        offsets=offsets,
        levels=levels,
        warnings=warnings + more,
    )


def _distinct(order: NDArray[np.intp], positions: NDArray[np.float64]) -> tuple[list[int], list[tuple[int, int]]]:
    """Frame numbers at distinct places, and (slice, frame number) for every further one at the same place."""
    kept: list[int] = []
    duplicates: list[tuple[int, int]] = []
    for i in order:
        if kept and float(np.abs(positions[i] - positions[kept[-1]]).max()) < _SAME_PLACE_MM:
            duplicates.append((len(kept) - 1, int(i)))
        else:
            kept.append(int(i))
    return kept, duplicates


def _spacing(
    heights: NDArray[np.float64], thickness: float
) -> tuple[float, NDArray[np.float64] | None, tuple[str, ...]]:
    """The spacing along z (mm), the slices' levels where they are uneven, and a warning then."""
    if len(heights) == 1:
        return thickness or 1.0, None, ()
    steps = np.diff(heights)
    if steps.min() < _SAME_PLACE_MM:
        raise _refused("two slices lie in one plane, side by side")
    even = (heights[-1] - heights[0]) / len(steps)
    if np.abs(heights - heights[0] - even * np.arange(len(heights))).max() <= _EVEN * even:
        return float(even), None, ()
    usual = float(np.median(steps))
    gaps = steps / usual
    if gaps.max() > _WIDEST_GAP:
        widest = int(np.argmax(gaps))
        raise _refused(
            f"between slices {widest + 1} and {widest + 2} lie {steps[widest]:.2f} mm where the spacing is {usual:.2f}"
            " mm: slices are missing"
        )
    if np.abs(gaps - gaps.round()).max() > _WHOLE or gaps.round().min() < 1:
        levels = (heights - heights[0]) / usual
        # The last level is rounded so that the grid ends on the last slice.
        levels = levels * max(1, round(levels[-1])) / levels[-1]
        usual = float((heights[-1] - heights[0]) / levels[-1])
        text = f"the slices lie {steps.min():.2f} to {steps.max():.2f} mm apart; resampled to {usual:.2f} mm"
        return usual, levels, (text,)
    levels = np.concatenate([[0.0], np.cumsum(gaps.round())])
    missing = [int(level) + 2 for level, gap in zip(levels, gaps.round(), strict=False) for _ in range(int(gap) - 1)]
    if len(missing) > max(1.0, _MOST_MISSING * (levels[-1] + 1)):
        raise _refused(f"{len(missing)} of {int(levels[-1]) + 1} slices are missing")
    usual = float((heights[-1] - heights[0]) / levels[-1])
    named = ", ".join(f"{number}" for number in missing)
    return usual, levels, (f"missing slices were interpolated from their neighbours (number {named})",)


def _offsets(
    in_plane: NDArray[np.float64], heights: NDArray[np.float64], spacing: tuple[float, float]
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64], tuple[str, ...]]:
    """Offsets of the slices in voxels (rows, columns), the lowest against the first slice in mm, and a warning."""
    drift = in_plane - in_plane[0]
    none = np.zeros(2)
    if np.abs(drift / np.array(spacing)).max() <= _PIXEL_TOLERANCE:
        return None, none, ()
    depth = heights - heights[0]
    slope = (depth @ drift) / (depth @ depth)
    if np.abs(slope).max() > _STEEPEST_TILT:
        raise _refused("each slice is displaced by more than its distance from the next")
    if np.abs((drift - depth[:, None] * slope) / np.array(spacing)).max() > 1:
        raise _refused("the slices are displaced against each other without any order")
    angle = float(np.degrees(np.arctan(np.linalg.norm(slope))))
    lowest = drift.min(axis=0)
    text = f"the gantry was tilted by {angle:.1f} degrees: the slices were shifted upright by linear interpolation"
    return (drift - lowest) / np.array(spacing), lowest, (text,)


def _refused(what: str) -> ImageError:
    return ImageError(what, "Export the series again, complete and as original slices, or choose another series.")
