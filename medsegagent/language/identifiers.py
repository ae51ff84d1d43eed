"""Names written as programs write them: "leftKidney", "KidneyL", "LKIDNEY" are split into words, once, here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import Token, stem

_PIECES = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SIDES = ("left", "right", "lt", "rt", "l", "r")
_SHORTEST = 3


def split_names(instruction: str, tokens: Sequence[Token], vocabulary: Vocabulary) -> list[Token]:
    """The tokens, those that are several words written as one taken apart; offsets stay those of the instruction."""
    out: list[Token] = []
    for token in tokens:
        out += _split(instruction, token, vocabulary)
    return out


def _split(instruction: str, token: Token, vocabulary: Vocabulary) -> Iterator[Token]:
    written = instruction[token.start : token.end]
    if token.kind != "word" or not written.isascii() or not written.isalpha() or token.stem in vocabulary.stem_set:
        yield token
        return
    pieces = _by_case(written) or _by_side(token.word, vocabulary) or _by_term(token, vocabulary) or [written]
    if len(pieces) == 1:
        yield token
        return
    start = token.start
    for piece in pieces:
        word = piece.lower()
        single = len(piece) == 1 and piece.isupper()
        yield replace(token, stem=stem(word), word=word, start=start, end=start + len(piece), capital=single)
        start += len(piece)


def _by_case(written: str) -> list[str]:
    """As in "BrainStem", "OpticNrv", "KidneyL"; none where the case says nothing."""
    pieces = _PIECES.findall(written)
    return pieces if len(pieces) > 1 and "".join(pieces) == written else []


def _by_side(word: str, vocabulary: Vocabulary) -> list[str]:
    """As in "lkidney", "LKIDNEY", "femurl", "kidneyleft": a side glued to the name of a paired structure."""
    if word in vocabulary.everyday or stem(word) in vocabulary.everyday:
        return []
    for side in _SIDES:
        head, tail = word.removeprefix(side), word.removesuffix(side)
        if head != word and _is_paired(head, vocabulary):
            return [side, head]
        if tail != word and not tail.endswith(side) and _is_paired(tail, vocabulary):  # "adrenall" is a slip
            return [tail, side]
    return []


def _by_term(token: Token, vocabulary: Vocabulary) -> list[str]:
    """As in "hardpalate", "SPINALCORD": a term of several words without the gaps."""
    key = vocabulary.squashed.get(token.stem, "")
    rest, pieces = token.word, []
    for stem_ in key.split(" ")[:-1] if key else ():
        if not rest.startswith(stem_):
            return []
        pieces.append(stem_)
        rest = rest.removeprefix(stem_)
    return [*pieces, rest] if pieces else []


def _is_paired(word: str, vocabulary: Vocabulary) -> bool:
    meanings = vocabulary.meanings(stem(word)) if len(word) > _SHORTEST else ()
    return any(m.flag == "n" and vocabulary.concept(m.id).paired for m in meanings)
