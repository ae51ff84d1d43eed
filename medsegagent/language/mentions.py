"""Mentions: the concepts that the instruction names, with where and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.levels import ORDER, levels_from, numbered_from, segments_of
from medsegagent.language.written_names import bound, is_other_volume, name_at
from medsegagent.vocabulary import Meaning, Vocabulary

_ABOVE = frozenset({"above", "superior", "cranial", "over"})
_BELOW = frozenset({"below", "inferior", "caudal", "under", "beneath"})
_AROUND = {"heart": "chest", "chest": "heart"}
"""Regions that one image shows together."""


@dataclass
class Mention:
    """One concept named in items `first` to `last` (exclusive). The parser's steps refine it.

    Attributes:
        ids: Concept ids; several for a range.
        side: "left", "right", "both", or "" for unsaid.
        role: `target`, `excluded`, `context` (narrows the meaning), or `beside` (only says where something else is).
        lesions: Lesions that are wanted together with it.
        key: The term that named it.
    """

    ids: tuple[str, ...]
    first: int
    last: int
    side: str = ""
    role: str = "target"
    adjective: bool = False
    weak: bool = False
    lesions: list[str] = field(default_factory=list)
    key: str = ""

    @property
    def id(self) -> str:
        """The first concept."""
        return self.ids[0]


def is_generic(mention: Mention, vocabulary: Vocabulary) -> bool:
    """As in "the bone", "the vessels": a noun that may stand for something named elsewhere."""
    return vocabulary.concept(mention.id).generic and not mention.adjective


def find_mentions(
    items: Sequence[Item], vocabulary: Vocabulary, regions: frozenset[str], sequences: bool
) -> list[Mention]:
    """Every concept named, in order.

    Args:
        items: The instruction.
        vocabulary: The vocabulary.
        regions: Body regions that the instruction is about; they choose between two meanings.
        sequences: Whether "T1" and "T2" mean MR sequences.
    """
    found: list[Mention] = []
    position = 0
    while position < len(items):
        if numbers := levels_from(items, position, sequences):
            found.append(Mention(numbers.ids, numbers.first, numbers.last))
            position = numbers.last
            continue
        mention = _written_name(items, position, vocabulary) or _at(items, position, vocabulary, regions)
        if mention is not None and not _is_headword(items, position, found, vocabulary):
            found.append(mention)
        position = mention.last if mention else position + 1
    return _levels_merged(_joined_levels(found, items), items, vocabulary)


def _written_name(items: Sequence[Item], position: int, vocabulary: Vocabulary) -> Mention | None:
    """A label written with underscores ("kidney_cyst_left", "Bone_Mandible") is read as cards' labels are."""
    last = name_at(items, position)
    if last == position or is_other_volume(items[position:last], vocabulary):
        return None
    binding = bound(items[position:last], vocabulary)
    if binding is None:
        return None
    concept = binding.concepts[0]
    return Mention((concept.id,), position, last, concept.side)


def _joined_levels(found: list[Mention], items: Sequence[Item]) -> list[Mention]:
    """As in "from the atlas down to L5"."""
    out: list[Mention] = []
    for mention in found:
        previous = out[-1] if out else None
        gap = items[previous.last : mention.first] if previous else ()
        if previous and previous.id in ORDER and mention.id in ORDER and len(gap) < 4 and any(i.has("to") for i in gap):
            low, high = sorted((ORDER.index(previous.ids[0]), ORDER.index(mention.ids[-1])))
            out[-1] = Mention(ORDER[low : high + 1], previous.first, mention.last)
        else:
            out.append(mention)
    return out


def _at(items: Sequence[Item], position: int, vocabulary: Vocabulary, regions: frozenset[str]) -> Mention | None:
    item = items[position]
    meaning = choose(item.meanings, vocabulary, regions) if not is_imaging(item) else None
    if meaning is None:
        return None
    mention = Mention(
        (meaning.id,), position, position + 1, meaning.side or item.side, adjective=meaning.flag == "a", key=item.key
    )
    if numbers := numbered_from(items, position, meaning.id, vocabulary) or segments_of(items, position, vocabulary):
        mention.ids, mention.first, mention.last = numbers.ids, numbers.first, max(numbers.last, position + 1)
    return mention


def choose(meanings: Sequence[Meaning], vocabulary: Vocabulary, regions: frozenset[str]) -> Meaning | None:
    """The meaning that fits the body regions; nouns before adjectives, the first listed if nothing decides."""
    fitting = [m for m in meanings if _fits(m, vocabulary, regions)]
    nouns = [m for m in meanings if m.flag in "nb"]
    adjectives = [m for m in meanings if m.flag == "a"]
    only_here = [m for m in fitting if m.flag in "mo"]
    if only_here and not any(m in fitting for m in nouns):
        return only_here[0]
    for group in ([m for m in nouns if m in fitting], nouns, adjectives):
        if group:
            return group[0]
    return None


def open_meanings(meanings: Sequence[Meaning], vocabulary: Vocabulary, regions: frozenset[str]) -> tuple[Meaning, ...]:
    """What a term may mean here, the likeliest first; only what fits, where the body regions decide."""
    several = sorted((m for m in meanings if m.flag in "nbo"), key=lambda m: m.flag == "o")
    return tuple(m for m in several if _fits(m, vocabulary, regions)) or tuple(several)


def _fits(meaning: Meaning, vocabulary: Vocabulary, regions: frozenset[str]) -> bool:
    region = vocabulary.concept(meaning.id).region
    near = _AROUND.get(region, "") in regions and meaning.flag == "o"
    return meaning.flag in "nbmo" and (region in regions or near)


def _is_headword(items: Sequence[Item], position: int, found: list[Mention], vocabulary: Vocabulary) -> bool:
    """As in "femur bone", "sartorius muscle", "brain tissue": the noun only says again what the concept is."""
    item = items[position]
    if not item.has("neutral") or not found or found[-1].last != position:
        return False
    before = vocabulary.concept(found[-1].id)
    return not found[-1].adjective and before.kind not in ("region", "lesion")


def _levels_merged(found: list[Mention], items: Sequence[Item], vocabulary: Vocabulary) -> list[Mention]:
    """As in "vertebra T4", "T4 vertebra", "vertebral body of L1": the level says which; the noun adds nothing."""
    out: list[Mention] = []
    for mention in found:
        previous = out[-1] if out else None
        if (
            previous is not None
            and _is_level(previous)
            and mention.key == "vertebra"
            and _same_phrase(items, previous, mention)
        ):
            if _near(items, previous.last, mention.first):
                previous.last = mention.last
            continue
        if previous is not None and (neighbour := _neighbour(items, previous, mention)):
            out[-1] = Mention((neighbour,), previous.first, mention.last)
        elif previous is None or not _near(items, previous.last, mention.first):
            out.append(mention)
        elif _is_level(mention) and _is_spine_word(previous, vocabulary):
            out[-1] = _as_level(mention, previous)
            if len(out) > 1 and _is_spine_word(out[-2], vocabulary) and _near(items, out[-2].last, out[-1].first):
                out[-2:] = [_as_level(mention, out[-2])]
        elif _is_level(previous) and _is_spine_word(mention, vocabulary):
            out[-1] = _as_level(previous, mention)
        else:
            out.append(mention)
    return out


def _neighbour(items: Sequence[Item], noun: Mention, level: Mention) -> str:
    """As in "the vertebra right above L1"; empty if this is nothing of the kind."""
    gap = items[noun.last : level.first]
    if noun.key != "vertebra" or not _is_level(level) or len(level.ids) > 1 or not 0 < len(gap) < 4:
        return ""
    step = -1 if any(_ABOVE & set(item.key.split()) for item in gap) else 1
    if step > 0 and not any(_BELOW & set(item.key.split()) for item in gap):
        return ""
    place = ORDER.index(level.id) + step
    return ORDER[place] if 0 <= place < len(ORDER) else ""


def _same_phrase(items: Sequence[Item], level: Mention, noun: Mention) -> bool:
    """As in "C2 odontoid-bearing vertebra": nothing between them starts another thing."""
    gap = items[level.last : noun.first]
    return len(gap) < 6 and not any(
        item.has("and", "or", "not", "modality") or item.mark in (",", ";", ".") for item in gap
    )


def _as_level(level: Mention, noun: Mention) -> Mention:
    first, last = min(level.first, noun.first), max(level.last, noun.last)
    ids = ("disc_level",) if noun.id in ("intervertebral_disc", "disc_level") else level.ids
    ids = (noun.id,) if noun.id == "vertebral_posterior_elements" else ids
    return Mention(ids, first, last)


def _is_level(mention: Mention) -> bool:
    return mention.id.startswith("vertebra_")


def _is_spine_word(mention: Mention, vocabulary: Vocabulary) -> bool:
    concept = vocabulary.concept(mention.id)
    spine = (
        "spine",
        "thoracolumbar_spine",
        "lumbosacral_spine",
        "vertebral_body",
        "cervical_vertebrae",
        "thoracic_vertebrae",
        "lumbar_vertebrae",
        "sacral_vertebrae",
    )
    return concept.id in (*spine, "intervertebral_disc", "disc_level", "vertebral_posterior_elements") or (
        mention.adjective and concept.region == "spine"
    )


def _near(items: Sequence[Item], end: int, start: int) -> bool:
    return start - end <= 3 and all(
        item.has("of", "filler", "neutral", "num", "from_")
        or item.word in ("number", "nr", "nummer")
        or item.value("side") == "both"
        or item.mark in ("-", "(", ":", "_")
        for item in items[end:start]
    )
