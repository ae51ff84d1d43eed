"""`python -m medsegagent.phantom.train`: train the demo's models on synthetic patients.

Three models whose conventions differ as public ones do: organs with sides, organs as pairs with the tumour as a region
of its organ, and MR. Training patients have the seeds 0 to 39, far from those of the demo and the tests.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from medsegagent.phantom.patient import Contrast, make_patient
from medsegagent.phantom.training import Recipe, TrainingCase, train

TRAINING_SEEDS = range(40)

CT_ORGANS = Recipe(
    dataset="Dataset901_Phantom_CT_Organs",
    channel="CT",
    labels={
        "spleen": 1,
        "kidney_right": 2,
        "kidney_left": 3,
        "liver": 4,
        "stomach": 5,
        "aorta": 6,
        "urinary_bladder": 7,
        "lung_left": 8,
        "lung_right": 9,
        "vertebrae": 10,
    },
)
CT_TUMOUR = Recipe(
    dataset="Dataset902_Phantom_CT_Tumour",
    channel="CT",
    labels={
        "Liver": [1, 2],
        "Liver tumour": [2],
        "Kidneys": [3],
        "Spleen": [4],
        "Lungs": [5],
        "Stomach": [6],
        "Aorta": [7],
        "Bladder": [8],
        "Vertebrae": [9],
    },
    regions_class_order=[1, 2, 3, 4, 5, 6, 7, 8, 9],
    seed=1,
)
MR_ORGANS = Recipe(
    dataset="Dataset903_Phantom_MR_Organs",
    channel="MR",
    labels={
        "right kidney": 1,
        "left kidney": 2,
        "liver": 3,
        "spleen": 4,
        "stomach": 5,
        "aorta": 6,
        "bladder": 7,
        "left lung": 8,
        "right lung": 9,
        "vertebrae": 10,
    },
    seed=2,
)
RECIPES = (CT_ORGANS, CT_TUMOUR, MR_ORGANS)

_STRUCTURES = {
    "kidney_right": ("kidney_right",),
    "kidney_left": ("kidney_left",),
    "urinary_bladder": ("bladder",),
    "Liver": ("liver", "liver_lesion"),
    "Liver tumour": ("liver_lesion",),
    "Kidneys": ("kidney_left", "kidney_right"),
    "Lungs": ("lung_left", "lung_right"),
    "right kidney": ("kidney_right",),
    "left kidney": ("kidney_left",),
    "left lung": ("lung_left",),
    "right lung": ("lung_right",),
}
"""Label name -> the phantom's structures, where the name alone does not say it."""


def structures_of(label: str) -> tuple[str, ...]:
    """The phantom's structures behind a recipe's label; their union is the label's truth."""
    return _STRUCTURES.get(label, (label.lower(),))


def cases_of(recipe: Recipe) -> Iterator[TrainingCase]:
    """The recipe's training patients, all straight and in RAS order, labelled as the recipe wants."""
    contrast: Contrast = "MR" if recipe.channel == "MR" else "CT"
    for seed in TRAINING_SEEDS:
        patient = make_patient(seed, contrast, orientation="RAS")
        labels = np.zeros(patient.labels.shape, np.uint8)
        for name, value in recipe.labels.items():
            mask = patient.mask(*structures_of(name))
            # Containing regions come first; what lies inside them overwrites its part with its own value.
            labels[mask] = value if isinstance(value, int) else value[0]
        yield TrainingCase(patient.image, labels, patient.grid)


def main() -> None:
    """Train all models, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "models", help="results root to write")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    logging.getLogger("medsegagent").setLevel(logging.INFO)
    for recipe in RECIPES:
        train(recipe, cases_of(recipe), arguments.out)


if __name__ == "__main__":
    main()
