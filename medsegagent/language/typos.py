"""Misspelt words and words written together. Real words of everyday language are never "corrected"."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import Token, stem

_LINKS = ("", "n", "en", "s", "es", "er", "e")


@lru_cache(maxsize=8192)
def _correction(word: str, vocabulary: Vocabulary) -> str:
    """The known stem that a word was meant to be; empty if none is near enough or several are."""
    from rapidfuzz import process  # only when a word is unknown
    from rapidfuzz.distance import OSA

    allowed = 0 if len(word) < 4 else 1 if len(word) < 8 else 2
    if not allowed or word in vocabulary.everyday:
        return ""
    near = process.extract(word, vocabulary.stems, scorer=OSA.distance, score_cutoff=allowed, limit=6)
    near = [hit for hit in near if _plausible(word, hit[0], hit[1])]
    if not near:
        return ""
    best = min(hit[1] for hit in near)
    names = [hit[0] for hit in near if hit[1] == best]
    same_start = [name for name in names if name[0] == word[0]]
    return (same_start or names)[0] if len(same_start or names) == 1 else _likeliest(word, same_start or names)


def _plausible(word: str, known: str, distance: float) -> bool:
    """Short words must keep their letters: only a swap or a doubled or missing letter is believed there."""
    if len(known) < 4 or (len(word) < 5 and sorted(set(word)) != sorted(set(known))):
        return False
    return word[0] == known[0] or (distance == 1 and len(word) > 4)


def _likeliest(word: str, names: list[str]) -> str:
    swapped = [name for name in names if sorted(name) == sorted(word)]
    doubled = [name for name in names if sorted(set(name)) == sorted(set(word))]
    ranked = swapped or doubled or names
    return min(ranked, key=lambda name: (abs(len(name) - len(word)), name))


def corrected(token: Token, vocabulary: Vocabulary) -> Token:
    """The token with its spelling repaired, or as it was."""
    better = _correction(token.stem, vocabulary)
    return replace(token, stem=better) if better else token


def split_compound(token: Token, vocabulary: Vocabulary) -> list[Token]:
    """Two known terms written as one word ("Nierentumor", "leftkidney"); empty if it is no such word."""
    word = token.word
    if len(word) < 7 or not word.isascii() or token.end - token.start != len(word) or word in vocabulary.everyday:
        return []
    for cut in range(len(word) - 3, 2, -1):
        tail = stem(word[cut:])
        if len(tail) < 3 or not _may_end(tail, vocabulary):
            continue
        for link in _LINKS:
            head = word[:cut].removesuffix(link) if word[:cut].endswith(link) else ""
            if len(head) > 2 and _may_begin(stem(head), vocabulary):
                middle = token.start + cut
                return [
                    replace(token, stem=stem(head), word=head, end=middle),
                    replace(token, stem=tail, word=word[cut:], start=middle),
                ]
    return []


def _may_begin(key: str, vocabulary: Vocabulary) -> bool:
    return any(m.flag in "na" or m.id.startswith("side:") for m in vocabulary.meanings(key))


def _may_end(key: str, vocabulary: Vocabulary) -> bool:
    wanted = ("segment:", "measure:", "neutral:", "modality:")
    return any(m.flag == "n" or m.id.startswith(wanted) for m in vocabulary.meanings(key))
