"""`medsegagent evaluate selection` and `medsegagent evaluate compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medsegagent.cli import screen
from medsegagent.cli.llm_options import (
    AllowRemoteOption,
    ConfigOption,
    MaxCallsOption,
    MaxTokensOption,
    NoCacheOption,
    TagOption,
    asker,
)

if TYPE_CHECKING:
    from medsegagent.agents.llm.mind import Mind
    from medsegagent.evaluation.results import Evaluation


def selection(
    bench: Annotated[Path, typer.Argument(help="JSONL bench, one query with its expected labels per line.")],
    pattern: Annotated[
        str, typer.Option("--pattern", help="How queries are answered; several, with commas, are set side by side.")
    ] = "C2F",
    model: Annotated[
        str, typer.Option("--model", help="What answers them: rules, or a model of the configuration.")
    ] = "rules",
    tag: TagOption = None,
    config: ConfigOption = None,
    cards: Annotated[str, typer.Option("--cards", help="benchmark, zoo, all, or a folder of cards.")] = "benchmark",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for records, results and pages.")] = Path("results"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the newest interrupted run.")] = False,
    log: Annotated[bool, typer.Option("--log", help="Also write every query's verdict to a .log.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Queries asked of an LLM at a time.")] = 4,
    allow_remote: AllowRemoteOption = False,
    max_calls: MaxCallsOption = None,
    max_tokens: MaxTokensOption = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Measure which cards and labels are chosen for the queries of BENCH."""
    from medsegagent.evaluation.terminal import show

    mind = None
    if model != "rules":
        from medsegagent.agents.patterns.evaluating import mind_for

        mind = mind_for(
            model,
            tag,
            config,
            allow_remote=allow_remote,
            max_calls=max_calls,
            max_tokens=max_tokens,
            use_cache=not no_cache,
            confirm=asker(True),
        )
    how = {"tag": tag or "", "cards": cards, "folder": out, "resume": resume, "log": log, "progress": True}
    found = _evaluated(bench, pattern.split(","), mind, workers, how)
    for item in found:
        show(item, screen.out)
    if len(found) > 1:
        compare([item.files["json"] for item in found], out / "comparison.html")


def _evaluated(
    bench: Path, patterns: list[str], mind: Mind | None, workers: int, how: dict[str, Any]
) -> tuple[Evaluation, ...]:
    if mind is None:
        from medsegagent.evaluation.run import evaluate_selection

        return tuple(evaluate_selection(bench, pattern=name, **how) for name in patterns)
    from medsegagent.agents.patterns.evaluating import evaluate_patterns

    return evaluate_patterns(bench, patterns, mind, workers=workers, **how)


def compare(
    results: Annotated[list[Path], typer.Argument(help="Results files (.json) of evaluations.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write a page with a bar chart.")] = None,
) -> None:
    """Set evaluations side by side: accuracy, calls, tokens, seconds."""
    from medsegagent.evaluation.compare import read_runs, show_comparison, write_comparison

    runs = read_runs(results)
    show_comparison(runs, screen.out)
    if out:
        write_comparison(runs, out)
        screen.out.print(f"page: {out}", soft_wrap=True)
