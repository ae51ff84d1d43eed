"""How a card looks in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape

from medsegagent.cards.binding import Binding
from medsegagent.cards.card import DatasetCard
from medsegagent.cards.checking import Finding
from medsegagent.cli import screen
from medsegagent.vocabulary import Vocabulary


def show(card: DatasetCard) -> None:
    """Show channels, labels and models of one card."""
    screen.out.print(f"[bold]{escape(card.name)}[/]  {escape(card.body_region)}")
    screen.out.print(escape(card.description))
    facts = {
        "channels": ", ".join(f"{index}: {name}" for index, name in card.channel_names.items()),
        "training cases": card.num_training or "not known",
        "licence": card.licence or "not known",
        "website": card.website or "-",
        "paper": card.paper and f"https://doi.org/{card.paper}",
        "for": "demo and tests only, never a real scan" if card.demo else "",
    }
    screen.table(("about", ""), [(name, value) for name, value in facts.items() if value])
    screen.table(("label", "values"), [(name, ", ".join(map(str, values))) for name, values in card.labels.items()])
    if card.models:
        rows = [
            (model.id, len(model.parts), next((part.source.licence for part in model.parts if part.source), "") or "-")
            for model in card.models
        ]
        screen.table(("model", "parts", "licence"), rows)


def show_bindings(card: DatasetCard, bound: Sequence[Binding], vocabulary: Vocabulary) -> None:
    """Show what each label was taken to mean."""
    rows = []
    for binding in bound:
        meanings = [f"{item.side} {vocabulary.concept(item.id).name}".strip() for item in binding.concepts]
        lesions = [vocabulary.concept(lesion).name for lesion in binding.lesions]
        values = ", ".join(map(str, card.labels[binding.label]))
        rows.append((binding.label, values, " or ".join(meanings) or "?", " and ".join(lesions)))
    screen.table(("label", "values", "means", "with"), rows)


def show_findings(findings: Sequence[Finding]) -> None:
    """Show what is doubtful."""
    if findings:
        screen.table(("card", "label", "finding"), [(item.card, item.label, item.text) for item in findings])
