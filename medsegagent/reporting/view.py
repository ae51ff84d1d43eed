"""Any volume as a radiologist expects to see it: axes turned towards the patient, planes chosen, window set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.boxed import NOWHERE, Box, Boxed, hull
from medsegagent.images.geometry import patient_axes
from medsegagent.images.volume import Grid, Volume

Kind = TypeVar("Kind", bound=np.generic)
Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")

SUV_SHOWN = 10.0
"""Black in a PET picture; the bladder would hide all else if it set the scale."""

_AXIS: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
MARKS: dict[Plane, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "H", "F"),
    "sagittal": ("A", "P", "H", "F"),
}
"""What is at the picture's left, right, top and bottom: radiological convention, seen from the feet, from the front,
and from the patient's left."""


@dataclass(frozen=True)
class Display:
    """How arrays of one grid are shown: array axes turned and flipped to (from feet, from front, from right)."""

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    spacing: tuple[float, float, float]
    """mm along the turned axes."""

    def turn(self, array: NDArray[Kind]) -> NDArray[Kind]:
        """Return a view of `(Z, Y, X)` with axes rising to superior, posterior, left of the patient."""
        steps = [slice(None, None, -1 if flip else 1) for flip in self.flips]
        turned: NDArray[Kind] = np.transpose(array, self.order)[*steps]
        return turned

    def turn_boxed(self, volume: Boxed[Kind]) -> Boxed[Kind]:
        """Turn a volume of which only a box is kept."""
        shape, box = [volume.shape[axis] for axis in self.order], [volume.box[axis] for axis in self.order]
        z, y, x = (
            slice(size - part.stop, size - part.start) if flip and part.stop else part
            for size, part, flip in zip(shape, box, self.flips, strict=True)
        )
        return Boxed((shape[0], shape[1], shape[2]), (z, y, x), self.turn(volume.inside))


def display_of(grid: Grid) -> Display:
    """Find the turn that brings a grid's axes nearest to the patient's; oblique grids keep their obliqueness."""
    axes = patient_axes(grid)  # index axis x, y, z -> patient axis
    cosines = np.array(grid.direction).reshape(3, 3)
    index_axis = [axes.index(patient) for patient in (2, 1, 0)]
    return Display(
        order=(2 - index_axis[0], 2 - index_axis[1], 2 - index_axis[2]),
        flips=tuple(bool(cosines[p, i] < 0) for p, i in zip((2, 1, 0), index_axis, strict=True)),  # type: ignore[arg-type]
        spacing=tuple(grid.spacing[i] for i in index_axis),  # type: ignore[arg-type]
    )


def section(array: NDArray[Kind], plane: Plane, index: int) -> NDArray[Kind]:
    """Cut one slice out of a turned array, rows downwards on the screen, columns to the right."""
    cut: NDArray[Kind] = np.moveaxis(array, _AXIS[plane], 0)[index]
    return cut if plane == "axial" else cut[::-1]


def boxed_section(volume: Boxed[Kind], plane: Plane, index: int) -> NDArray[Kind]:
    """Cut one slice out of a turned volume, as `section`."""
    box = [slice(0, size) for size in volume.shape]
    box[_AXIS[plane]] = slice(index, index + 1)
    return section(volume.at((box[0], box[1], box[2])), plane, 0)


def pixel_size(spacing: tuple[float, float, float], plane: Plane) -> tuple[float, float]:
    """Return mm per row and per column of a section."""
    rows, columns = (mm for axis, mm in enumerate(spacing) if axis != _AXIS[plane])
    return rows, columns


def choose_planes(masks: Mapping[str, Boxed[np.bool_]], most: int = 3) -> list[dict[Plane, int]]:
    """Choose up to `most` rows of one axial, one coronal and one sagittal slice each, so that every structure is seen.

    Each slice shows as much as it can, counted in shares of each structure's own largest section so that small
    structures count like large ones. A structure is seen once a chosen slice holds at least half of its largest
    section in that plane; what is unseen chooses the next row.

    Args:
        masks: Structure id -> turned mask. Empty ones are ignored.
        most: Largest number of rows.

    Returns:
        One dict per row, plane -> slice index; one row of middle slices if every mask is empty.
    """
    areas = {plane: {name: _areas(mask, plane) for name, mask in masks.items()} for plane in PLANES}
    unseen = [name for name, mask in masks.items() if mask.any()]
    if not unseen:
        shape = next(iter(masks.values())).shape
        return [{plane: shape[_AXIS[plane]] // 2 for plane in PLANES}]
    rows: list[dict[Plane, int]] = []
    while unseen and len(rows) < most:
        row = {plane: int(np.argmax(sum(areas[plane][name] for name in unseen))) for plane in PLANES}
        rows.append(row)
        seen = {name for name in unseen if any(areas[plane][name][row[plane]] >= 0.5 for plane in PLANES)}
        unseen = [name for name in unseen if name not in seen] if seen else unseen[1:]
    return rows


def region(masks: Sequence[Boxed[np.bool_]], spacing: tuple[float, float, float], margin: float = 80.0) -> Box:
    """Return the box of all masks with a margin in mm, so that small targets are not lost in a long scan.

    All of the volume if every mask is empty.
    """
    shape, held = masks[0].shape, hull(mask.box for mask in masks)
    if held == NOWHERE:
        return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])
    extra = [round(margin / mm) for mm in spacing]
    z, y, x = (
        slice(max(0, part.start - more), min(size, part.stop + more))
        for part, more, size in zip(held, extra, shape, strict=True)
    )
    return z, y, x


def _areas(mask: Boxed[np.bool_], plane: Plane) -> NDArray[np.float64]:
    """Return the area of each section as a share of the largest."""
    axis = _AXIS[plane]
    area = np.zeros(mask.shape[axis], dtype=np.float64)
    area[mask.box[axis]] = mask.inside.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.int64)
    share: NDArray[np.float64] = area / max(1.0, float(area.max()))
    return share


@dataclass(frozen=True)
class Window:
    """Intensities shown from black to white, and how to say so."""

    low: float
    high: float
    text: str
    inverted: bool = False


def window_for(volume: Volume, concepts: Sequence[str]) -> Window:
    """Choose the window: soft tissue, lung or bone for CT by what is shown, SUV for PET, percentiles for the rest."""
    if volume.evidence.family == "CT":
        for centre, width, words in ((-500, 1500, ("lung",)), (400, 1800, ("vertebra", "rib", "femur", "skull"))):
            if concepts and all(any(word in concept for word in words) for concept in concepts):
                return Window(centre - width / 2, centre + width / 2, f"W {width} L {centre} HU")
        return Window(-160, 240, "W 400 L 40 HU")
    sample = volume.array.reshape(-1)[:: max(1, volume.array.size // 500_000)]
    sample = sample[sample > sample.min()]
    low, high = (float(value) for value in np.percentile(sample, [1, 99.5]))
    if volume.evidence.family == "PET":
        high = SUV_SHOWN if volume.unit == "SUVbw" else high
        return Window(0.0, high, f"0 to {high:.3g} {volume.unit}".rstrip() + ", inverted", inverted=True)
    return Window(low, high, f"{low:.4g} to {high:.4g}")
