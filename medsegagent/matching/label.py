"""Third stage: which labels of a card answer the request, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from medsegagent.cards.binding import Binding
from medsegagent.cards.library import Library
from medsegagent.language.request import Request, Target
from medsegagent.matching.answers import Answers, concept_answers, target_answers
from medsegagent.matching.completeness import Part, partial, parts_of
from medsegagent.matching.selection import CardSelection, Dropped, LabelExpression, Partial, Selection, TargetLabels
from medsegagent.vocabulary import Sided, Vocabulary


def by_label(request: Request, library: Library, cards: Iterable[str]) -> Selection:
    """Choose the labels of these cards; a card that answers no target exactly is left out.

    The selection's `refusal` stays empty: why nothing is left is for `coarse_to_fine.match` to say.
    """
    vocabulary = library.vocabulary
    excluded = [_meanings(target_answers(target, library)) for target in request.exclusions]
    wanted = [_wanted(target, library, excluded) for target in request.targets]
    found = []
    for name in sorted(cards):
        chooser = _Chooser(library.bindings[name], library.label_values[name], excluded, vocabulary)
        if answers := tuple(_answers_of(chooser, wanted)):
            found.append(CardSelection(card=name, targets=answers))
    return Selection(request=request, cards=tuple(found))


def narrow(request: Request, library: Library, cards: Iterable[str]) -> tuple[Selection, tuple[Dropped, ...]]:
    """`by_label`, with a reason for each card that goes."""
    before = tuple(cards)
    selection = by_label(request, library, before)
    kept = {card.card for card in selection.cards}
    reason = _too_coarse(request)
    return selection, tuple(Dropped(card=name, stage="label", reason=reason) for name in before if name not in kept)


def _too_coarse(request: Request) -> str:
    if any(target.lesions for target in request.targets):
        return "Does not label both the organ and its lesions."
    if any(target.side for target in request.targets):
        return "Does not tell the sides apart, or has only the other side."
    return "Has only a part, or a label broader than what is asked for."


@dataclass(frozen=True)
class _Wanted:
    """One target, with what a label must mean to answer it; `left` and `right` where it is an unsided pair."""

    target: Target
    organ: Answers
    lesions: tuple[Answers, ...]
    left: _Wanted | None = None
    right: _Wanted | None = None
    parts: tuple[Part, ...] = ()


def _wanted(target: Target, library: Library, excluded: Sequence[frozenset[Sided]] | None = None) -> _Wanted:
    """What is wanted; of a half of a pair, for which `excluded` is None, no halves and no parts."""
    vocabulary = library.vocabulary
    left = right = None
    if excluded is not None and not target.side and any(vocabulary.concept(id_).paired for id_ in target.concepts):
        sided = [target.model_copy(update={"side": side}) for side in ("left", "right")]
        left, right = (_wanted(half, library) for half in sided)
    lesions = tuple(concept_answers(id_, target.side or "", library) for id_ in target.lesions)
    parts = () if excluded is None else parts_of(target, library.cards_with, excluded, vocabulary)
    return _Wanted(target, target_answers(target, library), lesions, left, right, parts)


def _answers_of(chooser: _Chooser, wanted: Sequence[_Wanted]) -> Iterator[TargetLabels]:
    for item in wanted:
        if (whole := chooser.expression(item)) is None:
            continue
        left = chooser.expression(item.left) if item.left else None
        right = chooser.expression(item.right) if item.right else None
        if left is None or right is None:
            left = right = None
        yield TargetLabels(
            target=item.target.id,
            whole=whole,
            left=left,
            right=right,
            reason=_reason(whole),
            partial=chooser.partial(item.parts, whole),
        )


def _reason(expression: LabelExpression) -> str:
    plus = " + ".join(expression.plus)
    minus = f" without {' and '.join(expression.minus)}" if expression.minus else ""
    also = f", with {' and '.join(expression.also)}" if expression.also else ""
    return f"{plus}{minus}{also}"


class _Chooser:
    """The labels of one card, seen through one request's exclusions."""

    def __init__(
        self,
        bindings: Sequence[Binding],
        values: Mapping[str, tuple[int, ...]],
        excluded: Sequence[frozenset[Sided]],
        vocabulary: Vocabulary,
    ) -> None:
        self._bindings = bindings
        self._values = values
        self._excluded = excluded
        self._vocabulary = vocabulary

    def expression(self, wanted: _Wanted) -> LabelExpression | None:
        """The labels that answer a target; None if the card does not answer it exactly."""
        chosen = self._dedicated(wanted.target, self._answering(wanted.organ))
        chosen = [binding for binding in chosen if not self._is_unwanted(binding)]
        if not chosen:
            return None
        lesions = [self._answering(answers) for answers in wanted.lesions]
        if not all(lesions):
            return None
        plus = [binding.label for binding in chosen]
        also = dict.fromkeys(binding.label for found in lesions for binding in found)
        return self._build(plus, self._inside(wanted.target, plus), list(also))

    def partial(self, parts: Sequence[Part], chosen: LabelExpression) -> Partial | None:
        """What the card has of a target's parts, if that is too little."""
        return partial(parts, [b for b in self._bindings if b.label in chosen.plus], self._vocabulary)

    def _answering(self, answers: Answers) -> list[Binding]:
        for tier in answers.tiers:
            found = [binding for binding in self._bindings if _meets(binding, tier)]
            if found:
                return found if self._complete(found, answers) else []
        return []

    def _complete(self, found: list[Binding], answers: Answers) -> bool:
        if not answers.needs or any(_meets(binding, answers.whole) for binding in found):
            return True
        return all(any(_meets(binding, group) for binding in found) for group in answers.needs)

    def _dedicated(self, target: Target, chosen: list[Binding]) -> list[Binding]:
        """All labels of a card that holds nothing but a structure's members and what goes with them.

        Whole-heart requests take everything of a cardiac substructure set, the great vessels included.
        """
        if target.side or len(target.concepts) != 1 or not chosen:
            return chosen
        id_ = target.concepts[0]
        allowed = _with_mates(id_, self._vocabulary)
        by_members = bool(allowed) and any(item.id != id_ for binding in chosen for item in binding.concepts)
        dedicated = by_members and all(_meets(binding, allowed) for binding in self._bindings)
        return list(self._bindings) if dedicated else chosen

    def _is_unwanted(self, binding: Binding) -> bool:
        """The label is what was excluded, or a whole that has it as a member and cannot be split."""
        return any(
            item in unwanted
            or (
                not unwanted.isdisjoint(self._vocabulary.closure(item.id, item.side))
                and not self._has_inside(binding, unwanted)
            )
            for unwanted in self._excluded
            for item in binding.concepts
        )

    def _has_inside(self, whole: Binding, unwanted: frozenset[Sided]) -> bool:
        """Whether the card labels what is excluded as some of the voxels of this whole, so that they can go."""
        voxels = set(self._values[whole.label])
        return any(_meets(other, unwanted) and voxels.issuperset(self._values[other.label]) for other in self._bindings)

    def _inside(self, target: Target, plus: list[str]) -> list[str]:
        """Labels within the chosen ones that are not meant: lesions of an organ, and excluded parts."""
        chosen = {value for label in plus for value in self._values[label]}
        organ = all(self._vocabulary.concept(id_).kind != "lesion" for id_ in target.concepts)
        inside = [
            binding.label
            for binding in self._bindings
            if not chosen.isdisjoint(self._values[binding.label])
            and binding.label not in plus
            and ((organ and self._is_lesion(binding)) or any(_meets(binding, unwanted) for unwanted in self._excluded))
        ]
        return self._fewest(inside)

    def _is_lesion(self, binding: Binding) -> bool:
        concepts = [self._vocabulary.concept(item.id) for item in binding.concepts]
        return bool(concepts) and all(concept.kind == "lesion" for concept in concepts)

    def _fewest(self, labels: list[str]) -> list[str]:
        """Without the labels whose values another one of them holds."""
        kept: list[str] = []
        covered: set[int] = set()
        for label in sorted(labels, key=lambda label: -len(self._values[label])):
            if not covered.issuperset(self._values[label]):
                kept.append(label)
                covered.update(self._values[label])
        return kept

    def _build(self, plus: list[str], minus: list[str], also: list[str]) -> LabelExpression | None:
        values = {value for label in plus for value in self._values[label]}
        values -= {value for label in minus for value in self._values[label]}
        values |= {value for label in also for value in self._values[label]}
        if not values:
            return None
        return LabelExpression(plus=tuple(plus), minus=tuple(minus), also=tuple(also), values=tuple(sorted(values)))


@lru_cache(maxsize=256)
def _with_mates(id_: str, vocabulary: Vocabulary) -> frozenset[Sided]:
    """What may stand in a card that is dedicated to this concept; empty if there are no such cards."""
    mates = vocabulary.concept(id_).set_mates
    return vocabulary.closure(id_).union(*(vocabulary.closure(mate) for mate in mates)) if mates else frozenset()


def _meanings(answers: Answers) -> frozenset[Sided]:
    return frozenset().union(*answers.tiers)


def _meets(binding: Binding, meanings: frozenset[Sided]) -> bool:
    return not meanings.isdisjoint(binding.concepts)
