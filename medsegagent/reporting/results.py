"""Everything that a finished case leaves in its folder, and the paragraph that goes with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from medsegagent.engines.base import Prediction
from medsegagent.files import write_json
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.images.volume import Volume
from medsegagent.images.write import write_mask
from medsegagent.reporting.preview import write_preview
from medsegagent.reporting.run_folder import dispensable, write_segmentation
from medsegagent.reporting.statistics import StructureStatistics, write_csv

LOW_AGREEMENT = 0.7
"""Mean pairwise Dice under which the paragraph says that the models disagree; two raters of one organ exceed it."""


def write_results(
    folder: Path,
    segmentation: Segmentation,
    volumes: Sequence[Volume],
    predictions: Sequence[Prediction],
    figures: Mapping[str, StructureStatistics],
    *,
    instruction: str,
    separate: bool,
    keep_predictions: bool,
) -> tuple[str, ...]:
    """Write masks, agreement, statistics and preview below `folder`.

    Args:
        folder: An existing folder.
        segmentation: The fused structures.
        volumes: The images; the first one is shown.
        predictions: What the models gave.
        figures: What was measured, by structure id.
        instruction: Title of the picture.
        separate: Also one mask per structure.
        keep_predictions: Also each model's own masks, `predictions/MODEL/TARGET.nii.gz`.

    Returns:
        What could not be made, though the masks could.
    """
    notes: list[str] = []
    write_segmentation(segmentation, folder, separate=separate)
    write_json(folder / "statistics.json", figures)
    write_csv(folder / "statistics.csv", figures)
    if keep_predictions:
        names = _folder_names([prediction.model for prediction in predictions])
        for prediction in predictions:
            own = folder / "predictions" / names[prediction.model]
            own.mkdir(parents=True)
            for target, mask in prediction.masks.items():
                write_mask(mask.dense(), segmentation.grid, own / f"{target}.nii.gz")
    with dispensable("preview.png", folder, notes):
        write_preview(segmentation, volumes[0], folder / "preview.png", title=instruction)
    return tuple(notes)


def _folder_names(models: Sequence[str]) -> dict[str, str]:
    """Model id -> a folder's name of its own; `x/y` and `x__y` are two models, and some disks know no upper case."""
    names: dict[str, str] = {}
    for model in models:
        plain = model.replace("/", "__").replace(":", "-")
        taken = {name.casefold() for name in names.values()}
        free = (plain if number == 1 else f"{plain}~{number}" for number in range(1, len(models) + 1))
        names[model] = next(name for name in free if name.casefold() not in taken)
    return names


def paragraph(segmentation: Segmentation, warnings: Sequence[str]) -> str:
    """Say in plain words what was found, by how many models, and how far they agree."""
    found = [structure for structure in segmentation.structures if structure.where.any()]
    voxel_ml = segmentation.grid.voxel_ml
    sentences = []
    if found:
        volumes = ", ".join(f"{item.name} {item.where.count * voxel_ml:.1f} mL" for item in found)
        sentences.append(f"Found: {volumes}.")
    if missing := [structure.name for structure in segmentation.structures if not structure.where.any()]:
        sentences.append(f"Not found by the models that ran: {', '.join(missing)}.")
    if alone := [structure.name for structure in found if len(structure.ballots) == 1]:
        sentences.append(f"Only one model gave {', '.join(alone)}, so nothing checks it.")
    if doubtful := [item for item in found if _agreement(item) < LOW_AGREEMENT]:
        names = ", ".join(f"{item.name} (Dice {_agreement(item):.2f})" for item in doubtful)
        sentences.append(f"The models disagree on {names}: look at the agreement maps.")
    if warnings:
        sentences.append(f"{len(warnings)} warning(s) above.")
    sentences.append("Research use only.")
    return " ".join(sentences)


def _agreement(structure: Structure) -> float:
    return 1.0 if structure.mean_dice is None else structure.mean_dice
