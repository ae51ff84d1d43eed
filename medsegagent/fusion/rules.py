"""Fusion rules: from several models' masks of one target to one. To add one: a function, and an entry in `RULES`."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from medsegagent.fusion.names import RuleName, check_rule
from medsegagent.fusion.tally import Votes

Rule = Callable[[Votes], NDArray[np.bool_]]

_ITERATIONS = 100
"""STAPLE settles within a few dozen on organs; the bound ends what oscillates."""


def majority(votes: Votes) -> NDArray[np.bool_]:
    """In where the yes-weight exceeds half; at exactly half as the best-ranked voter says.

    Globally weighted voting (Artaechevarria et al., IEEE TMI 28(8):1266-1277, 2009), with ties settled.
    """
    fused: NDArray[np.bool_] = votes.yes > votes.total // 2
    if votes.total % 2 == 0:
        fused |= (votes.yes == votes.total // 2) & votes.masks[0]
    return fused


def staple(votes: Votes) -> NDArray[np.bool_]:
    """In where it is more probable than not, with each model's sensitivity and specificity estimated from the masks.

    STAPLE (Warfield et al., IEEE TMI 23(7):903-921, 2004), SimpleITK's. It weighs the voters itself, so the user's
    weights play no part. It runs in the box that holds all votes: with a whole scan around it, specificity would be
    near 1 for everybody and the result near the union.
    """
    import SimpleITK as sitk  # noqa: N813

    if len(votes.masks) == 1 or not votes.yes.any():
        return majority(votes)
    if not (disputed := (votes.yes > 0) & (votes.yes < votes.total)).any():
        return ~disputed & (votes.yes > 0)
    images = [sitk.GetImageFromArray(mask.view(np.uint8)) for mask in votes.masks]
    probability = sitk.STAPLE(images, 1.0, 1, _ITERATIONS)
    fused: NDArray[np.bool_] = sitk.GetArrayViewFromImage(probability) > 0.5
    return fused


def intersection(votes: Votes) -> NDArray[np.bool_]:
    """In where every voter says yes."""
    fused: NDArray[np.bool_] = votes.yes == votes.total
    return fused


def union(votes: Votes) -> NDArray[np.bool_]:
    """In where any voter says yes."""
    fused: NDArray[np.bool_] = votes.yes > 0
    return fused


def best(votes: Votes) -> NDArray[np.bool_]:
    """As the best-ranked voter says; the others only show where they agree."""
    return votes.masks[0].copy()


RULES: dict[RuleName, Rule] = {
    "majority": majority,
    "staple": staple,
    "intersection": intersection,
    "union": union,
    "best": best,
}


def rule_named(name: str) -> Rule:
    """Look a rule up.

    Raises:
        UsageError: If there is none of that name.
    """
    check_rule(name)
    return RULES[cast(RuleName, name)]
