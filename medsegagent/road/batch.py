"""Several cases, one after the other: networks stay in memory, a bad case stops no other, a finished one is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from medsegagent.agents.llm.mind import Mind
from medsegagent.engines.cache import WarmNetworks
from medsegagent.errors import ExitCode, MedSegAgentError, OutputError
from medsegagent.images.read import digest
from medsegagent.reporting.case_table import CaseOutcome, write_case_table
from medsegagent.reporting.run_folder import RECORD
from medsegagent.road.case import find_models
from medsegagent.road.case_sources import Case
from medsegagent.road.record import what_was_asked
from medsegagent.road.run import Options
from medsegagent.road.segmenter import RunResult, family_of, segment

Run = Callable[..., RunResult]
"""`medsegagent.segment`, or what does the same and more."""


def segment_cases(
    cases: Sequence[Case], out: Path, *, run: Run = segment, overwrite: bool = False, **how: Any
) -> Iterator[CaseOutcome]:
    """Segment each case into a folder of its name, and keep `cases.csv` beside them up to date.

    Args:
        cases: See `read_cases`.
        out: A folder; made if need be.
        run: Segments one case.
        overwrite: Do all anew, replacing earlier runs.
        **how: As for `medsegagent.segment`.

    Yields:
        How each went. A KeyboardInterrupt ends it; what is done stays.

    Raises:
        UsageError: If an option can be used for no case.
        CardError: If the library cannot be loaded.
        OutputError: If `out` cannot be written, or is a run of one case.
    """
    find_models(how.get("library", "all"), how.get("models_dir"), how.get("options") or Options())
    _prepare(out)
    names, outcomes = [case.name for case in cases], list[CaseOutcome]()
    write_case_table(out, names, outcomes)
    how.setdefault("networks", WarmNetworks())
    for case in cases:
        outcomes.append(segment_case(case, out / case.name, run=run, overwrite=overwrite, **how))
        write_case_table(out, names, outcomes)
        yield outcomes[-1]


def segment_case(case: Case, folder: Path, *, run: Run = segment, overwrite: bool = False, **how: Any) -> CaseOutcome:
    """Segment one case, unless it is done already; whatever goes wrong becomes the outcome.

    A run in `folder` is kept if it was asked the same of the same images (models installed since do not count),
    and is an error if it was not, unless `overwrite` is set.

    Args:
        case: What to segment, and where.
        folder: The run folder.
        run: Segments it.
        overwrite: Replace an earlier run in any case.
        **how: As for `medsegagent.segment`.
    """
    started = time.perf_counter()
    try:
        if not overwrite and (folder / RECORD).exists():
            return _earlier(case, folder, how)
        result = run(case.instruction, case.images, folder, overwrite=overwrite, **how)
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
    return CaseOutcome(case.name, "done", 0, seconds, len(result.warnings), "", volumes)


def _failed(case: Case, started: float, code: ExitCode, message: str) -> CaseOutcome:
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


def _earlier(case: Case, folder: Path, how: Mapping[str, Any]) -> CaseOutcome:
    """The outcome of the run in `folder`.

    Raises:
        OutputError: If it was asked something else, or of other images.
        ImageError: If the images to compare with cannot be read.
    """
    asked = what_was_asked(
        case.instruction,
        modality=how.get("modality"),
        options=how.get("options") or Options(),
        mind=how.get("mind") or Mind(),
        library=how.get("library", "all"),
    )
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        same = record["asked"] == asked and _inputs(record) == _digests(case, how)
        volumes = {item["id"]: float(item["volume_ml"]) for item in record["structures"]}
        seconds, warnings = float(record["seconds"]["total"]), len(record["warnings"])
    except (ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        what = "the folder holds an earlier run of another instruction, other images or other options"
        raise OutputError(what, "Choose another with -o, or give --overwrite to do all cases anew.", str(folder))
    return CaseOutcome(case.name, "already done", 0, seconds, warnings, "", volumes)


def _inputs(record: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(item["channel"], item["sha256"]) for item in record["inputs"]}


def _digests(case: Case, how: Mapping[str, Any]) -> set[tuple[str, str]]:
    options = how.get("options") or Options()
    family = family_of(case.instruction, how.get("modality"))
    return {(name, digest(path, series=options.series, family=family)) for name, path in case.images.items()}
