"""Third stage: which labels of a card answer the request, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from medsegagent.cards.binding import Binding
from medsegagent.cards.library import Library
from medsegagent.language.request import Request, Target
from medsegagent.matching.answers import Answers, concept_answers, target_answers
from medsegagent.matching.selection import CardSelection, LabelExpression, Selection, TargetLabels
from medsegagent.vocabulary import Sided, Vocabulary, load


def by_label(request: Request, library: Library, cards: Iterable[str]) -> Selection:
    """Choose the labels of these cards; a card that answers no target exactly is left out.

    The selection's `refusal` stays empty: why nothing is left is for `coarse_to_fine.match` to say.
    """
    vocabulary = load()
    found = []
    for name in sorted(cards):
        answers = tuple(_answers_of(name, request, library, vocabulary))
        if answers:
            found.append(CardSelection(card=name, targets=answers))
    return Selection(request=request, cards=tuple(found))


def _answers_of(card: str, request: Request, library: Library, vocabulary: Vocabulary) -> Iterator[TargetLabels]:
    for target in request.targets:
        chooser = _Chooser(card, request.exclusions, library, vocabulary)
        if (whole := chooser.expression(target)) is None:
            continue
        left, right = chooser.sides(target)
        yield TargetLabels(target=target.id, whole=whole, left=left, right=right, reason=_reason(whole))


def _reason(expression: LabelExpression) -> str:
    plus = " + ".join(expression.plus)
    minus = f" without {' and '.join(expression.minus)}" if expression.minus else ""
    also = f", with {' and '.join(expression.also)}" if expression.also else ""
    return f"{plus}{minus}{also}"


class _Chooser:
    """The labels of one card, seen through one request's exclusions."""

    def __init__(self, card: str, exclusions: Sequence[Target], library: Library, vocabulary: Vocabulary) -> None:
        self._bindings = library.bindings[card]
        self._values = library.cards[card].labels
        self._exclusions = exclusions
        self._library = library
        self._vocabulary = vocabulary

    def expression(self, target: Target) -> LabelExpression | None:
        """The labels that answer a target; None if the card does not answer it exactly."""
        labels = self._labels(target_answers(target, self._library, self._vocabulary))
        labels = self._dedicated(target, labels)
        labels = self._without_excluded(target, labels)
        if not labels:
            return None
        lesions = [
            self._labels(concept_answers(id_, target.side or "", self._library, self._vocabulary))
            for id_ in target.lesions
        ]
        if not all(lesions):
            return None
        minus = self._unwanted(target, labels)
        return self._build(labels, minus, [label for found in lesions for label in found])

    def sides(self, target: Target) -> tuple[LabelExpression | None, LabelExpression | None]:
        """Left and right apart, for an unsided paired target, where the card tells them apart."""
        if target.side or not any(self._vocabulary.concept(id_).paired for id_ in target.concepts):
            return None, None
        left, right = (self.expression(target.model_copy(update={"side": side})) for side in ("left", "right"))
        return (left, right) if left and right else (None, None)

    def _labels(self, answers: Answers) -> list[str]:
        for tier in answers.tiers:
            found = [binding for binding in self._bindings if _meets(binding, tier)]
            if found:
                return [binding.label for binding in found] if self._complete(found, answers) else []
        return []

    def _complete(self, found: list[Binding], answers: Answers) -> bool:
        if any(_meets(binding, answers.whole) for binding in found):
            return True
        return all(any(_meets(binding, group) for binding in found) for group in answers.needs)

    def _dedicated(self, target: Target, labels: list[str]) -> list[str]:
        """All labels of a card that holds nothing but a structure's members and what goes with them.

        Whole-heart requests take everything of a cardiac substructure set, the great vessels included.
        """
        if target.side or len(target.concepts) != 1 or not labels:
            return labels
        concept = self._vocabulary.concept(target.concepts[0])
        if not concept.set_mates:
            return labels
        members = self._vocabulary.closure(concept.id)
        mates = frozenset().union(*(self._vocabulary.closure(mate) for mate in concept.set_mates))
        by_members = any(item.id != concept.id for b in self._bindings if b.label in labels for item in b.concepts)
        if by_members and all(_meets(binding, members | mates) for binding in self._bindings):
            return [binding.label for binding in self._bindings]
        return labels

    def _without_excluded(self, target: Target, labels: list[str]) -> list[str]:
        for excluded in self._exclusions:
            answers = target_answers(excluded, self._library, self._vocabulary)
            unwanted = frozenset().union(*answers.tiers) if answers.tiers else frozenset()
            labels = [label for label in labels if not self._is_unwanted(label, unwanted)]
        return labels

    def _is_unwanted(self, label: str, unwanted: frozenset[Sided]) -> bool:
        """The label is what was excluded, or a whole that has it as a member and cannot be split."""
        for item in next(binding.concepts for binding in self._bindings if binding.label == label):
            if item in unwanted or not unwanted.isdisjoint(self._vocabulary.closure(item.id, item.side)):
                return True
        return False

    def _unwanted(self, target: Target, labels: list[str]) -> list[str]:
        """Labels inside the chosen ones that are not meant: lesions of an organ, and excluded parts."""
        inside = []
        chosen = {value for label in labels for value in self._values[label]}
        for binding in self._bindings:
            if binding.label in labels or chosen.isdisjoint(self._values[binding.label]):
                continue
            if self._is_lesion_of(binding, target) or self._is_excluded(binding):
                inside.append(binding.label)
        return self._fewest(inside)

    def _is_lesion_of(self, binding: Binding, target: Target) -> bool:
        organ = all(self._vocabulary.concept(id_).kind != "lesion" for id_ in target.concepts)
        return (
            organ
            and bool(binding.concepts)
            and all(self._vocabulary.concept(item.id).kind == "lesion" for item in binding.concepts)
        )

    def _is_excluded(self, binding: Binding) -> bool:
        for excluded in self._exclusions:
            answers = target_answers(excluded, self._library, self._vocabulary)
            if any(_meets(binding, tier) for tier in answers.tiers):
                return True
        return False

    def _fewest(self, labels: list[str]) -> list[str]:
        """Without the labels whose values another one of them holds."""
        largest_first = sorted(labels, key=lambda label: -len(self._values[label]))
        kept: list[str] = []
        covered: set[int] = set()
        for label in largest_first:
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
        return LabelExpression(
            plus=tuple(plus), minus=tuple(minus), also=tuple(dict.fromkeys(also)), values=tuple(sorted(values))
        )


def _meets(binding: Binding, meanings: frozenset[Sided]) -> bool:
    return not meanings.isdisjoint(binding.concepts)
