"""How a card looks in a terminal."""

from __future__ import annotations

from rich.markup import escape

from medsegagent.cards.card import DatasetCard
from medsegagent.cli import screen


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
