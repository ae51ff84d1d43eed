"""Ask a language model on an agent's behalf, and let nothing through that does not hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import StructuredMessage, TextMessage
from autogen_core import CancellationToken
from pydantic import ValidationError

from medsegagent.agents.llm import prompts
from medsegagent.agents.llm.answers import Answer
from medsegagent.agents.llm.client import AgentClient
from medsegagent.errors import ConfigError, EndpointError
from medsegagent.road.messages import Consulted, Content, Warned

A = TypeVar("A", bound=Answer)
_FORM = "That was not the JSON asked for"


class ClientSource(Protocol):
    """Where answers come from: a `Gateway`, or a recording."""

    @property
    def model(self) -> str:
        """Its name, for the record."""

    def client(self, agent: str) -> AgentClient:
        """The model client for the agent of this name."""


Check = Callable[[A, bool], str]
"""The answer, and whether it is the last one -> what is wrong with it; empty if nothing is."""


@dataclass(frozen=True)
class Advice(Generic[A]):
    """An answer that passed its check, or None; the error, where there was one."""

    answer: A | None
    error: ConfigError | EndpointError | None = None


@dataclass
class Consultant:
    """One language model for one run.

    Attributes:
        kind: "hybrid": only about what the rules leave open; "llm": at every stage.
        clients: Whom to ask.
        permit: Asked once, before the first question; may talk to the user. False: nothing may be sent.
        refused: Permission was asked for and not given.
        down: The error after which nobody is asked any more in this run.
        asked: Prompt name -> version of what was used, for the record.
    """

    kind: Literal["hybrid", "llm"]
    clients: ClientSource
    permit: Callable[[], bool]
    refused: bool | None = None
    down: ConfigError | EndpointError | None = None
    asked: dict[str, int] = field(default_factory=dict)

    async def permitted(self) -> bool:
        """Whether questions may be sent."""
        if self.refused is None:
            self.refused = not await asyncio.to_thread(self.permit)
        return not self.refused

    async def ask(
        self,
        agent: str,
        prompt_name: str,
        question: Mapping[str, Any],
        schema: type[A],
        check: Check[A],
        say: Callable[[Content], None],
    ) -> Advice[A]:
        """Ask; send an invalid answer back once with the exact complaint.

        Args:
            agent: Who asks.
            prompt_name: Its system message, see `prompts`.
            question: Data; encoded as JSON, so that no text in it can pass for anything else.
            schema: The answer's type.
            check: Validates the answer against the library.
            say: Told each exchange, and why none was of use.
        """
        if self.down:
            return Advice(None, self.down)
        prompt = prompts.load(prompt_name)
        self.asked[prompt.name] = prompt.version
        client = self.clients.client(agent)
        assistant = AssistantAgent(agent, client, system_message=prompt.text, output_content_type=schema)
        turn = json.dumps(question, ensure_ascii=False)
        complaint = ""
        for last in (False, True):
            try:
                answer, complaint = await _one_turn(assistant, turn, schema, check, last)
            except (ConfigError, EndpointError) as error:
                self.down = error
                say(Warned(text=f"the LLM was not heard: {error}"))
                return Advice(None, error)
            reply = client.replies[-1]
            say(
                Consulted(
                    prompt=prompt.name,
                    version=prompt.version,
                    model=self.clients.model,
                    question=turn,
                    reply=reply.text,
                    complaint=complaint,
                    form=reply.form,
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=reply.completion_tokens,
                    seconds=reply.seconds,
                    cached=reply.cached,
                )
            )
            if not complaint:
                return Advice(answer)
            # As data, too: a complaint quotes cards and the answer.
            rejected = json.dumps({"not accepted": complaint}, ensure_ascii=False)
            turn = f"{rejected}\nAnswer again, whole, in the same form."
        text = f"two answers of the LLM were not usable, going on with the rules. {complaint}"
        say(Warned(text=text))
        return Advice(None)


async def _one_turn(
    assistant: AssistantAgent, turn: str, schema: type[A], check: Check[A], last: bool
) -> tuple[A | None, str]:
    try:
        response = await assistant.on_messages([TextMessage(content=turn, source="user")], CancellationToken())
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        return None, f"{_FORM}: {f'{place}: ' if place else ''}{wrong['msg']}."
    message = response.chat_message
    assert isinstance(message, StructuredMessage)  # AutoGen's promise for an agent with an output type
    answer = schema.model_validate(message.content)
    return answer, check(answer, last)
