"""The main job on a real CT: three small nnU-Nets under real card names, one instruction, Dice against a reference.

    python benchmarks/real_ct.py

Trains on ../shared/data/ct_abdomen.nii.gz in build/real_ct (some minutes, cached by recipe), then runs `medsegagent
segment` as a user would. Same patient in training and test: this shows that geometry, labels, voting and speed hold on
real data, not generalisation. Skips where the data is absent; exits with 1 if the fused Dice is under its floor.
"""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from scipy.spatial.transform import Rotation

from medsegagent.images.read import read_volume
from medsegagent.images.volume import Volume
from medsegagent.phantom.training import Recipe, TrainingCase, train

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
BUILD = ROOT / "build" / "real_ct"
INSTRUCTION = "Please segment the liver, the spleen and both kidneys in this CT"
FLOOR = {"liver": 0.85, "spleen": 0.85, "kidney": 0.80}
VARIANTS = 6
"""Slightly moved and re-scaled copies of the one CT to train each model on."""

REFERENCE = {"spleen": [1], "kidney_right": [2], "kidney_left": [3], "liver": [5], "stomach": [6], "pancreas": [7]}
REFERENCE |= {"kidney": [2, 3], "lung": [10, 11, 12, 13, 14]}
"""TotalSegmentator's values of the reference."""

SMALL = {"channel": "CT", "iterations": 700, "patch": (48, 48, 48), "spacing": (5.0, 5.0, 5.0), "foreground": 0.5}
CONVENTIONS = {
    "Dataset201_TotalSegmentator_v2": ("spleen", "kidney_right", "kidney_left", "liver", "stomach"),
    "Dataset202_FLARE22": ("liver", "right kidney", "spleen", "pancreas", "stomach", "left kidney"),
    "Dataset203_CT-ORG": ("Liver", "Lungs", "Kidneys"),
}
"""Dataset folder -> its card's label names, numbered from 1 as nnU-Net wants them."""
MEANING = {"right kidney": "kidney_right", "left kidney": "kidney_left", "Liver": "liver", "Lungs": "lung"}
MEANING |= {"Kidneys": "kidney"}


def main() -> int:
    out = Console()
    if not (DATA / "ct_abdomen.nii.gz").exists():
        out.print(f"skipped: no data at {DATA} (ct_abdomen.nii.gz and its reference)")
        return 0
    logging.basicConfig(level=logging.WARNING)
    results = BUILD / "nnUNet_results"
    volume = read_volume(DATA / "ct_abdomen.nii.gz")
    reference = load(DATA / "ct_abdomen_reference_3mm.nii.gz")
    started = time.perf_counter()
    for seed, (dataset, names) in enumerate(CONVENTIONS.items()):
        prepare(dataset, names, seed, volume, reference, results, out)
    out.print(f"models ready after {time.perf_counter() - started:.0f} s")

    run = BUILD / "out"
    command = [sys.executable, "-m", "medsegagent", "segment", INSTRUCTION, "-i", str(DATA / "ct_abdomen.nii.gz")]
    command += ["-o", str(run), "--models-dir", str(results), "--keep-predictions", "--separate", "--overwrite", "-v"]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    out.print(f"medsegagent segment: {time.perf_counter() - started:.1f} s in all")
    return report(run, reference, out)


def prepare(
    dataset: str, names: tuple[str, ...], seed: int, volume: Volume, reference: np.ndarray, results: Path, out: Console
) -> None:
    """Train one model, unless the same recipe is there already."""
    recipe = Recipe(dataset, labels={name: value for value, name in enumerate(names, 1)}, seed=seed, **SMALL)
    stamp = hashlib.sha256(repr((recipe, VARIANTS)).encode()).hexdigest()
    done = results / dataset / "recipe.sha256"
    if done.exists() and done.read_text() == stamp:
        return
    out.print(f"training {dataset} ({', '.join(names)}) ...")
    train(recipe, variants(names, seed, volume, reference), results)
    done.write_text(stamp)


def variants(names: tuple[str, ...], seed: int, volume: Volume, reference: np.ndarray) -> Iterator[TrainingCase]:
    """The CT, and copies of it a little turned, moved, stretched, brighter or darker."""
    labels = np.zeros(reference.shape, np.uint8)
    for value, name in enumerate(names, 1):
        labels[np.isin(reference, REFERENCE[MEANING.get(name, name)])] = value
    yield TrainingCase(volume.array, labels, volume.grid)
    rng = np.random.default_rng(seed)
    middle = np.array(labels.shape) / 2
    for _ in range(VARIANTS - 1):
        turn = Rotation.from_euler("xyz", rng.normal(0, 3, 3), degrees=True).as_matrix() * rng.normal(1, 0.04, 3)
        shift = middle - turn @ middle + rng.normal(0, 2, 3)
        image = ndimage.affine_transform(volume.array, turn, shift, order=1, mode="nearest")
        moved = ndimage.affine_transform(labels, turn, shift, order=0)
        yield TrainingCase(image * rng.normal(1, 0.02) + rng.normal(0, 10), moved, volume.grid)


def report(run: Path, reference: np.ndarray, out: Console) -> int:
    """Print Dice per organ, per model and fused; say whether the floors hold."""
    sidecar = json.loads((run / "segmentation.json").read_text())
    label_map = load(run / "segmentation.nii.gz")
    fused: dict[str, np.ndarray] = {}
    for value, entry in sidecar.items():
        organ = "kidney" if entry["id"].startswith("kidney") else entry["id"]
        fused[organ] = fused.get(organ, False) | (label_map == int(value))
        if organ != entry["id"]:
            fused[entry["id"]] = label_map == int(value)
    models = sorted(folder for folder in (run / "predictions").iterdir())
    organs = [*FLOOR, *sorted(set(fused) - set(FLOOR))]
    table = Table("organ", *(model.name for model in models), "fused", "floor", title="Dice against the reference")
    for organ in organs:
        truth = np.isin(reference, REFERENCE[organ])
        files = [model / f"{organ}.nii.gz" for model in models]
        own = [f"{dice(load(file) > 0, truth):.3f}" if file.exists() else "-" for file in files]
        table.add_row(organ, *own, f"{dice(fused[organ], truth):.3f}", f"{FLOOR.get(organ, '')}")
    out.print(table)
    out.print("Same patient in training and test: geometry, labels, voting and speed, not generalisation.")
    short = [
        organ for organ, floor in FLOOR.items() if dice(fused[organ], np.isin(reference, REFERENCE[organ])) < floor
    ]
    if short:
        out.print(f"under the floor: {', '.join(short)}")
    return 1 if short else 0


def load(file: Path) -> np.ndarray:
    """Voxels `(Z, Y, X)` in file order."""
    return np.asarray(nib.load(file).dataobj).transpose()


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * float((one & other).sum()) / max(1, int(one.sum()) + int(other.sum()))


if __name__ == "__main__":
    sys.exit(main())
