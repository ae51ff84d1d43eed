"""Implicit requests: "the organ that makes bile", "the tube that air passes through just below the larynx"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

from medsegagent.language.items import Item
from medsegagent.language.mentions import Mention
from medsegagent.vocabulary import Vocabulary

_ENOUGH = 0.62
_EMPTY = frozenset(
    "the a an of in to that which where who what is are be do does it its this that these from for on at by with and or as "
    "organ structure thing part please segment show find me you i my we our image scan ct mri mr pet can could one just when "
    "right after before into your their they them some has have people patient body human outline mark need want contour get "
    "der die das den dem des und ein eine einen im in am zum zur von mit fuer auf bitte segmentiere mir "
    "le la les un une des du de et en dans qui que l d au aux sur el los las y del al una con por para se es".split()
)


def described_span(items: Sequence[Item], mentions: Sequence[Mention]) -> tuple[int, int] | None:
    """The items of a description: a noun that names nothing, and the clause that says what it does."""
    named = {i for m in mentions for i in range(m.first, m.last)}
    for position, item in enumerate(items):
        if not item.has("thing") or not _starts_clause(items, position, named):
            continue
        if position in named and not item.has("neutral") and not items[position].has("thing"):
            continue
        return position, _clause_end(items, position)
    return None


def _starts_clause(items: Sequence[Item], position: int, named: set[int]) -> bool:
    """A relative word follows before anything is named."""
    for distance, item in enumerate(items[position + 1 : position + 6]):
        if item.has("relative", "near"):
            return True
        if item.mark or item.has("modality", "segment", "and") or (position + 1 + distance in named and distance > 2):
            return False
    return False


def _clause_end(items: Sequence[Item], position: int) -> int:
    for index in range(position + 1, len(items)):
        item = items[index]
        if item.is_break or item.has("modality") or (item.mark == "," and not any(i.has("relative") for i in items[index + 1 : index + 3])):
            return index
    return len(items)


def best_description(items: Iterable[Item], vocabulary: Vocabulary) -> str:
    """The concept whose functional description these words fit best; empty if none fits well enough."""
    words = frozenset(piece for item in items if not item.mark and not item.has("modality") for piece in item.key.split(" ")) - _EMPTY
    if not words:
        return ""
    weights = _weights(vocabulary)
    said = sum(weights.get(word, 3.0) for word in words)
    best, winner = 0.0, ""
    for phrase, id_ in vocabulary.descriptions:
        common = words & phrase
        if not common:
            continue
        shared = sum(weights[word] for word in common)
        total = sum(weights[word] for word in phrase)
        score = 0.7 * shared / total + 0.3 * shared / said
        if score > best and shared > 4.0:
            best, winner = score, id_
    return winner if best >= _ENOUGH else ""


@lru_cache(maxsize=4)
def _weights(vocabulary: Vocabulary) -> dict[str, float]:
    """Rare words say more: the logarithm of how seldom a word is in the descriptions."""
    counts: dict[str, int] = {}
    for phrase, _ in vocabulary.descriptions:
        for word in phrase:
            counts[word] = counts.get(word, 0) + 1
    total = len(vocabulary.descriptions) + 1
    return {word: (0.01 if word in _EMPTY else math.log(total / count)) for word, count in counts.items()}


