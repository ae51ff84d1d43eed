"""The plan: the selection made runnable."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

from pydantic import BaseModel, ConfigDict, SerializeAsAny

from medsegagent.models.installed import InstalledModel, NnunetModel


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PartValues(_Frozen):
    """Voxels of one part's label map whose value is in `values` belong to the mask."""

    part: int
    values: tuple[int, ...]


class PlannedTarget(_Frozen):
    """One target by one model: masks are the union over the parts named."""

    target: str
    whole: tuple[PartValues, ...]
    left: tuple[PartValues, ...] = ()
    right: tuple[PartValues, ...] = ()


class _Runs(_Frozen):
    """One model to run, for some of its values."""

    model: SerializeAsAny[NnunetModel | InstalledModel]
    inputs: tuple[int, ...]
    """Per network channel, the index of the volume that feeds it."""
    low_precision: bool = False
    """Whether to compute in bfloat16 on a CPU that has it."""
    locator: Locator | None = None
    """Runs first, to find the box that the model sees. None: it sees the whole image."""

    @property
    @abstractmethod
    def uses(self) -> tuple[PartValues, ...]:
        """Every part's values that are needed."""

    @property
    def needed_parts(self) -> tuple[int, ...]:
        """The parts that run."""
        return tuple(sorted({use.part for use in self.uses}))


class Locator(_Runs):
    """A model that finds the box which another one was trained on, or is to be looked for in."""

    found: tuple[PartValues, ...]
    """What the box holds."""
    margin_mm: float
    """Room around it, on each side."""
    grows: bool = False
    """Whether it only spares work: where the other model finds something at its edge, or there is no box, the other
    model sees more of the image."""

    @property
    def uses(self) -> tuple[PartValues, ...]:
        """What the box holds."""
        return self.found


class PlannedModel(_Runs):
    """One model that votes."""

    targets: tuple[PlannedTarget, ...]
    weight: float = 1.0
    weight_reason: str = ""
    rank: int
    """1 is the best; settles exact ties."""
    reason: str
    """Why this rank."""
    memory: str = ""
    """How much memory it is expected to take, and where its logits go, in a few words."""
    warnings: tuple[str, ...] = ()
    """How it runs unlike what it was trained for, or gives less than was asked for."""

    @property
    def uses(self) -> tuple[PartValues, ...]:
        """Every part's values that some target needs."""
        return tuple(use for target in self.targets for use in (*target.whole, *target.left, *target.right))


class Skipped(_Frozen):
    """A card or model that matched and will not run."""

    card: str
    model: str = ""
    reason: str
    lacks: Literal["channels", "model", "memory", ""] = ""
    """What would make it run, if that is known."""


class Plan(_Frozen):
    """What runs, in which order, where; and what does not, and why."""

    models: tuple[PlannedModel, ...]
    skipped: tuple[Skipped, ...] = ()
    device: str
    device_reason: str
