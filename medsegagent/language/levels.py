"""Vertebral levels and numbered members: "T4 to T8", "ribs 3-5", "lumbar vertebrae 2-4", "the last two ribs"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from medsegagent.language.items import LIST_MARKS, Item
from medsegagent.vocabulary import Vocabulary

LETTERS = {
    "c": "c", "hwk": "c", "hw": "c", "t": "t", "th": "t", "d": "t", "bwk": "t", "bw": "t", "l": "l", "lwk": "l",
    "lw": "l", "s": "s", "swk": "s",
}  # fmt: skip
_COUNTS = {"c": 7, "t": 12, "l": 5, "s": 5}
_BEYOND = ("vertebra_l6",)
"""Vertebrae that few people have: never part of a range."""
ORDER = tuple(f"vertebra_{letter}{number}" for letter in "ctls" for number in range(1, _COUNTS[letter] + 1))
_RANGE_MARKS = frozenset("-–—~〜～−‐‑")
_TO_WORDS = ("to",)
_REACH = 8
"""Items within which a word for vertebrae is looked for."""


@dataclass(frozen=True)
class Numbers:
    """Members found, and the items that said so: `first` to `last` (exclusive)."""

    ids: tuple[str, ...]
    first: int
    last: int


def level_at(items: Sequence[Item], position: int, sequences: bool) -> tuple[str, int] | None:
    """The vertebra that is named at this position, and the position after it.

    Args:
        items: The instruction.
        position: Where to look.
        sequences: Whether "T1" and "T2" mean MR sequences here.
    """
    item = items[position]
    if kind := item.value("sequence_or_level"):
        return None if sequences else (f"vertebra_{kind.lower()}", position + 1)
    letter = LETTERS.get(item.word if item.word in LETTERS else item.key)
    if letter is None or position + 1 >= len(items):
        return None
    following = items[position + 1]
    spaced = following.start - item.end == 1 and (
        len(item.word) > 1 or (item.capital and _beside_spine(items, position))
    )
    if following.number is None or (following.start != item.end and not spaced):
        return None
    id_ = f"vertebra_{letter}{following.number}"
    return (id_, position + 2) if id_ in ORDER or id_ in _BEYOND else None


def _beside_spine(items: Sequence[Item], position: int) -> bool:
    """As in "L 4 vertebra": with a gap, only next to a word for vertebrae."""
    neighbours = [*items[max(0, position - 1) : position], *items[position + 2 : position + 3]]
    return any(meaning.id == "spine" for item in neighbours for meaning in item.meanings)


def levels_from(items: Sequence[Item], position: int, sequences: bool) -> Numbers | None:
    """A level, a range of levels or a run of them, starting at this position."""
    beside = _starts_run(items, position) or _says_vertebra(items, position)
    start = level_at(items, position, sequences and not beside)
    if start is None:
        return None
    ids, last = [start[0]], start[1]
    while (more := _more_levels(items, last, ids[-1])) is not None:
        ids += [id_ for id_ in more[0] if id_ not in ids]
        last = more[1]
    return Numbers(tuple(ids), position, last)


def _starts_run(items: Sequence[Item], position: int) -> bool:
    """As in "T1-T4", "T2 to L1", "T1, T2 and T3": another level follows that is no sequence."""
    last = position + 1
    while (after := _joined(items, last)) is not None:
        following = items[after]
        if not following.has("sequence_or_level"):
            return level_at(items, after, False) is not None or (
                following.number is not None and _is_range(items[last:after])
            )
        last = after + 1
    return False


def _says_vertebra(items: Sequence[Item], position: int) -> bool:
    """As in "T1 vertebra", "T1 and T2 vertebrae", "Vertebrae T1, T2", "T2 vertebral body": no MR sequence."""
    if not items[position].has("sequence_or_level"):
        return False
    after, before = position + 1, position - 1
    while after < min(len(items), position + _REACH) and _goes_on(items[after]):
        after += 1
    while before > position - _REACH and before >= 0 and _goes_on(items[before]):
        before -= 1
    around = [*items[max(0, before) : before + 1], *items[after : after + 1]]
    return any("vertebra" in item.key or "vertebral" in item.key for item in around if item.meanings)


def _goes_on(item: Item) -> bool:
    return _joins(item) or item.has("sequence_or_level") or item.mark == "_"


def _joined(items: Sequence[Item], position: int) -> int | None:
    """The position after a range sign, a comma, a slash or "and"; None if nothing of that kind is here."""
    after = position
    while (
        after < len(items)
        and after - position < 4
        and (_joins(items[after]) or (after > position and items[after].word in ("la", "the")))
    ):
        after += 1
    return after if position < after < len(items) else None


def _joins(item: Item) -> bool:
    return item.mark in _RANGE_MARKS or item.mark in LIST_MARKS or item.has("to", "and", "or")


def _is_range(between: Sequence[Item]) -> bool:
    return any(item.mark in _RANGE_MARKS or item.has(*_TO_WORDS) for item in between)


def _more_levels(items: Sequence[Item], position: int, previous: str) -> tuple[list[str], int] | None:
    after = _joined(items, position)
    if after is None:
        return None
    between = items[position:after]
    if (level := level_at(items, after, False)) is not None:
        id_, last = level
    elif items[after].number is not None and (slash_or_range := _is_range(between) or between[0].mark == "/"):
        id_, last = f"{previous[:10]}{items[after].number}", after + 1
        if not slash_or_range or id_ not in ORDER:
            return None
    else:
        return None
    if _is_range(between) and {previous, id_} <= set(ORDER):
        low, high = sorted((ORDER.index(previous), ORDER.index(id_)))
        return list(ORDER[low : high + 1]), last
    return [id_], last


def numbered_from(items: Sequence[Item], position: int, group: str, vocabulary: Vocabulary) -> Numbers | None:
    """The members of a numbered group that the items around its name (at `position`) pick; None if they pick none."""
    by_number = _members_by_number(group, vocabulary)
    if not by_number:
        return None
    for numbers, first, last in (_after(items, position), _before(items, position, len(by_number), max(by_number))):
        ids = tuple(by_number[number] for number in numbers if number in by_number)
        if ids and len(ids) == len(numbers):
            return Numbers(ids, first, last)
    return None


def segments_of(items: Sequence[Item], position: int, vocabulary: Vocabulary) -> Numbers | None:
    """As in "segments 5 to 8 of the liver": numbered parts of the whole at `position`."""
    end = position
    while end and items[end - 1].has("of", "filler"):
        end -= 1
    start = end
    while start and (_number(items[start - 1]) is not None or _joins(items[start - 1])):
        start -= 1
    if not start or not any(item.has("of") for item in items[end:position]) or items[start - 1].key != "segment":
        return None
    numbers, last = _run(items, start)
    groups = [m.id for m in vocabulary.meanings(f"{items[position].key} segment") if m.flag == "n"]
    by_number = _members_by_number(groups[0], vocabulary) if groups else {}
    ids = tuple(by_number[number] for number in numbers if number in by_number)
    return Numbers(ids, start - 1, position + 1) if ids and len(ids) == len(numbers) and last == end else None


def _members_by_number(group: str, vocabulary: Vocabulary) -> dict[int, str]:
    found = {}
    for member in vocabulary.concept(group).members:
        concept = vocabulary.concept(member.partition(":")[0])
        if concept.number is not None:
            found[concept.number] = concept.id
    found.pop(13, None)  # a supernumerary rib is nobody's "last rib"
    if group == "lumbar_vertebrae":
        found.pop(6, None)
    return found


def _number(item: Item) -> int | None:
    if item.number is not None:
        return item.number
    if item.has("ord"):
        return int(item.value("ord"))
    if item.has("num") and (len(item.word) > 1 or item.capital or not item.word.isascii()):
        return int(item.value("num"))
    return None


def _run(items: Sequence[Item], position: int) -> tuple[list[int], int]:
    """Numbers from here on: "3-5", "3, 4 and 7", "third to fifth"."""
    first = _number(items[position]) if position < len(items) else None
    if first is None:
        return [], position
    numbers, last = [first], position + 1
    while (after := _joined(items, _skip_nth(items, last))) is not None and (
        number := _number(items[after])
    ) is not None:
        if _is_range(items[last:after]):
            numbers += list(range(numbers[-1] + 1, number + 1)) if number - numbers[-1] < 40 else []
        else:
            numbers.append(number)
        last = after + 1
    return list(dict.fromkeys(numbers)), _skip_nth(items, last)


def _skip_nth(items: Sequence[Item], position: int) -> int:
    return position + 1 if position < len(items) and items[position].word in ("th", "rd", "nd", "st") else position


def _after(items: Sequence[Item], position: int) -> tuple[list[int], int, int]:
    start = position + 1
    if any(item.key[:1] == "第" for item in items[start + 1 : start + 4]) and items[start].mark == ",":
        start += 1
    while start < len(items) and start < position + 4 and _may_stand_between(items[start]):
        start += 1
    numbers, last = _run(items, start)
    if (
        len(numbers) == 1
        and last < len(items)
        and items[last].has("modality") is False
        and items[last].word in ("mm", "cm", "ml")
    ):
        numbers = []
    return numbers, position, last


def _may_stand_between(item: Item) -> bool:
    return (
        item.has("side", "from_", "of")
        or item.word == "la"
        or item.key == "第"
        or item.mark in ("(", "#", "-")
        or item.word in ("number", "numbers", "no", "nr", "level", "levels", "pair", "pairs", "from")
    )


def _before(items: Sequence[Item], position: int, count: int, highest: int) -> tuple[list[int], int, int]:
    """As in "third to fifth ribs", "4. Rippe", "first three ribs", "last two lumbar vertebrae"."""
    end = position
    while end > 0 and (
        items[end - 1].has("side")
        or items[end - 1].has("of")
        or items[end - 1].word == "the"
        or items[end - 1].word in ("true", "costal", "pair", "pairs")
        or items[end - 1].mark == "-"
    ):
        end -= 1
    start = end
    while start > 0 and (
        _number(items[start - 1]) is not None
        or _joins(items[start - 1])
        or items[start - 1].has("last", "first_n", "lower_n", "upper_n")
        or items[start - 1].mark == "."
        or items[start - 1].word in ("th", "rd", "nd", "st", "the")
        or items[start - 1].key in ("第",)
    ):
        start -= 1
    while start < end and not (_number(items[start]) is not None or items[start].has("last", "first_n")):
        start += 1
    picked = items[start:end]
    if not picked:
        return [], position, position
    ahead = items[start - 1] if start else picked[0]
    if (
        ahead.has("lower_n", "upper_n")
        and len(picked) == 1
        and not picked[0].has("ord")
        and (amount := _number(picked[0]))
    ):
        counted = range(1, amount + 1) if ahead.has("upper_n") else range(highest - amount + 1, highest + 1)
        return list(counted) if amount <= count else [], start - 1, position + 1
    if len(picked) == 2 and picked[1].has("last", "first_n") and not picked[0].has("ord"):
        picked = [picked[1], picked[0]]  # "the two lowest ribs"
    amount = next((n for item in picked[1:] if (n := _number(item)) is not None), 1)
    if picked[0].has("last"):
        return list(range(highest - amount + 1, highest + 1)) if amount <= count else [], start, position + 1
    if (
        picked[0].has("first_n")
        and (len(picked) > 1 or not picked[0].has("ord"))
        and not any(_joins(i) for i in picked)
    ):
        wanted = amount if len(picked) > 1 else 0
        return list(range(1, wanted + 1)), start, position + 1
    is_ordinal = (
        any(
            item.has("ord") or item.mark == "." or item.word in ("th", "rd", "nd", "st") or item.key == "第"
            for item in picked
        )
        or any(_is_range([i]) for i in picked)
        or (items[start - 1 : start] and items[start - 1].key == "第")
    )
    is_ordinal = is_ordinal or bool(start and items[start - 1].word in ("number", "nr", "no", "nummer"))
    numbers, _ = _run(picked, 0)
    return (numbers if is_ordinal else []), start, position + 1
