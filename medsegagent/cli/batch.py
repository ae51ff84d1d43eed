"""Several cases from the terminal: a bar over cases, one per model, and a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from medsegagent.cli import screen
from medsegagent.cli.installing import Consent
from medsegagent.cli.one_case import CaseRunner
from medsegagent.errors import ExitCode, UsageError
from medsegagent.reporting.case_table import CASES, CaseOutcome
from medsegagent.road.batch import segment_cases
from medsegagent.road.case_sources import ListedCase, read_cases


def run_cases(instruction: str, source: Path, out: Path | None, runner: CaseRunner) -> ExitCode:
    """Segment all cases of a folder or table, without questions, and show how they went.

    Raises:
        MedSegAgentError: If the list, the options or the output folder cannot be used at all.
    """
    if out is None:
        raise UsageError("no output folder given", "Name one with -o DIR.", "out")
    if runner.options.dry_run:
        raise UsageError("a dry run shows one case", "Give one with -i.", "dry_run")
    cases = read_cases(source, instruction)
    # Nobody waits before a hundred cases to be asked: what needs an answer fails, with the reason.
    consent: Consent = "yes" if runner.may_install == "yes" else "never"
    outcomes: list[CaseOutcome] = []
    try:
        with _bars(cases) as shown:
            quiet = replace(runner, may_ask=False, may_install=consent, tiles=shown.tiles)
            for outcome in segment_cases(
                cases,
                out,
                quiet.segmenter,
                quiet.options,
                overwrite=quiet.overwrite,
                run_case=lambda case, folder: quiet.run(case.instruction, case.images, folder),
            ):
                outcomes.append(outcome)
                shown.finished(outcome)
    finally:
        if outcomes:
            _show(outcomes, out)
    return ExitCode.CASES_FAILED if any(outcome.status == "failed" for outcome in outcomes) else ExitCode.OK


def _show(outcomes: Sequence[CaseOutcome], out: Path) -> None:
    rows = [
        (
            outcome.case,
            outcome.status,
            outcome.exit_code,
            f"{outcome.seconds:.1f}",
            outcome.warnings,
            outcome.message or ", ".join(f"{name} {volume:.1f} mL" for name, volume in outcome.volumes_ml.items()),
        )
        for outcome in outcomes
    ]
    screen.table(("case", "status", "exit code", "seconds", "warnings", "what was found, or why not"), rows)
    failed = sum(outcome.status == "failed" for outcome in outcomes)
    screen.out.print(f"{len(outcomes) - failed} done, {failed} failed", markup=False)
    screen.out.print(f"files: {out}, {out / CASES}", markup=False, soft_wrap=True)


@contextmanager
def _bars(cases: Sequence[ListedCase]) -> Iterator[_CaseBars]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen.err, transient=True) as progress:
        yield _CaseBars(progress, len(cases))


class _CaseBars:
    """One bar over the cases, and one for each model of the case that runs."""

    def __init__(self, progress: Progress, cases: int) -> None:
        self._progress = progress
        self._cases = progress.add_task("cases", total=cases)
        self._models: dict[str, TaskID] = {}

    def tiles(self, model: str, done: int, total: int) -> None:
        """Show a model's tiles."""
        if model not in self._models:
            self._models[model] = self._progress.add_task(model, total=total)
        self._progress.update(self._models[model], completed=done, total=total)

    def finished(self, outcome: CaseOutcome) -> None:
        """Say how a case went and make room for the next one."""
        for task in self._models.values():
            self._progress.remove_task(task)
        self._models.clear()
        self._progress.advance(self._cases)
        why = f": {outcome.message}" if outcome.message else ""
        line = f"{outcome.case}: {outcome.status} ({outcome.seconds:.1f} s){why}"
        screen.err.print(line, markup=False, highlight=False, soft_wrap=True)
