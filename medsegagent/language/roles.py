"""Which mentions are wanted, which are excluded, and which only say where or why."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.mentions import Mention, is_generic
from medsegagent.language.scopes import exclude_before, walk_scopes
from medsegagent.language.sides import is_list
from medsegagent.vocabulary import Sided, Vocabulary

_SHORTLY = 30
_TREATMENTS = frozenset(
    ["rt", "radiotherapy", "sbrt", "surgery", "resection", "biopsy", "transplant", "ablation", "embolization"]
)


def assign_roles(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """Set `role` and `weak` of every mention."""
    walk_scopes(items, mentions, vocabulary)
    exclude_before(items, mentions)
    for mention in mentions:
        if mention.role == "target":
            if _is_background(items, mention) or vocabulary.concept(mention.id).kind == "region":
                mention.role = "context"
            else:
                lesion = vocabulary.concept(mention.id).kind == "lesion"
                mention.weak = not lesion and _names_the_image(items, mention)
    _levels_of_images(items, mentions, vocabulary)
    _keep_lists_together(items, mentions, vocabulary)
    _contexts(items, mentions, vocabulary)
    absorb_parts(items, mentions, vocabulary)
    _generic_words(items, mentions, vocabulary)


def _levels_of_images(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """As in "psoas muscle at L3", "visceral fat, L3 level": the slice, beside what is wanted in it."""
    for mention in mentions:
        before = items[mention.first - 1] if mention.first else None
        after = items[mention.last] if mention.last < len(items) else None
        says_so = (before is not None and before.word == "at") or (
            after is not None and after.word in ("level", "levels")
        )
        wanted = [m for m in mentions if m is not mention and m.role == "target"]
        others = any(vocabulary.concept(m.id).region != "spine" for m in wanted)
        if mention.role == "target" and mention.id.startswith("vertebra_") and says_so and others:
            mention.role = "context"


def _generic_words(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """As in "left clavicle ... segment the bone": a general noun stands for what was named."""
    for mention in mentions:
        item = items[mention.last - 1]
        general = is_generic(mention, vocabulary) and not mention.side and " " not in item.key
        if (
            general
            and mention.role == "target"
            and any(m is not mention and m.role == "target" for m in mentions)
            and not _is_listed_before(items, mention)
            and not _is_in_list(items, mention, mentions)
        ):
            mention.role = "context"


def _is_in_list(items: Sequence[Item], mention: Mention, mentions: Sequence[Mention]) -> bool:
    others = [m for m in mentions if m is not mention and m.role == "target"]
    gaps = (items[min(m.last, mention.last) : max(m.first, mention.first)] for m in others)
    return any(
        is_list(gap, ",/+&、-;\n") and not any(i.has("filler") and not i.has("and") for i in gap[1:]) for gap in gaps
    )


def _is_background(items: Sequence[Item], mention: Mention) -> bool:
    """As in "fatty liver patient", "aneurysm work-up": what the patient has, or why the image was taken."""
    after = items[mention.last] if mention.last < len(items) else None
    words = (
        "patient",
        "patients",
        "pt",
        "case",
        "cases",
        "planned",
        "planning",
        "candidate",
        "screening",
        "workup",
        "work",
    )
    if after is None:
        return False
    aimed = any(item.word == "for" for item in items[max(0, mention.first - 2) : mention.first])
    treated = aimed and after.word in _TREATMENTS  # "for lung RT planning"
    return treated or (after.word in words and not is_imaging(after))


def _names_the_image(items: Sequence[Item], mention: Mention) -> bool:
    """As in "liver MRI", "MRI of the brain": it may only say what the image shows."""
    after = mention.last
    if after < len(items) and is_imaging(items[after]) and not _is_after_imaging(items, mention):
        return items[after].has("modality", "sequence_or_level", "subtype")
    return (
        _is_after_imaging(items, mention)
        and items[mention.first - 1].has("of", "in", "filler", "side", "all")
        and any(item.has("of") for item in items[max(0, mention.first - 3) : mention.first])
    )


def _is_after_imaging(items: Sequence[Item], mention: Mention) -> bool:
    position = mention.first - 1
    while position >= 0 and items[position].has("of", "filler", "side", "all") and not is_imaging(items[position]):
        position -= 1
    return position >= 0 and is_imaging(items[position]) and not items[position].mark


def _keep_lists_together(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """In "spleen and liver CT" both are wanted, not only the one that does not touch "CT"."""
    for left, right in pairwise(mentions):
        gap = items[left.last : right.first]
        if left.role == right.role == "target" and right.weak and not left.weak and is_list(gap):
            by_and = any(item.has("and", "or") or item.mark in ("+", "&") for item in gap)
            right.weak = not by_and and _shows(right, left, vocabulary)
    if any(m.role == "target" and not m.weak for m in mentions):
        for mention in mentions:
            if mention.weak and mention.role == "target":
                mention.role = "context"
    else:
        for mention in mentions:
            mention.weak = False


def _shows(image: Mention, target: Mention, vocabulary: Vocabulary) -> bool:
    """Whether an image of the one ("skull CT", "heart MRI") is what one takes to see the other."""
    near = vocabulary.concept(target.id).region in vocabulary.concept(image.id).exam_of
    return near or any(vocabulary.contains(image.id, id_) for id_ in target.ids)


def _contexts(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """As in "the trachea in the neck", "left lobe of the liver": a whole after "of" or "in" only says where."""
    for index, mention in enumerate(mentions):
        if mention.role != "target":
            continue
        before = next((m for m in reversed(mentions[:index]) if m.role in ("target", "excluded")), None)
        if before is None or before.ids == mention.ids:
            continue
        gap = items[before.last : mention.first]
        pure = len(gap) < 6 and not any(item.has("and", "or", "not", "segment") or item.mark for item in gap)
        inside = any(vocabulary.contains(mention.id, id_) for id_ in before.ids)
        if inside_of(before, mention, gap, vocabulary):
            before.role = "context"
            mention.side = mention.side or before.side
            continue
        disease = all(vocabulary.concept(m.id).kind == "lesion" for m in (before, mention))
        within = any(item.has("in", "from_") or (disease and item.word == "for") for item in gap) and (
            inside or disease
        )
        located = pure and (any(item.has("of") for item in gap) or within)
        if located:
            mention.role = "context"
            _take_side(items, mentions[:index], before, mention.side)
    _image_of_a_whole(items, mentions, vocabulary)


def inside_of(whole: Mention, part: Mention, gap: Sequence[Item], vocabulary: Vocabulary) -> bool:
    """As in "the heart's left ventricle", "心臓の左心室", "lung right upper lobe": a whole right before its part."""
    close = all(item.has("whose", "side") or item.mark in ("'", "-") or item.word == "s" for item in gap)
    proper = vocabulary.concept(part.id).kind != "lesion" or bool(vocabulary.concept(part.id).part_of)
    return close and proper and whole.ids != part.ids and any(vocabulary.contains(whole.id, id_) for id_ in part.ids)


def _take_side(items: Sequence[Item], earlier: Sequence[Mention], mention: Mention, side: str) -> None:
    """The side of a whole goes to its part, and to the list that the part ends."""
    mention.side = mention.side or side
    for left in reversed([m for m in earlier if m.last <= mention.first]):
        if left.side or not side or not is_list(items[left.last : mention.first]):
            return
        left.side, mention = side, left


def _image_of_a_whole(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """As in "MRI brain: hippocampus", "SDH on CT brain", "glioma: core": wholes that head or end a request."""
    for mention in [m for m in mentions if m.role == "target" and vocabulary.concept(m.id).kind != "region"]:
        follows = mention.first > 0 and is_imaging(items[mention.first - 1])
        precedes = mention.last < len(items) and is_imaging(items[mention.last])
        heading = mention.last < len(items) and items[mention.last].mark == ":"
        if _is_story(items, mention, mentions):
            mention.role = "context"
            continue
        nearby = mentions if follows or precedes or heading else _shortly_before(mention, mentions)
        others = [m for m in nearby if m.ids != mention.ids and m.role == "target" and _shows(mention, m, vocabulary)]
        if follows or precedes:
            others = [m for m in others if not _and_between(items, mention, m)]
        elif heading:
            others = [m for m in others if m.first > mention.first]
        else:
            others = [m for m in others if _explains(items, m, mention, vocabulary)]
        after_image = follows and any(m.last < mention.first - 1 and m.role == "target" for m in mentions)
        for other in others:
            if (
                mention.side
                and not other.side
                and not is_imaging(items[mention.first - 1])
                and vocabulary.concept(other.id).paired
            ):
                other.side = mention.side
        if others or (after_image and not _is_listed_before(items, mention)):
            mention.role = "context"


def _is_story(items: Sequence[Item], mention: Mention, mentions: Sequence[Mention]) -> bool:
    """As in "cirrhotic liver, big spleen: segment the spleen": what stands before the colon is the case."""
    colon = next((i for i in range(mention.last, len(items)) if items[i].mark == ":"), None)
    if colon is None or any(item.has("segment") for item in items[:colon]):
        return False
    after = next((m for m in mentions if m.first > colon and m.role == "target"), None)
    return after is not None and any(item.has("segment") for item in items[colon : after.first])


def _is_listed_before(items: Sequence[Item], mention: Mention) -> bool:
    return any(item.has("and", "or") for item in items[max(0, mention.first - 3) : mention.first])


def _and_between(items: Sequence[Item], one: Mention, other: Mention) -> bool:
    left, right = sorted((one, other), key=lambda m: m.first)
    gap = items[left.last : right.first]
    return is_list(gap) and any(item.has("and", "or") or item.mark in ("+", "&") for item in gap)


def _shortly_before(whole: Mention, mentions: Sequence[Mention]) -> Sequence[Mention]:
    end = bisect_left(mentions, whole.first, key=lambda m: m.first)
    start = bisect_left(mentions, whole.first - _SHORTLY, key=lambda m: m.first)
    return mentions[start:end]


def _explains(items: Sequence[Item], part: Mention, whole: Mention, vocabulary: Vocabulary) -> bool:
    """As in "crystalline lens, both eyes", "a, b and c: the arch branches", "eye including the lens"."""
    gap = items[part.last : whole.first]
    apart = not any(item.has("and", "with", "or") or item.mark in ("+", "&", "/") for item in gap)
    site = vocabulary.site(part.id) == whole.id and vocabulary.concept(part.id).kind == "lesion"
    return (
        any(item.mark == ":" for item in gap)
        or (apart and site and 0 < len(gap) < 6 and not any(item.is_break for item in gap))
        or (bool(whole.side) and not part.side and len(gap) < 3 and any(item.mark == "," for item in gap))
    )


def absorb_parts(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """As in "eye including the lens": a part that is named as included in its whole adds nothing."""
    for whole, part in pairwise(mentions):
        gap = items[whole.last : part.first]
        included = any(item.has("with") for item in gap) and not any(item.has("and", "not") for item in gap)
        lesion = vocabulary.concept(part.id).kind == "lesion"
        group = vocabulary.concept(whole.id).kind == "group"
        within = Sided(part.id) in vocabulary.closure(whole.id) if group else vocabulary.contains(whole.id, part.id)
        if included and not lesion and whole.role == part.role == "target" and within:
            part.role = "context"
