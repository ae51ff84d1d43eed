"""Refine a run's structures before they are reported: where the models disagree, or as a vision model sees fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from medsegagent.errors import MedSegAgentError, UsageError
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Volume
from medsegagent.prompting.catalogue import Wanted, open_model
from medsegagent.prompting.correcting import keep, recording
from medsegagent.prompting.episode import Episode, EpisodeFile
from medsegagent.prompting.policies.base import Policy
from medsegagent.prompting.policies.disagreement import Disagreement, Dispute, with_vote
from medsegagent.prompting.policies.llm import Llm
from medsegagent.prompting.policies.vision import VisionEndpoint
from medsegagent.prompting.prompts import describe
from medsegagent.prompting.refine import BUDGET, refine
from medsegagent.prompting.reopened import replaced
from medsegagent.prompting.turn_pictures import write_turns
from medsegagent.prompting.versions import History, write_history

RefineKind = Literal["off", "disagreement", "llm"]
KINDS: tuple[RefineKind, ...] = get_args(RefineKind)


@dataclass(frozen=True)
class Refinement:
    """How masks are refined within a run.

    Attributes:
        kind: "off"; "disagreement"; "llm".
        wanted: Which promptable model.
        budget: Most turns per structure.
        endpoint: The vision model, for "llm".
    """

    kind: RefineKind = "off"
    wanted: Wanted = field(default_factory=Wanted)
    budget: int = BUDGET
    endpoint: VisionEndpoint | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"there is no refinement {self.kind!r}", f"Known: {', '.join(KINDS)}.", "--refine")
        if self.kind == "llm" and self.endpoint is None:
            raise UsageError("llm needs a vision model", "Give --config, or set OAI_CONFIG_LIST.", "--refine")

    def record(self) -> dict[str, str | int | None]:
        """What decides the result, as plain values; no key and no path of this machine."""
        if self.kind == "off":
            return {"kind": self.kind}
        folder = self.wanted.folder.name if self.wanted.folder else None
        model = self.endpoint.model if self.endpoint else None
        return {
            "kind": self.kind,
            "with": self.wanted.name,
            "weights": folder,
            "plane": self.wanted.plane,
            "budget": self.budget,
            "vision_model": model,
        }


@dataclass(frozen=True)
class TurnTaken:
    """One turn, for people: which structure, what was done, what came of it."""

    structure: str
    turn: int
    prompt: str
    why: str
    added: int
    removed: int
    volume_ml: float


@dataclass(frozen=True)
class Outcome:
    """What refining gave.

    Attributes:
        segmentation: The structures, some with another mask.
        history: Every version of the refined ones.
        episodes: By structure id.
        licence: Of the weights used, and whose they are; empty if none were.
        warnings: What could not be refined, and why.
    """

    segmentation: Segmentation
    history: History
    episodes: dict[str, Episode]
    licence: str = ""
    warnings: tuple[str, ...] = ()


def refine_run(
    segmentation: Segmentation,
    volume: Volume,
    folder: Path,
    how: Refinement,
    tell: Callable[[TurnTaken], None] = lambda _: None,
) -> Outcome:
    """Refine the structures that can be, one after the other; one that fails stays as it was, with a warning.

    Args:
        segmentation: As fused.
        volume: The first image.
        folder: The run folder in the making: versions, episodes and pictures are written below it.
        how: By whom, with what.
        tell: Told each turn as it is taken.

    Raises:
        MedSegAgentError: If the promptable model cannot be had at all.
    """
    history, episodes, warnings, licence = History(), {}, [], ""
    for structure in _candidates(segmentation, how):
        model = open_model(how.wanted)
        offered = model.capabilities
        licence = f"{offered.adapter}: {offered.model}, {offered.licence}"
        policy = _policy(structure, how)
        number = max(2, history.next_number(structure.id))
        name = f"{structure.id}.{number}"
        (folder / "episodes").mkdir(exist_ok=True)
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
                on_turn=recording(EpisodeFile(folder / "episodes" / f"{name}.jsonl"), _teller(structure, tell)),
            )
        except MedSegAgentError as error:
            warnings.append(f"{structure.name} was not refined: {error}")
            continue
        if episode.ended in ("invalid", "lost"):
            warnings.append(f"{structure.name}: refining ended early ({episode.why}); what was reached is kept.")
        if not episode.prompted:
            continue
        episodes[structure.id] = episode
        mask = _result(policy, episode)
        history = keep(folder, history, structure, mask, episode, volume.grid, f"episodes/{name}.jsonl")
        segmentation = replaced(segmentation, structure.id, mask)
        write_turns(episode, volume.array, volume.grid, folder / "episodes" / name)
    if history.structures:
        write_history(history, folder)
    return Outcome(segmentation, history, episodes, licence, tuple(warnings))


def _candidates(segmentation: Segmentation, how: Refinement) -> Iterator[Structure]:
    for structure in segmentation.structures:
        disputed = how.kind == "llm" or Dispute.of(structure).open.any()
        if disputed and (structure.where.any() or how.kind == "llm"):
            yield structure


def _policy(structure: Structure, how: Refinement) -> Policy:
    if how.kind == "llm":
        assert how.endpoint is not None  # checked when it was made
        return Llm(how.endpoint, how.wanted.plane)
    return Disagreement(Dispute.of(structure))


def _result(policy: Policy, episode: Episode) -> Boxed[np.bool_]:
    return with_vote(policy.dispute, episode.mask) if isinstance(policy, Disagreement) else episode.mask


def _teller(structure: Structure, tell: Callable[[TurnTaken], None]) -> Callable[[Episode], None]:
    told = 0

    def listen(episode: Episode) -> None:
        nonlocal told
        for turn in episode.prompted[told:]:
            told += 1
            volume = turn.mask.count * episode.voxel_ml
            tell(TurnTaken(structure.id, told, describe(turn.prompt), turn.why, turn.added, turn.removed, volume))

    return listen
