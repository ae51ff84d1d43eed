"""Left, right and both: which mention each side word belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.mentions import Mention
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import stem

_ADVERBS = frozenset(["links", "rechts", "linksseitig", "rechtsseitig", "beidseits", "beidseitig"])
_ROMANCE = ("gauch", "droit", "izquierd", "derech", "sinist", "dext", "destr", "esquerd", "direit")
_JOINERS = frozenset("/-+&,")


@dataclass(frozen=True)
class _Run:
    """Side words that belong together ("left and right"): items `first` to `last` (exclusive)."""

    side: str
    first: int
    last: int


def attach_sides(items: Sequence[Item], mentions: list[Mention], vocabulary: Vocabulary) -> list[Mention]:
    """Give each mention its side: the one that stands with it between two separators of the list.

    A side alone between separators belongs to what it is set off from ("kidney, left"), or, before a colon, to all that
    is listed behind it ("right: kidney and lung"). A lone side after "and" repeats the concept before it ("left kidney
    and right").
    """
    inside = {i for m in mentions for i in range(m.first, m.last)}
    runs = _runs(items, mentions)
    postposed = _is_postposed(runs, mentions)
    extra: list[Mention] = []
    for run in runs:
        if run.first in inside:
            for mention in mentions:
                if mention.first <= run.first < mention.last and not mention.side and items[run.first].has("side"):
                    mention.side = run.side
            continue
        if _heads_a_list(items, run, mentions, vocabulary):
            continue
        before = _before(items, run, mentions)
        after = _after(items, run, mentions)
        if before and after:
            cell = _cell(items, run)
            near = before.last > cell[0], after.first < cell[1]
            if near == (True, False):
                after = None
            elif near == (False, True):
                before = None
        if (
            before
            and (after is None or postposed or _prefers_before(items, run, before))
            and not (after and not _touches(items, before, run))
        ):
            _give(before, run, extra, items)
        elif after:
            _give(after, run, extra, items)
    _distribute(items, mentions, vocabulary)
    _trailing(items, mentions, runs, vocabulary)
    _set_off(items, mentions, runs, vocabulary)
    _from_region(mentions, vocabulary)
    return sorted([*mentions, *extra], key=lambda mention: mention.first)


def _separates(item: Item) -> bool:
    """Whether this stands between two members of a list."""
    return item.has("and", "or") or item.is_break or item.mark in (",", "/", "+", "&", "、", ":", ";")


def _cell(items: Sequence[Item], run: _Run) -> tuple[int, int]:
    """The stretch between two separators that a run of side words stands in."""
    first, last = run.first, run.last
    while first and not _separates(items[first - 1]):
        first -= 1
    while last < len(items) and not _separates(items[last]):
        last += 1
    return first, last


def _heads_a_list(items: Sequence[Item], run: _Run, mentions: Sequence[Mention], vocabulary: Vocabulary) -> bool:
    """As in "right-sided organs: kidney, adrenal and lung": the side of all that follows, where it has no other."""
    _, end = _cell(items, run)
    if end >= len(items) or items[end].mark != ":" or any(run.first < m.last and m.first < end for m in mentions):
        return False
    stop = next((i for i in range(end + 1, len(items)) if items[i].is_break), len(items))
    listed = [m for m in mentions if end < m.first < stop]
    if len(listed) < 2 or any(items[i].has("side") for i in range(end, stop)):
        return False
    for mention in listed:
        if not mention.side and vocabulary.concept(mention.id).paired:
            mention.side = run.side
    return True


def _runs(items: Sequence[Item], mentions: Sequence[Mention]) -> list[_Run]:
    runs: list[_Run] = []
    position = 0
    while position < len(items):
        side = _side_of(items, position, mentions)
        if not side:
            position += 1
            continue
        first, last = position, position + 1
        joint = last
        while joint < len(items) and (
            items[joint].has("and", "or")
            or items[joint].mark in _JOINERS
            or items[joint].word in ("the", "der", "die", "das")
        ):
            joint += 1
        other = _side_of(items, joint, mentions) if last < joint < len(items) else ""
        if side == "both" and joint < len(items) and not other:
            other = _side_of(items, joint, mentions)
        if other and not _stand_apart(items, first, joint + 1, mentions):
            side, last = (other if side == "both" else "both" if other != side else side), joint + 1
        if last < len(items) and items[last].word in ("side", "sided"):
            last += 1  # "l side"
        if not _is_of_the_screen(items, last):
            runs.append(_Run(side, first, last))
        position = last
    return runs


def _stand_apart(items: Sequence[Item], first: int, last: int, mentions: Sequence[Mention]) -> bool:
    """As in "kidney left, right lung": one side belongs to what stands before, the other to what follows."""
    before = any(m.last == first for m in mentions)
    while last < len(items) and items[last].has("filler", "all") and not items[last].meanings:
        last += 1
    return before and any(m.first == last for m in mentions)


def _side_of(items: Sequence[Item], position: int, mentions: Sequence[Mention]) -> str:
    item = items[position]
    if item.has("side"):
        return "" if item.has("not") and _leads_to_a_thing(items, position, mentions) else item.value("side")
    if item.has("side_mark") and not item.meanings and _is_mark(items, position):
        return item.value("side_mark")
    return ""


def _is_mark(items: Sequence[Item], position: int) -> bool:
    """Whether a short mark ("L", "re") is a side here: beside a structure, and no level, name or unit."""
    item = items[position]
    following = items[position + 1] if position + 1 < len(items) else None
    glued = following is not None and following.start == item.end
    if following is not None and glued and (following.number is not None or following.mark == "'"):
        return False
    return _stands_alone(items, position) or (item.capital and len(item.word) == 1)


def _leads_to_a_thing(items: Sequence[Item], position: int, mentions: Sequence[Mention]) -> bool:
    """As in Spanish "sin el tumor", which is no Latin "ren sin."."""
    after = position + 1
    while after < len(items) and items[after].has("filler", "of"):
        after += 1
    return any(mention.first == after for mention in mentions)


def _stands_alone(items: Sequence[Item], position: int) -> bool:
    """As in "l kidney", "lung l.": a small letter is a side only beside a structure."""
    before = items[position - 1] if position else None
    after = items[position + 1] if position + 1 < len(items) else None
    glue = ("_", "-", "(", ")")
    if before is not None and before.mark in glue and before.end == items[position].start and position > 1:
        before = items[position - 2]
    if after is not None and after.mark in ("_", "-") and after.start == items[position].end:
        after = items[position + 2] if position + 2 < len(items) else None
    if after is not None and after.meanings and after.start - items[position].end <= 1:
        return before is None or before.number is None
    return (after is not None and after.word == "side") or (
        before is not None
        and (bool(before.meanings) or before.number is not None)
        and (after is None or bool(after.mark) or after.has("modality", "and", "or"))
    )


def _is_of_the_screen(items: Sequence[Item], position: int) -> bool:
    """As in "on the right of the screen" is not the patient's right."""
    following = items[position : position + 3]
    return any(item.has("of") for item in following) and any(
        item.word in ("screen", "image", "monitor", "picture") for item in following
    )


def _is_postposed(runs: Sequence[_Run], mentions: Sequence[Mention]) -> bool:
    """As in "kidney left, adrenal right": every side comes after the thing that it belongs to."""
    return bool(runs and mentions) and mentions[0].first < runs[0].first and mentions[-1].first < runs[-1].first


def _before(items: Sequence[Item], run: _Run, mentions: Sequence[Mention]) -> Mention | None:
    found = next((m for m in reversed(mentions) if m.last <= run.first), None)
    if found is None:
        return None
    gap = items[found.last : run.first]
    fits = len(gap) < 6 and all(
        i.has("filler", "in", "neutral", "and", "of", "but", "segment", "thing", "all")
        or (i.mark in (",", "(", "-", ":", "、", "_", ".") and not _ends_sentence(i, items))
        for i in gap
    )
    return found if fits else None


def _after(items: Sequence[Item], run: _Run, mentions: Sequence[Mention]) -> Mention | None:
    found = next((m for m in mentions if m.first >= run.last), None)
    if found is None:
        return None
    gap = items[run.last : found.first]
    fits = len(gap) < 5 and all(
        i.has("filler", "num", "ord", "all", "of", "neutral", "first_n", "last", "appearance")
        or i.number is not None
        or not i.known  # whatever it is, it is told; the side is not lost
        or i.mark in ("-", "'", ")", "_", "(")
        for i in gap
    )
    return found if fits and not any(i.has("segment") and not i.has("filler") for i in gap) else None


def _ends_sentence(mark: Item, items: Sequence[Item]) -> bool:
    """A full stop before a capital; "r." and "4." only end an abbreviation."""
    if not mark.is_break:
        return False
    index = items.index(mark)
    return mark.mark != "." or index == 0 or len(items[index - 1].word) > 1


def _touches(items: Sequence[Item], before: Mention, run: _Run) -> bool:
    return all(item.has("filler", "in") or item.mark in ("(", "-", "_") for item in items[before.last : run.first])


def _prefers_before(items: Sequence[Item], run: _Run, before: Mention) -> bool:
    word = items[run.first].word
    adjacent = before.last == run.first or items[run.first - 1].mark == "("
    return (
        adjacent
        and not before.side
        and (word in _ADVERBS or word.startswith(_ROMANCE) or items[run.first - 1].mark == "(")
    )


def _give(mention: Mention, run: _Run, extra: list[Mention], items: Sequence[Item]) -> None:
    if not mention.side:
        mention.side = run.side
        mention.first, mention.last = min(mention.first, run.first), max(mention.last, run.last)
    elif mention.side != run.side and mention.last <= run.first:
        extra.append(Mention(mention.ids, run.first, run.last, run.side, role=mention.role))


def _distribute(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """As in "left kidney and adrenal gland": a bare singular after "and" shares the side, in a list of these two."""
    for index, (left, right) in enumerate(pairwise(mentions)):
        around = [*mentions[max(0, index - 1) : index + 1], *mentions[index + 1 : index + 3]]
        longer = any(
            is_list(items[one.last : other.first]) for one, other in pairwise(around) if (one, other) != (left, right)
        )
        gap = items[left.last : right.first]
        joined = 0 < len(gap) <= 2 and all(item.has("and", "or") or item.mark in ("/", "&", "+") for item in gap)
        first = items[left.first]
        preposed = left.side in ("left", "right") and (first.has("side") or first.word == left.side)
        if left.ids == right.ids and is_list(gap) and bool(left.side) != bool(right.side):
            left.side = right.side = left.side or right.side
        word = items[right.last - 1].word
        singular = not word.endswith("s") or stem(word) == word  # "medius"
        if (
            joined
            and preposed
            and singular
            and not longer
            and not right.side
            and not items[right.last - 1].key.startswith("both ")
            and vocabulary.concept(right.id).paired
            and vocabulary.concept(left.id).paired
        ):
            right.side = left.side


def _trailing(items: Sequence[Item], mentions: Sequence[Mention], runs: Sequence[_Run], vocabulary: Vocabulary) -> None:
    """As in "middle ear, mastoid and TMJ on the right": a side at the end of a list holds for the whole list."""
    for run in runs:
        on_the = [item.word for item in items[max(0, run.first - 2) : run.first]]
        index = next((i for i, m in enumerate(mentions) if m.first <= run.first < m.last), None)
        listed = index and any(item.has("and") for item in items[mentions[index - 1].last : mentions[index].first])
        comma = bool(listed) and on_the[-1:] == [""] and items[run.first - 1].mark == "," and _closes(items, run.last)
        hyphen = index is not None and index > 0 and items[mentions[index - 1].last].mark == "-"
        compound = hyphen and items[run.first].word in _ADVERBS  # "Ober- und Unterlappen links"
        if index is None or not (compound or comma or {"on", "of"} & set(on_the)):
            continue
        while (
            index > 0
            and not mentions[index - 1].side
            and is_list(items[mentions[index - 1].last : mentions[index].first])
        ):
            index -= 1
            if vocabulary.concept(mentions[index].id).paired:
                mentions[index].side = run.side


def _set_off(items: Sequence[Item], mentions: Sequence[Mention], runs: Sequence[_Run], vocabulary: Vocabulary) -> None:
    """As in "parotid on CT, only the right side", "CT, left side: parotid": one side, one thing that can have it."""
    things = [m for m in mentions if vocabulary.concept(m.id).kind != "region"]
    if len(runs) != 1 or len(things) != 1 or any(m.side for m in mentions):
        return
    run, thing = runs[0], things[0]
    opener = run.first - 1
    while opener >= 0 and (items[opener].has("filler", "but", "in") and not is_imaging(items[opener])):
        opener -= 1
    opens = opener < 0 or is_imaging(items[opener]) or items[opener].mark in (",", "-", ":", ";", ".", "(", "–", "—")
    if opens and _closes(items, run.last) and vocabulary.concept(thing.id).paired:
        thing.side = run.side


def _closes(items: Sequence[Item], position: int) -> bool:
    """Whether a phrase ends here: at a mark, the imaging or the end, after words such as "only" and "please"."""
    while position < len(items) and items[position].has("filler", "but", "thing") and not is_imaging(items[position]):
        position += 1
    following = items[position] if position < len(items) else None
    return following is None or is_imaging(following) or following.mark in (",", ".", ";", "!", ":", ")", "\n")


def _from_region(mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """As in "sartorius, left leg": the region's side is the structure's, where no structure has one of its own."""
    regions = [m for m in mentions if m.side and vocabulary.concept(m.id).kind == "region"]
    others = [m for m in mentions if vocabulary.concept(m.id).kind != "region"]
    if len(regions) == 1 and not any(m.side for m in others):
        for mention in others:
            if vocabulary.concept(mention.id).paired:
                mention.side = regions[0].side


def is_list(gap: Sequence[Item], marks: str = ",/+&、-") -> bool:
    """Whether these items only join the members of a list."""
    return 0 < len(gap) < 6 and all(
        item.has("and", "or", "filler", "side", "all") or (item.mark and item.mark in marks) for item in gap
    )
