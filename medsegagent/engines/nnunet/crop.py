"""The box that a model was trained on: cut out before it runs, pasted back after."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.boxed import Box
from medsegagent.images.volume import Grid, Volume


def box_around(found: Box, grid: Grid, margin_mm: float) -> Box | None:
    """A box with whole voxels up to the margin on each side, within the grid. None if it is empty."""
    sides = []
    for held, size, spacing in zip(found, grid.shape, grid.spacing[::-1], strict=True):
        if held.start >= held.stop:
            return None
        margin = math.floor(margin_mm / spacing + 1e-6)
        sides.append(slice(max(0, held.start - margin), min(size, held.stop + margin)))
    return sides[0], sides[1], sides[2]


def grown(box: Box, held: Box, grid: Grid, margin_mm: float) -> Box:
    """The box, larger on each side where what it holds touches its edge and the grid goes on.

    It grows by the margin or by half its size, whichever is more, so that few steps reach the whole grid; on all sides
    if it holds nothing.

    Args:
        box: On the grid.
        held: What it holds, as a box within it.
        grid: The whole.
        margin_mm: Room around a structure, on each side.
    """
    sides = []
    for own, inner, size, spacing in zip(box, held, grid.shape, grid.spacing[::-1], strict=True):
        length = own.stop - own.start
        step = max(math.ceil(margin_mm / spacing), (length + 1) // 2)
        empty = inner.stop <= inner.start
        low = max(0, own.start - step) if empty or inner.start == 0 else own.start
        high = min(size, own.stop + step) if empty or inner.stop == length else own.stop
        sides.append(slice(low, high))
    return sides[0], sides[1], sides[2]


def widened(box: Box, grid: Grid, least_mm: float) -> Box:
    """The box, on each axis at least so long, as far as the grid goes."""
    sides = []
    for own, size, spacing in zip(box, grid.shape, grid.spacing[::-1], strict=True):
        length = min(size, max(own.stop - own.start, math.ceil(least_mm / spacing)))
        low = min(max(0, (own.start + own.stop - length) // 2), size - length)
        sides.append(slice(low, low + length))
    return sides[0], sides[1], sides[2]


def cut(volume: Volume, box: Box) -> Volume:
    """The part of a volume in a box, at its place in the patient; the array is a view."""
    start = [part.start for part in reversed(box)]
    size = volume.array[box].shape[::-1]
    origin = volume.grid.points(np.array([start]))[0]
    grid = replace(
        volume.grid, size=(size[0], size[1], size[2]), origin=(float(origin[0]), float(origin[1]), float(origin[2]))
    )
    return replace(volume, array=volume.array[box], grid=grid)


def paste(labels: NDArray[np.unsignedinteger], box: Box, grid: Grid) -> NDArray[np.unsignedinteger]:
    """Labels of a box on the whole grid; background elsewhere."""
    whole = np.zeros(grid.shape, dtype=labels.dtype)
    whole[box] = labels
    return whole
