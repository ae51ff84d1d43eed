"""`medsegagent cards`."""

from __future__ import annotations

from typing import Annotated

import typer

from medsegagent.cli import screen
from medsegagent.cli.options import LibraryOption

app = typer.Typer(help="Dataset cards: what can be segmented.", no_args_is_help=True)


@app.command("list")
def list_cards(
    library: LibraryOption = "all",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List the cards."""
    from medsegagent.cards.library import Library

    cards = Library.load(library)
    rows = [
        (card.name, "demo" if card.demo else card.body_region, ", ".join(card.channel_names.values()), len(card.labels))
        for card in cards
    ]
    columns = ("card", "region", "channels", "labels")
    if as_json:
        screen.as_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        screen.table(columns, rows)
    for error in cards.problems:
        screen.warn(str(error))


@app.command("show")
def show_card(
    name: Annotated[str, typer.Argument(help="Name of a card.")],
    library: LibraryOption = "all",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show one card: channels, labels with their values and meaning, models."""
    from medsegagent.cards.library import Library
    from medsegagent.cli.card_views import show

    card = Library.load(library).get(name)
    if as_json:
        screen.as_json(card.model_dump(mode="json", by_alias=True))
    else:
        show(card)
