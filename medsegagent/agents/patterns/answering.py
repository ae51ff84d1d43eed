"""Patterns as the evaluation engine wants them: a function from query to answer, with what it cost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from medsegagent.agents.llm.cache import ReplyCache
from medsegagent.agents.llm.gateway import Gateway
from medsegagent.agents.llm.mind import Mind
from medsegagent.agents.llm.usage_meter import UsageMeter
from medsegagent.agents.patterns.baselines import FIRST_PROMPT, ask_baseline
from medsegagent.cards.library import Library
from medsegagent.errors import AnswerNeededError, UsageError
from medsegagent.evaluation.patterns import Answer, Answerer, explained
from medsegagent.road.run import Run
from medsegagent.road.select import select

PATTERNS = ("C2F", "Hybrid", *FIRST_PROMPT)
"""`C2F`: all four thinking agents ask. `Hybrid`: the rules, with a question about what they leave open."""


def llm_answerer(pattern: str, mind: Mind, library: Library) -> Answerer:
    """Return the function that answers a query by a pattern, with a language model.

    Args:
        pattern: One of `PATTERNS`.
        mind: Its endpoint is asked, its budget is for all queries together; the pattern says how, not its kind.
        library: Cards to choose from.

    Raises:
        UsageError: If there is no such pattern, or it needs a language model and there is none.
        AnswerNeededError: If the endpoint may not be asked.
    """
    if pattern not in PATTERNS:
        raise UsageError(f"unknown pattern {pattern!r}", f"Known: {', '.join(PATTERNS)}.", "pattern")
    if mind.endpoint is None:
        raise UsageError(f"pattern {pattern} needs a language model", "Name one with --model; see docs/llm.md.")
    if not mind.permit():
        what = "the language model is not on this machine or in a private network, and may not be asked"
        raise AnswerNeededError(what, "--allow-remote allows it.", mind.endpoint.where)
    total = UsageMeter(mind.max_calls, mind.max_tokens)
    allowed = Mind("llm", mind.endpoint, allow_remote=True, use_cache=mind.use_cache)
    if pattern not in FIRST_PROMPT:
        ours = replace(allowed, kind="llm" if pattern == "C2F" else "hybrid", total=total)
        return lambda query: _ours(query, library, ours)
    return lambda query: _baseline(pattern, query, library, allowed, total)


def _ours(query: str, library: Library, mind: Mind) -> Answer:
    try:
        decision = asyncio.run(select(query, Run(library), mind))
    except UsageError as refused:  # an oversized instruction is refused, which is an answer
        return Answer(explanation=str(refused))
    if decision.unheard:
        raise decision.unheard  # an answer of the rules alone would be counted as the model's
    told = [explained(decision.selection), *decision.warnings]
    if question := decision.selection.request.question:  # nobody can be asked: the likeliest reading
        told.append(question.text)
    return _answer(decision.selection.labels, decision.usage, "; ".join(told))


def _baseline(pattern: str, query: str, library: Library, mind: Mind, total: UsageMeter) -> Answer:
    meter = UsageMeter(parent=total)

    async def talk() -> dict[str, list[int]]:
        assert mind.endpoint is not None
        gateway = Gateway(mind.endpoint, meter, ReplyCache() if mind.use_cache else None)
        try:
            return await ask_baseline(pattern, query, library, gateway.client)
        finally:
            await gateway.close()

    return _answer(asyncio.run(talk()), meter.record(), "")


def _answer(labels: dict[str, list[int]], usage: Mapping[str, Any], explanation: str) -> Answer:
    spent = usage["total"]
    return Answer(labels, spent["calls"], spent["prompt_tokens"], spent["completion_tokens"], explanation)
