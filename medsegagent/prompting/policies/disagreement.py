"""`disagreement`: the models' own dispute is the guide.

Where all voters agree is known; prompts are taken from there. Where they differ, the promptable model gets one more
vote. What all agree on is never changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medsegagent.fusion.segmentation import Structure
from medsegagent.images.boxed import Box as Slices
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.prompting.clicker import deepest
from medsegagent.prompting.policies.base import Act, Answer, State, Stop
from medsegagent.prompting.prompts import Point, Prompt, Voxel

_MARGIN = 20.0
"""mm around the dispute in which prompts are looked for."""
_CLEAR = 2.0
"""Voxels between a click and anything disputed, where there is room."""


@dataclass(frozen=True)
class Dispute:
    """How the voters stand on one structure.

    Attributes:
        fused: What the vote gave.
        support: Percentage of yes-weight, 0 to 100.
        total: The weight of all voters.
    """

    fused: Boxed[np.bool_]
    support: Boxed[np.uint8]
    total: float

    @classmethod
    def of(cls, structure: Structure) -> Dispute:
        """Read it off a fused structure."""
        total = sum(ballot.weight for ballot in structure.ballots if ballot.counted)
        return cls(structure.where, structure.support, total)

    @property
    def sure(self) -> Boxed[np.bool_]:
        """What all voters have, and the vote left in."""
        box = self.support.box
        return Boxed.within(self.support.shape, box, (self.support.inside == 100) & self.fused.at(box))

    @property
    def open(self) -> Boxed[np.bool_]:
        """Where they differ; without what went to another structure afterwards, on which nothing is to be decided."""
        box = self.support.box
        share, fused = self.support.inside, self.fused.at(box)
        settled_elsewhere = (share > 50) & ~fused
        return Boxed.within(self.support.shape, box, (share > 0) & (share < 100) & ~settled_elsewhere)


def with_vote(dispute: Dispute, mask: Boxed[np.bool_], weight: float = 1.0) -> Boxed[np.bool_]:
    """Count the votes anew where the voters differ, with the promptable model as one more.

    A tie stays as it was. Nothing changes elsewhere.
    """
    box = dispute.support.box
    fused = dispute.fused.at(box)
    yes = dispute.support.inside.astype(np.float64) / 100 * dispute.total + weight * mask.at(box)
    lead = 2 * yes - (dispute.total + weight)
    rounding = 0.011 * dispute.total  # of the percentage
    voted = np.where(np.abs(lead) <= rounding, fused, lead > 0)
    return Boxed.within(dispute.fused.shape, box, np.where(dispute.open.at(box), voted, fused))


@dataclass
class Disagreement:
    """Clicks in what all have and in what none has, near each disputed part, the largest first.

    It begins from nothing, so that the promptable model's vote is its own.
    """

    dispute: Dispute
    name: str = "disagreement"
    _queue: list[Act] | None = field(default=None, repr=False)

    def decide(self, state: State) -> Answer:
        """Give the next click."""
        if self._queue is None:
            self._queue = _clicks(self.dispute, state.grid)
        given = {turn.prompt for turn in state.turns if isinstance(turn.prompt, Point)}
        while self._queue:
            act = self._queue.pop(0)
            if act.prompt not in given:
                return act
        if not self.dispute.open.any():
            return Stop("the models agree on every voxel")
        if not self.dispute.sure.any():
            return Stop("the models agree on no voxel, so there is nothing to prompt with")
        return Stop("every disputed part has been prompted for")


def _clicks(dispute: Dispute, grid: Grid) -> list[Act]:
    unsure, sure = dispute.open, dispute.sure
    if not unsure.any() or not sure.any():
        return []
    spacing = grid.spacing[::-1]
    part = _around(dispute.support.box, spacing, grid.shape)
    core, doubt = sure.at(part), unsure.at(part)
    none = dispute.support.at(part) == 0
    middle = deepest(core, spacing)
    assert middle is not None
    acts = [Act(_point(middle, part, positive=True), "the middle of what all models have")]
    inner = _inner(core, spacing)
    outer = none & (ndimage.distance_transform_edt(none, sampling=spacing) >= _CLEAR * min(spacing))
    labels, count = ndimage.label(doubt, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    for number in np.argsort(-sizes, kind="stable")[: min(count, 8)] + 1:
        here = labels == number
        away = ndimage.distance_transform_edt(~here, sampling=spacing)
        voxels = f"{int(sizes[number - 1]):,} disputed voxels"
        for where, positive in ((outer, False), (inner, True)):
            if where.any():
                near = np.unravel_index(int(np.where(where, away, np.inf).argmin()), where.shape)
                what = "all models have" if positive else "no model has"
                prompt = _point(tuple(int(index) for index in near), part, positive=positive)
                acts.append(Act(prompt, f"what {what}, near {voxels}"))
    return acts


def _inner(core: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.bool_]:
    """The half of the core that lies deepest."""
    depth = ndimage.distance_transform_edt(np.pad(core, 1), sampling=spacing)[1:-1, 1:-1, 1:-1]
    inner: NDArray[np.bool_] = core & (depth >= depth.max() / 2)
    return inner


def _around(box: Slices, spacing: tuple[float, ...], shape: tuple[int, int, int]) -> Slices:
    z, y, x = (
        slice(max(0, part.start - round(_MARGIN / mm)), min(n, part.stop + round(_MARGIN / mm)))
        for part, mm, n in zip(box, spacing, shape, strict=True)
    )
    return z, y, x


def _point(at: tuple[int, ...], part: Slices, *, positive: bool) -> Prompt:
    k, j, i = (index + axis.start for index, axis in zip(at, part, strict=True))
    voxel: Voxel = (i, j, k)
    return Point(voxel=voxel, positive=positive)
