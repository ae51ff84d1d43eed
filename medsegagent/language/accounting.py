"""What becomes of each word: part of a target, an exclusion, the context or the image, a function word, or unread.

Here is the policy for words that nothing is made of, in one place:

- A strange word within a phrase, beside its head or linked to it by "of" or "in" ("frobnicator lobe of the liver",
  "Luschka duct"), may change what the phrase means: the phrase is not understood, and nothing broader is taken for it.
- So may a word for a place ("lower esophagus"), a number that the group does not have ("rib 13"), and a head that does
  not go with what stands before it ("femoral nerve", "frontal bone"), where they make no term together.
- How a thing looks ("small", "calcified") changes nothing.
- All other strange words are told, and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import SHORTEST, Item, is_strange
from medsegagent.language.mentions import Mention, is_generic
from medsegagent.language.written_names import FILE_ENDINGS, LONGEST_NAME, is_other_volume, name_at
from medsegagent.vocabulary import Vocabulary

_LOOKS = ("ed", "ing", "ly", "ous", "ish", "iert", "ierte", "ierten", "ierter", "iertes")
"""Endings of participles, adverbs and adjectives of appearance."""
_LINKS = frozenset({"of", "in", "near", "whose"})
_KIND_OF = {"bone": "bone", "muscle": "muscle", "muscles": "muscle", "bones": "bone", "gland": "gland"}
_FITS = {"bone": ("bone", "group", "joint", "region"), "muscle": ("muscle", "group", "organ", "part", "region")}
_REACH = 6
_NEAR = 40
"""Items around a mention in which other mentions matter to it."""


@dataclass(frozen=True)
class NotUnderstood:
    """A phrase of which something is strange: items `first` to `last` (exclusive), and the mention that falls."""

    mention: Mention
    first: int
    last: int


def not_understood(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> list[NotUnderstood]:
    """The phrases of a passage that are wanted, or left out, but not understood."""
    found = []
    for mention in mentions:
        if mention.role not in ("target", "excluded"):
            continue
        phrase = _Phrase(items, mentions, mention, vocabulary)
        if reach := phrase.strange():
            found.append(NotUnderstood(mention, min(mention.first, reach[0]), max(mention.last, reach[1])))
    return found


def unread_items(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> Iterator[int]:
    """Positions of the words that nothing is made of."""
    inside = {i for m in mentions for i in range(m.first, m.last)}
    for position, item in enumerate(items):
        if position not in inside and is_strange(item, vocabulary):
            yield position


class _Phrase:
    """A mention with what stands around it, up to the next separator or other mention."""

    def __init__(
        self, items: Sequence[Item], mentions: Sequence[Mention], mention: Mention, vocabulary: Vocabulary
    ) -> None:
        self._items, self._mention, self._vocabulary = items, mention, vocabulary
        near = (mention.first - _NEAR, mention.last + _NEAR)
        self._others = [m for m in mentions if m is not mention and m.last >= near[0] and m.first <= near[1]]
        self._taken = {i for m in self._others for i in range(m.first, m.last)}
        self._lesion = vocabulary.concept(mention.id).kind == "lesion"

    def strange(self) -> tuple[int, int] | None:
        """The items that make the phrase strange, from the first to the last; None if all is well."""
        return self._written() or self._before() or self._after() or self._number() or self._head()

    def _written(self) -> tuple[int, int] | None:
        """A name with underscores that is understood in part only, or that names a margin around the structure."""
        first = self._mention.first
        near = self._items[max(0, first - 1) : self._mention.last + 1]
        if not any(item.mark in ("_", "~", "^") for item in near):
            return None
        while (
            first > self._mention.first - LONGEST_NAME
            and first
            and self._items[first - 1].end == self._items[first].start
            and name_at(self._items, first) == first
        ):
            first -= 1
        last = name_at(self._items, first)
        if last <= self._mention.first or last <= first:
            return None
        if is_other_volume(self._items[first:last], self._vocabulary):
            return first, last
        wanted = {i for m in [self._mention, *self._others] if m.role != "context" for i in range(m.first, m.last)}
        loose = [self._items[i] for i in range(first, last) if i not in wanted and not self._items[i].mark]
        strange = [i for i in loose if i.meanings or (not i.known and len(i.word) > 1) or i.has("position")]
        return (first, last) if any(not is_imaging(i) and i.word not in FILE_ENDINGS for i in strange) else None

    def _before(self) -> tuple[int, int] | None:
        """A strange word or a place before the name; further away only if "of" or "in" links it."""
        linked, apart, position = False, False, self._mention.first - 1
        while position >= max(0, self._mention.first - _REACH):
            item = self._items[position]
            if position in self._taken or is_imaging(item):
                return None
            if self._is_unknown(item):
                harmless = (item.word.endswith(_LOOKS) or apart) and not linked
                return None if harmless else (position, self._mention.last)
            if item.has("position") and not linked and not apart and not self._lesion and not item.has("near", "side"):
                return None if self._is_of_the_image(position) else (position, self._mention.last)
            if item.has(*_LINKS) and not item.has("relative"):
                linked = True
            elif item.has("filler") and not item.has("segment") and not linked:
                apart = True
            elif not (self._steps_over(item) or (linked and item.has("filler", "segment", "thing", "neutral"))):
                return None
            position -= 1
        return None

    def _after(self) -> tuple[int, int] | None:
        """A strange word right behind the name."""
        position = self._mention.last
        while position < len(self._items) and self._steps_over(self._items[position]):
            position += 1
        if position >= len(self._items) or position in self._taken:
            return None
        item = self._items[position]
        ends = position + 1 >= len(self._items) or bool(self._items[position + 1].mark)
        if item.has("position") and not self._lesion and not item.has("side", "near") and ends:
            return self._mention.first, position + 1  # "pterygoid muscle, medial" has no comma in plans
        looks = item.word.endswith(("ed", "ing", "ly")) or not item.word.isascii()
        if is_strange(item, self._vocabulary) and not looks:
            return self._mention.first, position + 1
        return None

    def _number(self) -> tuple[int, int] | None:
        """As in "rib 13", "vertebra L6": a number that the group has no member for."""
        members = self._vocabulary.concept(self._mention.id).members
        numbered = any(self._vocabulary.concept(m.partition(":")[0]).number is not None for m in members)
        if not numbered or len(self._mention.ids) > 1 or self._mention.last >= len(self._items):
            return None
        position = self._mention.last
        first = self._items[position]
        if position + 1 < len(self._items) and first.end == self._items[position + 1].start and len(first.word) <= 2:
            position += bool(first.word) and first.number is None
        item = self._items[position]
        follows = self._items[position + 1] if position + 1 < len(self._items) else None
        unit = follows is not None and follows.word in ("mm", "cm", "ml", "year", "years")
        return (self._mention.first, position + 1) if item.number is not None and not unit else None

    def _head(self) -> tuple[int, int] | None:
        """As in "femoral nerve", "frontal bone", "submandibular lymph nodes": two names that make none together."""
        before = next((m for m in self._others if m.last == self._mention.first), None)
        if before is not None and is_generic(self._mention, self._vocabulary) and not self._is_listed(before):
            return before.first, self._mention.last
        after = next((m for m in self._others if m.first == self._mention.last), None)
        if after is not None and is_generic(after, self._vocabulary) and not self._is_listed(self._mention):
            return self._mention.first, after.last
        noun = self._items[self._mention.last] if self._mention.last < len(self._items) else None
        kind = _KIND_OF.get(noun.word, "") if noun is not None and noun.has("neutral") else ""
        if kind in _FITS and self._vocabulary.concept(self._mention.id).kind not in _FITS[kind]:
            return self._mention.first, self._mention.last + 1
        return None

    def _is_listed(self, before: Mention) -> bool:
        """As in "liver spleen bones", a list without commas."""
        return any(m.last == before.first for m in self._others)

    def _is_unknown(self, item: Item) -> bool:
        """In no vocabulary as a word of its own: "lacrimal" makes a gland, not a bone."""
        ordinary = item.key in self._vocabulary.everyday or item.word in self._vocabulary.everyday
        return not item.known and not item.mark and len(item.key) >= SHORTEST and not ordinary

    def _steps_over(self, item: Item) -> bool:
        return item.has("side", "side_mark", "all", "appearance") or item.mark in ("-", "'", "_")

    def _is_of_the_image(self, position: int) -> bool:
        before = self._items[position - 1] if position else None
        return before is not None and (is_imaging(before) or before.has("near"))
