"""Implicit requests: "the organ that makes bile", "the tube that air passes through just below the larynx"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from medsegagent.language.items import Item, is_strange
from medsegagent.language.mentions import Mention
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import stem

_ENOUGH = 0.55
_BEYOND_DOUBT = 0.82
_LEAST_WEIGHT = 4.0
_EMPTY = frozenset(
    stem(word)
    for word in [
        "the",
        "a",
        "an",
        "of",
        "in",
        "to",
        "that",
        "which",
        "where",
        "who",
        "what",
        "is",
        "are",
        "be",
        "do",
        "does",
        "it",
        "its",
        "this",
        "that",
        "these",
        "from",
        "for",
        "on",
        "at",
        "by",
        "with",
        "and",
        "or",
        "as",
        "organ",
        "structure",
        "thing",
        "part",
        "please",
        "segment",
        "show",
        "find",
        "me",
        "you",
        "i",
        "my",
        "we",
        "our",
        "image",
        "scan",
        "ct",
        "mri",
        "mr",
        "pet",
        "can",
        "could",
        "one",
        "just",
        "when",
        "right",
        "after",
        "before",
        "into",
        "your",
        "their",
        "they",
        "them",
        "some",
        "has",
        "have",
        "people",
        "patient",
        "body",
        "human",
        "outline",
        "mark",
        "need",
        "want",
        "contour",
        "get",
        "main",
        "two",
        "both",
        "der",
        "die",
        "das",
        "den",
        "dem",
        "des",
        "und",
        "ein",
        "eine",
        "einen",
        "im",
        "in",
        "am",
        "zum",
        "zur",
        "von",
        "mit",
        "fuer",
        "auf",
        "bitte",
        "mir",
        "le",
        "la",
        "les",
        "un",
        "une",
        "du",
        "de",
        "et",
        "en",
        "dans",
        "qui",
        "que",
        "l",
        "d",
        "au",
        "aux",
        "sur",
        "el",
        "los",
        "las",
        "y",
        "del",
        "al",
        "una",
        "con",
        "por",
        "para",
        "se",
        "es",
        "的",
        "を",
        "に",
        "の",
        "が",
    ]
)


@dataclass(frozen=True)
class Described:
    """A description in items `first` to `last` (exclusive), and the concept that it fits."""

    id: str
    first: int
    last: int
    score: float


def find_descriptions(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> list[Described]:
    """Clauses that say what a structure does instead of naming it.

    A clause that begins with a proper name is no description, unless the name is part of what fits beyond doubt
    ("salivary glands under the jaw").
    """
    found = []
    for first, last in _clauses(items):
        clause = items[first:last]
        cue = _first_cue(clause)
        if cue is None or any(is_strange(item, vocabulary) for item in clause):
            continue
        inner = [m for m in mentions if first <= m.first < last]
        described = best_description(clause, vocabulary)
        if described is None or not _says_more(clause, first, inner, described, vocabulary):
            continue
        head = next((m for m in inner if _is_name(m, items, vocabulary)), None)
        named_first = head is not None and head.first - first <= cue and vocabulary.concept(head.id).kind != "region"
        if described.score >= (_BEYOND_DOUBT if named_first else _ENOUGH):
            found.append(Described(described.id, first, last, described.score))
    return found


def _is_name(mention: Mention, items: Sequence[Item], vocabulary: Vocabulary) -> bool:
    """A mention that names its structure by itself, unlike "the disc ..." or "the part of ..."."""
    concept = vocabulary.concept(mention.id)
    loose = concept.kind == "part" and not concept.part_of
    return not (loose or concept.generic or mention.adjective or items[mention.last - 1].has("thing"))


def _says_more(
    clause: Sequence[Item], first: int, inner: Sequence[Mention], described: Described, vocabulary: Vocabulary
) -> bool:
    """Some of the words that fit stand outside the names in the clause."""
    loose = [
        m for m in inner if vocabulary.concept(m.id).generic or vocabulary.concept(m.id).kind == "device"
    ]  # "the tube from ..."
    named = {i - first for m in inner if m not in loose for i in range(m.first, m.last)}
    outside = _content(item for i, item in enumerate(clause) if i not in named)
    return any(words & outside for words, id_ in _descriptions(vocabulary) if id_ == described.id)


def _clauses(items: Sequence[Item]) -> Iterator[tuple[int, int]]:
    """Runs between stops, commas and modalities; a comma before a relative word does not end one."""
    start = 0
    for position, item in enumerate([*items, None]):
        ends = (
            item is None
            or item.is_break
            or _is_plain_modality(item)
            or item.mark == ":"
            or item.has("not")
            or (item.mark in (",", "、") and not _goes_on(items, position))
        )
        if ends:
            if position > start:
                yield start, position
            start = position + 1


def _is_plain_modality(item: Item) -> bool:
    return item.has("modality") and "/" not in item.value("modality")


def _goes_on(items: Sequence[Item], comma: int) -> bool:
    following = items[comma + 1 : comma + 3]
    return any(item.has("relative", "near") or item.word.endswith("ing") for item in following)


def _first_cue(clause: Sequence[Item]) -> int | None:
    """Where the clause first describes: a noun that names nothing, a relative word, a place."""
    for position, item in enumerate(clause):
        loose = any(meaning.id == "lower_part" for meaning in item.meanings)
        if loose or item.has("thing", "relative", "near", "superlative"):
            return position
    return None


def best_description(items: Sequence[Item], vocabulary: Vocabulary) -> Described | None:
    """The concept whose functional description these words fit best, with how well (0 to 1)."""
    words = _content(item for item in items if not item.mark and not _is_plain_modality(item))
    weights = _weights(vocabulary)
    said = sum(weights.get(word, 2.5) for word in words)
    best: Described | None = None
    for phrase, id_ in _descriptions(vocabulary):
        common = words & phrase
        if not common:
            continue
        shared = sum(weights[word] for word in common)
        score = 0.65 * shared / max(sum(weights[word] for word in phrase), 0.1) + 0.35 * shared / said
        if shared >= _LEAST_WEIGHT and (len(common) > 1 or len(phrase) == 1) and (best is None or score > best.score):
            best = Described(id_, 0, len(items), score)
    return best


def _content(items: Iterable[Item]) -> frozenset[str]:
    """The roots of the words that say something."""
    return frozenset(_root(piece) for item in items for piece in item.key.split(" ") if piece not in _EMPTY)


@lru_cache(maxsize=16384)
def _root(word: str) -> str:
    """What "store", "stored" and "storing" have in common."""
    if not word.isascii() or len(word) < 5:
        return word
    for ending in ("ation", "ing", "tion", "ed", "es", "er", "e", "s"):
        if word.endswith(ending) and len(word) - len(ending) > 2:
            return word.removesuffix(ending)
    return word


@lru_cache(maxsize=4)
def _descriptions(vocabulary: Vocabulary) -> tuple[tuple[frozenset[str], str], ...]:
    return tuple((frozenset(map(_root, words - _EMPTY)), id_) for words, id_ in vocabulary.descriptions)


@lru_cache(maxsize=4)
def _weights(vocabulary: Vocabulary) -> dict[str, float]:
    """Rare words say more: the logarithm of how seldom a word is in the descriptions."""
    counts: dict[str, int] = {}
    for phrase, _ in _descriptions(vocabulary):
        for word in phrase:
            counts[word] = counts.get(word, 0) + 1
    total = len(vocabulary.descriptions) + 1
    return {word: math.log(total / count) for word, count in counts.items()}
