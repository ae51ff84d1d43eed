"""How one axis of a grid is interpolated to another size, as SciPy and nnU-Net do it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Axis(NamedTuple):
    """How one output axis is interpolated from the input axis.

    Cell `i` covers the outputs `first[i]` to `first[i + 1]` (exclusive), all between inputs `low[i]` and `high[i]`;
    output `k` is `near[k] * input[low] + far[k] * input[high]`.
    """

    low: NDArray[np.int64]
    high: NDArray[np.int64]
    first: NDArray[np.int64]
    near: NDArray[np.float64]
    far: NDArray[np.float64]


def linear_axis(size_in: int, size_out: int) -> Axis:
    """Order 1 as `scipy.ndimage.zoom(order=1, mode="nearest", grid_mode=True)` computes it."""
    at = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
    before = np.floor(at)
    near = 1.0 - (at - before)
    far = 1.0 - near
    # Beyond the border SciPy keeps the weights and takes the border voxel for both: not the same bits as clipping `at`.
    low = np.clip(before, 0, size_in - 1).astype(np.int64)
    high = np.clip(before + (far > 0), 0, size_in - 1).astype(np.int64)
    return _axis(low, high, near, far)


def nearest_axis(size_in: int, size_out: int) -> Axis:
    """Order 0 as nnU-Net maps the thick axis of anisotropic data (`map_coordinates(order=0, mode="nearest")`)."""
    at = np.clip((size_in / size_out) * (np.arange(size_out) + 0.5) - 0.5, 0, size_in - 1)
    nearest = np.floor(at + 0.5).astype(np.int64)
    return _axis(nearest, nearest, np.ones(size_out), np.zeros(size_out))


def _axis(low: NDArray[np.int64], high: NDArray[np.int64], near: NDArray[np.float64], far: NDArray[np.float64]) -> Axis:
    starts = np.flatnonzero(np.r_[True, (np.diff(low) != 0) | (np.diff(high) != 0)])
    return Axis(low[starts], high[starts], np.r_[starts, len(low)].astype(np.int64), near, far)
