"""The user's say in how thoroughly each network runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from medsegagent.cards.card import Fold
from medsegagent.errors import UsageError

FAST_STEP = 0.75
"""Step of `fast`: a quarter of each patch overlaps the next one, not a half."""


@dataclass(frozen=True)
class Effort:
    """What overrides a model entry's own settings; None leaves them as they are.

    Attributes:
        folds: Only these of the installed folds; the rest are not averaged in.
        mirror: Average over mirrored patches, along the axes that a checkpoint allows.
        tile_step: Step between patches, as a fraction of the patch, in (0, 1].
        fast: No mirroring, steps of `FAST_STEP`, and bfloat16 on CPUs that have it: quicker, and not nnU-Net's labels
            voxel by voxel. What is set beside it counts more.
        roi: Where a coarser installed model gives the same targets, it runs first, and the model sees only the box
            around what that one finds.

    Raises:
        UsageError: If the step is out of range.
    """

    folds: tuple[Fold, ...] | None = None
    mirror: bool | None = None
    tile_step: float | None = None
    fast: bool = False
    roi: bool = False

    def __post_init__(self) -> None:
        """Check the step."""
        if self.tile_step is not None and not 0 < self.tile_step <= 1:
            what = "the step between patches must be above 0 and at most 1"
            raise UsageError(what, "nnU-Net's own is 0.5.", f"tile_step {self.tile_step:g}")


def folds_named(names: Iterable[str]) -> tuple[Fold, ...] | None:
    """Read folds as users name them: numbers, or "all" for a model trained on every case. None if none is named.

    Raises:
        UsageError: If a name is neither.
    """
    folds: list[Fold] = []
    for name in names:
        if name != "all" and not (name.isascii() and name.isdecimal()):
            raise UsageError(f"no such fold: {name}", 'Give its number, or "all".', "folds")
        folds.append("all" if name == "all" else int(name))
    return tuple(dict.fromkeys(folds)) or None
