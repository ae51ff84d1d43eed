"""Choosing without running: the thinking half of the team on one instruction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from medsegagent.agents.llm.consulting import Counsel, Warned
from medsegagent.agents.llm.mind import Mind
from medsegagent.agents.llm.opening import open_counsel
from medsegagent.agents.llm.usage import Ledger
from medsegagent.agents.seats import content_of, envelope
from medsegagent.agents.team import build_matching_team
from medsegagent.cards.library import Library
from medsegagent.errors import ExitCode, MedSegAgentError
from medsegagent.language.request import Request
from medsegagent.matching.selection import Dropped, Selection
from medsegagent.road.messages import Content, NothingLeft, Refused, Selected, Task
from medsegagent.vocabulary import load

Listener = Callable[[str, Content], None]


@dataclass(frozen=True)
class Decision:
    """What the team chose.

    Attributes:
        selection: Empty, with its refusal, where nothing answers.
        dropped: Why the other cards are not in it.
        warnings: For people.
        ledger: What it cost.
        unheard: Why the language model, which should have been asked, was not heard; then the rules decided.
    """

    selection: Selection
    dropped: tuple[Dropped, ...]
    warnings: tuple[str, ...]
    ledger: Ledger
    unheard: MedSegAgentError | None


def decide(
    instruction: str,
    library: Library,
    mind: Mind,
    *,
    modality: str | None = None,
    listener: Listener | None = None,
    total: Ledger | None = None,
) -> Decision:
    """Let Parser and matchers choose cards and labels.

    Args:
        instruction: What to segment.
        library: Cards to choose from.
        mind: Who thinks.
        modality: Overrides what the instruction says.
        listener: Told each message of the conversation.
        total: Counts over several decisions, and has their budget.

    Returns:
        The decision; an empty selection with its refusal where nothing answers.

    Raises:
        MedSegAgentError: If the user has to be asked, or the language model was needed and cannot be used.
    """
    ledger = Ledger(mind.max_calls, mind.max_tokens, parent=total)
    task = Task(instruction=instruction, modality=modality)

    async def talk() -> Decision:
        async with open_counsel(mind, ledger) as counsel:
            return await converse(task, library, counsel, ledger, listener)

    return asyncio.run(talk())


async def converse(
    task: Task, library: Library, counsel: Counsel | None, ledger: Ledger, listener: Listener | None = None
) -> Decision:
    """The same within a running event loop, with a counsel that is already open."""
    warnings: list[str] = []
    request, last = Request(instruction=task.instruction), None
    async for message in build_matching_team(library, load(), counsel).run_stream(task=envelope(task, "user")):
        content = content_of(message)
        if content is None:
            continue
        if listener:
            listener(getattr(message, "source", "team"), content)
        last = content
        request = getattr(content, "request", request)
        if isinstance(content, Warned):
            warnings.append(content.text)
    dropped: tuple[Dropped, ...] = ()
    if isinstance(last, Selected):
        selection, dropped = last.selection, last.dropped
    elif isinstance(last, NothingLeft):
        selection = Selection(request=request, refusal=last.reason)
    elif isinstance(last, Refused) and last.exit_code == ExitCode.NO_MATCH:
        selection = Selection(request=request, refusal=last.what)
    elif isinstance(last, Refused):
        raise last.error
    else:
        raise RuntimeError(f"the conversation ended with {type(last).__name__}")
    return Decision(selection, dropped, tuple(warnings), ledger, counsel.down if counsel else None)
