"""How far models agree, on one structure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from medsegagent.engines.base import Prediction
from medsegagent.fusion.segmentation import Ballot, Structure
from medsegagent.fusion.sides import LEFT, RIGHT
from medsegagent.images.boxed import Boxed, shared


def dice(first: Boxed[np.bool_], second: Boxed[np.bool_]) -> float:
    """Return the Dice coefficient of two masks; NaN if both are empty."""
    sizes = first.count + second.count
    return 2.0 * shared(first, second) / sizes if sizes else float("nan")


def own_mask(prediction: Prediction, structure: Structure) -> Boxed[np.bool_]:
    """Return what one model itself said of a structure: of a pair's half, its own half."""
    return side_of(prediction, structure.target, structure.side, structure.support)


def side_of(
    prediction: Prediction, target: str, side: Literal["left", "right"] | None, support: Boxed[np.uint8]
) -> Boxed[np.bool_]:
    """Return a model's mask of a target, or of one side of it.

    A model that tells no sides is cut where the fused result is: `support` is above 0 exactly on the voxels of this
    side that any model voted for.
    """
    mask = prediction.masks[target]
    if side is None:
        return mask
    here = support.at(mask.box) > 0
    if (told := prediction.sides.get(target)) is not None:
        sides = told.at(mask.box)
        here = (sides == (LEFT if side == "left" else RIGHT)) | (here & (sides == 0))
    return Boxed.within(mask.shape, mask.box, mask.inside & here)


def count_ballots(
    fused: Boxed[np.bool_],
    own: dict[str, Boxed[np.bool_]],
    voters: Sequence[Prediction],
    outliers: Collection[str],
    keep_outliers: bool,
) -> tuple[tuple[Ballot, ...], dict[tuple[str, str], float]]:
    """Compare each voter's own mask (by model id) with the fused one, and with each other voter's."""
    ballots = tuple(
        Ballot(
            model=voter.model,
            card=voter.card,
            weight=voter.weight,
            rank=voter.rank,
            voxels=own[voter.model].count,
            dice=dice(own[voter.model], fused),
            outlier=voter.model in outliers,
            counted=keep_outliers or voter.model not in outliers,
        )
        for voter in voters
    )
    pairs = combinations([voter.model for voter in voters], 2)
    return ballots, {(a, b): dice(own[a], own[b]) for a, b in pairs}
