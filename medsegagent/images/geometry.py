"""Grids: what makes one usable, and when two are the same."""

# mypy: allow-untyped-calls
from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from medsegagent.errors import ImageError
from medsegagent.images.volume import Grid

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813
    from numpy.typing import NDArray

MAX_COSINE = 1e-3
"""Largest cosine between two index axes that still counts as a right angle (0.06 degrees)."""

_ROUNDING = 1e-6
"""The same for a right angle that float32 rounded."""
_SMALLEST, _LARGEST = 1.0, 5000.0
"""mm: lengths of images of people and of small animals."""

STRAIGHTEN = (
    "Resample it onto a grid with right angles first, for example with 3D Slicer's 'Resample Scalar/Vector/DWI Volume'"
)


def grid_of(image: sitk.Image | sitk.ImageFileReader) -> Grid:
    """Take the grid of a 3D SimpleITK image, or of the header that a reader has read."""
    width, height, depth = image.GetSize()
    return Grid(
        size=(width, height, depth),
        spacing=image.GetSpacing(),
        origin=image.GetOrigin(),
        direction=image.GetDirection(),
    )


def check_axes(matrix: NDArray[np.float64], where: str) -> None:
    """Refuse a 3x3 index-to-patient matrix (columns in mm per voxel) that is singular or sheared.

    Raises:
        ImageError: If an axis has no length, is not finite, or two axes are not at right angles.
    """
    lengths = np.linalg.norm(matrix, axis=0)
    if not np.isfinite(matrix).all() or (lengths < 1e-6).any():
        raise ImageError(
            f"the affine is singular: its axes are {np.round(lengths, 6).tolist()} mm long per voxel",
            "Repair the header's voxel sizes and orientation, or export the image again.",
            where,
        )
    cosines = matrix / lengths
    angles = np.abs(cosines.T @ cosines - np.eye(3)).max()
    if angles > 1 - MAX_COSINE:
        raise ImageError(
            "the affine is singular: two of its axes are parallel",
            "Repair the header's orientation, or export the image again.",
            where,
        )
    if angles > MAX_COSINE:
        worst = float(np.degrees(np.arcsin(min(1.0, angles))))
        raise ImageError(
            f"the affine is sheared: two axes are {worst:.1f} degrees off a right angle (a tilted gantry does this)",
            f"{STRAIGHTEN}.",
            where,
        )


def orthogonal(matrix: NDArray[np.float64], size: Sequence[int]) -> tuple[NDArray[np.float64], float]:
    """Return the nearest 3x3 index-to-patient matrix with right angles, and how far voxels move by it, mm at most.

    One whose axes are at right angles but for rounding comes back as it is.
    """
    lengths = np.linalg.norm(matrix, axis=0)
    cosines = matrix / lengths
    if np.abs(cosines.T @ cosines - np.eye(3)).max() <= _ROUNDING:
        return matrix, 0.0
    left, _, right = np.linalg.svd(cosines)
    upright: NDArray[np.float64] = left @ right * lengths
    corners = np.array(list(itertools.product(*((0, n - 1) for n in size[:3]))))
    return upright, float(np.linalg.norm(corners @ (upright - matrix).T, axis=1).max())


def to_millimetres(
    unit: str, factor: float, size: Sequence[int], spacing: Sequence[float] | NDArray[np.float64]
) -> tuple[float, tuple[str, ...]]:
    """Return by what to multiply a header's lengths, and a warning where that is not 1 or not believed.

    Args:
        unit: What the header says, for people; empty for mm.
        factor: Of that unit, in mm.
        size: Voxels along each axis.
        spacing: Between them, in that unit.
    """
    if factor == 1:
        return 1.0, ()
    extent = max(n * float(step) for n, step in zip(size, spacing, strict=False))
    if not _SMALLEST <= extent * factor <= _LARGEST and _SMALLEST <= extent <= _LARGEST:
        impossible = f"{extent * factor:.3g} mm"
        return 1.0, (f"the header gives lengths in {unit}, by which the image is {impossible} long; taken as mm",)
    return factor, (f"the header gives lengths in {unit}; converted to mm",)


def differences(first: Grid, second: Grid) -> str:
    """Say in what two grids differ: "size 20x24x12 against 10x24x12, spacing ..."; empty if in nothing."""
    found = []
    if first.size != second.size:
        found.append(f"size {'x'.join(map(str, first.size))} against {'x'.join(map(str, second.size))} voxels")
    if not np.allclose(first.spacing, second.spacing, rtol=1e-3):
        one, other = ("x".join(f"{mm:.4g}" for mm in grid.spacing) for grid in (first, second))
        found.append(f"spacing {one} against {other} mm")
    if not np.allclose(first.direction, second.direction, atol=1e-3):
        one, other = orientation(first), orientation(second)
        found.append(f"orientation {one} against {other}" if one != other else f"direction, both about {one}")
    if not np.allclose(first.origin, second.origin, atol=0.1 * min(first.spacing)):
        one, other = (", ".join(f"{mm:.1f}" for mm in grid.origin) for grid in (first, second))
        found.append(f"origin ({one}) against ({other}) mm")
    return ", ".join(found)


def corner_distance(first: Grid, second: Grid) -> float:
    """Return the largest distance in mm between corresponding corners; infinite if the sizes differ."""
    if first.size != second.size:
        return float("inf")
    corners = np.array(list(itertools.product(*((0, n - 1) for n in first.size))))
    return float(np.linalg.norm(first.points(corners) - second.points(corners), axis=1).max())


def same_grid(first: Grid, second: Grid) -> bool:
    """Tell whether corresponding voxels lie within a tenth of the smallest voxel edge of each other."""
    return corner_distance(first, second) <= 0.1 * min(first.spacing)


def orientation(grid: Grid) -> str:
    """Return the patient direction to which each index axis runs, nearest letters, e.g. "LPS" or "RAS"."""
    cosines = np.array(grid.direction).reshape(3, 3)
    return "".join(
        ("L", "P", "S")[row] if cosines[row, column] > 0 else ("R", "A", "I")[row]
        for column, row in enumerate(patient_axes(grid))
    )


def patient_axes(grid: Grid) -> tuple[int, int, int]:
    """Return for each index axis x, y, z the patient axis (0 left, 1 posterior, 2 superior) nearest to it.

    Each patient axis is used once, also for oblique grids.
    """
    cosines = np.abs(np.array(grid.direction).reshape(3, 3))
    orders: list[tuple[int, int, int]] = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    return max(orders, key=lambda order: float(sum(cosines[row, column] for column, row in enumerate(order))))


def describe(grid: Grid) -> str:
    """Say size, spacing, origin and orientation in one line."""
    size = "x".join(map(str, grid.size))
    spacing = "x".join(f"{mm:.4g}" for mm in grid.spacing)
    origin = ", ".join(f"{mm:.1f}" for mm in grid.origin)
    return f"{size} voxels of {spacing} mm, {orientation(grid)}, origin ({origin}) mm"


def not_finite(bad: int, voxels: int, where: str) -> ImageError:
    """Make the error for NaN and infinite voxels."""
    return ImageError(
        f"{bad:,} of {voxels:,} voxels are not finite numbers (NaN or infinite)",
        "Replace them by the background's value (numpy.nan_to_num) and find out where they came from.",
        where,
    )
