"""Masks on the planes of the DICOM images that they were made on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.dicom_frames import Frame
from medsegagent.images.volume import Grid

Vector = NDArray[np.float64]


def on_planes(masks: Sequence[NDArray[np.bool_]], grid: Grid, frames: Sequence[Frame]) -> Iterator[NDArray[np.bool_]]:
    """Look up each pixel of each frame in the masks, nearest voxel; for the series' own grid that is a plain copy.

    Where the volume was straightened or had slices filled in, this is the way back to the slices as scanned.

    Args:
        masks: bool, `(Z, Y, X)` each.
        grid: Of the masks.
        frames: With position, orientation and spacing.

    Yields:
        Per frame, `(segments, rows, columns)`.

    Raises:
        ImageError: If no frame meets the grid: the reference is another patient's, or another part's.
    """
    inverse = np.linalg.inv(np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing))
    met = False
    for frame in frames:
        result = np.zeros((len(masks), *frame.shape), dtype=bool)
        start, down, right = (inverse @ vector for vector in _vectors(frame, grid))
        look_up = _aligned if _runs_along_axes(down, right, frame.shape) else _oblique
        met |= look_up(masks, grid.size, start, down, right, result)
        yield result
    if not met:
        what = "the reference series and the segmentation have no place in common"
        raise ImageError(what, "Give the series that the segmentation was made on.", "--reference")


def _runs_along_axes(down: Vector, right: Vector, shape: tuple[int, int]) -> bool:
    """Whether rows and columns each follow one axis of the grid, to a thousandth of a voxel over the whole frame."""
    parts = [np.abs(step) * n > 1e-3 for step, n in ((down, shape[0]), (right, shape[1]))]
    return [int(part.sum()) for part in parts] == [1, 1] and not (parts[0] & parts[1]).any()


def _aligned(
    masks: Sequence[NDArray[np.bool_]],
    size: tuple[int, int, int],
    start: Vector,
    down: Vector,
    right: Vector,
    result: NDArray[np.bool_],
) -> bool:
    """Fill `result` by whole rows and columns; tell whether the frame meets the grid."""
    row_axis, column_axis = int(np.argmax(np.abs(down))), int(np.argmax(np.abs(right)))
    across = 3 - row_axis - column_axis
    level = round(float(start[across]))
    rows = np.rint(start[row_axis] + down[row_axis] * np.arange(result.shape[1])).astype(int)
    columns = np.rint(start[column_axis] + right[column_axis] * np.arange(result.shape[2])).astype(int)
    in_rows, in_columns = (rows >= 0) & (rows < size[row_axis]), (columns >= 0) & (columns < size[column_axis])
    if not (0 <= level < size[across] and in_rows.any() and in_columns.any()):
        return False
    target = np.ix_(np.flatnonzero(in_rows), np.flatnonzero(in_columns))
    for mask, plane in zip(masks, result, strict=True):
        cut = np.moveaxis(mask.T, across, 0)[level]  # a view: np.take would copy the whole mask
        cut = cut if row_axis < column_axis else cut.T
        plane[target] = cut[np.ix_(rows[in_rows], columns[in_columns])]
    return True


def _oblique(
    masks: Sequence[NDArray[np.bool_]],
    size: tuple[int, int, int],
    start: Vector,
    down: Vector,
    right: Vector,
    result: NDArray[np.bool_],
) -> bool:
    """Fill `result` pixel by pixel; tell whether the frame meets the grid."""
    rows, columns = (np.arange(n) for n in result.shape[1:])
    # (3, rows, columns): the voxel index of each pixel, as a sum of one term per row and one per column.
    index = np.rint(start[:, None, None] + np.multiply.outer(down, rows)[:, :, None] + right[:, None, None] * columns)
    inside = ((index >= 0) & (index < np.array(size)[:, None, None])).all(axis=0)
    x, y, z = (axis[inside].astype(int) for axis in index)
    for mask, plane in zip(masks, result, strict=True):
        plane[inside] = mask[z, y, x]
    return bool(inside.any())


def _vectors(frame: Frame, grid: Grid) -> tuple[Vector, Vector, Vector]:
    """From the grid's origin to the first pixel, to the next row, to the next column, in mm."""
    between_rows, between_columns = frame.spacing or (1.0, 1.0)
    row, column = np.array(frame.row), np.array(frame.column)
    return np.array(frame.position) - grid.origin, column * between_rows, row * between_columns
