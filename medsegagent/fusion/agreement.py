"""How far models agree, on one structure."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medsegagent.fusion.segmentation import Ballot, Structure
from medsegagent.fusion.sides import LEFT, RIGHT
from medsegagent.inference.prediction import Prediction


def dice(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient of two masks; NaN if both are empty."""
    sizes = int(np.count_nonzero(first)) + int(np.count_nonzero(second))
    return 2.0 * int(np.count_nonzero(first & second)) / sizes if sizes else float("nan")


def own_mask(prediction: Prediction, structure: Structure) -> NDArray[np.bool_]:
    """Return what one model itself said of a structure, `(Z, Y, X)`: of a pair's half, its own half."""
    return side_of(prediction, structure.target, structure.side, structure.agreement)


def side_of(
    prediction: Prediction, target: str, side: Literal["left", "right"] | None, agreement: NDArray[np.uint8]
) -> NDArray[np.bool_]:
    """Return a model's mask of a target, or of one side of it.

    A model that tells no sides is cut where the fused result is: `agreement` is above 0 exactly on the voxels of this
    side that any model voted for.
    """
    mask = prediction.masks[target]
    if side is None:
        return mask
    here = agreement > 0
    if (sides := prediction.sides.get(target)) is not None:
        here = (sides == (LEFT if side == "left" else RIGHT)) | (here & (sides == 0))
    return mask & here


def count_ballots(
    fused: NDArray[np.bool_], own: dict[str, NDArray[np.bool_]], voters: tuple[Prediction, ...]
) -> tuple[tuple[Ballot, ...], dict[tuple[str, str], float]]:
    """Compare each voter's own mask (by model id) with the fused one, and with each other voter's."""
    ballots = tuple(
        Ballot(
            model=voter.model,
            card=voter.card,
            weight=voter.weight,
            rank=voter.rank,
            voxels=int(np.count_nonzero(own[voter.model])),
            dice=dice(own[voter.model], fused),
        )
        for voter in voters
    )
    pairs = combinations([voter.model for voter in voters], 2)
    return ballots, {(a, b): dice(own[a], own[b]) for a, b in pairs}
