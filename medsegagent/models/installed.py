"""A usable model on disk, in its card's words; each kind of model adds what its engine needs to know."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, SerializeAsAny

from medsegagent.cards.card import Crop, Fold
from medsegagent.models.effort import FAST_STEP, Effort


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class InstalledPart(_Frozen):
    """One network on disk, and what it gives in the card's words."""

    folder: Path
    labels: dict[str, tuple[int, ...]]
    """Card label -> the network's own output values; a label it does not give is absent."""


class InstalledModel(_Frozen):
    """One usable model behind a card."""

    kind: str = "nnunet"
    """Names the engine that runs it."""
    id: str
    card: str
    parts: tuple[SerializeAsAny[InstalledPart], ...]
    channels: tuple[str, ...]
    """Per network channel, the card's channel index as a string key."""
    voter: str
    spacing_mm: tuple[float, float, float] | None = None
    """Training grid, x, y, z."""
    num_training: int | None = None
    crop: Crop | None = None
    """The box that it was trained on; None: whole images."""

    def lacks(self, effort: Effort) -> str | None:
        """Why the model cannot run as the user wants it to, or None if it can."""
        return None

    def tuned(self, effort: Effort) -> Self:
        """The model with its settings overridden, as far as its kind knows them."""
        return self


class NnunetFolder(InstalledPart):
    """One trained nnU-Net; `folder` is `.../DATASET/TRAINER__PLANS__CONFIGURATION`, with fold_N/ in it."""

    folds: tuple[Fold, ...]
    checkpoint: str


class NnunetModel(InstalledModel):
    """A model of trained nnU-Nets."""

    kind: Literal["nnunet"] = "nnunet"
    parts: tuple[NnunetFolder, ...]
    use_mirroring: bool | None = None
    tile_step_size: float | None = None
    reorient: Literal["RAS"] | None = None

    def lacks(self, effort: Effort) -> str | None:
        """A fold that is asked for and not installed."""
        for part in self.parts:
            if missing := [fold for fold in effort.folds or () if fold not in part.folds]:
                given = ", ".join(map(str, part.folds))
                return f"fold {missing[0]} (--folds) is not installed, only {given}"
        return None

    def tuned(self, effort: Effort) -> Self:
        """Folds, mirroring and step as the effort says."""
        mirror, step = effort.mirror, effort.tile_step
        if effort.fast:
            mirror = False if mirror is None else mirror
            step = max(FAST_STEP, self.tile_step_size or 0) if step is None else step
        changed: dict[str, object] = {}
        if effort.folds is not None:
            changed["parts"] = tuple(part.model_copy(update={"folds": effort.folds}) for part in self.parts)
        changed |= {} if mirror is None else {"use_mirroring": mirror}
        changed |= {} if step is None else {"tile_step_size": step}
        return self.model_copy(update=changed)
