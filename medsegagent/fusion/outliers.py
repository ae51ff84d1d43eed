"""Models that say something else altogether: on the wrong side, shifted, of another structure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import median

import numpy as np

from medsegagent.fusion.agreement import dice
from medsegagent.fusion.tally import whole_weights
from medsegagent.images.boxed import Boxed

CONSENSUS = 0.7
"""Dice from which the others count as agreeing: two raters of one organ, even a small or blurred one, exceed it."""
FAR = 0.5
"""An outlier agrees with the others less than this part of how well they agree with each other, so that its Dice with
them is below 0.5 whatever theirs. Honest models of one organ differ by 0.1 to 0.2."""


def find_outliers(masks: Mapping[str, Boxed[np.bool_]], weights: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Find the voters on one target that disagree with the consensus far beyond the others.

    Leave each voter out in turn: `own` is the median of its Dice with each of the others, `theirs` the median over the
    others of the same among themselves. It is an outlier if the others agree (`theirs` >= `CONSENSUS`) and it is far
    from them (`own` < `FAR * theirs`). Rank and order play no part, so that a best-ranked model that is mirrored is
    found as well; medians, so that of five voters two wrong ones do not hide each other. Discarding by overlap with a
    consensus follows SIMPLE (Langerak et al., IEEE TMI 29(12):2000-2008, 2010), whose threshold (mean minus standard
    deviations) means little for three voters.

    Only voters that found something are compared: an empty mask is an answer, "not found", and whether the structure
    is there is what the vote decides; it keeps its vote against. So a model that alone finds something is no outlier
    either. Of the voters compared at least two always remain, with more than half of the weight; otherwise there
    is no consensus (or the user has given one model the say), and nobody is an outlier.

    Args:
        masks: By model id, on one grid.
        weights: By model id.

    Returns:
        Model id -> (`own`, `theirs`); empty with fewer than three voters that found something.
    """
    names = sorted(name for name, mask in masks.items() if mask.any())
    if len(names) < 3:
        return {}
    pairs = {frozenset(pair): dice(masks[pair[0]], masks[pair[1]]) for pair in combinations(names, 2)}

    def closeness(name: str, among: Sequence[str]) -> float:
        return median(pairs[frozenset((name, other))] for other in among if other != name)

    found = {}
    for name in names:
        others = [other for other in names if other != name]
        own, theirs = closeness(name, others), median(closeness(other, others) for other in others)
        if theirs >= CONSENSUS and own < FAR * theirs:
            found[name] = own, theirs
    whole = dict(zip(names, whole_weights([weights[name] for name in names]), strict=True))
    left = [name for name in names if name not in found]
    return found if len(left) > 1 and 2 * sum(whole[name] for name in left) > sum(whole.values()) else {}
