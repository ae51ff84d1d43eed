"""What is doubtful about a card, beyond its schema."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from medsegagent.cards.binding import Binding
from medsegagent.cards.card import DatasetCard
from medsegagent.vocabulary import Sided, Vocabulary


@dataclass(frozen=True)
class Finding:
    """One doubt: the card, the label concerned ("" for the card as a whole), and a sentence."""

    card: str
    label: str
    text: str


def check_card(card: DatasetCard, bound: Sequence[Binding], vocabulary: Vocabulary) -> tuple[Finding, ...]:
    """Look for unbound labels, labels that mean the same, odd values, and an impossible `regions_class_order`.

    Args:
        card: The card.
        bound: What each of its labels was bound to, see `binding.bind`.
        vocabulary: What they were bound with.
    """
    return (*_bindings(card, bound, vocabulary), *_values(card), *_regions(card))


def _bindings(card: DatasetCard, bound: Sequence[Binding], vocabulary: Vocabulary) -> Iterator[Finding]:
    meaning: dict[tuple[tuple[Sided, ...], tuple[str, ...]], list[str]] = defaultdict(list)
    for binding in bound:
        meaning[binding.concepts, binding.lesions].append(binding.label)
        if not binding.concepts:
            near = vocabulary.nearest(binding.label.replace("_", " "))
            hint = f"near: {', '.join(near)}" if near else "nothing near"
            text = f"bound to no concept ({hint}); say what it is under `bindings`"
            yield Finding(card.name, binding.label, text)
    for (concepts, _), labels in meaning.items():
        if concepts and len(labels) > 1:
            yield Finding(card.name, labels[1], f"means the same as {labels[0]!r}: {_said(concepts, vocabulary)}")


def _values(card: DatasetCard) -> Iterator[Finding]:
    owner: dict[tuple[int, ...], str] = {}
    for label, values in card.labels.items():
        if (other := owner.setdefault(values, label)) != label:
            yield Finding(card.name, label, f"has the values of {other!r}: {list(values)}")
        if len(set(values)) < len(values):
            yield Finding(card.name, label, f"names a value twice: {list(values)}")
    stored = {value for values in card.labels.values() for value in values}
    if gaps := sorted(set(range(1, max(stored))) - stored):
        shown = ", ".join(map(str, gaps[:10])) + (" ..." if len(gaps) > 10 else "")
        yield Finding(card.name, "", f"no label has the value {shown}")


def _regions(card: DatasetCard) -> Iterator[Finding]:
    order = card.regions_class_order
    if order is None:
        return
    stored = {value for values in card.labels.values() for value in values}
    if len(order) != len(card.labels):
        text = f"regions_class_order has {len(order)} values for {len(card.labels)} labels; nnU-Net wants one for each"
        yield Finding(card.name, "", text)
    if unknown := sorted(set(order) - stored):
        yield Finding(card.name, "", f"regions_class_order paints {unknown}, which no label has")
    if len(set(order)) < len(order):
        yield Finding(card.name, "", "regions_class_order paints one value twice")


def _said(concepts: tuple[Sided, ...], vocabulary: Vocabulary) -> str:
    return " or ".join(f"{item.side} {vocabulary.concept(item.id).name}".strip() for item in concepts)
