"""What a concept is made of, sides taken into account: computed whole, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from medsegagent.vocabulary.concept import Concept


class Sided(NamedTuple):
    """A concept with a side: "left", "right", or "" for unsided."""

    id: str
    side: str = ""


def closure_of(start: Sided, concept: Callable[[str], Concept]) -> frozenset[Sided]:
    """Everything whose union is this concept on this side: itself, its sides, its members and theirs."""
    found: set[Sided] = set()
    seen = {start}
    todo = [start]
    while todo:
        current = todo.pop()
        found.update(_itself(concept(current.id), current.side))
        members = set(_members(concept(current.id), current.side, concept)) - seen
        seen |= members
        todo += members
    return frozenset(found)


def _itself(concept: Concept, side: str) -> Iterator[Sided]:
    if not side or concept.side == side:
        yield Sided(concept.id)
        yield from () if concept.side else (Sided(concept.id, "left"), Sided(concept.id, "right"))
    if side or concept.side:
        yield Sided(concept.id, side or concept.side)


def _members(whole: Concept, side: str, concept: Callable[[str], Concept]) -> Iterator[Sided]:
    one_sided = whole.side == side
    for member in whole.members:
        id_, _, of_side = member.partition(":")
        if side and of_side and side != of_side:
            continue
        child = concept(id_)
        if side and not child.paired and child.side != side and not of_side:
            continue
        yield Sided(id_, of_side or ("" if one_sided and not child.paired else side))


def packed(closure: Iterable[Sided]) -> list[str]:
    """As JSON can hold it."""
    return [f"{item.id}|{item.side}" for item in sorted(closure)]


def unpacked(stored: Iterable[str]) -> frozenset[Sided]:
    """The reverse of `packed`."""
    return frozenset(Sided(*item.split("|")) for item in stored)
