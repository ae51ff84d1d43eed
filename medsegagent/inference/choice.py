"""The user's say in which models run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """Which of the models that could answer may run, and which first.

    A name is a model's id, a card's name, or the first part of ids (`totalsegmentator` names all of that publisher).

    Attributes:
        per_target: At most so many voters for each target, best rank first.
        prefer: Ranked before all others, in this order.
        only: If any, no others run.
        exclude: Never run.
    """

    per_target: int = 3
    prefer: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def forbids(self, model_id: str, card: str) -> str | None:
        """Why a model may not run, or None if it may."""
        if self.excludes(model_id, card):
            return "excluded by --exclude"
        if self.only and _first_named(model_id, card, self.only) is None:
            return "not named by --only"
        return None

    def excludes(self, model_id: str, card: str) -> bool:
        """Whether a model may not even help another one."""
        return _first_named(model_id, card, self.exclude) is not None

    def position(self, model_id: str, card: str) -> int:
        """The place among the preferred; behind them all for the rest."""
        place = _first_named(model_id, card, self.prefer)
        return len(self.prefer) if place is None else place


def _first_named(model_id: str, card: str, names: Iterable[str]) -> int | None:
    for place, name in enumerate(names):
        if name in (model_id, card) or model_id.startswith((f"{name}/", f"{name}:")):
            return place
    return None
