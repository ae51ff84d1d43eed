"""Which mind thinks: the rules, a language model, or the rules with its help. Imports neither openai nor AutoGen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from medsegagent.agents.llm.cache import ReplyCache
from medsegagent.agents.llm.config import Endpoint, load_endpoints, pick_endpoint
from medsegagent.agents.llm.usage_meter import UsageMeter
from medsegagent.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from medsegagent.agents.llm.strategies import HybridThinking
    from medsegagent.road.messages import Task
    from medsegagent.road.mind import Thought
    from medsegagent.road.run import Run
    from medsegagent.road.steps import Route

Kind = Literal["rules", "llm", "hybrid"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SENT = {
    "hybrid": "the words that the rules cannot resolve, the structures they found, and names to choose from",
    "llm": "the whole instruction, and names of cards, channels and labels",
}


@dataclass(frozen=True)
class Mind:
    """How the thinking agents think: a `medsegagent.road.mind.Mind`.

    Attributes:
        kind: "rules"; "hybrid" (rules first, a language model for what they leave unresolved); "llm".
        endpoint: The language model; None for "rules" only.
        allow_remote: It may be asked although it is neither on this machine nor in a private address range.
        confirm: Asks the user a yes-or-no question; None where nobody can be asked.
        max_calls: Most requests per run.
        max_tokens: Tokens after which no further request is made.
        use_cache: Answer identical calls from the disk.
        total: Counts over several requests, and has their budget.
    """

    kind: Kind = "rules"
    endpoint: Endpoint | None = None
    allow_remote: bool = False
    confirm: Callable[[str], bool] | None = None
    max_calls: int | None = None
    max_tokens: int | None = None
    use_cache: bool = True
    total: UsageMeter | None = None

    @property
    def record(self) -> Mapping[str, object]:
        """Who thinks, for `run.json`."""
        asked = {"model": self.endpoint.model, "host": self.endpoint.host} if self.endpoint else {}
        return {"kind": self.kind, **asked}

    def must_converse(self, run: Run, instruction: str) -> bool:
        """Whether the language model has to be asked."""
        if self.kind != "hybrid" or self.endpoint is None:
            return self.kind == "llm"
        from medsegagent.agents.llm.reading import left_open

        return bool(left_open(run.parsed(instruction), run.library.vocabulary).words)

    async def converse(self, task: Task, run: Run, route: Route) -> Thought:
        """Seat the steps in an AutoGen team and let it talk; without a language model, walk.

        Raises:
            ConfigError: If the key's environment variable is not set.
        """
        from medsegagent.road.mind import Rules, Thought

        if self.kind == "rules" or self.endpoint is None:
            return await Rules().converse(task, run, route)

        from medsegagent.agents.conversation import converse  # AutoGen, a second: only where a model is asked

        meter = UsageMeter(self.max_calls, self.max_tokens, parent=self.total)
        run.usage = meter.record
        async with self.thinking(meter) as thinking:
            run.mind = {**self.record, "prompts": thinking.consultant.asked}
            return Thought(await converse(task, run, thinking, route), thinking.consultant.down)

    @asynccontextmanager
    async def thinking(self, meter: UsageMeter | None = None) -> AsyncIterator[HybridThinking]:
        """How the steps think with the language model, for as long as the context lasts.

        Args:
            meter: Counts calls and tokens; default one with the mind's own budget.

        Raises:
            ConfigError: If no language model is configured, or the key's environment variable is not set.
        """
        from medsegagent.agents.llm.consulting import Consultant
        from medsegagent.agents.llm.gateway import Gateway
        from medsegagent.agents.llm.strategies import HybridThinking, LlmThinking

        if self.endpoint is None or self.kind == "rules":
            raise ConfigError("no language model is configured", "See docs/llm.md.")
        budget = meter or UsageMeter(self.max_calls, self.max_tokens, parent=self.total)
        gateway = Gateway(self.endpoint, budget, ReplyCache() if self.use_cache else None)
        consultant = Consultant(self.kind, gateway, self.permit)
        try:
            yield HybridThinking(consultant) if self.kind == "hybrid" else LlmThinking(consultant)
        finally:
            await gateway.close()

    def permit(self) -> bool:
        """Whether the endpoint may be asked; asks the user where that is needed and possible."""
        if self.endpoint is None:
            return False
        if self.allow_remote or self.endpoint.is_local:
            return True
        if self.confirm is None:
            return False
        return self.confirm(
            f"{self.endpoint.host} is not on this machine or in a private network. "
            f"Send {_SENT[self.kind]} to {self.endpoint.where}? No image is ever sent."
        )


def choose_mind(
    kind: str | None = None, config: Path | str | None = None, model: str | None = None, tag: str | None = None
) -> tuple[Kind, Endpoint | None]:
    """Settle kind and endpoint from what was asked for and what is configured.

    Args:
        kind: None: hybrid where a language model is configured and its key, if it names one, is there; else rules.
        config: As in `load_endpoints`.
        model: Take the first entry of this model.
        tag: Take the first entry with this tag.

    Raises:
        UsageError: If there is no such kind.
        ConfigError: If the configuration is broken, or none fits and one was asked for.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"there is no mind {kind!r}", f"Known: {', '.join(KINDS)}.", "mind")
    if kind == "rules":
        return "rules", None
    wanted = kind is not None or config is not None or model is not None or tag is not None
    try:
        endpoints = load_endpoints(config)
        if not endpoints and not wanted:
            return "rules", None
        endpoint = pick_endpoint(endpoints, model, tag)
    except ConfigError as error:
        remedy = f"{error.remedy} Or go on without it: --mind rules."
        raise ConfigError(error.what, remedy, error.where) from None
    if not wanted and endpoint.api_key is not None and not endpoint.key_is_set:
        return "rules", None
    endpoint.key()  # a key that is missing is said now, not in the middle of a run
    return cast(Kind, kind or "hybrid"), endpoint
