"""Find the terms of the vocabulary in a run of tokens: the longest term wins, from left to right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from medsegagent.vocabulary.text import ARTICLES, Token
from medsegagent.vocabulary.vocabulary import Meaning, Vocabulary

_JOINERS = frozenset("-_/&.·・()")
_LONGEST = 12


class Phrase(NamedTuple):
    """Tokens `first` to `last` (exclusive) that are one known term. `inside`: positions that were stepped over."""

    first: int
    last: int
    key: str
    meanings: tuple[Meaning, ...]
    inside: tuple[int, ...] = ()


def longest_term(
    tokens: Sequence[Token],
    first: int,
    vocabulary: Vocabulary,
    step_over: Collection[int] = (),
    heard: Callable[[Meaning], bool] | None = None,
) -> Phrase | None:
    """The longest known term that starts at this token, or None.

    Args:
        tokens: The text.
        first: Where the term starts.
        vocabulary: The vocabulary.
        step_over: Positions that may stand inside a term, as hyphens and articles may ("head of the left femur").
        heard: Says of a function word whether it counts; by default all do.
    """
    reach = vocabulary.reach.get(tokens[first].stem, 0)
    if not reach:
        return None
    best: Phrase | None = None
    pieces: list[str] = []
    inside: list[int] = []
    position = first
    end = min(len(tokens), first + 3 * _LONGEST)  # marks and articles between the pieces included
    while position < end and len(pieces) < min(reach, _LONGEST):
        token = tokens[position]
        if pieces and token.starts_line:
            break
        if pieces and position in step_over:
            inside.append(position)
        elif not pieces or not _skippable(token):
            if token.kind == "mark" and (token.stem not in _JOINERS or tokens[first].kind == "number"):
                break
            if token.kind == "mark" and tokens[position - 1].kind == "mark":
                break  # "(left) - pulmonary artery"
            if token.kind != "mark":
                pieces.append(token.stem)
                meanings = vocabulary.meanings(" ".join(pieces))
                if any(m.flag != "l" and (heard is None or m.flag != "w" or heard(m)) for m in meanings):
                    best = Phrase(first, position + 1, " ".join(pieces), meanings, tuple(inside))
        position += 1
    return best


def _skippable(token: Token) -> bool:
    return token.stem in ARTICLES or token.stem == "'"
