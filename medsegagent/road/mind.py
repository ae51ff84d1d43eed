"""Who thinks on the road: the rules, or a mind that `agents.llm` brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from medsegagent.errors import MedSegAgentError
from medsegagent.road.messages import Content, Task
from medsegagent.road.run import Run
from medsegagent.road.steps import Route, walk
from medsegagent.road.thinking import RulesThinking


@dataclass(frozen=True)
class Thought:
    """How a conversation ended.

    Attributes:
        last: What was said last.
        unheard: Why the language model, which should have been asked, was not heard; then the rules decided.
    """

    last: Content
    unheard: MedSegAgentError | None = None


class Mind(Protocol):
    """Conducts the conversation from a task to its end."""

    @property
    def record(self) -> Mapping[str, object]:
        """`kind`, and of a language model `model` and `host`, for `run.json`."""

    def must_converse(self, run: Run, instruction: str) -> bool:
        """Whether matching this instruction takes more than the rules' own functions."""

    async def converse(self, task: Task, run: Run, route: Route) -> Thought:
        """Follow the route from a task to its end; everything said is said on the run.

        Raises:
            MedSegAgentError: If the language model was needed and cannot be used.
        """


class Rules:
    """The deterministic mind: no key, no network."""

    record: Mapping[str, object] = {"kind": "rules"}

    def must_converse(self, run: Run, instruction: str) -> bool:
        """Never."""
        return False

    async def converse(self, task: Task, run: Run, route: Route) -> Thought:
        """Walk the road."""
        return Thought(await walk(task, run, RulesThinking(), route))
