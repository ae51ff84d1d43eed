"""`medsegagent match`."""

from __future__ import annotations

from typing import Annotated

import typer

from medsegagent.cli import screen
from medsegagent.cli.llm_options import (
    AllowRemoteOption,
    ConfigOption,
    MaxCallsOption,
    MaxTokensOption,
    MindOption,
    ModelOption,
    NoCacheOption,
    TagOption,
    mind_from,
)
from medsegagent.cli.options import LibraryOption, ModalityOption, VerboseOption, VocabularyOption


def match(
    instruction: Annotated[str, typer.Argument(help="What to segment, in plain words.")],
    library: LibraryOption = "all",
    vocabulary: VocabularyOption = None,
    modality: ModalityOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also what was dropped and why.")] = False,
    no_input: Annotated[bool, typer.Option("--no-input", help="Never ask; exit with code 6 instead.")] = False,
    verbose: VerboseOption = False,
    mind: MindOption = None,
    config: ConfigOption = None,
    model: ModelOption = None,
    tag: TagOption = None,
    allow_remote: AllowRemoteOption = False,
    max_calls: MaxCallsOption = None,
    max_tokens: MaxTokensOption = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Show which cards and labels answer INSTRUCTION. No model runs."""
    from medsegagent.cards.library import Library
    from medsegagent.cli.selecting import select_cards
    from medsegagent.cli.views import selection_json, show_question, show_refusal, show_request, show_selection
    from medsegagent.errors import ExitCode

    thinker = mind_from(
        mind,
        config,
        model,
        tag,
        allow_remote=allow_remote,
        max_calls=max_calls,
        max_tokens=max_tokens,
        no_cache=no_cache,
        may_ask=not no_input,
    )
    cards = Library.load(library, vocabulary or ())
    for error in cards.problems:
        screen.warn(str(error))
    decision = select_cards(instruction, cards, thinker, modality, verbose=verbose, reasons=explain)
    selection, dropped = decision.selection, decision.dropped if explain else ()
    if as_json:
        screen.as_json(selection_json(selection, dropped))
    else:
        if explain:
            show_request(selection.request)
        show_selection(selection, cards, dropped if explain else None)
        for note in selection.notes:
            screen.warn(note)
    if not selection.cards:
        show_refusal(selection)
    if selection.request.question:
        show_question(selection.request.question)
        raise typer.Exit(ExitCode.ANSWER_NEEDED)
    if not selection.cards:
        raise typer.Exit(ExitCode.NO_MATCH)
