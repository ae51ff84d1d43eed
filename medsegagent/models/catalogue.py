"""The public models of a library's cards: by id, by card, by search, with what a user wants to know beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from medsegagent.cards.card import DatasetCard, NnunetEntry
from medsegagent.cards.library import Library
from medsegagent.errors import UsageError

Access = Literal["download", "page", "licence", "local"]
"""`download`: installs by command; `page`: the archive has to be got by hand from a page; `licence`: only against a
licence number; `local`: no source is named."""


@dataclass(frozen=True)
class Offer:
    """One model of one card. `labels`: only what these need (None: everything); `reason`: why it is chosen."""

    card: DatasetCard
    entry: NnunetEntry
    labels: frozenset[str] | None = None
    reason: str = ""

    @property
    def licence(self) -> str:
        """In the publisher's terms; "unknown" if it is not known."""
        known = {part.source.licence for part in self.entry.parts if part.source and part.source.licence}
        return ", ".join(sorted(known)) or "unknown"

    @property
    def access(self) -> Access:
        """How its weights can be had."""
        sources = [part.source for part in self.entry.parts]
        if not all(sources):
            return "local"
        if any(source.licence_required for source in sources if source):
            return "licence"
        return "download" if all(source.archive for source in sources if source) else "page"


def offers(library: Library) -> Iterator[Offer]:
    """Every model of every card, by card and in the card's order."""
    for card in library:
        for entry in card.models:
            yield Offer(card, entry)


def find(library: Library, model_id: str) -> Offer:
    """One model by id.

    Raises:
        UsageError: If no card has it; names the nearest ones.
    """
    known = {offer.entry.id: offer for offer in offers(library)}
    if model_id not in known:
        near = get_close_matches(model_id, known, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(near)}?" if near else "`medsegagent models search` lists them."
        raise UsageError("no card has this model", hint, model_id)
    return known[model_id]


def of_card(library: Library, name: str) -> tuple[Offer, ...]:
    """The models of one card; the card's first choice comes first.

    Raises:
        CardError: If there is no such card.
        UsageError: If no public model is known for it.
    """
    card = library.get(name)
    if not card.models:
        what = "no public model is known for this card"
        raise UsageError(what, "Train one, or install one that you have: docs/add_a_card.md.", name)
    return tuple(Offer(card, entry) for entry in card.models)


def search(library: Library, text: str) -> tuple[Offer, ...]:
    """Models that a text fits, best first.

    Each word of it must begin a word of the model's id, title or card (name, description, region, channels, labels).
    First come those that have all words in one of these, then those with fewer labels.
    """
    wanted = _words(text)
    found: list[tuple[bool, int, Offer]] = []
    for offer in offers(library):
        pieces = [_words(piece) for piece in _told(offer)]
        if all(any(_begins(word, piece) for piece in pieces) for word in wanted):
            scattered = not any(all(_begins(word, piece) for word in wanted) for piece in pieces)
            found.append((scattered, len(offer.card.labels), offer))
    return tuple(offer for _, _, offer in sorted(found, key=lambda item: item[:2]))


def _told(offer: Offer) -> tuple[str, ...]:
    card, entry = offer.card, offer.entry
    channels = card.channel_names.values()
    return (entry.id, entry.title, card.name, card.description, card.body_region, *channels, *card.labels)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _begins(word: str, piece: list[str]) -> bool:
    return any(other.startswith(word) for other in piece)
