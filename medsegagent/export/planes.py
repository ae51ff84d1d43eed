"""Masks on the planes of the DICOM images that they were made on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.dicom_frames import Frame
from medsegagent.images.volume import Grid


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
    axes = np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
    inverse = np.linalg.inv(axes)
    upper = np.array(grid.size)
    strides = np.array([1, grid.size[0], grid.size[0] * grid.size[1]])
    flat = [mask.reshape(-1) for mask in masks]
    met = False
    for frame in frames:
        result = np.zeros((len(masks), *frame.shape), dtype=bool)
        start, down, right = (inverse @ vector for vector in _vectors(frame, grid))
        rows, columns = (np.arange(n) for n in frame.shape)
        # (3, rows, columns): the voxel index of each pixel, as a sum of one term per row and one per column.
        index = np.rint(
            start[:, None, None] + np.multiply.outer(down, rows)[:, :, None] + right[:, None, None] * columns
        )
        inside = ((index >= 0) & (index < upper[:, None, None])).all(axis=0)
        met = met or bool(inside.any())
        voxels = (index * strides[:, None, None]).sum(axis=0)[inside].astype(np.int64)
        for mask, plane in zip(flat, result, strict=True):
            plane[inside] = mask[voxels]
        yield result
    if not met:
        what = "the reference series and the segmentation have no place in common"
        raise ImageError(what, "Give the series that the segmentation was made on.", "--reference")


def _vectors(frame: Frame, grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """From the grid's origin to the first pixel, to the next row, to the next column, in mm."""
    between_rows, between_columns = frame.spacing or (1.0, 1.0)
    row, column = np.array(frame.row), np.array(frame.column)
    return np.array(frame.position) - grid.origin, column * between_rows, row * between_columns
