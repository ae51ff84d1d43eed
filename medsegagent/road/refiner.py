"""The Refiner: masks are corrected before they are reported, where models disagree or a vision model sees fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medsegagent.errors import MedSegAgentError
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Volume
from medsegagent.prompting.catalogue import open_model
from medsegagent.prompting.correcting import keep
from medsegagent.prompting.episode import Episode, write_episode
from medsegagent.prompting.policies.base import Policy
from medsegagent.prompting.policies.disagreement import Disagreement, Dispute, with_vote
from medsegagent.prompting.policies.llm import Llm
from medsegagent.prompting.prompts import describe
from medsegagent.prompting.refine import refine
from medsegagent.prompting.reopened import replaced
from medsegagent.prompting.turn_pictures import write_turns
from medsegagent.prompting.versions import History, write_history
from medsegagent.prompting.wanted import Refinement
from medsegagent.road.messages import Executed, Refined
from medsegagent.road.run import Run


@dataclass(frozen=True)
class Corrected:
    """One structure: as the models gave it, the mask now, and how it came to be."""

    before: Structure
    mask: Boxed[np.bool_]
    episode: Episode


@dataclass(frozen=True)
class Outcome:
    """What refining gave.

    Attributes:
        volume: What it was done on.
        segmentation: The structures, some with another mask.
        corrected: What was changed.
        licence: The promptable model, and the licence of its weights; empty if none was asked.
        warnings: What could not be refined, and why.
    """

    volume: Volume
    segmentation: Segmentation
    corrected: tuple[Corrected, ...] = ()
    licence: str = ""
    warnings: tuple[str, ...] = ()


def refine_step(heard: Executed, run: Run) -> Executed:
    """Refine what can be refined, and say each turn; what the models gave is kept beside it.

    Raises:
        MedSegAgentError: If the promptable model cannot be had at all.
    """
    assert run.segmentation is not None  # Executed is said after fusion
    assert run.case is not None
    with run.timed("refining"):
        run.refined = refine_masks(run.segmentation, run.case.volumes[0], run.options.refinement, run.aside)
    run.segmentation = run.refined.segmentation
    voxel_ml = run.segmentation.grid.voxel_ml
    counts = {item.id: item.where.count for item in run.segmentation.structures}
    structures = tuple(
        item.model_copy(update={"voxels": counts[item.id], "volume_ml": counts[item.id] * voxel_ml})
        for item in heard.structures
    )
    warnings = (*heard.warnings, *run.refined.warnings)
    return heard.model_copy(update={"structures": structures, "warnings": warnings, "seconds": dict(run.seconds)})


def refine_masks(
    segmentation: Segmentation, volume: Volume, how: Refinement, tell: Callable[[Refined], None] = lambda _: None
) -> Outcome:
    """Refine the structures that can be, one after the other; one that fails stays as it was, with a warning.

    Args:
        segmentation: As fused.
        volume: The first image.
        how: By whom, with what.
        tell: Told each turn as it is taken.

    Raises:
        MedSegAgentError: If the promptable model cannot be had at all.
    """
    done: list[Corrected] = []
    warnings: list[str] = []
    licence = ""
    for structure in _candidates(segmentation, how):
        model = open_model(how.wanted)
        offered = model.capabilities
        licence = f"{offered.adapter}: {offered.model}, licence: {offered.licence}"
        policy = _policy(structure, how)
        try:
            episode = refine(
                model,
                policy,
                volume.array,
                volume.grid,
                target=structure.name,
                image=volume.sha256,
                seed=None if isinstance(policy, Disagreement) else structure.where,
                budget=how.budget,
                on_turn=_teller(structure, tell),
            )
        except MedSegAgentError as error:
            warnings.append(f"{structure.name} was not refined: {error}")
            continue
        if episode.ended in ("invalid", "lost"):
            warnings.append(f"{structure.name}: refining ended early ({episode.why}); what was reached is kept.")
        if episode.prompted:
            done.append(Corrected(structure, _result(policy, episode), episode))
            segmentation = replaced(segmentation, structure.id, done[-1].mask)
    return Outcome(volume, segmentation, tuple(done), licence, tuple(warnings))


def write_refined(outcome: Outcome, folder: Path) -> History:
    """Write every version, episode and picture of what was refined below a run folder; returns its history."""
    history, volume = History(), outcome.volume
    for item in outcome.corrected:
        name = f"{item.before.id}.2"
        (folder / "episodes").mkdir(exist_ok=True)
        write_episode(item.episode, folder / "episodes" / f"{name}.jsonl")
        history = keep(folder, history, item.before, item.mask, item.episode, volume.grid, f"episodes/{name}.jsonl")
        write_turns(item.episode, volume.array, volume.grid, folder / "episodes" / name)
    if history.structures:
        write_history(history, folder)
    return history


def _candidates(segmentation: Segmentation, how: Refinement) -> Iterator[Structure]:
    for structure in segmentation.structures:
        if how.kind == "llm" or (structure.where.any() and Dispute.of(structure).open.any()):
            yield structure


def _policy(structure: Structure, how: Refinement) -> Policy:
    if how.kind == "llm":
        assert how.endpoint is not None  # checked when it was made
        return Llm(how.endpoint, how.wanted.plane)
    return Disagreement(Dispute.of(structure))


def _result(policy: Policy, episode: Episode) -> Boxed[np.bool_]:
    return with_vote(policy.dispute, episode.mask) if isinstance(policy, Disagreement) else episode.mask


def _teller(structure: Structure, tell: Callable[[Refined], None]) -> Callable[[Episode], None]:
    told = 0

    def listen(episode: Episode) -> None:
        nonlocal told
        for turn in episode.prompted[told:]:
            told += 1
            tell(
                Refined(
                    structure=structure.id,
                    turn=told,
                    prompt=describe(turn.prompt),
                    why=turn.why,
                    added=turn.added,
                    removed=turn.removed,
                    volume_ml=turn.mask.count * episode.voxel_ml,
                )
            )

    return listen
