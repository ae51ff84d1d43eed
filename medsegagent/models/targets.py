"""What can be segmented: the concepts that cards have labels for, by kind of image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from medsegagent.cards.library import Library
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import term_key

_UNPLACED = "none"


@dataclass(frozen=True)
class Target:
    """One concept that at least one card has a label for.

    Attributes:
        id: Of the concept.
        name: For people.
        region: Body region, one of the vocabulary's.
        sides: "left", "right", or both, where cards tell them apart.
        cards: Kind of image ("CT", "MR", "PET") -> cards that take such images, by name.
    """

    id: str
    name: str
    region: str
    sides: tuple[str, ...]
    cards: Mapping[str, tuple[str, ...]]


def targets(library: Library) -> tuple[Target, ...]:
    """Everything that the library's cards have labels for, by region and name."""
    vocabulary = library.vocabulary
    families = {card: image_families(library, card) for card in library.cards}
    cards_of: dict[str, dict[str, set[str]]] = {}
    sides: dict[str, set[str]] = {}
    for concept, cards in library.cards_with.items():
        found = cards_of.setdefault(concept.id, {})
        sides.setdefault(concept.id, set()).update({concept.side} - {""})
        for card in cards:
            for family in families[card]:
                found.setdefault(family, set()).add(card)
    rows = [
        Target(
            id=id_,
            name=vocabulary.concept(id_).name,
            region=vocabulary.concept(id_).region.replace(_UNPLACED, "whole_body"),
            sides=tuple(sorted(sides[id_])),
            cards={family: tuple(sorted(cards)) for family, cards in sorted(found.items())},
        )
        for id_, found in cards_of.items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.region, row.name)))


def image_families(library: Library, card: str) -> tuple[str, ...]:
    """The kinds of image that a card's channels take; a PET/CT card takes both."""
    return tuple(sorted({accepted.family for channel in library.channels[card] for accepted in channel}))


def search(rows: Iterable[Target], text: str, vocabulary: Vocabulary) -> tuple[Target, ...]:
    """Targets that a text means or holds (a lung's lobes for "lung"), else those with words that begin like it."""
    rows = tuple(rows)
    meant = {meaning.id for meaning in vocabulary.meanings(term_key(text)) if meaning.flag in "nbam"}
    if found := tuple(row for row in rows if any(vocabulary.contains(whole, row.id) for whole in meant)):
        return found
    words = term_key(text).split()
    return tuple(row for row in rows if _begin(words, (row.name, *vocabulary.concept(row.id).synonyms)))


def _begin(words: list[str], terms: Iterable[str]) -> bool:
    return any(all(any(own.startswith(word) for own in term_key(term).split()) for word in words) for term in terms)
