"""The fused result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid


@dataclass(frozen=True)
class Ballot:
    """One model's vote on one structure.

    `dice` is against the fused mask; NaN if both are empty. An outlier's vote is only `counted` if the user wants it.
    """

    model: str
    card: str
    weight: float
    rank: int
    voxels: int
    dice: float
    outlier: bool = False
    counted: bool = True


@dataclass(frozen=True)
class Structure:
    """One fused mask. A pair target with sided voters becomes two structures, left and right.

    Attributes:
        id: File-name-safe and unique, e.g. `kidney_left`.
        name: For people.
        target: The `Target.id` it answers.
        concepts: Vocabulary ids.
        where: The fused mask.
        support: Percentage of yes-weight, 0 to 100.
        ballots: One per model that gives it, best rank first.
        pairwise_dice: (model, model) -> Dice between their own masks; NaN if both are empty.
        layer: Paint order in the multi-label map, 0 first: containing before contained.
        value: Its value in `segmentation.nii.gz`, from 1.
        side: Which half of a pair target this is; None if it is the whole target.
    """

    id: str
    name: str
    target: str
    concepts: tuple[str, ...]
    where: Boxed[np.bool_]
    support: Boxed[np.uint8]
    ballots: tuple[Ballot, ...]
    pairwise_dice: Mapping[tuple[str, str], float]
    layer: int
    value: int
    side: Literal["left", "right"] | None = None

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The fused mask, bool `(Z, Y, X)`; made anew at each call, as all of them together may not fit in memory."""
        return self.where.dense()

    @property
    def agreement(self) -> NDArray[np.uint8]:
        """The percentage of yes-weight, uint8 `(Z, Y, X)`; made anew at each call."""
        return self.support.dense()

    @property
    def mean_dice(self) -> float | None:
        """Mean pairwise Dice between the models whose votes count; None with fewer than two, or if all are empty."""
        counted = {ballot.model for ballot in self.ballots if ballot.counted}
        known = [value for pair, value in self.pairwise_dice.items() if counted.issuperset(pair) and value == value]
        return fmean(known) if known else None


@dataclass(frozen=True)
class Segmentation:
    """All fused structures on the input's grid; they may overlap only where anatomy implies it."""

    grid: Grid
    structures: tuple[Structure, ...]
    warnings: tuple[str, ...] = ()
