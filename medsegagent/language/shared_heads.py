"""Heads shared across "and": "superior and inferior vena cava", "Ober- und Unterlappen"."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.language.items import LIST_MARKS, Item
from medsegagent.language.mentions import Mention, is_generic
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import stem


class SharedHeads:
    """Completes what one instruction leaves out."""

    def __init__(self, items: Sequence[Item], vocabulary: Vocabulary) -> None:
        self._items = items
        self._vocabulary = vocabulary

    def complete(self, mentions: list[Mention]) -> list[Mention]:
        """As in "superior and inferior vena cava", "gluteus maximus and medius": the neighbour has the missing word."""
        out = list(mentions)
        for position, item in enumerate(self._items):
            if not (item.has("and", "or", "to", "not") or item.mark in LIST_MARKS):
                continue
            out += self._completed(position, out)
        return sorted(out, key=lambda mention: mention.first)

    def _completed(self, joint: int, mentions: list[Mention]) -> list[Mention]:
        mentions_here = [
            m for m in mentions if m.last > joint - 4 and m.first < joint + 4 and not is_generic(m, self._vocabulary)
        ]
        after = next((m for m in mentions_here if joint < m.first <= joint + 3 and not m.adjective), None)
        before = next((m for m in reversed(mentions_here) if joint - 3 <= m.last - 1 < joint and not m.adjective), None)
        taken = {i for m in mentions_here for i in range(m.first, m.last) if not m.adjective}
        left = [i for i in range(max(0, joint - 2), joint) if i not in taken and self._is_word(i)]
        right = [i for i in range(joint + 1, min(joint + 3, len(self._items))) if i not in taken and self._is_word(i)]
        new: list[Mention] = []
        hyphen = joint > 1 and self._items[joint - 1].mark == "-" and joint - 2 not in taken
        if after is not None and hyphen and " " not in after.key:
            compound = self._compound(joint - 2, after.key)
            return [compound] if compound else []
        if after is not None and left and left[-1] == joint - 1:
            new += self._complete(left, self._key(after), tail=True, mentions=mentions)
        if before is not None and right and right[0] <= joint + 2 and not new:
            new += self._complete(right[:1], self._key(before), tail=False, mentions=mentions)
            if not new and self._items[joint].has("not"):
                new += self._complete(right[:1], self._key(before), tail=True, mentions=mentions)
        return new

    def _is_word(self, position: int) -> bool:
        item = self._items[position]
        return not item.mark and (
            bool(item.meanings)
            or not item.has("filler", "and", "or", "side", "segment", "not", "modality", "its", "with", "of", "in")
        )

    def _key(self, mention: Mention) -> list[str]:
        return mention.key.split(" ") if mention.key else []

    def _compound(self, position: int, compound: str) -> Mention | None:
        """As in "Ober- und Unterlappen": the end of the compound makes a known word with the other head too."""
        head = self._items[position].word
        for cut in range(2, len(compound) - 2):
            for meaning in self._vocabulary.meanings(stem(head + compound[cut:])):
                if meaning.flag == "n":
                    return Mention((meaning.id,), position, position + 1, meaning.side, key=head + compound[cut:])
        return None

    def _complete(self, places: list[int], other: list[str], tail: bool, mentions: list[Mention]) -> list[Mention]:
        for start in range(len(places)):
            own = [piece for i in places[start:] for piece in self._items[i].key.split(" ")]
            for cut in range(1, len(other)):
                key = " ".join(own + other[cut:]) if tail else " ".join(other[:-cut] + own)
                for meaning in self._vocabulary.meanings(key):
                    if meaning.flag == "n" and len(self._vocabulary.concept(meaning.id).name) > 2:
                        first, last = places[start], places[-1] + 1
                        mentions[:] = [m for m in mentions if not (first <= m.first < last)]
                        return [Mention((meaning.id,), first, last, meaning.side, key=key)]
        return []
