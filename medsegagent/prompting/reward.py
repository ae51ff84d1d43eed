"""One number for a refinement: how good the last mask is, how straight the way to it, how well the rules were kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_FORMAT_SHARE, _QUALITY_SHARE = 0.2, 0.8
_PER_TURN = 0.01
_PER_GAIN = 0.1
_NOISE = 1e-6


class Reward(NamedTuple):
    """The published reward and its parts, each in [0, 1] but for the penalty.

    Attributes:
        score: 0.2 of `kept_format` and 0.8 of `quality`.
        kept_format: 1 if something was prompted and the last action was to stop; a half for one of both.
        penalty: What was lost since the best mask, in IoU, and 0.01 per turn.
        bonus: A tenth of all gains in IoU.
        quality: The mean of the last IoU and Dice, less the penalty, plus the bonus, held in [0, 1].
    """

    score: float
    kept_format: float
    penalty: float
    bonus: float
    quality: float


def overlaps(truth: NDArray[np.bool_], mask: NDArray[np.bool_]) -> tuple[float, float]:
    """Return IoU and Dice; both 1 if both masks are empty."""
    common = int(np.count_nonzero(truth & mask))
    return from_counts(common, int(np.count_nonzero(truth)), int(np.count_nonzero(mask)))


def from_counts(common: int, first: int, second: int) -> tuple[float, float]:
    """Return IoU and Dice of two masks, from the voxels they share and the voxels each holds."""
    if first + second == 0:
        return 1.0, 1.0
    return common / (first + second - common), 2 * common / (first + second)


def reward(scores: Sequence[tuple[float, float]], *, prompted: bool, stopped: bool) -> Reward:
    """Score a refinement.

    Args:
        scores: IoU and Dice after each turn, at least one.
        prompted: Whether any prompt was given.
        stopped: Whether the last action was to stop.
    """
    iou, dice = scores[-1]
    base = 0.5 * iou + 0.5 * dice if dice else iou
    penalty = bonus = 0.0
    if len(scores) > 1:
        over_time = [score[0] for score in scores]
        lost = max(over_time) - iou
        penalty = (lost if lost > _NOISE else 0.0) + _PER_TURN * len(scores)
        bonus = _PER_GAIN * sum(max(0.0, b - a) for a, b in pairwise(over_time))
    quality = min(1.0, max(0.0, base - penalty + bonus))
    kept_format = (prompted + stopped) / 2
    return Reward(_FORMAT_SHARE * kept_format + _QUALITY_SHARE * quality, kept_format, penalty, bonus, quality)
