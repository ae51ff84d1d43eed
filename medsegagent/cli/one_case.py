"""Running a case from the terminal: conversation, progress bars, questions."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.prompt import Prompt

from medsegagent.cards.library import Library
from medsegagent.cli import screen
from medsegagent.cli.installing import Consent, install_lacking
from medsegagent.cli.views import show_message, show_plan, show_request, show_result, show_selection, show_usage
from medsegagent.engines.nnunet.runner import Progress as TileProgress
from medsegagent.errors import AnswerNeededError, MedSegAgentError, NoModelError, SeriesNeededError, UsageError
from medsegagent.road.run import Options
from medsegagent.road.segmenter import RunResult, segment


def image_arguments(arguments: list[str]) -> dict[str, Path]:
    """Turn `FILE` or `NAME=FILE` arguments into channel name -> file.

    Of several, those without a name get it from their file name (`sub-01_T1w.nii.gz`) or series description, and what
    was taken for what is shown.

    Raises:
        UsageError: If a name is given twice, or several files have no name and nothing that says it.
    """
    images: dict[str, Path] = {}
    for argument in arguments:
        name, separator, file = argument.partition("=")
        # A path may hold "=" itself: it is a name only if what stands before could be one.
        named = bool(separator) and not Path(argument).exists() and "/" not in name
        key, path = (name, Path(file)) if named else ("", Path(argument))
        if not named and len(arguments) > 1:
            key = _channel_of(path)
        if key in images:
            what = f"two images have the name {key!r}" if key else "several images were given without a name"
            remedy = "Give each its channel: -i T1=t1.nii.gz -i FLAIR=flair.nii.gz. Several patients: --cases."
            raise UsageError(what, remedy, "-i")
        images[key] = path
    return images


def _channel_of(path: Path) -> str:
    from medsegagent.images.inspection import channel_of

    channel = channel_of(path)
    if channel:
        screen.err.print(f"{channel}: {path}", markup=False, highlight=False, soft_wrap=True)
    return channel


def run_case(
    instruction: str,
    images: Mapping[str, Path],
    out: Path | None,
    *,
    verbose: bool,
    may_ask: bool,
    may_install: Consent = "never",
    progress: TileProgress | None = None,
    **how: Any,
) -> RunResult:
    """Run `medsegagent.segment` with the conversation (if verbose), progress, and questions where one can be asked.

    What lacks a usable model is offered one, once. Without a `progress` there are bars.
    """
    listener = show_message if verbose else None
    if how.get("models_dir") or (may_install == "ask" and not (may_ask and sys.stdin.isatty())):
        may_install = "never"
    options = replace(how.pop("options", None) or Options(), complete=may_install != "never")
    while True:
        try:
            with nullcontext(progress) if progress else bars() as shown:
                result = segment(instruction, images, out, options=options, listener=listener, progress=shown, **how)
            if verbose:
                show_usage(result.usage)
            return result
        except NoModelError as error:
            consent, may_install, options = may_install, "never", replace(options, complete=False)
            try:
                installed = install_lacking(error, Library.load(how["library"]), consent)
            except MedSegAgentError as reason:
                if not error.others_run:
                    raise
                screen.warn(str(reason))
                continue
            if not installed and not error.others_run:
                raise
        except AnswerNeededError as error:
            if not (may_ask and error.choices and sys.stdin.isatty()):
                raise
            if isinstance(error, SeriesNeededError):
                screen.err.print(error.what, markup=False, highlight=False)
                series = Prompt.ask("Which series?", choices=list(error.choices), console=screen.err)
                options = replace(options, series=series)
            else:
                instruction = _chosen(error)


def _chosen(error: AnswerNeededError) -> str:
    screen.err.print(error.what, markup=False, highlight=False)
    for number, reading in enumerate(error.choices, 1):
        screen.err.print(f"  {number}. {reading}", markup=False, highlight=False, soft_wrap=True)
    numbers = [str(number) for number in range(1, len(error.choices) + 1)]
    return error.choices[int(Prompt.ask("Which one?", choices=numbers, console=screen.err)) - 1]


def show_run(result: RunResult) -> None:
    """Show what a run gave, or, after a dry run, what it would do."""
    if result.folder is None:
        show_request(result.selection.request)
        show_selection(result.selection)
        show_plan(result.plan)
        for warning in result.warnings:
            screen.warn(warning)
    else:
        show_result(result)


@contextmanager
def bars() -> Iterator[TileProgress]:
    """Show one bar per model on stderr, from the first tile on, gone when all is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = Progress(*columns, console=screen.err, transient=True)
    tasks: dict[str, TaskID] = {}

    def advance(model: str, done: int, total: int) -> None:
        shown.start()  # not before: it wipes its line ten times a second, and with it a question to the user
        if model not in tasks:
            tasks[model] = shown.add_task(model, total=total)
        shown.update(tasks[model], completed=done, total=total)

    try:
        yield advance
    finally:
        if tasks:
            shown.stop()
