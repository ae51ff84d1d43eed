"""A stretch of the instruction on its way from loose mentions to what is wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from medsegagent.language.accounting import NotUnderstood, not_understood
from medsegagent.language.composing import Composer
from medsegagent.language.describing import find_descriptions
from medsegagent.language.ellipses import with_ellipses
from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.mentions import Mention, find_mentions, is_generic
from medsegagent.language.request import Modality
from medsegagent.language.roles import assign_roles
from medsegagent.language.sides import attach_sides, is_list
from medsegagent.vocabulary import Vocabulary

_BRAIN_SEQUENCES = frozenset({"T1ce", "FLAIR", "DWI", "ADC"})
_UNNAMED = "disease_of"
"""As in "Foobar syndrome": whatever it is, it is in no vocabulary."""
_LONGEST = 160
"""Items that are read together; the steps compare each mention with each other one."""


def passages(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The instruction in stretches of bounded length, cut at the ends of sentences where there are any."""
    start = 0
    while start < len(items):
        end = min(start + _LONGEST, len(items))
        if end < len(items):
            end = next((i + 1 for i in range(end - 1, start, -1) if items[i].is_break), end)
        yield items[start:end]
        start = end


class Passage:
    """One stretch; `mentions` are refined in place."""

    def __init__(self, items: Sequence[Item], vocabulary: Vocabulary, regions: frozenset[str], sequences: bool) -> None:
        self.items = items
        self._vocabulary = vocabulary
        found = find_mentions(items, vocabulary, regions, sequences)
        self.mentions = with_ellipses(found, items, vocabulary)

    def sequences(self) -> list[Item]:
        """The items "T1" and "T2" that are no vertebra."""
        levels = {i for m in self.mentions for i in range(m.first, m.last)}
        return [item for i, item in enumerate(self.items) if item.has("sequence_or_level") and i not in levels]

    def loose(self) -> list[Item]:
        """The items outside of every mention."""
        inside = {i for m in self.mentions if m.role != "beside" for i in range(m.first, m.last)}
        return [item for i, item in enumerate(self.items) if i not in inside]

    def settle(self, modality: Modality) -> None:
        """Take the mentions through all steps: descriptions, compounds, sides, roles, sites, combined targets."""
        composer = Composer(self.items, self._vocabulary)
        composed = composer.compose(self._described(self.mentions))
        self.mentions = attach_sides(self.items, composed, self._vocabulary)
        assign_roles(self.items, self.mentions, self._vocabulary)
        self._place_lesions(composer, self.mentions, modality)
        self._volumes_at(self.mentions)
        for mention in self.mentions:
            if mention.id == _UNNAMED and mention.role == "target":
                mention.role = "context"
        self._combine(self.mentions)
        self._absorb_glosses(self.mentions)

    def drop_strange(self) -> list[NotUnderstood]:
        """Take phrases that are not understood out of what is wanted; see `accounting` for the policy."""
        found = not_understood(self.items, self.mentions, self._vocabulary)
        for phrase in found:
            phrase.mention.role = "context"
        return found

    def _described(self, mentions: list[Mention]) -> list[Mention]:
        """Replace what a description mentions by what it describes."""
        for described in find_descriptions(self.items, mentions, self._vocabulary):
            inner = [m for m in mentions if described.first <= m.first < described.last]
            others = [m for m in mentions if m not in inner]
            side = next((i.value("side") for i in self.items[described.first : described.last] if i.has("side")), "")
            # The clause's mentions only said where it is; a side in the clause goes with it.
            id_, _, own_side = described.id.partition("@")
            found = Mention((id_,), described.first, described.last, own_side or side)
            mentions = sorted([*others, found], key=lambda m: m.first)
        return mentions

    def _place_lesions(self, composer: Composer, mentions: Sequence[Mention], modality: Modality) -> None:
        """Give lesions without a site the one that the context names, or the usual one."""
        vocabulary = self._vocabulary
        places = [
            m.id for m in mentions if m.role == "context" and composer.is_site(m) and not is_generic(m, vocabulary)
        ]
        places += [vocabulary.site(m.id) for m in mentions if m.role == "context" and vocabulary.site(m.id)]
        places.sort(key=lambda id_: vocabulary.concept(id_).kind == "region")
        for mention in mentions:
            concept = vocabulary.concept(mention.id)
            if mention.role not in ("target", "excluded") or concept.kind not in ("lesion", "part"):
                continue
            if composer.is_family(mention):
                said = self._said_before(mention)
                if mention.id in ("lesion", "mass") and said:
                    mention.ids = (said,)
                    continue
                same = [
                    m.id
                    for m in mentions
                    if m is not mention and m.role != "beside" and m.id.startswith(f"{mention.id}.")
                ]
                place = same[0].partition(".")[2] if same else places[0] if places else concept.default_site
                if concept.kind == "lesion":
                    place = place or self._listed_after(mention)
                if (
                    not place
                    and concept.kind == "lesion"
                    and modality.families == ("MR",)
                    and _BRAIN_SEQUENCES & set(modality.subtypes)
                ):
                    place = "brain"
                if place:
                    mention.ids = (composer.at(mention.id, place),)
            elif vocabulary.site(mention.id) == "head_and_neck":
                inside = [p for p in places if p != "head_and_neck" and vocabulary.contains("head_and_neck", p)]
                if inside and mention.id.partition(".")[2] == "head_and_neck" and inside[0] not in ("neck", "face"):
                    mention.ids = (f"{mention.id.partition('.')[0]}.{inside[0]}",)

    def _said_before(self, lesion: Mention) -> str:
        """As in "the patient has a stroke ... delineate the lesion": the disease that was named."""
        before = [m for m in self.mentions if m.last <= lesion.first and m.role == "context" and self._is_lesion(m)]
        return next((m.id for m in reversed(before) if self._vocabulary.site(m.id)), "")

    def _listed_after(self, lesion: Mention) -> str:
        """As in "the tumour and the liver": the organ that is named with it."""
        after = next((m for m in self.mentions if m.first >= lesion.last and m.role == "target"), None)
        if after is None or self._is_lesion(after) or not is_list(self.items[lesion.last : after.first]):
            return ""
        return after.id

    def _volumes_at(self, mentions: Sequence[Mention]) -> None:
        """As in "GTVp nasopharynx", "nasopharyngeal carcinoma GTVp", "NPC, primary and nodes": where is said once."""
        joined: list[tuple[Mention, Mention]] = []
        for one, other in pairwise([m for m in mentions if m.role == "target"]):
            gap = self.items[one.last : other.first]
            if any(i.is_break or is_imaging(i) for i in gap) or len(gap) > 4:
                continue
            if any(i.has("and", "with", "or") or i.mark in ("+", "&") for i in gap):
                joined.append((one, other))
            elif place := self._place_in_neck(one):
                if self._is_volume(other, place) and (self._is_lesion(one) or not gap):
                    one.role = "context"
                    other.ids = (f"{other.id.partition('.')[0]}.{place}",)
            elif not self._is_lesion(other) and self._is_volume(one) and (place := self._place_in_neck(other)):
                other.role = "context"
                one.ids = (f"{one.id.partition('.')[0]}.{place}",)
        for one, other in joined:
            self._carry_place(one, other)

    def _carry_place(self, first: Mention, second: Mention) -> None:
        """The nodes beside a tumour of the head and neck are that tumour's."""
        if self._is_volume(first) and self._is_lesion(second) and (place := self._place_in_neck(second)):
            first.ids = (f"{first.id.partition('.')[0]}.{place}",)
        place = self._place_in_neck(first) if self._is_lesion(first) else ""
        if place and second.id == "lymph_node":
            second.ids = (f"nodal_metastasis.{place}",)
        elif place and self._is_volume(second):
            second.ids = (f"{second.id.partition('.')[0]}.{place}",)

    def _is_volume(self, mention: Mention, place: str = "head_and_neck") -> bool:
        """A gross tumour volume at this place, or of which it is not said where."""
        kind, _, at = mention.id.partition(".")
        return self._vocabulary.concept(kind).volume and at in ("head_and_neck", place)

    def _place_in_neck(self, mention: Mention) -> str:
        """The part of the head and neck that a mention names; empty where it names none."""
        place = self._vocabulary.site(mention.id) if self._is_lesion(mention) else mention.id
        inside = place != "head_and_neck" and self._vocabulary.contains("head_and_neck", place or "none")
        return place if inside else ""

    def _combine(self, mentions: list[Mention]) -> None:
        """As in "liver and its tumours": an organ with its own lesions is one target."""
        wanted = [m for m in mentions if m.role == "target"]
        for left, right in pairwise(wanted):
            organ, lesion = (left, right) if not self._is_lesion(left) else (right, left)
            if self._is_lesion(organ) or not self._is_lesion(lesion) or organ not in mentions or lesion not in mentions:
                continue
            gap = self.items[left.last : right.first]
            joined = len(gap) < 8 and not any(i.has("or", "not") or i.is_break or is_imaging(i) for i in gap)
            if lesion is left and not any(i.has("and", "with") or i.mark in ("+", "&", "/") for i in gap):
                continue
            if joined and lesion is right and (listed := self._list_before(organ, lesion, wanted)):
                lesion.ids = tuple(f"{lesion.id.partition('.')[0]}.{item.id}" for item in listed)
                continue
            if joined and self._vocabulary.site(lesion.id) in organ.ids:
                organ.lesions += lesion.ids
                organ.first, organ.last = min(organ.first, lesion.first), max(organ.last, lesion.last)
                mentions.remove(lesion)
        self._combine_chain(mentions)

    def _list_before(self, organ: Mention, lesion: Mention, wanted: Sequence[Mention]) -> list[Mention]:
        """The organs of a list that a bare lesion ends, as in "pancreas, bladder and tumours": whose are they?"""
        listed = [organ]
        gap = self.items[organ.last : lesion.first]
        bare = lesion.last - lesion.first == 1 and not any(item.has("its", "with") for item in gap)
        if not bare or not any(item.has("and") for item in gap):
            return []
        for before in reversed([m for m in wanted if m.last <= organ.first]):
            between = self.items[before.last : listed[0].first]
            if self._is_lesion(before) or not is_list(between) or any(i.has("and") for i in between):
                break
            listed.insert(0, before)
        return listed if len(listed) > 1 else []

    def _combine_chain(self, mentions: list[Mention]) -> None:
        """As in "kidney, tumour and cyst": a further lesion of the same organ joins."""
        wanted = [m for m in mentions if m.role == "target"]
        for left, right in pairwise(wanted):
            if (
                left.lesions
                and self._is_lesion(right)
                and self._vocabulary.site(right.id) in left.ids
                and left in mentions
            ):
                left.lesions += right.ids
                left.last = right.last
                mentions.remove(right)

    def _is_lesion(self, mention: Mention) -> bool:
        return self._vocabulary.concept(mention.id).kind == "lesion"

    def _absorb_glosses(self, mentions: list[Mention]) -> None:
        """As in "the entire spine (C1-S1, cervical, ...)": brackets explain what stands before them."""
        depth, bracketed = 0, set()
        for position, item in enumerate(self.items):
            depth += (item.mark == "(") - (item.mark == ")")
            if depth > 0:
                bracketed.add(position)
        for mention in [m for m in mentions if m.role == "target" and m.first in bracketed]:
            before = next(
                (
                    m
                    for m in reversed(mentions)
                    if m.last <= mention.first and m.role == "target" and m.first not in bracketed
                ),
                None,
            )
            if before is not None and self._related(before, mention):
                mention.role = "context"
                before.side = before.side or (mention.side if mention.ids == before.ids else "")

    def _related(self, one: Mention, other: Mention) -> bool:
        contains = self._vocabulary.contains
        return any(contains(a, b) or contains(b, a) for a in one.ids for b in other.ids)
