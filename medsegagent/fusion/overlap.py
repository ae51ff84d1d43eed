"""Structures that share voxels: which may, who gives way, and in which order they are painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.base import Prediction
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.boxed import Box, intersection, relative

Contains = Callable[[str, str], bool]
"""Whether the first concept holds the second, by anatomy: a part, a member, a lesion of it."""


@dataclass(frozen=True)
class Draft:
    """A fused structure before overlaps are settled; `mask` is changed in place by `settle`.

    `covers` are the concepts and the lesions asked for with them, `box` holds all that any voter says, `mask` and
    `agreement` are of its shape, `voters` are best rank first: of `everybody` those whose votes
    count.
    """

    id: str
    name: str
    target: str
    concepts: tuple[str, ...]
    covers: frozenset[str]
    side: Literal["left", "right"] | None
    split: bool
    box: Box
    mask: NDArray[np.bool_]
    agreement: NDArray[np.uint8]
    voters: tuple[Prediction, ...]
    everybody: tuple[Prediction, ...]
    outliers: frozenset[str]


def may_overlap(first: Draft, second: Draft, contains: Contains) -> bool:
    """Tell whether anatomy implies that the two share voxels: one concept of one lies in, or is, one of the other's."""
    if {first.side, second.side} == {"left", "right"}:
        return False
    return any(a == b or contains(a, b) or contains(b, a) for a in first.covers for b in second.covers)


def layers(drafts: Sequence[Draft], contains: Contains) -> list[int]:
    """Return each structure's paint layer: 0, or one above the highest of those that contain it."""
    depth = [0] * len(drafts)
    inside = [
        (outer, inner)
        for outer, first in enumerate(drafts)
        for inner, second in enumerate(drafts)
        if outer != inner and _holds(first, second, contains)
    ]
    for _ in drafts:  # longest path; the bound ends it should groups contain each other
        for outer, inner in inside:
            depth[inner] = max(depth[inner], min(depth[outer] + 1, len(drafts)))
    return depth


def _holds(outer: Draft, inner: Draft, contains: Contains) -> bool:
    if {outer.side, inner.side} == {"left", "right"}:
        return False
    if outer.covers == inner.covers:
        return outer.side is None and inner.side is not None
    return any(a != b and contains(a, b) and not contains(b, a) for a in outer.covers for b in inner.covers) or (
        outer.covers > inner.covers
    )


def settle(drafts: Sequence[Draft], contains: Contains) -> None:
    """Take voxels that two structures claim against anatomy away from the less supported one, in place.

    Support is the share of yes-weight at the voxel; at equal support the structure wins that the best-ranked model
    there votes for, and if one model votes for both, the one asked for first.
    """
    for first, second in combinations(drafts, 2):
        if (common := intersection(first.box, second.box)) is None or may_overlap(first, second, contains):
            continue
        ours, theirs = first.mask[relative(common, first.box)], second.mask[relative(common, second.box)]
        if (contested := np.nonzero(ours & theirs))[0].size:
            to_first = _first_wins(first, second, common, contested)
            theirs[contested] = ~to_first
            ours[contested] = to_first


def _first_wins(first: Draft, second: Draft, box: Box, voxels: tuple[NDArray[np.intp], ...]) -> NDArray[np.bool_]:
    """Tell for each contested voxel, given by its place in `box`, whether the first structure keeps it."""
    ours, theirs = (draft.agreement[relative(box, draft.box)][voxels] for draft in (first, second))
    order = sorted({(voter.rank, voter.model) for draft in (first, second) for voter in draft.voters})
    our_best, their_best = (_best_voter(draft, box, voxels, order) for draft in (first, second))
    wins: NDArray[np.bool_] = (ours > theirs) | ((ours == theirs) & (our_best <= their_best))
    return wins


def _best_voter(
    draft: Draft, box: Box, voxels: tuple[NDArray[np.intp], ...], order: list[tuple[int, str]]
) -> NDArray[np.integer]:
    """Return per voxel the place in `order` of the best-ranked model that says yes there."""
    best = np.full(voxels[0].size, len(order))
    for voter in reversed(draft.voters):
        best[voter.masks[draft.target].at(box)[voxels]] = order.index((voter.rank, voter.model))
    return best


def label_map(segmentation: Segmentation) -> NDArray[np.unsignedinteger]:
    """Paint all structures into one map, `(Z, Y, X)`, containing before contained, larger before smaller."""
    top = max((structure.value for structure in segmentation.structures), default=0)
    painted = np.zeros(segmentation.grid.shape, dtype=np.uint8 if top < 256 else np.uint16)
    for structure in sorted(segmentation.structures, key=lambda s: (s.layer, -s.where.count)):
        painted[structure.where.box][structure.where.inside] = structure.value
    return painted


def overlapping(segmentation: Segmentation) -> frozenset[str]:
    """Return the ids of structures that share a voxel with another, so that the label map cannot hold them whole."""
    claims = np.zeros(segmentation.grid.shape, dtype=np.uint16)
    for structure in segmentation.structures:
        claims[structure.where.box] += structure.where.inside
    return frozenset(
        structure.id
        for structure in segmentation.structures
        if bool((claims[structure.where.box][structure.where.inside] > 1).any())
    )
