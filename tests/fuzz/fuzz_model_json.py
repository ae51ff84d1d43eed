"""Fuzz dataset.json and plans.json of an installed model: `python tests/fuzz/fuzz_model_json.py --minutes 15`.

Beside the spoilt model lies an honest one, which must be found whatever the other holds; what is found is built and
given its weights.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from random import Random

import nnunetv2.utilities.plans_handling.plans_handler  # noqa: F401  (before the cap on memory, once for all children)
import torch  # noqa: F401
from harness import main
from json_spoiling import spoilt_json

from medsegagent.cards.library import Library
from medsegagent.engines.installed import discover
from medsegagent.engines.nnunet.network import load_network
from medsegagent.models.compare import differences
from medsegagent.models.folder import read_trained_folder
from medsegagent.models.installed import NnunetFolder
from medsegagent.phantom import CARDS, MODELS

_TRAINED = sorted(Path(MODELS).glob("Dataset*/*__*__*"))[0]
_LIBRARY = Library.load(CARDS)


def make(random: Random, folder: Path) -> Path:
    """Link two copies of a phantom's model into a results folder and spoil one file of the first, or both."""
    for number in (901, 999):
        copy = folder / f"Dataset{number}_Phantom_CT_Organs" / _TRAINED.name
        copy.mkdir(parents=True)
        for name in ("dataset.json", "plans.json"):
            shutil.copy(_TRAINED / name, copy / name)
        for fold in _TRAINED.glob("fold_*"):
            (copy / fold.name).symlink_to(fold)
    spoilt = folder / "Dataset999_Phantom_CT_Organs" / _TRAINED.name
    for name in random.choice((["dataset.json"], ["plans.json"], ["plans.json"], ["dataset.json", "plans.json"])):
        honest = json.loads((spoilt / name).read_bytes())
        (spoilt / name).write_bytes(spoilt_json(random, honest, clean=0.85))
    return folder


def read(folder: Path) -> object:
    """Find, compare, build."""
    store = discover(_LIBRARY, [folder])
    found = {part.folder.parent.name for model in store.models for part in model.parts}
    if "Dataset901_Phantom_CT_Organs" not in found:
        raise AssertionError("the honest model is gone")
    for problem in store.problems:
        str(problem).encode()
    (spoilt,) = (folder / "Dataset999_Phantom_CT_Organs").iterdir()
    trained = read_trained_folder(spoilt)
    card = _LIBRARY.get("Phantom_CT_Organs")
    for entry in card.models:
        differences(card, entry, entry.parts[0], trained, spoilt)
    part = NnunetFolder(folder=spoilt, folds=("all",), checkpoint="checkpoint_final.pth", labels=trained.labels)
    return load_network(part)


if __name__ == "__main__":
    sys.exit(main(make, read, __doc__))
