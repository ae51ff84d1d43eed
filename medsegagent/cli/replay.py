"""`medsegagent replay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsegagent.cli import screen


def replay(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its transcript.jsonl.")],
    library: Annotated[
        str | None, typer.Option("--library", help="Cards to choose from; default: those of the run.")
    ] = None,
) -> None:
    """Think a saved run through again, offline, with the recorded answers; exit code 5 if the selection differs."""
    from medsegagent.agents.replay import replay as think_again
    from medsegagent.cards.library import Library
    from medsegagent.cli.views import show_selection

    found = think_again(run, Library.load(library) if library else None)
    for warning in found.warnings:
        screen.warn(warning)
    for agent in found.changed:
        screen.warn(f"{agent} asks something else today: a prompt, a card or the vocabulary has changed since.")
    show_selection(found.now)
    found.require_same()
    screen.out.print(f"The same selection as then; {found.asked} answers of a language model were replayed.")
