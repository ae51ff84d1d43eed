"""Choosing without running: the road from an instruction to a selection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medsegagent.errors import ExitCode
from medsegagent.language import with_modality
from medsegagent.language.request import Request
from medsegagent.matching import match, match_with_reasons
from medsegagent.matching.selection import Dropped, Selection
from medsegagent.road.run import NO_USAGE, Run

if TYPE_CHECKING:
    from medsegagent.errors import MedSegAgentError
    from medsegagent.road.mind import Mind, Thought


@dataclass(frozen=True)
class Decision:
    """What was chosen.

    Attributes:
        selection: Empty, with its refusal, where nothing answers.
        dropped: Why the other cards are not in it, where the reasons were asked for.
        warnings: For people.
        usage: What a language model cost; empty where none was asked.
        unheard: Why the language model, which should have been asked, was not heard; then the rules decided.
    """

    selection: Selection
    dropped: tuple[Dropped, ...] = ()
    warnings: tuple[str, ...] = ()
    usage: Mapping[str, object] = field(default_factory=lambda: NO_USAGE)
    unheard: MedSegAgentError | None = None


def by_rules(instruction: str, run: Run, mind: Mind, *, reasons: bool = False) -> Decision | None:
    """Choose cards and labels by the rules' functions, in milliseconds; None where the mind must ask.

    Args:
        instruction: What to segment.
        run: Its library and options are used.
        mind: Who thinks.
        reasons: Whether to say why other cards are not chosen.

    Returns:
        The decision. Two readings are for the user to choose from: the likeliest is answered, and its request
        carries the question.

    Raises:
        UsageError: If the instruction is empty or too long, or the modality is unknown.
    """
    request = run.parsed(instruction)
    if request.question is None and mind.must_converse(run, instruction):
        return None
    library, modality = run.library, run.options.modality
    request = with_modality(request, modality, library.vocabulary) if modality else request
    if reasons:
        return Decision(*match_with_reasons(request, library))
    return Decision(match(request, library))


async def select(instruction: str, run: Run, mind: Mind) -> Decision:
    """Choose by the rules at once, with a conversation only where the mind must ask.

    Raises:
        MedSegAgentError: As the mind does.
    """
    return by_rules(instruction, run, mind) or await converse(instruction, run, mind)


async def converse(instruction: str, run: Run, mind: Mind) -> Decision:
    """Choose out loud, by the thinking half of the team.

    Raises:
        MedSegAgentError: If the user has to be asked, or the language model was needed and cannot be used.
    """
    from medsegagent.road.messages import Task  # what a conversation needs: only to converse
    from medsegagent.road.steps import MATCHING

    task = Task(instruction=instruction, modality=run.options.modality)
    return decision(await mind.converse(task, run, MATCHING), run)


def decision(thought: Thought, run: Run) -> Decision:
    """A conversation's end as a decision.

    Raises:
        MedSegAgentError: If it ended with a refusal other than that nothing matches.
    """
    from medsegagent.road.messages import NothingLeft, Refused, Selected

    last = thought.last
    if isinstance(last, Selected):
        selection = last.selection
    elif isinstance(last, NothingLeft):
        selection = Selection(request=last.request, refusal=last.reason)
    elif isinstance(last, Refused) and last.exit_code == ExitCode.NO_MATCH:
        selection = Selection(request=_request(run), refusal=last.what)
    elif isinstance(last, Refused):
        raise last.error
    else:
        raise RuntimeError(f"the conversation ended with {type(last).__name__}")
    dropped = tuple(sorted(run.dropped.values(), key=lambda item: item.card))
    return Decision(selection, dropped, run.warnings, run.usage(), thought.unheard)


def _request(run: Run) -> Request:
    """What was understood so far."""
    said = [content.request for _, content in run.said if hasattr(content, "request")]
    if said:
        found: Request = said[-1]
        return found
    return run.request or Request(instruction="")
