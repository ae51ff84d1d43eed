"""Which bound labels answer a concept, decided once per concept and not per card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from medsegagent.cards.library import Library
from medsegagent.language.request import Target
from medsegagent.vocabulary import Concept, Sided, Vocabulary

TRUNK = ("chest", "abdomen", "pelvis")


@dataclass(frozen=True)
class Answers:
    """What a label must mean to answer a concept.

    Attributes:
        tiers: Sets of meanings. A card answers with its labels in the first set that it has any of.
        needs: Where only members answer (`whole` is absent), a card must have one of each of these sets.
        whole: Meanings that are the concept itself and so need no completeness.
    """

    tiers: tuple[frozenset[Sided], ...]
    needs: tuple[frozenset[Sided], ...] = ()
    whole: frozenset[Sided] = frozenset()


def target_answers(target: Target, library: Library) -> Answers:
    """What answers the organ half of a target."""
    return _merged(tuple(concept_answers(id_, target.side or "", library) for id_ in target.concepts))


def concept_answers(id_: str, side: str, library: Library) -> Answers:
    """What answers one concept on one side (or on both: "")."""
    vocabulary = library.vocabulary
    if vocabulary.concept(id_).kind == "lesion":
        return _lesion_answers(id_, side, library.lesions, vocabulary)
    return _organ_answers(id_, side, vocabulary)


@lru_cache(maxsize=4096)
def _organ_answers(id_: str, side: str, vocabulary: Vocabulary) -> Answers:
    closure = vocabulary.closure(id_, side)
    whole = frozenset(item for item in closure if item.id == id_)
    needs = tuple(
        frozenset().union(
            *(vocabulary.closure(member, side if vocabulary.concept(member).paired else "") for member in group)
        )
        for group in vocabulary.concept(id_).needs
    )
    return Answers((closure,), needs, whole)


@lru_cache(maxsize=1024)
def _merged(several: tuple[Answers, ...]) -> Answers:
    if len(several) == 1:
        return several[0]
    depth = max(len(answers.tiers) for answers in several)
    tiers = (frozenset().union(*(a.tiers[i] for a in several if i < len(a.tiers))) for i in range(depth))
    return Answers(tuple(tiers))


@lru_cache(maxsize=4096)
def _lesion_answers(id_: str, side: str, bound: frozenset[str], vocabulary: Vocabulary) -> Answers:
    """What answers a lesion, among the lesions that the library's labels mean (`bound`)."""
    concept = vocabulary.concept(id_)
    tiers = [frozenset(_on_side((o for o in bound if _is_wanted(o, concept, vocabulary)), side))]
    general = vocabulary.ancestors(id_) - {id_}
    tiers.append(frozenset(_on_side((o for o in bound if o in general and _covers(o, concept, vocabulary)), side)))
    for other in concept.same_label:
        tiers += _lesion_answers(other, side, bound, vocabulary).tiers
    return Answers(tuple(tier for tier in tiers if tier))


def _on_side(ids: Iterable[str], side: str) -> Iterator[Sided]:
    for id_ in ids:
        yield from [Sided(id_, side)] if side else [Sided(id_), Sided(id_, "left"), Sided(id_, "right")]


def _is_wanted(other: str, wanted: Concept, vocabulary: Vocabulary) -> bool:
    """A label of this meaning is what was asked for, or a kind of it."""
    if wanted.id in vocabulary.ancestors(other) or other in {item.id for item in vocabulary.closure(wanted.id)}:
        return True
    family, _, place = wanted.id.partition(".")
    site = vocabulary.site(other)
    if not site or not any(a.partition(".")[0] == family for a in vocabulary.ancestors(other)):
        return any(_is_wanted(other, vocabulary.concept(member), vocabulary) for member in wanted.members)
    if not place or place == "trunk":  # "tumours" without a place: the trunk's organs, as whole-body requests are read
        return family == wanted.id.partition(".")[0] and vocabulary.concept(site).region in TRUNK and not wanted.is_a
    if vocabulary.concept(place).kind == "region":
        return place in vocabulary.wholes(site)
    return any(_is_wanted(other, vocabulary.concept(member), vocabulary) for member in wanted.members)


def _covers(general: str, wanted: Concept, vocabulary: Vocabulary) -> bool:
    """A label of a more general lesion answers for its sub-type at that site; an unsited one for unsited ones."""
    return bool(vocabulary.site(general)) or not vocabulary.site(wanted.id)
