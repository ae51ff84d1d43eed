"""Misspelt words and words written together. Real words of everyday language are never "corrected"."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import Token, stem

_SOUNDS = (("ch", "k"), ("ck", "k"), ("ph", "f"), ("c", "k"), ("q", "k"))
_LINKS = ("", "n", "en", "s", "es", "er", "e")


@lru_cache(maxsize=8192)
def corrections(word: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The known stems that a word may have been meant to be, likeliest first; empty if none is near enough."""
    from rapidfuzz import process  # only when a word is unknown
    from rapidfuzz.distance import OSA

    if len(word) < 4 or word in vocabulary.everyday:
        return ()
    near = process.extract(word, vocabulary.stems, scorer=OSA.distance, score_cutoff=2, limit=40)
    likely = [(name, int(distance)) for name, distance, _ in near if _plausible(word, name, int(distance))]
    return tuple(name for name, _ in sorted(likely, key=lambda hit: (hit[1], _unlike(word, hit[0]), hit[0]))[:6])


def rivals(word: str, taken: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Other known words that a misspelt word is as near to as to the one it was `taken` for, by letters and sound."""
    from rapidfuzz.distance import OSA

    likely = corrections(word, vocabulary)
    distance = OSA.distance(word, taken)
    return tuple(
        name
        for name in likely
        if name != taken and _skeleton(name) == _skeleton(taken) and OSA.distance(word, name) == distance
    )


@lru_cache(maxsize=256)
def look_alikes(word: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Other known words that differ from this one by a vowel or two, as ileum and ilium do."""
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    near = process.extract(word, vocabulary.stems, scorer=OSA.distance, score_cutoff=2, limit=40)
    return tuple(name for name, _, _ in near if name != word and _sound(name) == _sound(word))


def _sound(word: str) -> str:
    return word[0] + _skeleton(word[1:])


def _plausible(word: str, known: str, distance: int) -> bool:
    """Short words must keep their consonants; the first letter is hardly ever wrong."""
    if min(len(word), len(known)) < 3 or (word[0] != known[0] and (distance > 1 or len(word) < 6)):
        return False
    if distance == 1:
        # A word of four letters is too near to too many others, in every language: "maksa" is no Spanish "masa".
        return sorted(set(word)) == sorted(set(known)) or (len(known) > 4 and (len(word) > 4 or len(known) == 5))
    alike = _skeleton(word) == _skeleton(known)
    return (len(word) > 7 and (alike or word[-2:] == known[-2:])) or (len(word) > 4 and alike)


def _unlike(word: str, known: str) -> int:
    """0 for swapped letters, 1 for a doubled or missing one, 2 for the same consonants, 3 otherwise."""
    if sorted(word) == sorted(known):
        return 0
    if sorted(set(word)) == sorted(set(known)):
        return 1
    return 2 if _skeleton(word) == _skeleton(known) else 3


def _skeleton(word: str) -> str:
    """Consonants without doubles, as they sound: "stomak" as "stomach"."""
    out = ""
    for written, heard in _SOUNDS:
        word = word.replace(written, heard)
    for letter in word:
        if letter not in "aeiouy" and not out.endswith(letter):
            out += letter
    return out


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
