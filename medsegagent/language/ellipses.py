"""What an exclusion leaves out of its group, where only a number, a side or an adjective says so."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.language.items import Item
from medsegagent.language.levels import numbered_from
from medsegagent.language.mentions import Mention
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import term_key

_REACH = 5


def with_ellipses(found: list[Mention], items: Sequence[Item], vocabulary: Vocabulary) -> list[Mention]:
    """As in "all ribs except the first pair", "every lobe but the right middle one", "but not the left one"."""
    extra: list[Mention] = []
    for position, item in enumerate(items):
        before = next((m for m in reversed(found) if m.last <= position), None)
        if not item.has("not") or before is None or any(position <= m.first < position + 4 for m in found):
            continue
        if picked := _numbered(items, position, before, vocabulary) or _named(items, position, before, vocabulary):
            extra.append(picked)
    return sorted([*found, *extra], key=lambda m: m.first)


def _numbered(items: Sequence[Item], position: int, group: Mention, vocabulary: Vocabulary) -> Mention | None:
    padded = [*items[: position + 1], *items[position + 1 : position + _REACH]]
    for last in range(position + 2, min(len(padded), position + _REACH)):
        numbers = numbered_from(padded[: last + 1], last, group.id, vocabulary)
        if numbers and numbers.first > position:
            return Mention(numbers.ids, numbers.first, last)
    return None


def _named(items: Sequence[Item], position: int, group: Mention, vocabulary: Vocabulary) -> Mention | None:
    """The one member whose name has all the words; or the same thing on one side."""
    end = position + 1
    while end < min(len(items), position + _REACH) and not (
        items[end].mark or items[end].has("and", "or", "segment", "modality")
    ):
        end += 1
    said = [i for i in range(position + 1, end) if not items[i].has("filler", "thing")]
    words = [items[i].key for i in said if not items[i].has("side")]
    if not words:
        sided = any(items[i].has("side") for i in said)
        return Mention(group.ids, position + 1, end) if sided and items[end - 1].has("thing") else None
    members = {member.partition(":")[0] for member in vocabulary.concept(group.id).members}
    fitting = [id_ for id_ in sorted(members) if set(words) <= set(term_key(vocabulary.concept(id_).name).split())]
    return Mention((fitting[0],), position + 1, end) if len(fitting) == 1 else None
