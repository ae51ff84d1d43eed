"""What speakers put right on the way: slips taken back, titles that look like a modality, "but" for "except"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.levels import LETTERS
from medsegagent.vocabulary import Meaning, Vocabulary

_NO = frozenset(["no", "nein", "non", "nee", "uh", "um", "hm", "äh"])
_ONES = frozenset(["one", "ones", "side"])
_REACH = 6


def repaired(instruction: str, items: Sequence[Item], vocabulary: Vocabulary) -> list[Item]:
    """The items as they were meant."""
    return _exceptions(_corrections(_hands(_titles(instruction, _minus_volumes(items, vocabulary)))))


def _minus_volumes(items: Sequence[Item], vocabulary: Vocabulary) -> list[Item]:
    """As in "Lungs-GTV": the structure without the tumour in it."""
    out = list(items)
    for position in range(1, len(items) - 1):
        before, hyphen, volume = items[position - 1 : position + 2]
        glued = before.end == hyphen.start and hyphen.end == volume.start
        named = bool(before.meanings) or before.has("side_mark")
        if hyphen.mark == "-" and glued and named and volume.word in vocabulary.rt_names.get("volumes", {}):
            out[position] = replace(hyphen, mark="", words=(("not", ""),))
            out[position + 1] = replace(volume, words=(), meanings=(Meaning("n", "tumor"),), known=True)
    return out


def _titles(instruction: str, items: Sequence[Item]) -> list[Item]:
    """As in "Mr Smith": written like a name, and no modality."""
    out = list(items)
    for position, item in enumerate(items[:-1]):
        following = items[position + 1]
        if following.joins and position + 2 < len(items):
            following = items[position + 2]
        name = instruction[following.start : following.end]
        if instruction[item.start : item.end] == "Mr" and not following.known and name.istitle():
            out[position] = replace(item, words=(("filler", ""),))
    return out


def _hands(items: Sequence[Item]) -> list[Item]:
    """As in "the right-hand parotid": a side, and no hand."""
    out: list[Item] = []
    for position, item in enumerate(items):
        hand = any(meaning.id == "hand" for meaning in item.meanings) and " " not in item.key
        after = items[position + 1] if position + 1 < len(items) else None
        if hand and len(out) > 1 and out[-1].mark == "-" and out[-2].has("side") and after and after.meanings:
            out.pop()
        else:
            out.append(item)
    return out


def _corrections(items: Sequence[Item]) -> list[Item]:
    """As in "the left ... no sorry, the right one", "spleen, I mean liver": what is taken back is gone."""
    out: list[Item] = []
    position = 0
    while position < len(items):
        if items[position].has("correction") or _is_no_between_marks(items, position):
            start = position + 1
            while start < len(items) and _leads_on(items[start]):
                start += 1
            kept = _without_the_slip(_before_the_slip(out), items, start)
            if kept is not None:
                out, position = kept
                continue
        out.append(items[position])
        position += 1
    return out


def _is_no_between_marks(items: Sequence[Item], position: int) -> bool:
    """As in "the left, no, the right"; unlike "liver, no tumour"."""
    around = (*items[max(0, position - 1) : position], *items[position + 1 : position + 2])
    return (
        items[position].key in _NO and len(around) == 2 and all(item.mark and item.mark in ",.-–—…" for item in around)
    )


def _leads_on(item: Item) -> bool:
    """Marks and small words between the correction and what is right."""
    small = item.has("filler") and not item.meanings and len(item.word) > 1
    return small or bool(item.mark) or item.has("correction") or item.word in _NO


def _before_the_slip(items: list[Item]) -> list[Item]:
    end = len(items)
    while end and (items[end - 1].mark or items[end - 1].word in _NO):
        end -= 1
    return items[:end]


def _without_the_slip(before: list[Item], items: Sequence[Item], start: int) -> tuple[list[Item], int] | None:
    """What is kept of the items before, and where to go on; None if nothing is put right."""
    if start >= len(items):
        return None
    first = items[start]
    if is_imaging(first):
        kept = [item for item in before if not is_imaging(item)]
        return (kept, start) if len(kept) < len(before) else None
    if first.has("side") and not _names(items, _after_small_words(items, start + 1)):
        last = next((i for i in range(len(before) - 1, -1, -1) if before[i].has("side")), None)
        after = start + 1
        while after < len(items) and items[after].word in _ONES:
            after += 1
        if last is None:
            return ([*before, first], after) if any(item.meanings for item in before) else None
        return [*before[:last], first, *before[last + 1 :]], after
    if not _names(items, _after_small_words(items, start)):
        return None
    end = next((i + 1 for i in range(len(before) - 1, -1, -1) if _names(before, i)), None)
    if end is None:
        return None
    begin = end - 1
    while begin and (before[begin - 1].has("side", "filler", "all") or _names(before, begin - 1)):
        begin -= 1
    return [*before[:begin], *before[end + _is_level(before, end - 1) :]], start


def _after_small_words(items: Sequence[Item], position: int) -> int:
    while position < len(items) and items[position].has("side", "filler", "all") and not items[position].meanings:
        position += 1
    return position


def _names(items: Sequence[Item], position: int) -> bool:
    return position < len(items) and (
        (bool(items[position].meanings) and not is_imaging(items[position]))
        or _is_level(items, position)
        or items[position].number is not None
    )


def _is_level(items: Sequence[Item], position: int) -> bool:
    following = items[position + 1] if position + 1 < len(items) else None
    return items[position].word in LETTERS and following is not None and following.number is not None


def _exceptions(items: Sequence[Item]) -> list[Item]:
    """As in "all lumbar vertebrae but L3", "every lobe but the middle one": after all or every, "but" means except."""
    return [
        replace(item, words=(("not", ""),)) if item.word == "but" and _is_exception(items, position) else item
        for position, item in enumerate(items)
    ]


def _is_exception(items: Sequence[Item], position: int) -> bool:
    following = items[position + 1] if position + 1 < len(items) else None
    if items[position].key != "but" or following is None or following.has("not", "but", "segment", "its", "in"):
        return False
    for item in reversed(items[max(0, position - _REACH) : position]):
        if item.has("all") or item.key.startswith("all "):
            return True
        if item.mark or item.has("and", "not", "segment"):
            return False
    return False
