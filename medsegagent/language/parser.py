"""Instruction -> Request."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.errors import UsageError
from medsegagent.language.composing import Composer
from medsegagent.language.describing import best_description, find_descriptions
from medsegagent.language.imaging import is_imaging, read_modality, settle_homonyms
from medsegagent.language.intent import find_intent, gives_orders
from medsegagent.language.items import Item, read_items, span_of
from medsegagent.language.mentions import Mention, find_mentions
from medsegagent.language.naming import merged_targets
from medsegagent.language.request import Modality, Request, Unresolved
from medsegagent.language.roles import assign_roles
from medsegagent.language.sides import attach_sides
from medsegagent.vocabulary import Vocabulary

LONGEST = 20_000
_BRAIN_SEQUENCES = frozenset({"T1ce", "FLAIR", "DWI", "ADC"})


def parse(instruction: str, vocabulary: Vocabulary) -> Request:
    """Read an instruction, in any wording and in any of the vocabulary's languages.

    Args:
        instruction: What the user typed. It is data: nothing in it is obeyed.
        vocabulary: The concepts and words that are known.

    Returns:
        The request. Where there is nothing to do, `refusal` says why; nothing is guessed.

    Raises:
        UsageError: If the instruction is empty or longer than 20,000 characters.
    """
    if not instruction.strip():
        raise UsageError("the instruction is empty", "Say what to segment, for example: liver and spleen in CT.")
    if len(instruction) > LONGEST:
        raise UsageError(f"the instruction has {len(instruction):,} characters", f"Use at most {LONGEST:,}.")
    if gives_orders(instruction):
        return Request(
            instruction=instruction, intent="none",
            refusal="This tries to give other orders or to dictate the answer. Say only what to segment.",
        )  # fmt: skip
    return _Reading(instruction, vocabulary).request()


class _Reading:
    """One instruction on its way through the steps."""

    def __init__(self, instruction: str, vocabulary: Vocabulary) -> None:
        self._instruction = instruction
        self._vocabulary = vocabulary
        self._items = settle_homonyms(read_items(instruction, vocabulary))

    def request(self) -> Request:
        items, vocabulary = self._items, self._vocabulary
        plain = read_modality(self._instruction, items, ())
        sequences = "CT" not in plain.families or "MR" in plain.families
        regions = self._regions(plain)
        mentions = find_mentions(items, vocabulary, regions, sequences)
        levels = {i for m in mentions for i in range(m.first, m.last)}
        named = [i for p, i in enumerate(items) if i.has("sequence_or_level") and p not in levels and sequences]
        modality = read_modality(self._instruction, items, named)
        mentions = self._described(mentions)
        composer = Composer(items, vocabulary)
        mentions = attach_sides(items, composer.compose(mentions), vocabulary)
        assign_roles(items, mentions, vocabulary)
        self._place_lesions(composer, mentions, modality)
        self._primary_as_place(mentions)
        self._combine(mentions)
        self._absorb_glosses(mentions)
        return self._finish(mentions, modality)

    def _regions(self, modality: Modality) -> frozenset[str]:
        """Body regions that the instruction is about, to choose between two meanings of one word."""
        found: set[str] = set()
        for item in self._items:
            ids = {m.id for m in item.meanings if m.flag in "nab"}
            if len(ids) == 1:
                concept = self._vocabulary.concept(ids.pop())
                found.add("brain" if concept.id in ("head", "skull") else concept.region)
        if "cine" in modality.subtypes:
            found.add("heart")
        return frozenset(found - {"none", "whole_body"})

    def _described(self, mentions: list[Mention]) -> list[Mention]:
        """Replace what a description mentions by what it describes."""
        for described in find_descriptions(self._items, mentions, self._vocabulary):
            inner = [m for m in mentions if described.first <= m.first < described.last]
            others = [m for m in mentions if m not in inner]
            side = next((i.value("side") for i in self._items[described.first : described.last] if i.has("side")), "")
            # The clause's mentions only said where it is; a side in the clause goes with it.
            id_, _, own_side = described.id.partition("@")
            found = Mention((id_,), described.first, described.last, own_side or side)
            mentions = sorted([*others, found], key=lambda m: m.first)
        return mentions

    def _place_lesions(self, composer: Composer, mentions: Sequence[Mention], modality: Modality) -> None:
        """Give lesions without a site the one that the context names, or the usual one."""
        vocabulary = self._vocabulary
        places = [m.id for m in mentions if m.role == "context" and composer.is_site(m) and not composer.is_generic(m)]
        places += [vocabulary.site(m.id) for m in mentions if m.role == "context" and vocabulary.site(m.id)]
        places.sort(key=lambda id_: vocabulary.concept(id_).kind == "region")
        for mention in mentions:
            concept = vocabulary.concept(mention.id)
            if mention.role not in ("target", "excluded") or concept.kind not in ("lesion", "part"):
                continue
            if composer.is_family(mention):
                same = [m.id for m in mentions if m is not mention and m.role != "beside" and m.id.startswith(f"{mention.id}.")]
                place = same[0].partition(".")[2] if same else places[0] if places else concept.default_site
                if not place and concept.kind == "lesion" and modality.families == ("MR",) and _BRAIN_SEQUENCES & set(modality.subtypes):
                    place = "brain"
                if place:
                    mention.ids = (composer.at(mention.id, place),)
            elif vocabulary.site(mention.id) == "head_and_neck":
                inside = [p for p in places if p != "head_and_neck" and vocabulary.contains("head_and_neck", p)]
                if inside and mention.id.partition(".")[2] == "head_and_neck" and inside[0] not in ("neck", "face"):
                    mention.ids = (f"{mention.id.partition('.')[0]}.{inside[0]}",)

    def _primary_as_place(self, mentions: Sequence[Mention]) -> None:
        """ "nasopharyngeal carcinoma GTVp", "NPC, involved nodes": the disease says where, the GTV what."""
        wanted = [m for m in mentions if m.role == "target"]
        for disease, volume in zip(wanted, wanted[1:], strict=False):
            gap = self._items[disease.last : volume.first]
            apart = any(i.has("and", "with", "or") or i.mark in ("+", "&") or i.is_break for i in gap)
            place = self._vocabulary.site(disease.id)
            if apart or not self._is_lesion(disease) or not self._vocabulary.contains("head_and_neck", place or "none"):
                continue
            if volume.id.partition(".")[0] in ("tumor", "primary_tumor", "nodal_metastasis", "gross_tumor_volume"):
                kind, _, at = volume.id.partition(".")
                if at in ("head_and_neck", place) and place != "head_and_neck":
                    volume.ids = (f"{kind}.{place}",)
                    disease.role = "context"

    def _combine(self, mentions: list[Mention]) -> None:
        """ "liver and its tumours": an organ with its own lesions is one target."""
        wanted = [m for m in mentions if m.role == "target"]
        for left, right in zip(wanted, wanted[1:], strict=False):
            organ, lesion = (left, right) if not self._is_lesion(left) else (right, left)
            if self._is_lesion(organ) or not self._is_lesion(lesion) or organ not in mentions or lesion not in mentions:
                continue
            gap = self._items[left.last : right.first]
            joined = len(gap) < 8 and not any(i.has("or", "not") or i.is_break or is_imaging(i) for i in gap)
            if lesion is left and not any(i.has("and", "with") or i.mark in ("+", "&", "/") for i in gap):
                continue
            if joined and self._vocabulary.site(lesion.id) in organ.ids:
                organ.lesions += lesion.ids
                organ.first, organ.last = min(organ.first, lesion.first), max(organ.last, lesion.last)
                mentions.remove(lesion)
        self._combine_chain(mentions)

    def _combine_chain(self, mentions: list[Mention]) -> None:
        """ "kidney, tumour and cyst": a further lesion of the same organ joins."""
        wanted = [m for m in mentions if m.role == "target"]
        for left, right in zip(wanted, wanted[1:], strict=False):
            if left.lesions and self._is_lesion(right) and self._vocabulary.site(right.id) in left.ids and left in mentions:
                left.lesions += right.ids
                left.last = right.last
                mentions.remove(right)

    def _is_lesion(self, mention: Mention) -> bool:
        return self._vocabulary.concept(mention.id).kind == "lesion"

    def _absorb_glosses(self, mentions: list[Mention]) -> None:
        """ "the entire spine (C1-S1, cervical, thoracic ...)": what stands in brackets explains what stands before."""
        depth, bracketed = 0, set()
        for position, item in enumerate(self._items):
            depth += (item.mark == "(") - (item.mark == ")")
            if depth > 0:
                bracketed.add(position)
        for mention in [m for m in mentions if m.role == "target" and m.first in bracketed]:
            before = next((m for m in reversed(mentions) if m.last <= mention.first and m.role == "target" and m.first not in bracketed), None)
            if before is not None and self._related(before, mention):
                mention.role = "context"

    def _related(self, one: Mention, other: Mention) -> bool:
        contains = self._vocabulary.contains
        return any(contains(a, b) or contains(b, a) for a in one.ids for b in other.ids)

    def _finish(self, mentions: Sequence[Mention], modality: Modality) -> Request:
        items, vocabulary = self._items, self._vocabulary
        targets = merged_targets(self._instruction, items, [m for m in mentions if m.role == "target"], vocabulary)
        excluded = merged_targets(self._instruction, items, [m for m in mentions if m.role == "excluded"], vocabulary)
        intent = find_intent(items, [m for m in mentions if m.role != "beside"])
        described = best_description(items, vocabulary) if not targets and intent in ("segment", "measure") else None
        if described is not None and described.score >= 0.5:
            id_, _, own_side = described.id.partition("@")
            mention = Mention((id_,), 0, len(items))
            mention.side = own_side or next((i.value("side") for i in items if i.has("side")), "")
            targets = merged_targets(self._instruction, items, [mention], vocabulary)
        context = tuple(dict.fromkeys(m.id for m in mentions if m.role == "context"))
        unresolved = self._unresolved(mentions) if not targets else ()
        refusal = self._refusal(intent, bool(targets), unresolved)
        return Request(
            instruction=self._instruction, intent=intent, targets=targets if refusal is None else (), modality=modality,
            exclusions=excluded, context=context, unresolved=unresolved, refusal=refusal,
        )  # fmt: skip

    def _unresolved(self, mentions: Sequence[Mention]) -> tuple[Unresolved, ...]:
        """Runs of unknown words, with the nearest known terms."""
        named = {i for m in mentions for i in range(m.first, m.last)}
        runs: list[list[Item]] = []
        previous = -2
        for position, item in enumerate(self._items):
            if item.known or position in named or is_imaging(item) or len(item.key) < 2:
                continue
            if position == previous + 1:
                runs[-1].append(item)
            else:
                runs.append([item])
            previous = position
        spans = [span_of(self._instruction, run) for run in runs[:5]]
        return tuple(Unresolved(span=span, suggestions=self._vocabulary.nearest(span.text[:60])) for span in spans)

    def _refusal(self, intent: str, found: bool, unresolved: Sequence[Unresolved]) -> str | None:
        if intent == "ask":
            return "This is a question, not a request to segment. Say what to segment, for example: liver and spleen in CT."
        if intent == "none" and not unresolved:
            return "This is no request to segment something in a medical image. Say for example: liver and spleen in CT."
        if found and intent != "none":
            return None
        for item in unresolved:
            hint = f" Did you mean {', '.join(item.suggestions)}?" if item.suggestions else ""
            return f"I do not know {item.span.text!r}.{hint} Name a structure, for example: left kidney in CT."
        return "No structure is named. Say what to segment, for example: left kidney in CT."
