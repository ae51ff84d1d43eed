"""The user's say in which models run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from medsegagent.errors import UsageError

MOST = 10**9
"""Weights are counted to nine decimals; beyond this they would be no vote but a decree."""


@dataclass(frozen=True)
class Choice:
    """Which of the models that could answer may run, and which first.

    A name is a model's id, a card's name, or the first part of ids (`totalsegmentator` names all of that publisher).

    Attributes:
        per_target: At most so many voters for each target, best rank first.
        prefer: Ranked before all others, in this order.
        only: If any, no others run.
        exclude: Never run.
        weights: Votes other than 1; of several that name a model, the one that names it most closely counts.

    Raises:
        UsageError: If a weight is not a positive number below a billion, or given twice for one name.
    """

    per_target: int = 3
    prefer: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    weights: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        """Check the weights."""
        for name, weight in self.weights:
            if not 0 < weight < MOST:  # NaN is neither
                what = f"the weight of {name!r} is {weight:g}, not a positive number below {MOST:,}"
                raise UsageError(what, "Every model's is 1 otherwise; `exclude` keeps one out.", "weights")
        for name, count in Counter(name for name, _ in self.weights).items():
            if count > 1:
                raise UsageError(f"{name!r} has {count} weights", "Give each name once.", "weights")

    def check(self, known: Collection[tuple[str, str]]) -> None:
        """Refuse names that mean no model.

        Args:
            known: Id and card of every model there is.

        Raises:
            UsageError: If one does.
        """
        given = [("prefer", self.prefer), ("only", self.only), ("exclude", self.exclude)]
        for option, names in (*given, ("weights", [name for name, _ in self.weights])):
            for name in names:
                if not any(_first_named(model_id, card, [name]) is not None for model_id, card in known):
                    words = {word for model_id, card in known for word in (model_id, card, model_id.split("/")[0])}
                    near = get_close_matches(name, sorted(words), n=1)
                    hint = f"Did you mean {near[0]!r}? " if near else ""
                    remedy = f"{hint}`medsegagent models list` and `cards list` show the names."
                    raise UsageError(f"{name!r} is no model, card or publisher", remedy, option)

    def weight(self, model_id: str, card: str) -> tuple[float, str]:
        """A model's vote, and why it is that."""
        named = [item for item in self.weights if _first_named(model_id, card, [item[0]]) is not None]
        if not named:
            return 1.0, "every model's vote weighs 1"
        closest = [model_id, card, *sorted((name for name, _ in named), key=len, reverse=True)]
        name, weight = min(named, key=lambda item: closest.index(item[0]))
        return weight, f"--weight {name}={weight:g}"

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


def weights_named(texts: Iterable[str]) -> tuple[tuple[str, float], ...]:
    """Read `MODEL=WEIGHT`, as the command line gives them.

    Raises:
        UsageError: If one is not of that form.
    """
    weights = []
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            weights.append((name, float(number)))
        except ValueError:
            name = ""
        if not name:
            raise UsageError(f"{text!r} is not MODEL=WEIGHT", "For example: --weight totalsegmentator=2.5", "weights")
    return tuple(weights)


def _first_named(model_id: str, card: str, names: Iterable[str]) -> int | None:
    for place, name in enumerate(names):
        if name in (model_id, card) or model_id.startswith((f"{name}/", f"{name}:")):
            return place
    return None
