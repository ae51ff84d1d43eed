"""Choosing cards and labels for a command: by the rules at once, with a conversation where one is wanted or needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsegagent.cli import screen
from medsegagent.cli.views import show_message, show_usage
from medsegagent.road.events import Event, Said
from medsegagent.road.options import Options
from medsegagent.road.run import Run
from medsegagent.road.select import by_rules, converse

if TYPE_CHECKING:
    from medsegagent.cards.library import Library
    from medsegagent.road.mind import Mind
    from medsegagent.road.select import Decision


def select_cards(
    instruction: str, cards: Library, mind: Mind, modality: str | None, *, verbose: bool, reasons: bool
) -> Decision:
    """Choose; the conversation and its cost are shown if verbose.

    Raises:
        MedSegAgentError: As `medsegagent.match`, and as the language model's team does.
    """

    def show(event: Event) -> None:
        if isinstance(event, Said):
            show_message(event.agent, event.content.summary)

    run = Run(cards, options=Options(modality=modality), listener=show if verbose else None, mind=mind.record)
    # Two readings are for the user to choose from: neither a conversation nor a language model settles them.
    quietly = not verbose or run.parsed(instruction).question is not None
    if quietly and (found := by_rules(instruction, run, mind, reasons=reasons)):
        return found
    import asyncio  # only to converse

    decision = asyncio.run(converse(instruction, run, mind))
    for warning in () if verbose else decision.warnings:  # the conversation has them, too
        screen.warn(warning)
    if verbose:
        show_usage(decision.usage)
    return decision
