"""Evaluate patterns on a language model, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medsegagent.agents.llm.mind import Mind, choose_mind
from medsegagent.agents.patterns.answering import llm_answerer
from medsegagent.errors import ConfigError
from medsegagent.evaluation.results import Evaluation
from medsegagent.evaluation.run import evaluate_selection


def mind_for(
    model: str,
    tag: str | None = None,
    config: Path | None = None,
    *,
    allow_remote: bool = False,
    max_calls: int | None = None,
    max_tokens: int | None = None,
    use_cache: bool = True,
    confirm: Callable[[str], bool] | None = None,
) -> Mind:
    """The mind behind `--model NAME`; the options are those of `Mind` and `choose_mind`.

    Raises:
        ConfigError: If the configuration has no such model, or not with that tag.
    """
    _, endpoint = choose_mind("llm", config, model, tag or None)
    return Mind(
        "llm",
        endpoint,
        allow_remote=allow_remote,
        confirm=confirm,
        max_calls=max_calls,
        max_tokens=max_tokens,
        use_cache=use_cache,
    )


def evaluate_patterns(
    bench_file: Path, patterns: Sequence[str], mind: Mind, *, tag: str = "", workers: int = 4, **how: Any
) -> tuple[Evaluation, ...]:
    """Evaluate each pattern over the bench.

    Args:
        bench_file: JSONL bench.
        patterns: Names, see `answering.PATTERNS`.
        mind: Whose endpoint is asked; its budget is for each pattern anew.
        tag: For the record.
        workers: Queries asked at the same time.
        how: Further options of `evaluate_selection`.

    Raises:
        MedSegAgentError: As `evaluate_selection` and `llm_answerer`.
    """
    if mind.endpoint is None:
        raise ConfigError("no LLM is configured", "See docs/llm.md.")
    model = mind.endpoint.model
    return tuple(
        evaluate_selection(
            bench_file,
            pattern=pattern,
            model=model,
            tag=tag,
            workers=workers,
            answer_of=lambda library, name=pattern: llm_answerer(name, mind, library),  # type: ignore[misc]
            **how,
        )
        for pattern in patterns
    )
