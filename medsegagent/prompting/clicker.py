"""The clicker that knows the truth: the next click goes to the middle of the worst error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


class Click(NamedTuple):
    """Array indices (row, column or z, y, x), and whether the place belongs to the structure."""

    at: tuple[int, ...]
    positive: bool


def next_click(
    truth: NDArray[np.bool_],
    mask: NDArray[np.bool_],
    clicked: Iterable[tuple[int, ...]] = (),
    spacing: Sequence[float] | None = None,
) -> Click | None:
    """Click where a mask is wrong, as far as can be from where it is right.

    The deepest point of what is missing (positive) or of what is too much (negative), whichever is deeper; a tie is
    negative, and of equally deep points the first in array order is taken. Depth is the Euclidean distance to the
    error's edge, the image's edge included. This is the published clicker, in as many dimensions as the arrays have.

    Args:
        truth: What is right, 2D or 3D.
        mask: What is to be corrected, same shape.
        clicked: Array indices that were clicked before; they are not clicked again.
        spacing: Of the array's axes, in their order, mm; None counts in voxels, as published.

    Returns:
        None if nothing is wrong, or all of it has been clicked.
    """
    held = ndimage.find_objects((truth | mask).astype(np.uint8))
    if not held:
        return None
    part = held[0]  # beyond it nothing is wrong, so the distances inside are the same
    start = [axis.start for axis in part]
    taken = tuple(tuple(index - low for index, low in zip(at, start, strict=True)) for at in clicked)
    missing = _depth(truth[part] & ~mask[part], taken, spacing)
    extra = _depth(mask[part] & ~truth[part], taken, spacing)
    positive = bool(missing.max() > extra.max())
    depth = missing if positive else extra
    if not depth.max() > 0:
        return None
    at = np.unravel_index(int(depth.argmax()), depth.shape)
    return Click(tuple(int(index) + low for index, low in zip(at, start, strict=True)), positive)


def deepest(mask: NDArray[np.bool_], spacing: Sequence[float] | None = None) -> tuple[int, ...] | None:
    """Return the array index farthest from a mask's edge, the first of equals; None if it is empty."""
    click = next_click(mask, np.zeros_like(mask), spacing=spacing)
    return None if click is None else click.at


def _depth(
    error: NDArray[np.bool_], taken: Iterable[tuple[int, ...]], spacing: Sequence[float] | None
) -> NDArray[np.float64]:
    """Distance of each wrong voxel to the error's edge; 0 where it was clicked."""
    padded = ndimage.distance_transform_edt(np.pad(error, 1), sampling=spacing)
    depth = np.asarray(padded[(slice(1, -1),) * error.ndim], dtype=np.float64)
    for at in taken:
        if all(0 <= index < n for index, n in zip(at, depth.shape, strict=True)):
            depth[at] = 0.0
    return depth
