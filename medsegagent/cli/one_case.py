"""Running a case from the terminal: conversation, progress bars, questions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.prompt import Prompt

from medsegagent.cli import screen
from medsegagent.cli.installing import Consent, install_lacking
from medsegagent.cli.views import show_message, show_plan, show_request, show_result, show_selection, show_usage
from medsegagent.errors import AnswerNeededError, MedSegAgentError, NoModelError, SeriesNeededError, UsageError
from medsegagent.road.events import Event, Said
from medsegagent.road.events import Progress as Tile
from medsegagent.road.options import Options
from medsegagent.road.result import Result
from medsegagent.road.segmenter import Segmenter

Tiles = Callable[[str, int, int], None]
"""Shows a model's tiles: its id, how many are done, how many there are."""


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
            raise UsageError(what, remedy, "image")
        images[key] = path
    return images


def _channel_of(path: Path) -> str:
    from medsegagent.images.inspection import channel_of

    channel = channel_of(path)
    if channel:
        screen.err.print(f"{channel}: {path}", markup=False, highlight=False, soft_wrap=True)
    return channel


@dataclass(frozen=True)
class CaseRunner:
    """Segments cases with the conversation (if verbose), progress, and questions where one can be asked.

    Attributes:
        segmenter: Who segments.
        options: How.
        overwrite: Replace an earlier run.
        verbose: Show the conversation.
        may_ask: Whether somebody can be asked.
        may_install: Whether what lacks a usable model is offered one, once.
        tiles: Shown each tile; None: bars of its own.
    """

    segmenter: Segmenter
    options: Options
    overwrite: bool = False
    verbose: bool = False
    may_ask: bool = False
    may_install: Consent = "never"
    tiles: Tiles | None = None

    def run(self, instruction: str, images: Mapping[str, Path], out: Path | None) -> Result:
        """Segment one case, asking and installing where that is allowed.

        Raises:
            MedSegAgentError: As `Segmenter.segment`.
        """
        may_install = self._may_install()
        options = replace(self.options, complete=may_install != "never")
        while True:
            try:
                return self._segment(instruction, images, out, options)
            except NoModelError as error:
                consent, may_install, options = may_install, "never", replace(options, complete=False)
                try:
                    installed = install_lacking(error, self.segmenter.resources.library, consent)
                except MedSegAgentError as reason:
                    if not error.others_run:
                        raise
                    screen.warn(str(reason))
                    continue
                if not installed and not error.others_run:
                    raise
                self.segmenter.refresh()
            except AnswerNeededError as error:
                if not (self.may_ask and error.choices and sys.stdin.isatty()):
                    raise
                if isinstance(error, SeriesNeededError):
                    screen.err.print(error.what, markup=False, highlight=False)
                    series = Prompt.ask("Which series?", choices=list(error.choices), console=screen.err)
                    options = replace(options, series=series)
                else:
                    instruction = _chosen(error)

    def _may_install(self) -> Consent:
        asks_nobody = self.may_install == "ask" and not (self.may_ask and sys.stdin.isatty())
        return "never" if asks_nobody or not self.segmenter.resources.offers_installs else self.may_install

    def _segment(self, instruction: str, images: Mapping[str, Path], out: Path | None, options: Options) -> Result:
        with nullcontext(self.tiles) if self.tiles else bars() as shown:

            def show(event: Event) -> None:
                if isinstance(event, Tile):
                    shown(event.model, event.done, event.total)
                elif isinstance(event, Said) and self.verbose:
                    show_message(event.agent, event.content.summary)

            result = self.segmenter.segment(instruction, images, out, options, overwrite=self.overwrite, on_event=show)
        if self.verbose:
            show_usage(result.usage)
        return result


def _chosen(error: AnswerNeededError) -> str:
    screen.err.print(error.what, markup=False, highlight=False)
    for number, reading in enumerate(error.choices, 1):
        screen.err.print(f"  {number}. {reading}", markup=False, highlight=False, soft_wrap=True)
    numbers = [str(number) for number in range(1, len(error.choices) + 1)]
    return error.choices[int(Prompt.ask("Which one?", choices=numbers, console=screen.err)) - 1]


def show_run(result: Result) -> None:
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
def bars() -> Iterator[Tiles]:
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
