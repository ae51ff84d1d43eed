"""Splitting a pair ("both kidneys") into left and right, as the models with sided labels say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import cKDTree

from medsegagent.fusion.tally import whole_weights

LEFT, RIGHT = 1, 2


def assign_sides(
    voted: NDArray[np.bool_],
    sides: Sequence[NDArray[np.uint8]],
    weights: Sequence[float],
    spacing: tuple[float, float, float],
) -> NDArray[np.uint8] | None:
    """Give each voxel that any model voted for its side.

    A voxel goes to the side with more weight among the sided models, at equal weight to the side that the best-ranked
    one of them gives it; where they are all silent, to the side of the nearest voxel on which one speaks.

    Args:
        voted: `(Z, Y, X)`, where any model says yes to the pair.
        sides: 0 neither, 1 left, 2 right, `(Z, Y, X)`, one per sided model, best rank first.
        weights: One per sided model.
        spacing: mm along x, y, z.

    Returns:
        0 outside `voted`, else 1 left or 2 right; None if no sided model speaks anywhere, so that nothing can be said.
    """
    whole = whole_weights(weights)
    balance = np.zeros(voted.shape, dtype=np.min_scalar_type(-sum(whole) - 1))
    for side, weight in zip(sides, whole, strict=True):
        np.add(balance, balance.dtype.type(weight), out=balance, where=side == LEFT)
        np.subtract(balance, balance.dtype.type(weight), out=balance, where=side == RIGHT)
    assigned = np.zeros(voted.shape, dtype=np.uint8)
    assigned[balance > 0] = LEFT
    assigned[balance < 0] = RIGHT
    for side in sides:
        np.copyto(assigned, side, where=assigned == 0)
    if not assigned.any():
        return None
    silent = voted & (assigned == 0)
    if silent.any():
        assigned[silent] = _nearest(assigned, silent, spacing)
    assigned[~voted] = 0
    return assigned


def _nearest(
    assigned: NDArray[np.uint8], silent: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> NDArray[np.uint8]:
    """Return the side of the nearest assigned voxel for each silent one, in C order."""
    seeds = assigned > 0
    box = find_objects(seeds.view(np.uint8))[0]
    rim = seeds[box] & ~binary_erosion(seeds[box])  # the nearest seed is always on the rim
    start = np.array([part.start for part in box])
    points = np.argwhere(rim) + start
    zyx = np.array(spacing[::-1])
    _, index = cKDTree(points * zyx).query(np.argwhere(silent) * zyx)
    nearest: NDArray[np.uint8] = assigned[tuple(points[index].T)]
    return nearest
