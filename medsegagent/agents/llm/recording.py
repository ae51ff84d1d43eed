"""A language model that says again what it said in a recorded run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from autogen_core.models import LLMMessage
from pydantic import BaseModel

from medsegagent.agents.llm.client import AgentClient, Reply, plain
from medsegagent.errors import EndpointError
from medsegagent.road.messages import Consulted


class Recording:
    """Answers each agent with its recorded replies, in order.

    Attributes:
        model: Of the recorded run.
        changed: Agents that were asked something else than in the recorded run.
    """

    def __init__(self, lines: Iterable[tuple[str, Consulted]]) -> None:
        self.model = ""
        self.changed: set[str] = set()
        self._left: dict[str, deque[Consulted]] = {}
        for agent, said in lines:
            self.model = said.model
            self._left.setdefault(agent, deque()).append(said)

    def client(self, agent: str) -> AgentClient:
        """The model client for the agent of this name."""
        return AgentClient(agent, self._ask)

    async def _ask(self, agent: str, messages: Sequence[LLMMessage], schema: type[BaseModel] | None) -> Reply:
        left = self._left.get(agent)
        if not left:
            raise EndpointError("the recorded run holds no further answer", "The model was not heard there, either.")
        said = left.popleft()
        if plain(messages)[-1]["content"] != said.question:
            self.changed.add(agent)
        return Reply(said.reply, said.form, cached=True)
