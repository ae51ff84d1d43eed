"""Correct a mask of a finished run: a new version of it, and everything that shows or measures it made anew."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medsegagent.cards.library import Library
from medsegagent.errors import MedSegAgentError, UsageError
from medsegagent.export.formats import export_results
from medsegagent.files import write_json
from medsegagent.fusion.segmentation import Structure
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.matching.coarse_to_fine import match_with_reasons
from medsegagent.prompting.episode import Episode, EpisodeFile
from medsegagent.prompting.model import PromptableModel
from medsegagent.prompting.policies.base import Policy
from medsegagent.prompting.policies.disagreement import Disagreement, with_vote
from medsegagent.prompting.refine import BUDGET, Listener, prompts_of, refine
from medsegagent.prompting.reopened import Reopened, read_mask, replaced
from medsegagent.prompting.turn_pictures import write_turns
from medsegagent.prompting.versions import HISTORY, History, store, write_history
from medsegagent.reporting.preview import write_preview
from medsegagent.reporting.record import RECORD, RunRecord, StructureResult
from medsegagent.reporting.report import Correction, write_report
from medsegagent.reporting.run_folder import write_segmentation, writing
from medsegagent.reporting.shape import measure_shape
from medsegagent.reporting.statistics import StructureStatistics, measure, write_csv
from medsegagent.reporting.written_files import files_of_run, list_files
from medsegagent.vocabulary import load as vocabulary


@dataclass(frozen=True)
class Corrected:
    """What a correction gave: the episode, the run as it is now, and the pictures of the turns."""

    episode: Episode
    run: Reopened
    pictures: tuple[Path, ...]


def correct(
    run: Reopened,
    structure: Structure,
    model: PromptableModel,
    policy: Policy,
    *,
    budget: int = BUDGET,
    truth: Boxed[np.bool_] | None = None,
    on_turn: Listener | None = None,
    fresh: bool = False,
) -> Corrected:
    """Refine one structure from its current mask, keep the result as a new version, and publish it.

    A policy that changed nothing leaves no version. The episode is written turn by turn, so that what was done is
    there even if the process is killed.

    Args:
        run: The run.
        structure: Which of its structures.
        model: Answers the prompts.
        policy: Chooses them.
        budget: Most turns.
        truth: To score each turn with.
        on_turn: Told the episode after each turn.
        fresh: Start from nothing instead of the current mask.

    Raises:
        MedSegAgentError: As `refine`; the run is as it was.
    """
    name = f"{structure.id}.{max(2, run.history.next_number(structure.id))}"
    with writing(run.folder / RECORD):
        (run.folder / "episodes").mkdir(exist_ok=True)
        file = EpisodeFile(run.folder / "episodes" / f"{name}.jsonl")
        seed = None if fresh or isinstance(policy, Disagreement) else structure.where
        episode = refine(
            model,
            policy,
            run.volume.array,
            run.volume.grid,
            target=structure.name,
            image=run.volume.sha256,
            seed=seed,
            budget=budget,
            truth=truth,
            on_turn=recording(file, on_turn),
        )
        if not episode.prompted:
            return Corrected(episode, run, ())
        mask = with_vote(policy.dispute, episode.mask) if isinstance(policy, Disagreement) else episode.mask
        pictures = write_turns(episode, run.volume.array, run.volume.grid, run.folder / "episodes" / name, truth=truth)
        history = keep(run.folder, run.history, structure, mask, episode, run.volume.grid, f"episodes/{name}.jsonl")
        return Corrected(episode, publish(run, history, structure.id, mask), tuple(pictures))


def choose(run: Reopened, structure: Structure, number: int | None = None) -> Reopened:
    """Let another version count: a given one, or the parent of the current one (one step back).

    Raises:
        UsageError: If there is none.
    """
    versions = run.history.of(structure.id)
    wanted = number if number is not None else versions.current.parent
    if wanted is None:
        remedy = "`--choose N` takes a later version up again."
        raise UsageError(f"{structure.id} is what the models gave: there is nothing to undo", remedy, str(run.folder))
    history = run.history.choosing(structure.id, wanted)
    mask = read_mask(run.folder / history.of(structure.id).current.file, run.volume.grid)
    with writing(run.folder / RECORD):
        return publish(run, history, structure.id, mask)


def keep(
    folder: Path,
    history: History,
    structure: Structure,
    mask: Boxed[np.bool_],
    episode: Episode,
    grid: Grid,
    file: str,
) -> History:
    """Store a mask as a new version, and before the first one what the models gave; `masks.json` stays to be written.

    Args:
        folder: The run folder, or the one that becomes it.
        history: What is known so far.
        structure: With the mask as it was.
        mask: As it is now.
        episode: How it came to be.
        grid: Of both.
        file: Where the episode is, relative to the folder.
    """
    if structure.id not in history.structures:
        voters = ", ".join(ballot.model for ballot in structure.ballots if ballot.counted)
        who = f"the models' vote ({voters})"
        history = store(folder, history, structure.id, structure.where, grid, who=who, parent=None)
    return store(
        folder,
        history,
        structure.id,
        mask,
        grid,
        who=f"{episode.policy} with {episode.adapter} ({episode.model}; licence: {episode.licence})",
        parent=history.of(structure.id).chosen,
        prompts=prompts_of(episode),
        why=tuple(turn.why for turn in episode.prompted),
        episode=file,
    )


def recording(file: EpisodeFile, also: Listener | None = None) -> Listener:
    """A listener that writes an episode as it happens; a prompt taken back begins the file anew, without it."""
    written = 0

    def listen(episode: Episode) -> None:
        nonlocal written
        if len(episode.turns) < written or (not episode.turns and episode.ended == "open"):
            file.restart(episode)
            written = len(episode.turns)
        for turn in episode.turns[written:]:
            file.turn(turn, episode.voxel_ml)
        written = len(episode.turns)
        if episode.ended != "open":
            file.end(episode)
        if also is not None:
            also(episode)

    return listen


def corrections_of(history: History, pictures: Mapping[str, Sequence[Path]]) -> tuple[Correction, ...]:
    """What the report says of the corrected structures: each one's current version against what the models gave."""
    return tuple(
        Correction(
            structure=name,
            who=versions.current.who,
            before_ml=versions.versions[0].volume_ml,
            after_ml=versions.current.volume_ml,
            version=versions.chosen,
            turns=tuple(zip(versions.current.prompts, versions.current.why, strict=False)),
            pictures=tuple(file.read_bytes() for file in pictures.get(name, ()) if file.is_file()),
        )
        for name, versions in history.structures.items()
    )


def corrected(history: History) -> list[dict[str, Any]]:
    """For `run.json`: the version of each corrected structure that counts, with whose weights made it."""
    return [{"structure": name, **versions.current.model_dump()} for name, versions in history.structures.items()]


def pictures_of(folder: Path, history: History) -> dict[str, list[Path]]:
    """The pictures of each current version's turns."""
    found = {}
    for name, versions in history.structures.items():
        where = folder / versions.current.episode.removesuffix(".jsonl")
        files = where.glob("turn_*.png") if versions.current.episode else ()
        found[name] = sorted(files, key=lambda file: int(file.stem.partition("_")[2]))
    return found


def publish(run: Reopened, history: History, structure: str, mask: Boxed[np.bool_]) -> Reopened:
    """Write `masks.json`, then all that follows from the masks that count: maps, figures, pictures, report, exports.

    Each file appears whole. `masks.json` comes first: it says what counts, and the rest can be made again from it.
    """
    segmentation = replaced(run.segmentation, structure, mask)
    figures = {**run.figures, structure: _measured(run, structure, mask)}
    structures = tuple(_updated(item, figures, structure) for item in run.record.structures)
    record = run.record.model_copy(update={"structures": structures, "corrections": tuple(corrected(history))})
    write_history(history, run.folder)
    now = replace(run, segmentation=segmentation, figures=figures, record=record, history=history)
    asked = record.asked.options
    library = _library(record)
    with _staged(run.folder) as staging:
        write_segmentation(segmentation, staging, separate=bool(asked.get("separate")))
        shutil.rmtree(staging / "agreement", ignore_errors=True)  # the models' votes are what they were
        write_json(staging / "statistics.json", figures)
        write_csv(staging / "statistics.csv", figures)
        write_preview(segmentation, run.volume, staging / "preview.png", title=record.asked.instruction)
        dropped = match_with_reasons(record.request, library)[1] if library else ()
        corrections = corrections_of(history, pictures_of(run.folder, history))
        write_report(staging / "report.html", record, segmentation, run.volume, figures, dropped, corrections)
        formats = tuple(str(name) for name in asked.get("formats") or ())
        export_results(segmentation, run.volume, staging, formats, library.vocabulary if library else vocabulary())
        write_json(staging / RECORD, record)
    list_files(run.folder, sorted({*files_of_run(run.folder), *_own_files(run.folder)}))
    return now


def _own_files(folder: Path) -> Iterator[str]:
    """What correcting leaves besides what a run writes."""
    for pattern in (HISTORY, "masks/*.nii.gz", "episodes/*.jsonl", "episodes/*/turn_*.png", "targets/*.nii.gz"):
        for file in folder.glob(pattern):
            yield file.relative_to(folder).as_posix()


def _measured(run: Reopened, structure: str, mask: Boxed[np.bool_]) -> StructureStatistics:
    known = run.figures[structure]
    grid = run.volume.grid
    return known.model_copy(
        update={"fused": measure(mask, [run.volume]), "shape": measure_shape(mask, grid), "other_side": None}
    )


def _updated(item: StructureResult, figures: Mapping[str, StructureStatistics], structure: str) -> StructureResult:
    if item.id != structure:
        return item
    fused = figures[structure].fused
    return item.model_copy(update={"volume_ml": fused.volume_ml, "voxels": fused.voxels})


def _library(record: RunRecord) -> Library | None:
    """The run's cards; None where they are not here any more."""
    try:
        return Library.load(record.asked.library) if record.asked.library else None
    except MedSegAgentError:
        return None


@contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """A folder whose files then replace those of the run one by one, `run.json` last."""
    staging = folder / f".medsegagent-partial-{secrets.token_hex(4)}"
    staging.mkdir()
    try:
        yield staging
        files = [file for file in sorted(staging.rglob("*")) if file.is_file()]
        for file in sorted(files, key=lambda file: file.name == RECORD):
            target = folder / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
