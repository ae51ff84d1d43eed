#!/usr/bin/env python3
"""Evaluate model selection over a bench: a thin front of `medsegagent.evaluation`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from medsegagent.errors import ExitCode, MedSegAgentError
from medsegagent.evaluation.run import evaluate_selection, recompute_metrics
from medsegagent.evaluation.terminal import show


def main() -> int:
    """Parse the options, evaluate, show."""
    parser = argparse.ArgumentParser(description="Evaluate model selection over a bench.")
    parser.add_argument("--test_file_path", type=Path, required=True, help="JSONL bench")
    parser.add_argument("--test_pattern", default="C2F", help="how queries are answered (default: %(default)s)")
    parser.add_argument("--model", default="rules", help="what answers them; rules needs no LLM (default: %(default)s)")
    parser.add_argument("--tag", default="", help="tag of the LLM configuration")
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
            found = recompute_metrics(args.test_file_path, args.recompute_metrics_from_file)
        else:
            found = evaluate_selection(
                args.test_file_path,
                pattern=args.test_pattern,
                model=args.model,
                tag=args.tag,
                cards=args.cards,
                resume=args.resume,
                log=args.log_to_file,
                save=not args.skip_results_saving,
                progress=True,
            )
    except MedSegAgentError as error:
        Console(stderr=True).print(str(error), style="red", markup=False, highlight=False)
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted; --resume goes on from here.")
        return ExitCode.INTERRUPTED
    show(found, Console())
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
