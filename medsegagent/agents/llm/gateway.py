"""The way to an endpoint: AutoGen's OpenAI client, with counting, budget, retries, cache, and fallbacks in form."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import httpx
import openai
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, LLMMessage
from autogen_core.tools import ParametersSchema, ToolSchema
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel

from medsegagent.agents.llm.bounded import ASK_PLAIN, bound
from medsegagent.agents.llm.cache import ReplyCache
from medsegagent.agents.llm.client import MODEL_INFO, AgentClient, Form, Reply, length, plain
from medsegagent.agents.llm.config import Endpoint
from medsegagent.agents.llm.extract import LONGEST, find_answer
from medsegagent.agents.llm.quiet import quiet
from medsegagent.agents.llm.usage_meter import UsageMeter
from medsegagent.errors import ConfigError, EndpointError, MedSegAgentError

_LONGEST_PAUSE = 30.0
_SHORTEST_SECRET = 6
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(frozen=True)
class _Abilities:
    """What the endpoint turned out to do: its best form, and whether it takes a temperature."""

    form: Form | None = None
    temperature: bool = True


class Gateway:
    """One endpoint in one run. Belongs to the event loop it is first used in; close it there."""

    def __init__(self, endpoint: Endpoint, meter: UsageMeter, cache: ReplyCache | None) -> None:
        """Open nothing yet.

        Args:
            endpoint: Whom to ask.
            meter: Counts, and stops at the budget.
            cache: For answers and for what the endpoint can do; None keeps nothing.

        Raises:
            ConfigError: If the key's environment variable is not set.
        """
        self.endpoint = endpoint
        self.meter = meter
        self._cache = cache
        self._secret = endpoint.key().get_secret_value()
        local = endpoint.is_local
        self._client = OpenAIChatCompletionClient(
            model=endpoint.model,
            base_url=endpoint.base_url,
            api_key=self._secret,
            max_retries=0,  # retried here, where each try is counted
            model_info=MODEL_INFO,
            include_name_in_message=False,
            # No redirect and, for a local address, no proxy: consent was given for this host only.
            http_client=httpx.AsyncClient(  # type: ignore[call-arg]
                timeout=endpoint.timeout,
                follow_redirects=False,
                trust_env=not local,
                headers=ASK_PLAIN,
                event_hooks={"response": [bound]},
            ),
        )
        self._abilities = self._remembered()

    @property
    def model(self) -> str:
        """The endpoint's model."""
        return self.endpoint.model

    def client(self, agent: str) -> AgentClient:
        """The model client for the agent of this name."""
        return AgentClient(agent, self.ask)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, agent: str, messages: Sequence[LLMMessage], schema: type[BaseModel] | None) -> Reply:
        """Ask once; an identical question is answered from the cache.

        Raises:
            ConfigError: If key, model or address are refused (401, 403, 404).
            EndpointError: If there is no usable answer after the retries, or the budget is spent.
        """
        key = self._key(messages, schema)
        if self._cache and (stored := self._cache.get(key)):
            with suppress(TypeError):
                reply = Reply(**stored)
                self.meter.book_cached(agent)
                return reply
        reply = await self._ask_in_some_form(agent, messages, schema)
        if self._cache and (schema is None or find_answer(reply.text, schema)):  # a bad answer deserves a second chance
            stored = asdict(replace(reply, cached=True, prompt_tokens=0, completion_tokens=0, seconds=0.0))
            self._cache.put(key, stored)
        return reply

    # ---- forms

    async def _ask_in_some_form(
        self, agent: str, messages: Sequence[LLMMessage], schema: type[BaseModel] | None
    ) -> Reply:
        forms = self._forms() if schema else ("text",)
        for form in forms:
            try:
                reply = await self._send(agent, messages, schema, form)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if (
                    self._abilities.temperature
                    and self.endpoint.temperature is not None
                    and "temperature" in str(error)
                ):
                    self._learn(replace(self._abilities, temperature=False))
                    return await self._ask_in_some_form(agent, messages, schema)
                if form == forms[-1]:
                    raise self._explained(error) from None
                continue
            if schema and self._abilities.form != form:
                self._learn(replace(self._abilities, form=form))
            return reply
        raise AssertionError("there is always a last form")

    def _forms(self) -> tuple[Form, ...]:
        """The forms to try, best first: as configured, else as remembered, else all."""
        says: dict[Form, bool | None] = {
            "structured": self.endpoint.structured_output,
            "tools": self.endpoint.tools,
            "json": self.endpoint.json_mode,
            "text": True,
        }
        possible = [form for form, able in says.items() if able is not False]
        if self._abilities.form in possible:
            return tuple(possible[possible.index(self._abilities.form) :])
        return tuple(possible)

    def _ability_key(self) -> dict[str, Any]:
        return {"abilities of": self.endpoint.base_url, "model": self.endpoint.model}

    def _remembered(self) -> _Abilities:
        stored = self._cache.get(self._ability_key()) if self._cache else None
        with suppress(TypeError):
            return _Abilities(**(stored or {}))
        return _Abilities()

    def _learn(self, abilities: _Abilities) -> None:
        self._abilities = abilities
        if self._cache:
            self._cache.put(self._ability_key(), asdict(abilities))

    # ---- one request, with retries

    async def _send(
        self, agent: str, messages: Sequence[LLMMessage], schema: type[BaseModel] | None, form: Form
    ) -> Reply:
        tries = 0
        while True:
            self.meter.charge(agent)
            started = time.perf_counter()
            try:
                async with asyncio.timeout(self.endpoint.timeout):
                    result = await self._request(messages, schema, form)
            except (openai.BadRequestError, openai.UnprocessableEntityError):
                raise  # perhaps another form
            except Exception as error:  # an endpoint may answer anything, and AutoGen stumbles over it in many ways
                pause = _pause(error, tries)
                if pause is None or tries >= self.endpoint.max_retries:
                    raise self._explained(error) from None  # the chain may carry the key
                tries += 1
                await asyncio.sleep(pause)
                continue
            seconds = time.perf_counter() - started
            text = self._scrubbed(_text(result))[:LONGEST]
            prompt = result.usage.prompt_tokens or length(messages) // 4
            completion = result.usage.completion_tokens or len(text) // 4
            self.meter.book(agent, prompt, completion, seconds)
            return Reply(text, form, prompt, completion, round(seconds, 3))

    async def _request(
        self, messages: Sequence[LLMMessage], schema: type[BaseModel] | None, form: Form
    ) -> CreateResult:
        extra: dict[str, Any] = {}
        how: dict[str, Any] = {"extra_create_args": extra}
        if self.endpoint.temperature is not None and self._abilities.temperature:
            extra["temperature"] = self.endpoint.temperature
        if schema and form == "structured":
            form_of = {"name": schema.__name__, "schema": json_schema(schema), "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": form_of}
        elif schema and form == "tools":
            parameters = cast(ParametersSchema, json_schema(schema))
            how["tools"] = [ToolSchema(name="answer", description="Give the answer.", parameters=parameters)]
            how["tool_choice"] = "required"
        elif schema and form == "json":
            extra["response_format"] = {"type": "json_object"}
        with quiet():
            if not self.endpoint.streaming:
                return await self._client.create(messages, **how)
            async for piece in self._client.create_stream(messages, include_usage=True, **how):
                if isinstance(piece, CreateResult):
                    return piece
        raise EndpointError("the stream ended without an answer", "Try again.", self.endpoint.where)

    # ---- words

    def _key(self, messages: Sequence[LLMMessage], schema: type[BaseModel] | None) -> dict[str, Any]:
        return {
            "base_url": self.endpoint.base_url,
            "model": self.endpoint.model,
            "temperature": self.endpoint.temperature,
            "schema": json_schema(schema) if schema else None,
            "messages": plain(messages),
        }

    def _scrubbed(self, text: str) -> str:
        """Fit for files and terminals: no key, no lone surrogates, no control characters but line ends and tabs."""
        clean = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
        return clean.replace(self._secret, "***") if len(self._secret) >= _SHORTEST_SECRET else clean

    def _explained(self, error: Exception) -> MedSegAgentError:
        where = self.endpoint.where
        if (ours := _ours(error)) is not None:
            return ours
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            remedy = "Check api_key in the configuration; `medsegagent doctor` says whether one was found."
            return ConfigError(f"the endpoint refuses the key ({error.status_code})", remedy, where)
        if isinstance(error, openai.NotFoundError):
            return ConfigError("the endpoint knows no such model or path (404)", "Check model and base_url.", where)
        if isinstance(error, openai.APIStatusError):
            said = self._scrubbed(" ".join(error.message.split()))[:200]
            tries = "" if error.status_code != 429 and error.status_code < 500 else " again and again"
            return EndpointError(f"the endpoint answers{tries} {error.status_code}: {said}", "Try again later.", where)
        if isinstance(error, openai.APITimeoutError | TimeoutError):
            what = f"no answer within {self.endpoint.timeout:g} s, {self.endpoint.max_retries + 1} times"
            return EndpointError(what, "Is it overloaded? `timeout` in the configuration gives it longer.", where)
        if isinstance(error, openai.APIConnectionError):
            return EndpointError("the endpoint cannot be reached", "Is the server running? Check base_url.", where)
        what = f"the endpoint's answer is no chat completion ({type(error).__name__})"
        return EndpointError(what, "Check that base_url is OpenAI-compatible; it usually ends in /v1.", where)


def json_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """The schema without what only people read: it is sent with every call."""
    return cast(dict[str, Any], _bare(schema.model_json_schema()))


def _bare(node: Any) -> Any:
    if isinstance(node, list):
        return [_bare(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _bare(item) for name, item in value.items()} if key in ("properties", "$defs") else _bare(value)
        for key, value in node.items()
        if key not in ("title", "description")
    }


def _text(result: CreateResult) -> str:
    """What was written; of a tool call, its arguments."""
    if isinstance(result.content, str):
        return result.content
    calls: list[FunctionCall] = result.content
    return calls[0].arguments if calls else ""


def _ours(error: BaseException | None) -> MedSegAgentError | None:
    """An error of ours that openai's client took for one of the connection."""
    while error is not None and not isinstance(error, MedSegAgentError):
        error = error.__cause__
    return error


def _pause(error: Exception, tries: int) -> float | None:
    """Seconds to wait before another try; None: another try would not help."""
    if _ours(error) is not None:
        return None
    busy = isinstance(error, openai.RateLimitError | openai.InternalServerError)
    # A refused connection is a server that is not there; a broken one is worth another try.
    cut = isinstance(error, openai.APIConnectionError) and not isinstance(error.__cause__, httpx.ConnectError)
    if not (busy or cut or isinstance(error, TimeoutError)):
        return None
    backoff = min(0.5 * 2.0**tries, 8.0) * random.uniform(0.75, 1.0)
    asked = _retry_after(error) if isinstance(error, openai.APIStatusError) else None
    return min(max(backoff, asked or 0.0), _LONGEST_PAUSE)


def _retry_after(error: openai.APIStatusError) -> float | None:
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if seconds >= 0 else None  # not even "nan"
