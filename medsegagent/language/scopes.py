"""Scopes: what a negation or the patient's story makes of the mentions that stand in it."""

from __future__ import annotations

from collections.abc import Sequence, Set

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.mentions import Mention
from medsegagent.language.scope_rules import RULES
from medsegagent.vocabulary import Vocabulary

_LEFT = frozenset({"out", "alone", "untouched"})
_COMMAS = frozenset(",、")
_PATTERNS = tuple(dict.fromkeys((rule.pattern, rule.effect) for rule in RULES if rule.effect != "before"))


def walk_scopes(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> None:
    """Give each mention the role of the scope that it stands in: excluded, background, or beside something else."""
    starting = {mention.first: mention for mention in mentions}
    inside = {i for m in mentions for i in range(m.first + 1, m.last)}
    lesions = {m.last for m in mentions if vocabulary.concept(m.id).kind == "lesion"}
    scope = _Scope(items, mentions, lesions)
    for position in range(len(items)):
        if (mention := starting.get(position)) is not None:
            scope.meet(mention)
        elif position not in inside:
            scope.step(position)


class _Scope:
    """The negation or background that the walk is in, and since where."""

    def __init__(self, items: Sequence[Item], mentions: Sequence[Mention], after_lesions: Set[int]) -> None:
        self._items = items
        self._after_lesions = after_lesions
        self._mentions = mentions
        self._role = ""
        self._since = 0
        self._seen = 0
        self._opened_first = False
        self._beside = 0
        self._story = False

    def meet(self, mention: Mention) -> None:
        """A mention takes the scope's role."""
        if self._role and mention.role == "target":
            mention.role = self._role
            self._seen += 1
        elif self._beside and mention.role == "target":
            mention.role = "beside"
        self._beside = max(0, self._beside - 1)
        if self._role == "excluded" and self._items[self._since].word == "non":
            self._role = ""

    def step(self, position: int) -> None:
        """A word or mark opens or ends scopes."""
        item = self._items[position]
        effect = _effect_at(self._items, position)
        named = any(m.first == position + 1 for m in self._mentions)  # a vertebra, T2
        if effect == "excluded" and (named or not _before_imaging(self._items, position)):
            self._opened_first = not any(m.last <= position and m.role == "target" for m in self._mentions)
            self._open("excluded", position)
        elif effect in ("context", "story"):
            self._open("context", position)
            self._story = effect == "story"
        elif self._role and self._ends(position):
            self._role = ""
        if item.is_break or item.mark in _COMMAS or item.mark == ":" or item.has("segment"):
            self._beside = 0
        elif item.has("near"):
            self._beside = 2 if item.key in ("between", "zwischen", "entre", "之 间", "の 間") else 1

    def _open(self, role: str, position: int) -> None:
        self._role, self._since, self._seen, self._story = role, position, 0, False

    def _ends(self, position: int) -> bool:
        item = self._items[position]
        if item.is_break or item.has("not_only") or (item.has("but") and self._role == "excluded"):
            return True
        if item.has("whose") and self._seen and position in self._after_lesions:
            return True  # "不含肿瘤的肝脏": the liver is wanted
        if self._story:
            return False
        if item.mark == ":" and self._role == "context":
            return True
        if self._role == "excluded" and item.has("segment") and _starts_clause(self._items, position):
            return True  # "ignore it and segment the kidney"
        if item.mark in _COMMAS:
            return self._role == "context" or (
                bool(self._seen) and _ends_scope(self._items, position, self._opened_first)
            )
        return bool(self._seen) and (
            (item.has("not_after") and self._role == "excluded")
            or item.word == "do"
            or (item.has("segment", "measure") and not item.has("thing"))
        )


def _starts_clause(items: Sequence[Item], position: int) -> bool:
    before = items[position - 1] if position else None
    return before is not None and not items[position].has("neutral") and (before.has("and") or bool(before.mark))


def _effect_at(items: Sequence[Item], position: int) -> str:
    """The effect of the first rule whose pattern stands here; empty if there is none."""
    for pattern, effect in _PATTERNS:
        if position + len(pattern) <= len(items) and all(
            _is(items[position + step], name) for step, name in enumerate(pattern)
        ):
            return effect
    return ""


def _is(item: Item, name: str) -> bool:
    if name == "number":
        return item.number is not None
    if name.startswith("'"):
        return item.word == name[1:-1]
    return item.mark == name if not name[0].isalpha() else item.has(name)


def _before_imaging(items: Sequence[Item], position: int) -> bool:
    return position + 1 < len(items) and is_imaging(items[position + 1])


def _ends_scope(items: Sequence[Item], comma: int, opened_first: bool) -> bool:
    following = items[comma + 1] if comma + 1 < len(items) else None
    return following is None or not (following.has("and", "or", "not") or opened_first)


def exclude_before(items: Sequence[Item], mentions: Sequence[Mention]) -> None:
    """As in "leave the primary out", "the cysts are not needed", "肿瘤除外"."""
    for position, item in enumerate(items):
        if not item.has("not_after") or any(m.first <= position < m.last for m in mentions):
            continue
        if item.word in _LEFT and not any(
            i.word in ("leave", "leaving", "keep", "take", "left") for i in items[max(0, position - 8) : position]
        ):
            continue
        before = [m for m in mentions if m.last <= position and m.last >= position - 3]
        apart = before and any(i.is_break or i.mark in _COMMAS for i in items[before[-1].last : position])
        if before and not apart and before[-1].role in ("target", "context"):
            before[-1].role = "excluded"
