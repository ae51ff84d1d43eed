"""Several cases, one after the other: networks stay in memory, a bad case stops no other, a finished one is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from medsegagent.errors import ExitCode, MedSegAgentError, OutputError
from medsegagent.images.read import digest
from medsegagent.reporting.case_table import CaseOutcome, check_case_table, write_case_table
from medsegagent.reporting.record import RECORD, read_record
from medsegagent.reporting.staging import put_back
from medsegagent.road.asked import what_was_asked
from medsegagent.road.case_sources import ListedCase
from medsegagent.road.options import Options
from medsegagent.road.result import Result
from medsegagent.road.run import Run
from medsegagent.road.segmenter import Segmenter, family_of

RunCase = Callable[[ListedCase, Path], Result]
"""Segments one case into a folder: what `Segmenter.segment` does, and perhaps more."""


def segment_cases(
    cases: Sequence[ListedCase],
    out: Path,
    segmenter: Segmenter,
    options: Options = Options(),  # noqa: B008  frozen
    *,
    overwrite: bool = False,
    run_case: RunCase | None = None,
) -> Iterator[CaseOutcome]:
    """Segment each case into a folder of its name, and keep `cases.csv` beside them up to date.

    Args:
        cases: See `read_cases`.
        out: A folder; made if need be.
        segmenter: Who segments.
        options: How.
        overwrite: Do all anew, replacing earlier runs.
        run_case: Segments one case; default: the segmenter, with nobody listening.

    Yields:
        How each went. A KeyboardInterrupt ends it; what is done stays.

    Raises:
        UsageError: If an option can be used for no case.
        OutputError: If `out` cannot be written, or is a run of one case.
    """
    segmenter.resources.check_choice(options.choice)
    _prepare(out)

    def plainly(case: ListedCase, folder: Path) -> Result:
        return segmenter.segment(case.instruction, case.images, folder, options, overwrite=overwrite)

    names, outcomes = [case.name for case in cases], list[CaseOutcome]()
    write_case_table(out, names, outcomes)
    for case in cases:
        earlier = None if overwrite else out / case.name
        outcomes.append(_segment_case(case, out / case.name, run_case or plainly, segmenter, options, earlier))
        write_case_table(out, names, outcomes)
        yield outcomes[-1]


def _segment_case(
    case: ListedCase,
    folder: Path,
    run_case: RunCase,
    segmenter: Segmenter,
    options: Options,
    earlier: Path | None,
) -> CaseOutcome:
    """Segment one case, unless it is done already; whatever goes wrong becomes the outcome.

    A run in `earlier` is kept if it was asked the same of the same images (models installed since do not count), and
    is an error if it was not.
    """
    started = time.perf_counter()
    try:
        put_back(folder)
        if earlier is not None and (earlier / RECORD).exists():
            return _kept(case, earlier, segmenter, options)
        result = run_case(case, folder)
    except MedSegAgentError as error:
        return _failed(case, started, error.exit_code, str(error))
    except MemoryError:
        return _failed(case, started, ExitCode.ALL_FAILED, "out of memory")
    except OSError as error:
        return _failed(case, started, ExitCode.BAD_INPUT, f"{error.strerror or error}: {error.filename or folder}")
    except Exception as error:  # a bug of ours; the other cases go on
        return _failed(case, started, ExitCode.BUG, f"a bug in medsegagent: {type(error).__name__}: {error}")
    volumes = {structure.id: structure.volume_ml for structure in result.structures}
    seconds = time.perf_counter() - started
    message = "" if result.folder in (None, folder) else f"the results are in {result.folder}"
    return CaseOutcome(case.name, "done", 0, seconds, len(result.warnings), message, volumes)


def _failed(case: ListedCase, started: float, code: ExitCode, message: str) -> CaseOutcome:
    return CaseOutcome(case.name, "failed", int(code), time.perf_counter() - started, 0, message)


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"the folder cannot be made ({error.strerror})"
        raise OutputError(what, "Choose another with -o.", str(out)) from error
    if (out / RECORD).exists():
        what = "the folder holds a run of one case"
        raise OutputError(what, "Choose another with -o; each case gets a folder in it.", str(out))
    check_case_table(out)


def _kept(case: ListedCase, folder: Path, segmenter: Segmenter, options: Options) -> CaseOutcome:
    """The outcome of the run in `folder`.

    Raises:
        OutputError: If it was asked something else, or of other images.
        ImageError: If the images to compare with cannot be read.
    """
    try:
        record = read_record(folder)
        asked = what_was_asked(case.instruction, options, segmenter.resources, segmenter.mind.record)
        inputs = {(item.channel, item.sha256) for item in record.inputs}
        same = record.asked == asked and inputs == _digests(case, segmenter, options)
    except OutputError:
        same = False
    if not same:
        what = "the folder holds an earlier run of another instruction, other images or other options"
        raise OutputError(what, "Choose another with -o, or give --overwrite to do all cases anew.", str(folder))
    volumes = {item.id: item.volume_ml for item in record.structures}
    seconds = record.seconds.get("total", 0.0)
    return CaseOutcome(case.name, "already done", 0, seconds, len(record.warnings), "", volumes)


def _digests(case: ListedCase, segmenter: Segmenter, options: Options) -> set[tuple[str, str]]:
    family = family_of(case.instruction, Run(segmenter.resources.library, options=options))
    return {(name, digest(path, series=options.series, family=family)) for name, path in case.images.items()}
