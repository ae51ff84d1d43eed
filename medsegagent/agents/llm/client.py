"""The model client of one AutoGen agent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from autogen_core import CancellationToken
from autogen_core.models import (
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelFamily,
    ModelInfo,
    RequestUsage,
    SystemMessage,
    UserMessage,
)
from autogen_core.tools import Tool, ToolSchema
from pydantic import BaseModel

from medsegagent.agents.llm.extract import find_answer

Form = Literal["structured", "tools", "json", "text"]
"""How the endpoint is asked for JSON, best first."""

_LONGEST_REPLY = 4000
"""Characters of an unusable reply that go back to the model with the complaint about it."""

MODEL_INFO = ModelInfo(
    vision=False, function_calling=True, json_output=True, structured_output=True, family=ModelFamily.UNKNOWN
)
"""What AutoGen may assume; what an endpoint really can do is found out by the gateway."""


@dataclass(frozen=True)
class Reply:
    """What an endpoint said. `form` is how it was asked; `seconds` and tokens are 0 for a cached one."""

    text: str
    form: Form
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cached: bool = False


Ask = Callable[[str, Sequence[LLMMessage], type[BaseModel] | None], Awaitable[Reply]]
"""Agent name, messages, wanted answer -> reply. A `Gateway`'s, or a recording's."""


class AgentClient(ChatCompletionClient):
    """The model client of one AutoGen agent; keeps what was said for the transcript."""

    def __init__(self, agent: str, ask: Ask) -> None:
        self._agent = agent
        self._ask = ask
        self._usage = RequestUsage(prompt_tokens=0, completion_tokens=0)
        self.replies: list[Reply] = []

    async def create(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = [],
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> CreateResult:
        """Ask; with a schema, the content is the answer's JSON where there is one in the reply, else the reply."""
        schema = json_output if isinstance(json_output, type) else None
        asked = asyncio.ensure_future(self._ask(self._agent, messages, schema))
        if cancellation_token is not None:
            cancellation_token.link_future(asked)
        reply = await asked
        self.replies.append(reply)
        self._usage.prompt_tokens += reply.prompt_tokens
        self._usage.completion_tokens += reply.completion_tokens
        return CreateResult(
            finish_reason="stop",
            content=(find_answer(reply.text, schema) if schema else None) or reply.text[:_LONGEST_REPLY],
            usage=RequestUsage(prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens),
            cached=reply.cached,
        )

    async def create_stream(
        self,
        messages: Sequence[LLMMessage],
        *,
        tools: Sequence[Tool | ToolSchema] = [],
        tool_choice: Tool | Literal["auto", "required", "none"] = "auto",
        json_output: bool | type[BaseModel] | None = None,
        extra_create_args: Mapping[str, Any] = {},
        cancellation_token: CancellationToken | None = None,
    ) -> AsyncGenerator[str | CreateResult, None]:
        """The whole answer as one piece: it is checked before anyone may see it."""
        result = await self.create(messages, json_output=json_output, cancellation_token=cancellation_token)
        yield cast(str, result.content)
        yield result

    async def close(self) -> None:
        """The gateway owns the connection."""

    def actual_usage(self) -> RequestUsage:
        """Tokens so far."""
        return self._usage

    def total_usage(self) -> RequestUsage:
        """Tokens so far."""
        return self._usage

    def count_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = []) -> int:
        """Characters / 4."""
        return length(messages) // 4

    def remaining_tokens(self, messages: Sequence[LLMMessage], *, tools: Sequence[Tool | ToolSchema] = []) -> int:
        """Not known for an arbitrary endpoint; AutoGen wants a number."""
        return 2**20 - self.count_tokens(messages)

    @property
    def capabilities(self) -> ModelInfo:
        """What AutoGen may assume."""
        return MODEL_INFO

    @property
    def model_info(self) -> ModelInfo:
        """What AutoGen may assume."""
        return MODEL_INFO


def plain(messages: Sequence[LLMMessage]) -> list[dict[str, str]]:
    """Messages as role and text."""
    roles = {SystemMessage: "system", UserMessage: "user"}
    return [{"role": roles.get(type(item), "assistant"), "content": str(item.content)} for item in messages]


def length(messages: Sequence[LLMMessage]) -> int:
    """Characters in all messages together."""
    return sum(len(item["content"]) for item in plain(messages))
