"""`medsegagent cards`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsegagent.cli import screen
from medsegagent.cli.options import LibraryOption, ModelsDirOption, VocabularyOption
from medsegagent.errors import ExitCode

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


@app.command("add")
def add_card(
    source: Annotated[Path, typer.Argument(help="Model folder (DatasetNNN_NAME), dataset.json, or older-style card.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the card to.")] = Path("cards"),
    name: Annotated[str | None, typer.Option("--name", help="Name of the card; default the dataset's.")] = None,
    vocabulary: VocabularyOption = None,
) -> None:
    """Write a card for a trained model, and show what its labels were bound to."""
    from medsegagent.cards.adding import card_from, write_card
    from medsegagent.cards.binding import bind
    from medsegagent.cards.checking import check_card
    from medsegagent.cli.card_views import show_bindings, show_findings
    from medsegagent.vocabulary import load

    terms = load(vocabulary or ())
    card = card_from(source, terms, name)
    file = write_card(card, out)
    bound = bind(card, terms)
    show_bindings(card, bound, terms)
    show_findings(check_card(card, bound, terms))
    screen.out.print(f"Written: {file}. Look the bindings over; `bindings` in the file corrects them.")


@app.command("check")
def check_cards(
    files: Annotated[list[Path] | None, typer.Argument(help="Cards; default: all that ship.")] = None,
    models_dir: ModelsDirOption = None,
    vocabulary: VocabularyOption = None,
) -> None:
    """Report broken cards, unbound labels, odd values, and installed models that differ from their card."""
    from medsegagent.cards.checking import check_card
    from medsegagent.cards.library import Library
    from medsegagent.cli.card_views import show_findings
    from medsegagent.engines.installed import find_installed
    from medsegagent.vocabulary import load

    terms = load(vocabulary or ())
    library = Library.of_files(files, terms) if files else Library.load("all", vocabulary or ())
    for error in library.problems:
        screen.problem(str(error))
    findings = [finding for card in library for finding in check_card(card, library.bindings[card.name], terms)]
    show_findings(findings)
    for problem in find_installed(library, models_dir).problems:
        screen.warn(str(problem))
    screen.out.print(f"{len(library)} cards checked, {len(findings)} findings, {len(library.problems)} broken.")
    if library.problems:
        raise typer.Exit(ExitCode.BAD_INPUT)
