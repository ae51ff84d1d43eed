"""The demo of correcting: a mask is spoilt on purpose, and put right in four turns by a policy that has the truth."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from medsegagent.errors import UsageError
from medsegagent.fusion.segmentation import Structure
from medsegagent.images.boxed import Boxed, shared
from medsegagent.phantom.patient import STRUCTURES, demo_patient
from medsegagent.prompting.catalogue import PHANTOM, Wanted, open_model
from medsegagent.prompting.correcting import correct, publish
from medsegagent.prompting.policies.oracle import Oracle
from medsegagent.prompting.prompts import ball
from medsegagent.prompting.refine import Listener
from medsegagent.prompting.reopened import Reopened, reopen
from medsegagent.prompting.reward import from_counts
from medsegagent.prompting.versions import store

TURNS = 4
_PREFERRED = ("spleen", "kidney_left", "kidney_right", "bladder", "stomach", "lung_left", "lung_right", "aorta")
_SPILL_MM = 22.0


@dataclass(frozen=True)
class Shown:
    """What the demo did: the structure, Dice of the spoilt and of the corrected mask, with which model, pictures."""

    name: str
    before: float
    after: float
    turns: int
    adapter: str
    pictures: tuple[Path, ...]


def refine_demo(folder: Path, seed: int, on_turn: Listener | None = None) -> Shown:
    """Spoil a structure of a demo run, keep that as a version, and correct it.

    Args:
        folder: The demo's run folder.
        seed: Its patient's.
        on_turn: Told the episode after each turn.

    Raises:
        UsageError: If the run has no structure that the demo knows the truth of.
    """
    run = reopen(folder, folder / "image.nii.gz")
    patient = demo_patient(seed)
    structure = _structure(run)
    truth = Boxed.of(patient.mask(structure.id))
    bad = spoil(truth, run)
    history = run.history
    if structure.id not in history.structures:
        history = store(
            folder, history, structure.id, structure.where, run.volume.grid, who="the models' vote", parent=None
        )
    parent = history.of(structure.id).chosen
    history = store(folder, history, structure.id, bad, run.volume.grid, who="the demo, to spoil it", parent=parent)
    run = publish(run, history, structure.id, bad)
    here = find_spec("nnInteractive") is not None
    model = open_model(Wanted("nninteractive", PHANTOM, device="cpu") if here else Wanted("walker"))
    adapter = model.capabilities.adapter
    now = run.structure(structure.id)
    result = correct(run, now, model, Oracle(truth), budget=TURNS, truth=truth, on_turn=on_turn)
    episode = result.episode
    return Shown(
        structure.name,
        _dice(bad, truth),
        _dice(episode.mask, truth),
        len(episode.prompted),
        adapter,
        result.pictures,
    )


def spoil(mask: Boxed[np.bool_], run: Reopened) -> Boxed[np.bool_]:
    """Take the lower third of a mask away and let it spill out at the other end."""
    z, y, x = mask.box
    wrong = mask.dense()
    cut = z.start + (z.stop - z.start) // 3
    wrong[:cut] = False
    centre = (x.stop - 1, (y.start + y.stop) // 2, (cut + z.stop) // 2)
    spill = ball(centre, _SPILL_MM, run.volume.grid.spacing, run.volume.grid.size)
    wrong[spill.box] |= spill.inside
    return Boxed.of(wrong)


def _structure(run: Reopened) -> Structure:
    ids = {item.id: item for item in run.segmentation.structures if item.where.any()}
    for name in _PREFERRED:
        if name in ids and name in STRUCTURES:
            return ids[name]
    raise UsageError("the run has no structure to spoil", f"Ask for one of {', '.join(_PREFERRED)}.", "--refine")


def _dice(first: Boxed[np.bool_], second: Boxed[np.bool_]) -> float:
    return from_counts(shared(first, second), first.count, second.count)[1]
