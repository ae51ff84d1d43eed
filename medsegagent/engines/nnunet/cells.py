"""Compiled loops that turn coarse logits into fine labels, interpolating only where more than one class can win.

Linear interpolation is a convex combination of the corners of a coarse *cell*, and rounding to half precision is
monotone. So inside a cell a class whose largest corner is below the largest, over classes, of the smallest corner
cannot win. What remains is interpolated as SciPy's `zoom` does it: float64, the same products in the same order.

Half-precision numbers are read as the int16 with the same bits; `_key` orders those as the numbers are.
Axis order is (class, Z, Y, X) throughout. The loops hold no lock, so that threads can share the work by Z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.nnunet.axes import Axis

_LOWEST = -32768
_ROWS = 8
"""Input rows bounded at a time: their bounds for a hundred classes stay in the cache."""
_INFINITE = 0x7C00
_HALF_STEP = 1 << 41
"""Half precision keeps 10 bits after the point of float64's 52: half a unit of the last one kept."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile once per machine; where no folder can be written to keep the result, once per process."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:
        return numba.njit(nogil=True)(function)


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
def all_finite(bits: NDArray[np.int16]) -> bool:
    """Whether half-precision numbers, given as flat bits, hold neither NaN nor infinity."""
    found = 0
    for i in range(bits.size):
        found |= (bits[i] & _INFINITE) == _INFINITE
    return found == 0


@_compiled
def _bounds(
    a: NDArray[np.int16],
    b: NDArray[np.int16],
    row: int,
    step: int,
    smallest: NDArray[np.int16],
    largest: NDArray[np.int16],
) -> None:
    """Smallest and largest of each voxel and its neighbours at larger indices, over some rows of one class.

    Plain loops over flat, adjacent elements: they vectorise. Where a row ends, its last voxel is taken together with
    the first of the next row, and the rows after the last are missing: bounds may be wider than need be, never narrower
    for the voxels that have a next row.

    Args:
        a: The rows at one Z, flat, with one row more than asked for (if there is one).
        b: The same rows at the cell's other Z.
        row: Elements from a voxel to its neighbour along Y; 0 if cells do not extend along Y.
        step: The same along X, 1 or 0.
        smallest: Result; `largest` alike.
        largest: See `smallest`.
    """
    size = a.size
    for i in range(size):
        one, other = _key(a[i]), _key(b[i])
        smallest[i] = min(one, other)
        largest[i] = max(one, other)
    if row:
        for i in range(size - row):
            smallest[i] = min(smallest[i], smallest[i + row])
            largest[i] = max(largest[i], largest[i + row])
    if step:
        for i in range(size - 1):
            smallest[i] = min(smallest[i], smallest[i + 1])
            largest[i] = max(largest[i], largest[i + 1])


@_compiled
def _corners(
    planes: tuple[NDArray[np.int16], NDArray[np.int16]],
    number_of: NDArray[np.float64],
    row_starts: tuple[int, int],
    x: tuple[int, int],
    into: NDArray[np.float64],
) -> None:
    """The eight corner values of a cell, Z slowest, from one class's flat planes at the cell's two Z."""
    into[0] = number_of[np.uint16(planes[0][row_starts[0] + x[0]])]
    into[1] = number_of[np.uint16(planes[0][row_starts[0] + x[1]])]
    into[2] = number_of[np.uint16(planes[0][row_starts[1] + x[0]])]
    into[3] = number_of[np.uint16(planes[0][row_starts[1] + x[1]])]
    into[4] = number_of[np.uint16(planes[1][row_starts[0] + x[0]])]
    into[5] = number_of[np.uint16(planes[1][row_starts[0] + x[1]])]
    into[6] = number_of[np.uint16(planes[1][row_starts[1] + x[0]])]
    into[7] = number_of[np.uint16(planes[1][row_starts[1] + x[1]])]


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
    return float(_to_half(total))


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
def _count(
    largest: NDArray[np.int16],
    bound: NDArray[np.int16],
    wanted: NDArray[np.bool_],
    count: NDArray[np.int16],
    latest: NDArray[np.int16],
    interesting: NDArray[np.bool_],
) -> None:
    """Per voxel: how many classes can win, the last of them, and whether any of them is wanted."""
    count[:] = 0
    interesting[:] = False
    for c in range(largest.shape[0]):
        for i in range(bound.size):
            can_win = largest[c, i] >= bound[i]
            count[i] += np.int16(can_win)
            latest[i] = np.int16(c) if can_win else latest[i]
            interesting[i] |= can_win & wanted[c]


@_compiled
def paint_labels(
    bits: NDArray[np.int16],
    axes: tuple[Axis, Axis, Axis],
    number_of: NDArray[np.float64],
    wanted: NDArray[np.bool_],
    width: int,
    cells: tuple[int, int],
    out: NDArray[np.unsignedinteger],
) -> None:
    """Write the index of the largest class, the first of equals, into `out`, `(Z, Y, X)`, zeros before.

    Args:
        bits: Half-precision logits as int16, `(class, Z, Y * X)`.
        axes: Interpolation along Z, Y and X.
        number_of: The number that each of the 65536 bit patterns means.
        wanted: Per class, whether it is of interest: where no candidate is, `out` stays as it is.
        width: The input's size along X.
        cells: First Z cell, and the one to stop before.
        out: The labels.
    """
    z, y, x = axes
    classes, height = bits.shape[0], bits.shape[2] // width
    row, step = width * int((y.low != y.high).any()), int((x.low != x.high).any())
    smallest = np.empty((_ROWS + 1) * width, np.int16)
    largest = np.empty((classes, (_ROWS + 1) * width), np.int16)
    bound = np.empty(_ROWS * width, np.int16)
    count, latest = np.empty(_ROWS * width, np.int16), np.empty(_ROWS * width, np.int16)
    interesting = np.empty(_ROWS * width, np.bool_)
    candidates, corner = np.empty(classes, np.int16), np.empty((classes, 8), np.float64)
    # Z inside: the planes that a cell shares with the last one are still in the cache.
    for top in range(0, height, _ROWS):
        begin, end = top * width, min(top + _ROWS + 1, height) * width
        first_y, last_y = np.searchsorted(y.low, top), np.searchsorted(y.low, top + _ROWS)
        for zi in range(cells[0], cells[1]):
            za, zb = z.low[zi], z.high[zi]
            bound[:] = _LOWEST
            for c in range(classes):
                _bounds(bits[c, za, begin:end], bits[c, zb, begin:end], row, step, smallest, largest[c])
                for i in range(bound.size):
                    bound[i] = max(bound[i], smallest[i])
            _count(largest, bound, wanted, count, latest, interesting)
            for yi in range(first_y, last_y):
                row_starts = (y.low[yi] * width, y.high[yi] * width)
                for xi in range(x.low.size):
                    at = row_starts[0] - begin + x.low[xi]
                    if not interesting[at]:
                        continue
                    if count[at] == 1:
                        _fill(out, z, y, x, (zi, yi, xi), latest[at])
                        continue
                    found = 0
                    for c in range(classes):
                        if largest[c, at] >= bound[at]:
                            pair = (x.low[xi], x.high[xi])
                            _corners((bits[c, za], bits[c, zb]), number_of, row_starts, pair, corner[found])
                            candidates[found] = c
                            found += 1
                    _contest(corner, candidates[:found], z, y, x, (zi, yi, xi), out)


@_compiled
def paint_regions(
    bits: NDArray[np.int16],
    axes: tuple[Axis, Axis, Axis],
    number_of: NDArray[np.float64],
    values: NDArray[np.int64],
    threshold: int,
    width: int,
    cells: tuple[int, int],
    out: NDArray[np.unsignedinteger],
) -> None:
    """Paint regions one over the other, in their order: region `i` writes `values[i]` where it is in.

    Args:
        bits: Half-precision logits as int16, `(region, Z, Y * X)`.
        axes: Interpolation along Z, Y and X.
        number_of: The number that each of the 65536 bit patterns means.
        values: What each region writes.
        threshold: Bits of the smallest positive number that is in.
        width: The input's size along X.
        cells: First Z cell, and the one to stop before.
        out: The labels, `(Z, Y, X)`, zeros before.
    """
    z, y, x = axes
    regions, height = bits.shape[0], bits.shape[2] // width
    row, step = width * int((y.low != y.high).any()), int((x.low != x.high).any())
    smallest = np.empty((regions, (_ROWS + 1) * width), np.int16)
    largest = np.empty((regions, (_ROWS + 1) * width), np.int16)
    undecided, corner = np.empty(regions, np.int16), np.empty((regions, 8), np.float64)
    # Z inside: the planes that a cell shares with the last one are still in the cache.
    for top in range(0, height, _ROWS):
        begin, end = top * width, min(top + _ROWS + 1, height) * width
        first_y, last_y = np.searchsorted(y.low, top), np.searchsorted(y.low, top + _ROWS)
        for zi in range(cells[0], cells[1]):
            za, zb = z.low[zi], z.high[zi]
            for c in range(regions):
                _bounds(bits[c, za, begin:end], bits[c, zb, begin:end], row, step, smallest[c], largest[c])
            for yi in range(first_y, last_y):
                row_starts = (y.low[yi] * width, y.high[yi] * width)
                for xi in range(x.low.size):
                    # The last region that is in everywhere hides those before it; later ones may be in somewhere.
                    at, base, found = row_starts[0] - begin + x.low[xi], -1, 0
                    for c in range(regions):
                        if smallest[c, at] >= threshold:
                            base, found = c, 0
                        elif largest[c, at] >= threshold:
                            pair = (x.low[xi], x.high[xi])
                            _corners((bits[c, za], bits[c, zb]), number_of, row_starts, pair, corner[found])
                            undecided[found] = c
                            found += 1
                    cell, least = (zi, yi, xi), number_of[threshold]
                    if found > 0:
                        _overlay(corner, undecided[:found], base, least, values, z, y, x, cell, out)
                    elif base >= 0:
                        _fill(out, z, y, x, cell, values[base])
