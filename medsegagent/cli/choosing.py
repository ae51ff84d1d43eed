"""Choosing cards and labels for a command: by the rules at once, with the team only where a language model is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsegagent.cli import screen
from medsegagent.cli.views import show_message, show_usage
from medsegagent.language import parse, with_modality
from medsegagent.matching import explain, match
from medsegagent.vocabulary import load

if TYPE_CHECKING:
    from medsegagent.agents.llm.mind import Mind
    from medsegagent.cards.library import Library
    from medsegagent.language.request import Request
    from medsegagent.matching.selection import Dropped, Selection


def choose(
    instruction: str, cards: Library, mind: Mind, modality: str | None, *, verbose: bool, reasons: bool
) -> tuple[Selection, tuple[Dropped, ...]]:
    """Choose; the conversation and its cost are shown if verbose.

    Returns:
        The selection and, if reasons are wanted, why other cards are not in it.

    Raises:
        MedSegAgentError: As `medsegagent.match`, and as the language model's team does.
    """
    request = parse(instruction, load())
    # Two readings are for the user to choose from: neither a conversation nor a language model settles them.
    if request.question is not None or (not verbose and not _must_ask(mind, request)):
        request = with_modality(request, modality) if modality else request
        return match(request, cards), explain(request, cards) if reasons else ()
    from medsegagent.road.decide import decide  # AutoGen, only to converse

    decision = decide(instruction, cards, mind, modality=modality, listener=show_message if verbose else None)
    for warning in () if verbose else decision.warnings:  # the conversation has them, too
        screen.warn(warning)
    if verbose:
        show_usage(decision.ledger.record())
    selection = decision.selection
    return selection, explain(selection.request, cards) if reasons else ()


def _must_ask(mind: Mind, request: Request) -> bool:
    if mind.kind != "hybrid":
        return mind.kind == "llm"
    from medsegagent.agents.llm.reading import left_open

    return bool(left_open(request, load()).words)
