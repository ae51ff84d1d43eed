"""What running a model gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medsegagent.images.boxed import Boxed


@dataclass(frozen=True)
class Prediction:
    """One model's answer on the input's own grid.

    Attributes:
        model: `InstalledModel.id`.
        card: The card behind it.
        weight: Its vote.
        rank: 1 is the best; settles exact ties.
        masks: Target id -> mask. An empty mask is "not found by this model".
        sides: For an unsided paired target that this model splits: target id -> 0 neither, 1 the patient's left, 2 the
            patient's right.
        seconds: Wall time.
        notes: What the user should know of how the model was run, e.g. where its logits were kept and why.
    """

    model: str
    card: str
    weight: float
    rank: int
    masks: Mapping[str, Boxed[np.bool_]]
    sides: Mapping[str, Boxed[np.uint8]]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A planned model that gave nothing; the others go on."""

    model: str
    card: str
    reason: str
