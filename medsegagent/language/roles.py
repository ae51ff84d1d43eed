"""Which mentions are wanted, which are excluded, and which only say where or why."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.mentions import Mention
from medsegagent.vocabulary import Vocabulary

_COMMAS = frozenset(",、")


def assign_roles(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """Set `role` and `weak` of every mention."""
    _walk(items, mentions)
    _excluded_before(items, mentions)
    for mention in mentions:
        if mention.role == "target":
            if vocabulary.concept(mention.id).kind == "region":
                mention.role = "context"
            else:
                mention.weak = _names_the_image(items, mention)
    _keep_lists_together(items, mentions)
    _contexts(items, mentions, vocabulary)


def _walk(items: Sequence[Item], mentions: Sequence[Mention]) -> None:
    starting = {mention.first: mention for mention in mentions}
    covered = {i for m in mentions for i in range(m.first, m.last)}
    state, since, seen, opened_first = "", 0, 0, False
    beside = 0
    for position, item in enumerate(items):
        if (mention := starting.get(position)) is not None:
            if state and mention.role == "target":
                mention.role = state
                seen += 1
            elif beside and mention.role == "target":
                mention.role = "beside"
            beside = max(0, beside - 1)
            if items[since].word in ("non", "no") and state == "excluded" and items[since].word == "non":
                state = ""
            continue
        if position in covered:
            continue
        if item.is_break:
            state, beside = "", 0
        elif item.has("not_only"):
            state = ""
        elif item.has("not") and not _before_imaging(items, position):
            opened_first = not any(m.last <= position and m.role == "target" for m in mentions)
            state, since, seen = "excluded", position, 0
        elif item.has("patient"):
            state, since, seen = "context", position, 0
        elif item.has("but") and position > since:
            state = "" if state == "excluded" else state
        elif item.has("not_after") and state == "excluded" and seen:
            state = ""
        elif state and seen and item.has("segment", "measure") and not item.has("thing"):
            state = ""
        elif item.mark in _COMMAS and state and seen and _ends_scope(items, position, state, opened_first):
            state = ""
        elif item.has("near"):
            beside = 2 if item.word in ("between", "zwischen", "entre") or item.key in ("between",) else 1
        elif item.mark in _COMMAS:
            beside = 0


def _before_imaging(items: Sequence[Item], position: int) -> bool:
    return position + 1 < len(items) and is_imaging(items[position + 1])


def _ends_scope(items: Sequence[Item], position: int, state: str, opened_first: bool) -> bool:
    following = items[position + 1] if position + 1 < len(items) else None
    if state != "excluded" or following is None:
        return True
    return not (following.has("and", "or", "not") or opened_first)


def _excluded_before(items: Sequence[Item], mentions: Sequence[Mention]) -> None:
    """ "leave the primary out", "the cysts are not needed", "肿瘤除外"."""
    for position, item in enumerate(items):
        if not item.has("not_after") or any(m.first <= position < m.last for m in mentions):
            continue
        if item.word == "out" and not any(i.word in ("leave", "leaving", "keep", "take", "left") for i in items[max(0, position - 8) : position]):
            continue
        before = [m for m in mentions if m.last <= position and m.last >= position - 3]
        if before and not any(i.is_break or i.mark in _COMMAS for i in items[before[-1].last : position]):
            if item.key == "free" or before[-1].role in ("target", "context"):
                before[-1].role = "excluded"


def _names_the_image(items: Sequence[Item], mention: Mention) -> bool:
    """ "liver MRI", "MRI of the brain": it may only say what the image shows."""
    after = mention.last
    if after < len(items) and is_imaging(items[after]) and not _is_after_imaging(items, mention):
        return items[after].has("modality", "sequence_or_level", "subtype")
    return _is_after_imaging(items, mention) and items[mention.first - 1].has("of", "in", "filler", "side", "all") and any(
        item.has("of") for item in items[max(0, mention.first - 3) : mention.first]
    )


def _is_after_imaging(items: Sequence[Item], mention: Mention) -> bool:
    position = mention.first - 1
    while position >= 0 and items[position].has("of", "filler", "side", "all") and not is_imaging(items[position]):
        position -= 1
    return position >= 0 and is_imaging(items[position]) and not items[position].mark


def _listed(gap: Sequence[Item]) -> bool:
    return bool(gap) and len(gap) < 6 and all(
        item.has("and", "or", "filler", "side", "all") or item.mark in (",", "/", "+", "&", "、") for item in gap
    )


def _keep_lists_together(items: Sequence[Item], mentions: Sequence[Mention]) -> None:
    """In "spleen and liver CT" both are wanted, not only the one that does not touch "CT"."""
    for left, right in zip(mentions, mentions[1:], strict=False):
        if left.role == right.role == "target" and _listed(items[left.last : right.first]) and right.weak and not left.weak:
            right.weak = False
    if any(m.role == "target" and not m.weak for m in mentions):
        for mention in mentions:
            if mention.weak and mention.role == "target":
                mention.role = "context"
    else:
        for mention in mentions:
            mention.weak = False


def _contexts(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """ "the trachea in the neck", "left lobe of the liver": a whole after "of" or "in" only says where."""
    for index, mention in enumerate(mentions):
        if mention.role != "target":
            continue
        before = next((m for m in reversed(mentions[:index]) if m.role in ("target", "excluded")), None)
        if before is None or before.ids == mention.ids:
            continue
        gap = items[before.last : mention.first]
        linked = any(item.has("of", "in", "from_") for item in gap) and len(gap) < 6 and not any(item.has("and", "or", "not") or item.mark for item in gap)
        inside = any(vocabulary.contains(mention.id, id_) for id_ in before.ids)
        if linked and (inside or _same_disease(before.id, mention.id, vocabulary)):
            mention.role = "context"
            before.side = before.side or mention.side
    _image_of_a_whole(items, mentions, vocabulary)


def _same_disease(nodes: str, primary: str, vocabulary: Vocabulary) -> bool:
    """ "nodal disease of a nasopharyngeal cancer"."""
    return vocabulary.concept(nodes).kind == vocabulary.concept(primary).kind == "lesion"


def _image_of_a_whole(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """ "MRI brain: hippocampus": after the modality, a whole of another target is the image's content."""
    targets = [m for m in mentions if m.role == "target"]
    for mention in targets:
        if mention.first and is_imaging(items[mention.first - 1]) and not mention.side:
            others = [m for m in targets if m is not mention and m.first > mention.first and not _listed(items[mention.last : m.first])]
            others += [m for m in targets if m is not mention and m.first > mention.first and any(i.mark in (":", ",") for i in items[mention.last : m.first])]
            if any(vocabulary.contains(mention.id, other.id) for other in others):
                mention.role = "context"
