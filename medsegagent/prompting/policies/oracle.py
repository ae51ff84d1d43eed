"""`oracle`: has the truth and clicks in the middle of the worst error. For measuring and for making trajectories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from medsegagent.images.boxed import Box as Slices
from medsegagent.images.boxed import Boxed, hull
from medsegagent.prompting.clicker import next_click
from medsegagent.prompting.policies.base import Act, Answer, State, Stop
from medsegagent.prompting.prompts import Box, Point, Voxel


@dataclass
class Oracle:
    """Begins with a box or a click as wanted, then clicks; stops when the mask is good enough.

    Attributes:
        truth: What is right.
        begin: "click"; or "box", which is flat, in the truth's largest slice, for models that take none in space.
        enough: IoU at which to stop.
    """

    truth: Boxed[np.bool_]
    begin: Literal["click", "box"] = "click"
    enough: float = 1.0
    name: str = "oracle"

    def decide(self, state: State) -> Answer:
        """Correct the worst error."""
        if state.turns and (state.turns[-1].iou or 0.0) >= self.enough:
            return Stop("the mask is good enough")
        if not state.mask.any() and self.begin == "box" and not state.turns and self.truth.any():
            return Act(box_of(self.truth, flat=not state.offered.box3d), "a box around the truth")
        part = _with_margin(hull([self.truth.box, state.mask.box]), state.grid.shape)
        start = [axis.start for axis in part]
        clicked = [
            tuple(index - low for index, low in zip(turn.prompt.voxel[::-1], start, strict=True))
            for turn in state.turns
            if isinstance(turn.prompt, Point)
        ]
        click = next_click(self.truth.at(part), state.mask.at(part), clicked, state.grid.spacing[::-1])
        if click is None:
            return Stop("nothing is left to correct")
        k, j, i = (index + low for index, low in zip(click.at, start, strict=True))
        why = "the middle of what is missing" if click.positive else "the middle of what is too much"
        return Act(Point(voxel=(i, j, k), positive=click.positive), why)


def box_of(mask: Boxed[np.bool_], *, flat: bool) -> Box:
    """The bounding box of a mask; flat: of its largest slice along the array's first axis."""
    if not flat:
        return _box(mask.box)
    areas = np.count_nonzero(mask.inside, axis=(1, 2))
    at = int(areas.argmax())
    slice_ = Boxed.of(mask.inside[at : at + 1])
    z, y, x = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(mask.box, slice_.box, strict=True))
    return _box((slice(z.start + at, z.start + at + 1), y, x))


def _box(part: Slices) -> Box:
    low: Voxel = (part[2].start, part[1].start, part[0].start)
    high: Voxel = (part[2].stop, part[1].stop, part[0].stop)
    return Box(low=low, high=high)


def _with_margin(box: Slices, shape: tuple[int, int, int]) -> Slices:
    z, y, x = (slice(max(0, part.start - 1), min(n, part.stop + 1)) for part, n in zip(box, shape, strict=True))
    return z, y, x
