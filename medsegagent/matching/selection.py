"""The answer of matching: which cards, and which of their labels, answer which target."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from medsegagent.language.request import Request
from medsegagent.wording import some

Stage = Literal["modality", "anatomy", "label"]


_MOST_WORDS = 8


def _hint(suggestions: tuple[str, ...]) -> str:
    return f" Near: {', '.join(suggestions)}." if suggestions else ""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelExpression(_Frozen):
    """A union of a card's labels, minus another: KiTS23's kidney is `kidney and masses` minus `kidney masses`.

    Names are the card's label names; `values` are the card's stored values that remain, sorted. A model with its
    own values evaluates `plus` and `minus` on those: (union of `plus`) without (union of `minus`), and then `also`.
    """

    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    """Added back after `minus`: "kidney and its tumour" is kidney without masses, and the tumour."""
    values: tuple[int, ...]


class Partial(_Frozen):
    """What a card has of a target of which it lacks much."""

    held: tuple[str, ...]
    """Names of the parts that it has."""
    of: int
    """Parts in all."""

    def __str__(self) -> str:
        return f"only {len(self.held)} of {self.of} parts ({some(self.held, 3)})"


class TargetLabels(_Frozen):
    """How one card answers one target.

    `left` and `right` are set where the card can tell the sides of an unsided, paired target apart.
    """

    target: str
    """`Target.id`."""
    whole: LabelExpression
    left: LabelExpression | None = None
    right: LabelExpression | None = None
    reason: str = ""
    partial: Partial | None = None
    """Set where the card has too little of the target to vote on it beside others that have all."""


class CardSelection(_Frozen):
    """One card and its answers, at least one."""

    card: str
    targets: tuple[TargetLabels, ...]


class Dropped(_Frozen):
    """Why a card is not in the selection, in one short sentence."""

    card: str
    stage: Stage
    reason: str


class Narrowed(_Frozen):
    """What one stage makes of the cards before it, in their order."""

    kept: tuple[str, ...]
    dropped: tuple[Dropped, ...]


class Selection(_Frozen):
    """Every card that answers the request, sorted by name. Empty: see `refusal`."""

    request: Request
    cards: tuple[CardSelection, ...] = ()
    refusal: str | None = None
    """Why nothing is selected, with what to do next; None when something is."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the instruction is not in the answer: targets that no card has, words that were not understood."""
        answered = {target.target for card in self.cards for target in card.targets}
        absent = [target.name for target in self.request.targets if target.id not in answered] if self.cards else []
        notes = [f"No card of this library has {' or '.join(absent)}; left out."] if absent else []
        notes += [
            f"I do not know {item.span.text!r}; nothing is taken for it.{_hint(item.suggestions)}"
            for item in self.request.unresolved
            if self.cards
        ]
        if self.cards and self.request.unread:
            notes.append(f"Not read: {', '.join(repr(span.text) for span in self.request.unread[:_MOST_WORDS])}.")
        return tuple(notes)

    @property
    def labels(self) -> dict[str, list[int]]:
        """Card name -> sorted stored values, regions flattened: the form in which selections are judged."""
        return {
            card.card: sorted({value for target in card.targets for value in target.whole.values})
            for card in self.cards
        }
