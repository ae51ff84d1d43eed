"""Open a mind: from configuration to someone who can be asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from medsegagent.agents.llm.cache import ReplyCache
from medsegagent.agents.llm.consulting import Counsel
from medsegagent.agents.llm.mind import Mind
from medsegagent.agents.llm.usage import Ledger


@asynccontextmanager
async def open_counsel(mind: Mind, ledger: Ledger) -> AsyncIterator[Counsel | None]:
    """Someone to ask, for as long as the context lasts; None where the rules think alone.

    Raises:
        ConfigError: If the key's environment variable is not set.
    """
    if mind.kind == "rules" or mind.endpoint is None:
        yield None
        return

    from medsegagent.agents.llm.gateway import Gateway  # openai, half a second: only where a model is asked

    gateway = Gateway(mind.endpoint, ledger, ReplyCache() if mind.use_cache else None)
    try:
        yield Counsel(mind.kind, gateway, mind.permit)
    finally:
        await gateway.close()
