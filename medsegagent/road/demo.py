"""The demo: a patient that no model has seen, the whole road, and the truth to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from medsegagent.fusion.segmentation import Structure
from medsegagent.language import parse
from medsegagent.phantom import CARDS, MODELS
from medsegagent.phantom.patient import STRUCTURES, Patient, demo_patient, write_patient
from medsegagent.reporting.written_files import add_file
from medsegagent.road.events import Listener
from medsegagent.road.result import Result
from medsegagent.road.segmenter import Segmenter
from medsegagent.vocabulary import load as load_vocabulary

INSTRUCTION = (
    "Please segment the liver, the spleen, both kidneys, the lungs, the stomach, the aorta, the urinary bladder "
    "and any liver tumour in this CT"
)


@dataclass(frozen=True)
class DemoResult:
    """The run, and per structure id the Dice against the phantom's truth."""

    run: Result
    dice: dict[str, float]


def run_demo(
    out: Path,
    *,
    instruction: str = INSTRUCTION,
    seed: int = 0,
    overwrite: bool = False,
    on_event: Listener | None = None,
) -> DemoResult:
    """Segment a synthetic patient with the demo models.

    Args:
        out: The run folder; the patient's image is put beside the masks, as `image.nii.gz`.
        instruction: What to segment.
        seed: Which patient; none of them was seen in training.
        overwrite: Replace an earlier run in `out`.
        on_event: Told what happens.

    Raises:
        MedSegAgentError: As `segment`.
    """
    patient = demo_patient(seed)
    with TemporaryDirectory() as folder:
        image = Path(folder) / "image.nii.gz"
        write_patient(patient, image)
        segmenter = Segmenter(CARDS, models_dir=MODELS)
        run = segmenter.segment(instruction, image, out, overwrite=overwrite, on_event=on_event)
        if run.folder is not None:
            add_file(run.folder, "image.nii.gz", image.read_bytes())
    assert run.segmentation is not None
    return DemoResult(run, _against_truth(run.segmentation.structures, patient))


def _against_truth(structures: tuple[Structure, ...], patient: Patient) -> dict[str, float]:
    """Dice per structure whose id is one of the phantom's, under the name that the parser gives it."""
    vocabulary = load_vocabulary()
    said = {name: name.replace("_", " ") for name in STRUCTURES} | {"liver_lesion": "liver tumour"}
    names = {target.id: name for name, text in said.items() for target in parse(text, vocabulary).targets}
    return {
        structure.id: _dice(structure.mask, patient.mask(names[structure.id]))
        for structure in structures
        if structure.id in names
    }


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * float(np.logical_and(one, other).sum()) / max(1, int(one.sum()) + int(other.sum()))
