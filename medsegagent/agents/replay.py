"""Think a saved run through again, offline: the recorded answers of the language model, today's rules and checks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medsegagent.agents.llm.consulting import Consultant
from medsegagent.agents.llm.recording import Recording
from medsegagent.cards.library import Library
from medsegagent.errors import OutputError
from medsegagent.matching.selection import Selection
from medsegagent.reporting.record import read_record
from medsegagent.road.messages import Consulted, Selected, Task
from medsegagent.road.mind import Rules, Thought
from medsegagent.road.run import Run
from medsegagent.road.select import Decision, decision
from medsegagent.road.steps import MATCHING
from medsegagent.road.transcript import TRANSCRIPT
from medsegagent.untrusted import parse_json, read_regular, reason

_SIZE_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class Replayed:
    """A run thought through again.

    Attributes:
        then: What the run selected: card -> values.
        now: What comes out today.
        asked: Questions to the language model that were answered from the recording.
        changed: Agents whose question is no longer the recorded one (a prompt, a card or the vocabulary changed).
        warnings: Of today's conversation.
    """

    then: dict[str, list[int]]
    now: Selection
    asked: int
    changed: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether the selection is the same."""
        return self.then == self.now.labels

    def require_same(self) -> None:
        """Raise where the selection differs.

        Raises:
            OutputError: Naming the cards that differ.
        """
        now = self.now.labels
        if differing := sorted(card for card in {*self.then, *now} if self.then.get(card) != now.get(card)):
            detail = "; ".join(f"{card}: {self.then.get(card, [])} then, {now.get(card, [])} now" for card in differing)
            remedy = "Cards, vocabulary or prompts have changed since, or the transcript was edited; run it again."
            raise OutputError(f"another selection comes out today: {detail}", remedy)


def replay(run: Path, library: Library | None = None) -> Replayed:
    """Replay a run folder, or a `transcript.jsonl`.

    Args:
        run: The folder or file.
        library: Cards to choose from; default the run's own, as `run.json` names it, else all.

    Raises:
        OutputError: If there is no transcript, or it is no conversation of ours.
        CardError: If the run's library cannot be loaded.
        MedSegAgentError: If today's team refuses.
    """
    file = run / TRANSCRIPT if run.is_dir() else run
    lines = _read(file)
    try:
        task = next(Task.model_validate(line["content"]) for line in lines if line["type"] == "Task")
        chosen = next(Selected.model_validate(line["content"]) for line in lines if line["type"] == "Selected")
        said = [
            (str(line["source"]), Consulted.model_validate(line["content"]))
            for line in lines
            if line["type"] == "Consulted"
        ]
    except (StopIteration, KeyError, TypeError, ValidationError) as error:
        what = f"holds no whole conversation ({type(error).__name__})"
        raise OutputError(what, "Give the folder of a finished run.", str(file)) from error
    cards = library or Library.load(_library_of(file.parent))
    recording = Recording(said)
    hybrid = all(item.prompt == "resolver" for _, item in said)
    consultant = Consultant("hybrid" if hybrid else "llm", recording, lambda: True) if said else None
    now = asyncio.run(_think(task, Run(cards), consultant))
    return Replayed(
        then=chosen.selection.labels,
        now=now.selection,
        asked=len(said),
        changed=tuple(sorted(recording.changed)),
        warnings=now.warnings,
    )


async def _think(task: Task, run: Run, consultant: Consultant | None) -> Decision:
    if consultant is None:
        return decision(await Rules().converse(task, run, MATCHING), run)
    from medsegagent.agents.conversation import converse
    from medsegagent.agents.llm.strategies import HybridThinking, LlmThinking

    thinking = HybridThinking(consultant) if consultant.kind == "hybrid" else LlmThinking(consultant)
    return decision(Thought(await converse(task, run, thinking, MATCHING)), run)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        return [parse_json(line) for line in read_regular(file, _SIZE_LIMIT).splitlines()]
    except (OSError, ValueError) as error:
        raise OutputError(
            f"cannot be read as a transcript ({reason(error)})", "Give a run's folder.", str(file)
        ) from error


def _library_of(folder: Path) -> str:
    try:
        return read_record(folder).asked.library or "all"
    except OutputError:  # a transcript alone
        return "all"
