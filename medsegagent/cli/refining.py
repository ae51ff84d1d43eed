"""What `medsegagent refine` does between its options and its output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medsegagent.cli import screen
from medsegagent.cli.vision import vision_endpoint
from medsegagent.errors import ImageError, PromptError, UsageError
from medsegagent.fusion.segmentation import Structure
from medsegagent.images.boxed import Boxed
from medsegagent.images.geometry import describe, same_grid
from medsegagent.images.read import read_volume
from medsegagent.prompting.catalogue import Wanted, open_model
from medsegagent.prompting.correcting import correct
from medsegagent.prompting.episode import Episode
from medsegagent.prompting.policies.base import Policy, State
from medsegagent.prompting.policies.disagreement import Disagreement, Dispute
from medsegagent.prompting.policies.llm import Llm
from medsegagent.prompting.policies.oracle import Oracle
from medsegagent.prompting.policies.person import HELP, Person, box_of, voxel_of
from medsegagent.prompting.policies.script import Script, read_script
from medsegagent.prompting.prompts import Packed, Point, Prompt, Scribble
from medsegagent.prompting.prompts import describe as describe_prompt
from medsegagent.prompting.reopened import Reopened
from medsegagent.reporting.view import Plane


def prompts_from(
    run: Reopened,
    *,
    points: Sequence[str],
    not_points: Sequence[str],
    boxes: Sequence[str],
    scribbles: Sequence[Path],
    not_scribbles: Sequence[Path],
) -> tuple[Prompt, ...]:
    """Turn options into prompts: boxes first, then scribbles, then points, what is in before what is out.

    Raises:
        PromptError: If one cannot be read.
        ImageError: If a scribble's file cannot.
    """
    prompts: list[Prompt] = [box_of(text.replace(",", " ").split()) for text in boxes]
    for files, positive in ((scribbles, True), (not_scribbles, False)):
        prompts += [Scribble(voxels=Packed.of(_mask(file, run)), positive=positive) for file in files]
    for texts, positive in ((points, True), (not_points, False)):
        prompts += [Point(voxel=voxel_of(text.replace(",", " ").split()), positive=positive) for text in texts]
    return tuple(prompts)


def truth_from(file: Path | None, run: Reopened) -> Boxed[np.bool_] | None:
    """Read the right mask.

    Raises:
        ImageError: If it cannot be read or does not lie on the run's image.
    """
    return _mask(file, run) if file else None


def _mask(file: Path, run: Reopened) -> Boxed[np.bool_]:
    volume = read_volume(file)
    if not same_grid(volume.grid, run.volume.grid):
        what = f"the mask was drawn on another grid ({describe(volume.grid)})"
        raise ImageError(what, f"Draw it on the run's image ({describe(run.volume.grid)}).", str(file))
    return Boxed.of(volume.array > 0)


def policy_from(
    name: str | None,
    given: tuple[Prompt, ...],
    script: Path | None,
    truth: Boxed[np.bool_] | None,
    run: Reopened,
    structure: Structure,
    *,
    plane: Plane,
    config: Path | None,
    send_images: bool,
) -> Policy:
    """Settle who chooses the prompts.

    Raises:
        UsageError: If what a policy needs is not given, or several say it.
    """
    name = name or ("script" if script else "person")
    if given and name != "person":
        raise UsageError(f"prompts are given, and --policy {name} would choose them", "Give one of both.", "--policy")
    match name:
        case "script" if script:
            return read_script(script)
        case "oracle" if truth is not None:
            return Oracle(truth)
        case "disagreement":
            return Disagreement(Dispute.of(structure))
        case "llm":
            return Llm(vision_endpoint(config, send_images=send_images), plane)
        case "person" if given:
            return Script(given, name="person")
        case "person" if not sys.stdin.closed:
            screen.err.print(HELP, markup=False, highlight=False)
            return Person(_ask)
    needs = {"script": "--script FILE", "oracle": "--truth FILE"}.get(name, "--point, --box or --scribble")
    raise UsageError(f"{name} needs {needs}", "Give it.", "--policy")


def _ask(state: State) -> str | None:
    if state.complaint:
        screen.warn(state.complaint)
    volume = state.mask.count * state.grid.voxel_ml
    screen.err.print(f"{state.target}: {volume:.1f} mL, {state.left} turns left", markup=False, highlight=False)
    try:
        return input("prompt> ")
    except EOFError:
        return None


def run_refinement(
    run: Reopened,
    structure: Structure,
    wanted: Wanted,
    policy: Policy,
    *,
    budget: int,
    truth: Boxed[np.bool_] | None,
    fresh: bool,
) -> None:
    """Correct, saying each turn, then what came of it.

    Raises:
        MedSegAgentError: If it could not be done; the run is as it was.
        PromptError: If the prompts given could not be used.
    """
    model = open_model(wanted)
    offered = model.capabilities
    screen.err.print(f"{offered.adapter}: {offered.model} (licence: {offered.licence})", markup=False, highlight=False)
    told = 0

    def tell(episode: Episode) -> None:
        nonlocal told
        if len(episode.prompted) > told:
            screen.err.print(turn_line(episode), markup=False, highlight=False, soft_wrap=True)
        told = len(episode.prompted)

    result = correct(run, structure, model, policy, budget=budget, truth=truth, on_turn=tell, fresh=fresh)
    episode = result.episode
    if not episode.prompted:
        if episode.ended in ("invalid", "lost"):
            raise PromptError(f"nothing was changed: {episode.why}", "Give other prompts.", structure.id)
        screen.out.print(f"Nothing was changed: {episode.why}.", markup=False)
        return
    if episode.ended in ("invalid", "lost"):
        screen.warn(f"It ended early ({episode.why}); what was reached is kept.")
    versions = result.run.history.of(structure.id)
    before = versions.get(versions.current.parent or versions.chosen)
    screen.out.print(
        f"{structure.name}: {before.volume_ml:.1f} mL -> {versions.current.volume_ml:.1f} mL, "
        f"version {versions.chosen} of {len(versions.versions)}; --undo goes back.",
        markup=False,
        highlight=False,
    )
    for file in (run.folder / versions.current.file, *result.pictures, run.folder / "report.html"):
        screen.out.print(str(file), markup=False, highlight=False, soft_wrap=True)


def turn_line(episode: Episode) -> str:
    """Say the last turn in one line."""
    turn = episode.prompted[-1]
    score = f", Dice {turn.dice:.3f}" if turn.dice is not None else ""
    again = " (the server had lost the session; all prompts were given anew)" if turn.reconnected else ""
    return (
        f"turn {len(episode.prompted)}: {describe_prompt(turn.prompt)} ({turn.why}): +{turn.added:,} -{turn.removed:,} "
        f"voxels, {turn.mask.count * episode.voxel_ml:.1f} mL{score}, {turn.seconds:.1f} s{again}"
    )


def show_versions(run: Reopened, structure: Structure) -> None:
    """List the versions of a mask."""
    known = run.history.of(structure.id)
    rows = [
        (
            f"{'*' if version.version == known.chosen else ''}{version.version}",
            version.parent or "-",
            f"{version.volume_ml:.1f}",
            version.who,
            "; ".join(version.prompts) or "-",
        )
        for version in known.versions
    ]
    screen.table(("version", "from", "mL", "who", "prompts"), rows)


def show_choice(run: Reopened, structure: Structure) -> None:
    """Say which version counts now."""
    current = run.history.of(structure.id).current
    screen.out.print(
        f"{structure.name}: version {current.version} counts, {current.volume_ml:.1f} mL, by {current.who}.",
        markup=False,
        highlight=False,
    )


def show_demo(folder: Path, seed: int) -> None:
    """Spoil a mask of the demo's run and correct it, turn by turn."""
    from medsegagent.prompting.demo import refine_demo

    told = 0

    def tell(episode: Episode) -> None:
        nonlocal told
        if len(episode.prompted) > told:
            screen.out.print(turn_line(episode), markup=False, highlight=False, soft_wrap=True)
        told = len(episode.prompted)

    shown = refine_demo(folder, seed, tell)
    screen.out.print(
        f"{shown.name}: spoilt on purpose (Dice {shown.before:.3f}), then corrected with {shown.adapter} in "
        f"{shown.turns} turns by a policy that has the truth: Dice {shown.after:.3f}.",
        markup=False,
        highlight=False,
    )
    for file in shown.pictures:
        screen.out.print(str(file), markup=False, highlight=False, soft_wrap=True)
