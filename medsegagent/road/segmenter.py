"""The front door: `Segmenter` holds what outlives a case, and walks the road for each request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from medsegagent.cards.library import Library
from medsegagent.engines import Engines
from medsegagent.errors import ArgumentTypeError, UsageError
from medsegagent.export.formats import check_formats, check_source
from medsegagent.language import check_instruction, check_text, with_modality
from medsegagent.matching.selection import Selection
from medsegagent.road.case import Case, open_case
from medsegagent.road.events import Listener
from medsegagent.road.messages import Planned, Refused, Reported
from medsegagent.road.mind import Mind, Rules, Thought
from medsegagent.road.options import Options
from medsegagent.road.resources import Resources, find_resources
from medsegagent.road.result import Result
from medsegagent.road.run import Run
from medsegagent.road.select import select
from medsegagent.road.steps import route_of

if TYPE_CHECKING:
    from medsegagent.road.case import Images

T = TypeVar("T")

KEEP_BYTES = 4 * 2**30
"""Weights that a `Segmenter` keeps in memory unless it is told otherwise."""


class Segmenter:
    """Segments what it is asked to, with the installed models. Safe to share between threads.

    Cards, vocabulary and networks are loaded once; a second request pays for its own image and inference only. Each
    request is a run of its own: two of them never see each other's state, and one at a time uses the device.
    """

    def __init__(
        self,
        library: Library | str | Path = "all",
        *,
        models_dir: Path | str | None = None,
        vocabulary: Sequence[Path | str] = (),
        device: str = "auto",
        mind: Mind | None = None,
        engines: Engines | None = None,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        """Load the cards and find the models.

        Args:
            library: Cards to choose from: "benchmark", "zoo", "all", a folder of cards, or a `Library`.
            models_dir: nnU-Net results folder; default the environment variable `nnUNet_results` and the model store.
            vocabulary: YAML files with a site's own terms.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            mind: Who thinks; default the rules.
            engines: Who runs models; default those of the package.
            keep_bytes: Weights to keep in memory between requests; the last network loaded always stays.

        Raises:
            CardError: If the library cannot be loaded.
            VocabularyError: If a vocabulary file cannot be used.
        """
        self.mind = mind or Rules()
        self._find: dict[str, Any] = {
            "vocabulary": vocabulary,
            "device": device,
            "engines": engines,
            "keep_bytes": keep_bytes,
        }
        self._models_dir = models_dir
        self.resources: Resources = find_resources(library, models_dir, **self._find)

    def refresh(self) -> None:
        """Look again which models are installed."""
        self.resources = find_resources(self.resources.library, self._models_dir, **self._find)

    def match(self, instruction: str, modality: str | None = None) -> Selection:
        """Choose the cards and labels that answer an instruction; no model runs.

        Args:
            instruction: What to segment, in plain words, at most 20,000 characters.
            modality: "CT", "MR T1", "PET/CT", ...; overrides what the instruction says.

        Returns:
            The selection; empty, with a `refusal`, if nothing answers.

        Raises:
            UsageError: If the instruction is empty or too long, or the modality is unknown.
        """
        run = Run(self.resources.library, options=Options(modality=modality), mind=self.mind.record)
        return _wait(select(instruction, run, self.mind), run).selection

    def segment(
        self,
        instruction: str,
        image: Images,
        out: Path | str | None = None,
        options: Options = Options(),  # noqa: B008  frozen
        *,
        overwrite: bool = False,
        on_event: Listener | None = None,
    ) -> Result:
        """Segment one case as the instruction asks. Works where an event loop is running, too (Jupyter).

        Args:
            instruction: What to segment, in plain words, at most 20,000 characters.
            image: A file, a DICOM folder, a SimpleITK or nibabel image, a volume (`medsegagent.volume_of`), an opened
                case, or channel name -> one of these (`{"T1": ..., "FLAIR": ...}`).
            out: The run folder to write; None: nothing is written, see `Result.save`.
            options: How.
            overwrite: Replace an earlier run in `out`.
            on_event: Told what is said, each tile, and warnings, as they happen.

        Raises:
            MedSegAgentError: One of its family; `exit_code` says which kind. Nothing is left in `out` then.
        """
        run = self._run(out, options, overwrite, on_event)
        return _wait(self._segment(instruction, image, run), run)

    async def asegment(
        self,
        instruction: str,
        image: Images,
        out: Path | str | None = None,
        options: Options = Options(),  # noqa: B008  frozen
        *,
        overwrite: bool = False,
        on_event: Listener | None = None,
    ) -> Result:
        """As `segment`, for a running event loop. Cancelling it ends the run at the next tile."""
        return await self._segment(instruction, image, self._run(out, options, overwrite, on_event))

    def open(self, image: Images, *, series: str = "", family: str | None = None) -> Case:
        """Read and check the images of a case once, for several requests.

        Args:
            image: As for `segment`.
            series: Of a DICOM study, which series: its number or a part of its description.
            family: CT, MR or PET, where several series could be meant.

        Raises:
            ImageError: If an image cannot be used.
        """
        return open_case(image, series=series, family=family)

    def _run(self, out: Path | str | None, options: Options, overwrite: bool, on_event: Listener | None) -> Run:
        if not isinstance(options, Options):
            raise ArgumentTypeError(f"no options: {options!r}", "Give medsegagent.Options(...).", "options")
        return Run(
            library=self.resources.library,
            resources=self.resources,
            options=options,
            out=Path(out) if out is not None and not options.dry_run else None,
            overwrite=overwrite,
            listener=on_event,
            mind=self.mind.record,
        )

    def prepared(
        self,
        image: Images | Case,
        out: Path | str | None = None,
        options: Options = Options(),  # noqa: B008  frozen
        *,
        overwrite: bool = False,
        on_event: Listener | None = None,
    ) -> Run:
        """An unused run on a case, for those who conduct the road themselves: what can be refused is refused.

        Args:
            image: As for `segment`; so are the others.
            out: The run folder.
            options: How.
            overwrite: Replace an earlier run in `out`.
            on_event: Told what happens.

        Raises:
            MedSegAgentError: As `segment`, before any model runs.
        """
        run = self._run(out, options, overwrite, on_event)
        _prepare(None, image, run)
        return run

    async def _segment(self, instruction: str, image: Images | Case, run: Run) -> Result:
        try:
            await asyncio.to_thread(_prepare, instruction, image, run)
            assert run.case is not None
            thought = await self.mind.converse(
                run.case.task(instruction, run.options.modality), run, route_of(run.options)
            )
        except BaseException:
            run.stop.set()  # whatever still computes ends at its next tile
            run.abandon()
            raise
        return _result(thought, run)


def _prepare(instruction: str | None, image: Images | Case, run: Run) -> None:
    """All that can be refused is refused here, before any work; then the images are read."""
    if instruction is not None:
        if not isinstance(instruction, str):
            raise ArgumentTypeError(f"no text: {instruction!r}", "Say in words what to segment.", "instruction")
        check_instruction(instruction)
    check_text(run.options.modality or "", "the modality")
    assert run.resources is not None  # a segmenter's run has them
    run.resources.check_choice(run.options.choice)
    check_formats(run.options.formats, next(_paths(image), None))
    run.inputs = tuple(_paths(image))
    run.open_folder()
    if instruction is None:  # the task comes later, and takes the folder again
        run.abandon()
    with run.timed("reading"):
        if isinstance(image, Case):
            run.case = image
        else:
            family = None if instruction is None else family_of(instruction, run)
            run.case = open_case(image, series=run.options.series, family=family)
    check_source(run.options.formats, run.case.volumes[0])


def _paths(image: object) -> Iterator[Path]:
    """The files and folders among the images, in their order."""
    for one in image.values() if isinstance(image, Mapping) else [image]:
        if isinstance(one, str | Path):
            yield Path(one)
        elif isinstance(one, Case):
            yield from (volume.path for volume in one.volumes)


def family_of(instruction: str, run: Run) -> str | None:
    """The one family that the instruction, or who overrides it, names."""
    try:
        request = run.parsed(instruction)
        if run.options.modality:
            request = with_modality(request, run.options.modality, run.library.vocabulary)
    except UsageError:
        return None  # the Parser refuses it, with the reason
    families = request.modality.families
    return families[0] if len(families) == 1 else None


def _result(thought: Thought, run: Run) -> Result:
    last = thought.last
    if isinstance(last, Refused):
        raise last.error
    if isinstance(last, Planned):
        return Result(last.selection, last.plan, warnings=(*last.selection.notes, *run.warnings), usage=run.usage())
    if not isinstance(last, Reported) or run.finished is None:
        raise RuntimeError(f"the conversation ended with {type(last).__name__}")
    return Result(
        selection=run.finished.selection,
        plan=run.finished.plan,
        warnings=tuple(dict.fromkeys((*run.finished.record.warnings, *last.warnings))),
        usage=run.usage(),
        paragraph=last.paragraph,
        folder=run.out,
        files=run.files,
        _finished=run.finished,
    )


def _wait(work: Coroutine[Any, Any, T], run: Run) -> T:
    """The result of a coroutine, whether or not this thread's event loop is running."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work_through() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=work_through, name="medsegagent", daemon=True)
    thread.start()
    try:
        thread.join()
    except BaseException:  # Ctrl-C in the notebook
        run.stop.set()
        thread.join()
        raise
    if failure:
        raise failure[0]
    return outcome[0]
