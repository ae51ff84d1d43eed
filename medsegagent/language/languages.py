"""Which languages an instruction is in, decided before any of its function words is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from medsegagent.vocabulary import Meaning, Vocabulary
from medsegagent.vocabulary.phrases import longest_term
from medsegagent.vocabulary.text import Token

_TERM, _EVERYDAY, _LETTER = 0.7, 0.2, 0.5
_SHARE = 0.3
"""Of the score of the likeliest language; one that adds less is not spoken here."""
_ENGLISH = 0.1
"""What English has ahead: a word that several languages have is more often English."""
_KANA = ("\u3041", "\u30fe")
LATIN = "la"


def languages_of(instruction: str, tokens: Sequence[Token], vocabulary: Vocabulary) -> frozenset[str]:
    """The languages whose function words are to be read, by the words, terms and letters that few others have.

    The likeliest language is spoken, and each other one that explains enough of what the likelier ones leave.
    Empty: none is told by anything; then only terms and what all languages share are read.
    """
    evidence = [*_words(tokens, vocabulary), *_letters(instruction, vocabulary)]
    if any(_KANA[0] <= char <= _KANA[1] for char in instruction):
        evidence = [(languages - {"zh"}, weight) for languages, weight in evidence]
    spoken: set[str] = set()
    enough = 0.0
    while evidence:
        scores: defaultdict[str, float] = defaultdict(float, en=_ENGLISH)
        for languages, weight in evidence:
            for language in languages:
                scores[language] += weight / len(languages)
        language, score = max(scores.items(), key=lambda item: (item[1], item[0]))
        if score <= max(_ENGLISH, _SHARE * enough):
            break
        spoken.add(language)
        enough = max(enough, score)
        evidence = [(languages, weight) for languages, weight in evidence if language not in languages]
    return frozenset(spoken)


def _words(tokens: Sequence[Token], vocabulary: Vocabulary) -> Iterator[tuple[frozenset[str], float]]:
    position = 0
    while position < len(tokens):
        phrase = longest_term(tokens, position, vocabulary)
        if phrase is None:
            position += 1
            continue
        position = phrase.last
        functional = frozenset(m.side for m in phrase.meanings if m.flag == "w")
        if functional and "" not in functional:
            letter = len(phrase.key) == 1 and phrase.key.isascii()  # of "T4" as well as of "riñón y bazo"
            yield functional, _EVERYDAY if letter else 1.0
        if terms := vocabulary.languages_of(phrase.key):
            yield terms, _EVERYDAY if phrase.key in vocabulary.everyday else _TERM


def _letters(instruction: str, vocabulary: Vocabulary) -> Iterator[tuple[frozenset[str], float]]:
    present = set(instruction.lower()) if not instruction.isascii() else set()
    for letter in sorted(present):
        having = frozenset(language for language, letters in vocabulary.letters.items() if letter in letters)
        if having:
            yield having, _LETTER


def is_spoken(meaning: Meaning, spoken: frozenset[str]) -> bool:
    """Whether a function word belongs to one of these languages, or to all; Latin does where nobody else has it."""
    return meaning.side in spoken or meaning.side in ("", LATIN)


def words_of(meanings: Sequence[Meaning], spoken: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Word classes and values of a term in these languages."""
    heard = [m for m in meanings if m.flag == "w" and is_spoken(m, spoken)]
    native = [m for m in heard if m.side != LATIN]
    pairs = (m.id.partition(":") for m in native or heard)
    return tuple(dict.fromkeys((name, value) for name, _, value in pairs))
