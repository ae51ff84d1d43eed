"""The Reporter's step: figures, the run folder, one honest paragraph."""

from __future__ import annotations

import platform
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from medsegagent.export.formats import export_results
from medsegagent.files import write_json
from medsegagent.images.volume import Volume
from medsegagent.prompting.correcting import corrected, corrections_of, pictures_of
from medsegagent.prompting.versions import History
from medsegagent.reporting.record import RECORD, SCHEMA_VERSION, Asked, InputRecord, RunRecord
from medsegagent.reporting.report import write_report
from medsegagent.reporting.results import paragraph, write_results
from medsegagent.reporting.run_folder import dispensable, writing
from medsegagent.reporting.staging import files_below
from medsegagent.reporting.statistics import structure_statistics
from medsegagent.road.asked import what_was_asked
from medsegagent.road.messages import Executed, Reported
from medsegagent.road.refiner import write_refined
from medsegagent.road.run import Finished, Run
from medsegagent.road.steps import REPORTER
from medsegagent.road.transcript import TRANSCRIPT, write_transcript
from medsegagent.wording import plain

_PACKAGES = ("medsegagent", "nnunetv2", "torch", "SimpleITK", "numpy", "autogen-agentchat")


def report(heard: Executed, run: Run) -> Reported:
    """Measure; write the run folder, if one is wanted; say what was and was not done.

    Raises:
        OutputError: If the folder cannot be written. Nothing is left in it then.
    """
    assert run.segmentation is not None  # Executed is said after fusion
    assert run.case is not None
    assert run.resources is not None
    predictions = tuple(run.predictions[item.model.id] for item in heard.plan.models)
    with run.timed("measuring"):
        figures = structure_statistics(run.segmentation, run.case.volumes, predictions)
    asked = what_was_asked(heard.selection.request.instruction, run.options, run.resources, run.mind)
    run.seconds["total"] = run.clock()
    run.finished = Finished(
        case=run.case,
        library=run.library,
        options=run.options,
        selection=heard.selection,
        plan=heard.plan,
        segmentation=run.segmentation,
        predictions=predictions,
        figures=figures,
        structures=heard.structures,
        dropped=tuple(sorted(run.dropped.values(), key=lambda item: item.card)),
        record=_record(heard, run, asked),
        said=tuple(run.said),
        refined=run.refined,
    )
    if run.out is None:
        return Reported(paragraph=paragraph(run.segmentation, heard.warnings))
    assert run.staging is not None  # opened with the task
    try:
        reported, run.finished = write_run(run.finished, run.staging, run.out)
        place = run.publish()
    except BaseException:
        run.abandon()
        raise
    run.out = place.place if place.notes else run.out  # in the user's own words where nothing came between
    run.files = tuple(run.out / name for name in files_below(run.out))
    warnings = (*reported.warnings, *place.notes)
    return reported.model_copy(update={"warnings": warnings, "folder": str(run.out)})


def write_run(finished: Finished, folder: Path, out: Path) -> tuple[Reported, Finished]:
    """Write a run's masks, pictures, figures, report, transcript and record.

    Args:
        finished: What a run gave.
        folder: An empty folder, in which they are collected.
        out: Where they will appear.

    Returns:
        What the Reporter says of it, and the run with the warnings of writing.

    Raises:
        OutputError: If the folder cannot be written.
    """
    started = time.perf_counter()
    case, segmentation, options, record = finished.case, finished.segmentation, finished.options, finished.record
    with writing(folder):
        unwritten = write_results(
            folder,
            segmentation,
            case.volumes,
            finished.predictions,
            finished.figures,
            instruction=record.asked.instruction,
            separate=options.separate,
            keep_predictions=options.keep_predictions,
        )
        exported = export_results(segmentation, case.volumes[0], folder, options.formats, finished.library.vocabulary)
        history = write_refined(finished.refined, folder) if finished.refined else History()
        record = record.model_copy(update={"corrections": tuple(corrected(history))})
        own = [*unwritten, *exported.warnings]
        said = paragraph(segmentation, (*record.warnings, *own))
        with dispensable("report.html", folder, own):
            page = record.model_copy(update={"warnings": (*record.warnings, *own)})
            write_report(
                folder / "report.html",
                page,
                segmentation,
                case.volumes[0],
                finished.figures,
                finished.dropped,
                corrections_of(history, pictures_of(folder, history)),
            )
        reported = Reported(paragraph=said, warnings=tuple(own), folder=str(out))
        write_transcript(folder / TRANSCRIPT, (*finished.said, (REPORTER, reported)))
        spent = time.perf_counter() - started
        seconds = record.seconds | {"writing": spent, "total": record.seconds["total"] + spent}
        record = record.model_copy(update={"warnings": (*record.warnings, *own), "seconds": seconds})
        write_json(folder / RECORD, record)
    return reported, finished.with_record(record)


def _record(heard: Executed, run: Run, asked: Asked) -> RunRecord:
    assert run.case is not None
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        asked=asked,
        inputs=tuple(_input(volume) for volume in run.case.volumes),
        request=heard.selection.request,
        selection=heard.selection.cards,
        plan=heard.plan,
        structures=heard.structures,
        failed=heard.failed,
        warnings=(*run.warnings, *heard.warnings),
        seconds=dict(run.seconds),
        mind={**run.mind, "usage": run.usage()},
        promptable=run.refined.licence if run.refined else "",
    )


def _input(volume: Volume) -> InputRecord:
    return InputRecord(
        channel=volume.channel,
        file=plain(volume.path.name),
        sha256=volume.sha256,
        size=volume.grid.size,
        spacing_mm=volume.grid.spacing,
        modality=volume.evidence.family,
        modality_reason=volume.evidence.reason,
    )
