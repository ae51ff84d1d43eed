"""How much of a target a card has: a card with two of the heart's chambers should not vote on all of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from medsegagent.cards.binding import Binding
from medsegagent.language.request import Target
from medsegagent.matching.selection import Partial
from medsegagent.vocabulary import Sided, Vocabulary

_ENOUGH = 0.75
"""Share of a target's parts from which an answer stands for all of it: rare and disputed parts are listed too."""


class Part(NamedTuple):
    """One part of a target: its name, and everything that a label for it or for some of it means."""

    name: str
    meanings: frozenset[Sided]


def parts_of(
    target: Target, bound: Collection[Sided], excluded: Sequence[frozenset[Sided]], vocabulary: Vocabulary
) -> tuple[Part, ...]:
    """What a target consists of, as far as cards go.

    Args:
        target: What is asked for. Of one concept its members, of several these.
        bound: What the labels of a library mean. Where none means the whole, parts that nobody has do not count.
        excluded: Meanings that are not wanted.
        vocabulary: The concepts.

    Returns:
        Nothing for what has no parts, and where the vocabulary itself says which of them are needed.
    """
    concepts = [vocabulary.concept(id_) for id_ in target.concepts]
    if any(concept.kind == "lesion" or (len(concepts) == 1 and concept.needs) for concept in concepts):
        return ()
    alone = concepts[0] if len(concepts) == 1 else None
    ids = alone.members if alone else target.concepts
    whole = {Sided(alone.id), Sided(alone.id, "left"), Sided(alone.id, "right")} if alone else set()
    has_whole = not whole.isdisjoint(bound)
    return tuple(
        part
        for part in _parts(ids, target.side or "", vocabulary)
        if (has_whole or not part.meanings.isdisjoint(bound))
        and all(part.meanings.isdisjoint(unwanted) for unwanted in excluded)
    )


def _parts(ids: Sequence[str], side: str, vocabulary: Vocabulary) -> Iterator[Part]:
    for item in ids:
        id_, _, own_side = item.partition(":")
        concept = vocabulary.concept(id_)
        if own_side and side and own_side != side:
            continue
        sides = [own_side or side] if own_side or side else ["left", "right"] if concept.paired else [""]
        for each in sides:
            if meanings := vocabulary.closure(id_, each):
                yield Part(f"{each} {concept.name}".strip(), meanings)


def partial(parts: Sequence[Part], chosen: Sequence[Binding], vocabulary: Vocabulary) -> Partial | None:
    """What labels have of a target's parts; None if that is as good as all of it."""
    has = [vocabulary.closure(item.id, item.side) | {item} for binding in chosen for item in binding.concepts]
    held = tuple(part.name for part in parts if not all(part.meanings.isdisjoint(meant) for meant in has))
    return Partial(held=held, of=len(parts)) if held and len(held) < _ENOUGH * len(parts) else None
