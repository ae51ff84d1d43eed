#!/usr/bin/env python3
"""Evaluate model selection over a bench: a thin front of `medsegagent.evaluation`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from medsegagent.errors import ExitCode, MedSegAgentError
from medsegagent.evaluation.compare import runs_of, show_comparison, write_comparison
from medsegagent.evaluation.results import Evaluation
from medsegagent.evaluation.run import evaluate_selection, recompute_metrics
from medsegagent.evaluation.terminal import show


def main() -> int:
    """Parse the options, evaluate, show."""
    parser = argparse.ArgumentParser(description="Evaluate model selection over a bench.")
    parser.add_argument("--test_file_path", type=Path, required=True, help="JSONL bench")
    parser.add_argument(
        "--test_pattern", default="C2F", help="how queries are answered; several, with commas, are set side by side"
    )
    parser.add_argument("--model", default="rules", help="what answers them; rules needs no LLM (default: %(default)s)")
    parser.add_argument("--tag", default="", help="tag of the LLM configuration")
    parser.add_argument("--config", type=Path, help="LLM configuration (default: OAI_CONFIG_LIST)")
    parser.add_argument(
        "--allow-remote", action="store_true", help="ask an LLM outside this machine without asking you"
    )
    parser.add_argument("--max-calls", type=int, help="most LLM requests per pattern")
    parser.add_argument("--max-tokens", type=int, help="LLM tokens per pattern after which to stop")
    parser.add_argument("--no-cache", action="store_true", help="ask the LLM anew, even what it was asked before")
    parser.add_argument(
        "--workers", type=int, default=4, help="queries asked of an LLM at a time (default: %(default)s)"
    )
    parser.add_argument("--cards", default="benchmark", help="benchmark, zoo, all, or a folder (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with the newest interrupted run, if there is one")
    parser.add_argument("--log_to_file", action="store_true", help="also write a .log with every query's verdict")
    parser.add_argument("--skip_results_saving", action="store_true", help="leave no results behind")
    parser.add_argument(
        "--recompute_metrics_from_file",
        type=Path,
        metavar="FILE",
        help="ask nothing: score the answers of a run's .jsonl or .json again",
    )
    args = parser.parse_args()
    try:
        if args.recompute_metrics_from_file:
            found = (recompute_metrics(args.test_file_path, args.recompute_metrics_from_file),)
        else:
            found = _evaluate(args)
    except MedSegAgentError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False)
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted; --resume goes on from here.")
        return ExitCode.INTERRUPTED
    for item in found:
        show(item, Console())
    if len(found) > 1:
        show_comparison(runs_of(found), Console())
        if not args.skip_results_saving:
            write_comparison(runs_of(found), Path("results") / "comparison.html")
    return ExitCode.OK


def _evaluate(args: argparse.Namespace) -> tuple[Evaluation, ...]:
    patterns = args.test_pattern.split(",")
    how = {
        "cards": args.cards,
        "resume": args.resume,
        "log": args.log_to_file,
        "save": not args.skip_results_saving,
        "progress": True,
    }
    if args.model == "rules":
        return tuple(
            evaluate_selection(args.test_file_path, pattern=pattern, tag=args.tag, **how) for pattern in patterns
        )
    from medsegagent.agents.patterns.evaluating import evaluate_patterns, mind_for

    mind = mind_for(
        args.model,
        args.tag,
        args.config,
        allow_remote=args.allow_remote,
        max_calls=args.max_calls,
        max_tokens=args.max_tokens,
        use_cache=not args.no_cache,
    )
    return evaluate_patterns(args.test_file_path, patterns, mind, tag=args.tag, workers=args.workers, **how)


if __name__ == "__main__":
    sys.exit(main())
