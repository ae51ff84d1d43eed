"""Second stage: which cards are about the anatomy asked for."""

from __future__ import annotations

from collections.abc import Iterable

from medsegagent.cards.library import Library
from medsegagent.language.request import Request, Target
from medsegagent.matching.answers import target_answers
from medsegagent.matching.selection import Dropped, Narrowed
from medsegagent.vocabulary import Sided


def by_anatomy(request: Request, library: Library, cards: Iterable[str]) -> tuple[str, ...]:
    """The cards with a label for at least one target, on whichever side, in the order given."""
    about = cards_about(request, library)
    return tuple(name for name in cards if name in about)


def narrow(request: Request, library: Library, cards: Iterable[str]) -> Narrowed:
    """`by_anatomy`, with a reason for each card that goes."""
    before = tuple(cards)
    kept = by_anatomy(request, library, before)
    reason = f"Has no label for {', '.join(target.name for target in request.targets) or 'a target'}."
    gone = set(before) - set(kept)
    dropped = (Dropped(card=name, stage="anatomy", reason=reason) for name in before if name in gone)
    return Narrowed(kept=kept, dropped=tuple(dropped))


def cards_about(request: Request, library: Library) -> frozenset[str]:
    """The names of all cards with a label whose meaning belongs to a target, sides left aside."""
    index = library.cards_with
    found: set[str] = set()
    for target in request.targets:
        for meaning in _meanings(target, library):
            found.update(index.get(meaning, ()))
    return frozenset(found)


def _meanings(target: Target, library: Library) -> frozenset[Sided]:
    both_sides = target.model_copy(update={"side": None})
    return frozenset().union(*target_answers(both_sides, library).tiers)
