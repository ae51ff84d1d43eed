"""What a run costs: calls and tokens per agent, and where it must stop."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from threading import RLock
from typing import Any

from medsegagent.errors import EndpointError


@dataclass
class Usage:
    """One agent's account.

    Attributes:
        calls: Requests sent, retries and probes included.
        cached: Answers that came from the disk and cost nothing.
        prompt_tokens: As the endpoint counts them; characters / 4 where it does not say.
        completion_tokens: Likewise.
        seconds: Waiting for the endpoint.
    """

    calls: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    @property
    def tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


class UsageMeter:
    """Accounts of all agents of one run."""

    def __init__(
        self, max_calls: int | None = None, max_tokens: int | None = None, parent: UsageMeter | None = None
    ) -> None:
        """Start empty.

        Args:
            max_calls: Budget; None has no limit.
            max_tokens: Budget; None has no limit. The call that crosses it is the last one.
            parent: Counts everything too and has its own budget: an evaluation's, over its queries (and threads).
        """
        self.max_calls = max_calls
        self.max_tokens = max_tokens
        self._parent = parent
        self.agents: dict[str, Usage] = {}
        self._lock = RLock()

    @property
    def total(self) -> Usage:
        """The sum over all agents."""
        total = Usage()
        with self._lock:
            for usage in self.agents.values():
                total.calls += usage.calls
                total.cached += usage.cached
                total.prompt_tokens += usage.prompt_tokens
                total.completion_tokens += usage.completion_tokens
                total.seconds += usage.seconds
        return total

    def charge(self, agent: str) -> None:
        """Count a request that is about to be sent.

        Raises:
            EndpointError: If the budget is spent.
        """
        with self._lock:  # from looking to counting, or queries in other threads spend the same last call
            spent = self.total
            if self.max_calls is not None and spent.calls >= self.max_calls:
                raise EndpointError(f"the budget of {self.max_calls} LLM calls is spent", "Raise --max-calls.")
            if self.max_tokens is not None and spent.tokens >= self.max_tokens:
                raise EndpointError(f"the budget of {self.max_tokens} LLM tokens is spent", "Raise --max-tokens.")
            if self._parent:
                self._parent.charge(agent)
            self._of(agent).calls += 1

    def book(self, agent: str, prompt_tokens: int, completion_tokens: int, seconds: float) -> None:
        """Add what an answered request cost."""
        if self._parent:
            self._parent.book(agent, prompt_tokens, completion_tokens, seconds)
        with self._lock:
            usage = self._of(agent)
            usage.prompt_tokens += prompt_tokens
            usage.completion_tokens += completion_tokens
            usage.seconds += seconds

    def book_cached(self, agent: str) -> None:
        """Count an answer from the disk."""
        if self._parent:
            self._parent.book_cached(agent)
        with self._lock:
            self._of(agent).cached += 1

    def record(self) -> dict[str, Any]:
        """For `run.json`."""
        return {"total": asdict(self.total), "agents": {name: asdict(usage) for name, usage in self.agents.items()}}

    def _of(self, agent: str) -> Usage:
        return self.agents.setdefault(agent, Usage())
