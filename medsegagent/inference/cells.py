"""Compiled loops that turn coarse logits into fine labels, interpolating only where more than one class can win.

Linear interpolation is a convex combination of the corners of a coarse *cell*, and rounding to half precision is
monotone. So inside a cell a class whose largest corner is below the largest, over classes, of the smallest corner
cannot win. What remains is interpolated as SciPy's `zoom` does it: float64, the same products in the same order.

Half-precision numbers are read as the int16 with the same bits; `_key` orders those as the numbers are.
Axis order is (class, Z, Y, X) throughout. The loops hold no lock, so that threads can share the work by Z.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

_LOWEST = -32768
_INFINITE = 0x7C00
_HALF_STEP = 1 << 41
"""Half precision keeps 10 bits after the point of float64's 52: half a unit of the last one kept."""

_compiled = numba.njit(nogil=True, cache=True)


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


@_compiled
def _key(bits: np.int16) -> np.int16:
    """An int16 that sorts like the half-precision number with these bits; both zeros are equal."""
    return bits if bits >= 0 else np.int16(-(bits & 0x7FFF))


@_compiled
def _to_half(value: float) -> float:
    """Round to the nearest half-precision number, ties to even; finite values below 65520 only."""
    if abs(value) < 6.103515625e-05:  # subnormal: multiples of 2 ** -24
        return float(np.rint(value * 16777216.0) / 16777216.0)
    bits = np.float64(value).view(np.int64)
    kept = (bits + _HALF_STEP - 1 + ((bits >> 42) & 1)) & -2 * _HALF_STEP
    return float(np.int64(kept).view(np.float64))


@_compiled
def all_finite(bits: NDArray[np.int16], first: int, last: int) -> bool:
    """Whether classes `first` to `last` (exclusive) hold neither NaN nor infinity."""
    for c in range(first, last):
        found = 0
        for z in range(bits.shape[1]):
            for y in range(bits.shape[2]):
                for x in range(bits.shape[3]):
                    found |= (bits[c, z, y, x] & _INFINITE) == _INFINITE
        if found:
            return False
    return True


@_compiled
def _row_bounds(
    bits: NDArray[np.int16],
    c: int,
    z: tuple[int, int],
    y: tuple[int, int],
    x_low: NDArray[np.int64],
    x_high: NDArray[np.int64],
    columns: NDArray[np.int16],
    smallest: NDArray[np.int16],
    largest: NDArray[np.int16],
) -> None:
    """Smallest and largest corner of every cell along a row, for one class. `columns` is scratch, `(2, X)`."""
    for x in range(bits.shape[3]):
        a, b = _key(bits[c, z[0], y[0], x]), _key(bits[c, z[0], y[1], x])
        d, e = _key(bits[c, z[1], y[0], x]), _key(bits[c, z[1], y[1], x])
        columns[0, x] = min(min(a, b), min(d, e))
        columns[1, x] = max(max(a, b), max(d, e))
    for i in range(x_low.size):
        smallest[i] = min(columns[0, x_low[i]], columns[0, x_high[i]])
        largest[i] = max(columns[1, x_low[i]], columns[1, x_high[i]])


@_compiled
def _corners(
    bits: NDArray[np.int16],
    number_of: NDArray[np.float64],
    c: int,
    z: tuple[int, int],
    y: tuple[int, int],
    x: tuple[int, int],
    into: NDArray[np.float64],
) -> None:
    """The eight corner values of a cell, Z slowest."""
    for i in range(2):
        for j in range(2):
            for k in range(2):
                into[4 * i + 2 * j + k] = number_of[np.uint16(bits[c, z[i], y[j], x[k]])]


@_compiled
def _interpolate(
    corner: NDArray[np.float64], z: tuple[float, float], y: tuple[float, float], x: tuple[float, float]
) -> float:
    """SciPy's order: each corner times its Z, then Y, then X weight; summed from the first corner on."""
    total = 0.0
    for i in range(2):
        for j in range(2):
            for k in range(2):
                total += ((corner[4 * i + 2 * j + k] * z[i]) * y[j]) * x[k]
    return _to_half(total)


@_compiled
def _fill(out: NDArray[np.unsignedinteger], z: Axis, y: Axis, x: Axis, cell: tuple[int, int, int], value: int) -> None:
    for oz in range(z.first[cell[0]], z.first[cell[0] + 1]):
        for oy in range(y.first[cell[1]], y.first[cell[1] + 1]):
            for ox in range(x.first[cell[2]], x.first[cell[2] + 1]):
                out[oz, oy, ox] = value


@_compiled
def _contest(
    corner: NDArray[np.float64],
    candidates: NDArray[np.int16],
    z: Axis,
    y: Axis,
    x: Axis,
    cell: tuple[int, int, int],
    out: NDArray[np.unsignedinteger],
) -> None:
    """Decide a cell voxel by voxel among its candidates, whose corner values are given in the same order."""
    for oz in range(z.first[cell[0]], z.first[cell[0] + 1]):
        for oy in range(y.first[cell[1]], y.first[cell[1] + 1]):
            for ox in range(x.first[cell[2]], x.first[cell[2] + 1]):
                wz, wy, wx = (z.near[oz], z.far[oz]), (y.near[oy], y.far[oy]), (x.near[ox], x.far[ox])
                best, winner = -np.inf, 0
                for j in range(candidates.size):
                    value = _interpolate(corner[j], wz, wy, wx)
                    if value > best:
                        best, winner = value, j
                out[oz, oy, ox] = candidates[winner]


@_compiled
def _overlay(
    corner: NDArray[np.float64],
    open_regions: NDArray[np.int16],
    base: int,
    least: float,
    values: NDArray[np.int64],
    z: Axis,
    y: Axis,
    x: Axis,
    cell: tuple[int, int, int],
    out: NDArray[np.unsignedinteger],
) -> None:
    """Write, voxel by voxel, the last of the open regions that is in, else the base (-1: none)."""
    for oz in range(z.first[cell[0]], z.first[cell[0] + 1]):
        for oy in range(y.first[cell[1]], y.first[cell[1] + 1]):
            for ox in range(x.first[cell[2]], x.first[cell[2] + 1]):
                wz, wy, wx = (z.near[oz], z.far[oz]), (y.near[oy], y.far[oy]), (x.near[ox], x.far[ox])
                winner = base
                for j in range(open_regions.size - 1, -1, -1):
                    if _interpolate(corner[j], wz, wy, wx) >= least:
                        winner = open_regions[j]
                        break
                if winner >= 0:
                    out[oz, oy, ox] = values[winner]


@_compiled
def paint_labels(
    bits: NDArray[np.int16],
    z: Axis,
    y: Axis,
    x: Axis,
    number_of: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    first_cell: int,
    last_cell: int,
    out: NDArray[np.unsignedinteger],
) -> None:
    """Write the index of the largest class, the first of equals, into `out`, `(Z, Y, X)`, zeros before.

    Args:
        bits: Half-precision logits as int16.
        z: Interpolation along Z; `y` and `x` alike.
        y: See `z`.
        x: See `z`.
        number_of: The number that each of the 65536 bit patterns means.
        wanted: Per class, whether it is of interest: where no candidate is, `out` stays as it is.
        first_cell: Z cell to start from.
        last_cell: Z cell to stop before.
        out: The labels.
    """
    classes, cells = bits.shape[0], x.low.size
    columns = np.empty((2, bits.shape[3]), np.int16)
    smallest = np.empty(cells, np.int16)
    largest = np.empty((classes, cells), np.int16)
    bound = np.empty(cells, np.int16)
    count = np.empty(cells, np.int64)
    candidates = np.empty((cells, classes), np.int16)
    interesting = np.empty(cells, np.bool_)
    corner = np.empty((classes, 8), np.float64)
    for zi in range(first_cell, last_cell):
        z_pair = (z.low[zi], z.high[zi])
        for yi in range(y.low.size):
            y_pair = (y.low[yi], y.high[yi])
            bound[:] = _LOWEST
            for c in range(classes):
                _row_bounds(bits, c, z_pair, y_pair, x.low, x.high, columns, smallest, largest[c])
                for i in range(cells):
                    bound[i] = max(bound[i], smallest[i])
            _gather(largest, bound, wanted, count, candidates, interesting)
            for i in range(cells):
                if not interesting[i]:
                    continue
                if count[i] == 1:
                    _fill(out, z, y, x, (zi, yi, i), candidates[i, 0])
                    continue
                for j in range(count[i]):
                    _corners(bits, number_of, candidates[i, j], z_pair, y_pair, (x.low[i], x.high[i]), corner[j])
                _contest(corner, candidates[i, : count[i]], z, y, x, (zi, yi, i), out)


@_compiled
def _gather(
    largest: NDArray[np.int16],
    bound: NDArray[np.int16],
    wanted: NDArray[np.bool_],
    count: NDArray[np.int64],
    candidates: NDArray[np.int16],
    interesting: NDArray[np.bool_],
) -> None:
    """Per cell of a row, the classes that can win, and whether one of them is wanted."""
    count[:] = 0
    interesting[:] = False
    for c in range(largest.shape[0]):
        for i in range(bound.size):
            if largest[c, i] >= bound[i]:
                candidates[i, count[i]] = c
                count[i] += 1
                interesting[i] |= wanted[c]


@_compiled
def paint_regions(
    bits: NDArray[np.int16],
    z: Axis,
    y: Axis,
    x: Axis,
    number_of: NDArray[np.float64],
    values: NDArray[np.int64],
    threshold: int,
    first_cell: int,
    last_cell: int,
    out: NDArray[np.unsignedinteger],
) -> None:
    """Paint regions one over the other, in their order: region `i` writes `values[i]` where it is in.

    Args:
        bits: Half-precision logits as int16.
        z: Interpolation along Z; `y` and `x` alike.
        y: See `z`.
        x: See `z`.
        number_of: The number that each of the 65536 bit patterns means.
        values: What each region writes.
        threshold: Bits of the smallest positive number that is in.
        first_cell: Z cell to start from.
        last_cell: Z cell to stop before.
        out: The labels, `(Z, Y, X)`, zeros before.
    """
    regions, cells = bits.shape[0], x.low.size
    columns = np.empty((2, bits.shape[3]), np.int16)
    smallest = np.empty((regions, cells), np.int16)
    largest = np.empty((regions, cells), np.int16)
    corner = np.empty((regions, 8), np.float64)
    undecided = np.empty(regions, np.int16)
    for zi in range(first_cell, last_cell):
        z_pair = (z.low[zi], z.high[zi])
        for yi in range(y.low.size):
            y_pair = (y.low[yi], y.high[yi])
            for c in range(regions):
                _row_bounds(bits, c, z_pair, y_pair, x.low, x.high, columns, smallest[c], largest[c])
            for i in range(cells):
                # The last region that is in everywhere hides those before it; later ones may be in somewhere.
                base, count = -1, 0
                for c in range(regions):
                    if smallest[c, i] >= threshold:
                        base, count = c, 0
                    elif largest[c, i] >= threshold:
                        _corners(bits, number_of, c, z_pair, y_pair, (x.low[i], x.high[i]), corner[count])
                        undecided[count] = c
                        count += 1
                cell = (zi, yi, i)
                if count > 0:
                    _overlay(corner, undecided[:count], base, number_of[threshold], values, z, y, x, cell, out)
                elif base >= 0:
                    _fill(out, z, y, x, cell, values[base])
