"""Train a small nnU-Net with nnU-Net's own planning, preprocessing and training code."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.volume import Grid
from medsegagent.phantom.patient import write_array

log = logging.getLogger(__name__)

CONFIGURATION = "3d_fullres"
_PLANS = "nnUNetPlans"
_LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class TrainingCase:
    """One annotated volume: image and labels `(Z, Y, X)` on `grid`; labels hold the recipe's stored values."""

    image: NDArray[np.floating[Any]]
    labels: NDArray[np.integer[Any]]
    grid: Grid


@dataclass(frozen=True)
class Recipe:
    """What to train.

    Attributes:
        dataset: nnU-Net folder name, `DatasetNNN_Name`.
        channel: Name of the one input channel; "CT" asks nnU-Net for CT normalisation.
        labels: Label name -> stored value, or the values of a region; without the background.
        regions_class_order: For regions, as in nnU-Net.
        iterations: Training iterations.
        patch: Patch size, Z, Y, X.
        features: Channels per stage of the U-Net; each stage halves the resolution.
        spacing: Target grid in mm, Z, Y, X; None: nnU-Net's choice.
        foreground: Share of the patches that are drawn around a label, each label as often as any other; 1 serves
            small structures, less shows the network more of what is none.
        seed: Of weights and sampling.
    """

    dataset: str
    channel: str
    labels: Mapping[str, int | list[int]]
    regions_class_order: list[int] | None = None
    iterations: int = 1000
    patch: tuple[int, int, int] = (48, 40, 48)
    features: tuple[int, ...] = (8, 16, 32, 48)
    spacing: tuple[float, float, float] | None = None
    foreground: float = 1.0
    seed: int = 0


def train(recipe: Recipe, cases: Iterable[TrainingCase], results: Path) -> Path:
    """Train and install a model.

    Args:
        recipe: What to train.
        cases: Training cases, all of them used (nnU-Net's fold "all").
        results: A results root; `DATASET/nnUNetTrainer__nnUNetPlans__3d_fullres/` is made below it.

    Returns:
        The model folder: dataset.json, plans.json, fold_all/checkpoint_final.pth.
    """
    with TemporaryDirectory() as scratch:
        work = Path(scratch)
        folders = {f"nnUNet_{name}": work / name for name in ("raw", "preprocessed", "results")}
        for folder in folders.values():
            folder.mkdir()
        _write_raw(recipe, cases, work / "raw" / recipe.dataset)
        log.info("%s: planning and preprocessing", recipe.dataset)
        settings = {name: str(folder) for name, folder in folders.items()} | {"nnUNet_compile": "f"}
        with (work / "log.txt").open("w") as quiet, redirect_stdout(quiet):
            with _environment(settings | {"nnUNet_n_proc_DA": "1"}):
                _plan_and_preprocess(recipe, work / "preprocessed" / recipe.dataset)
            with _environment(settings | {"nnUNet_n_proc_DA": "0"}):  # no workers, so that training repeats exactly
                _fit(recipe, work / "preprocessed" / recipe.dataset)
        name = f"nnUNetTrainer__{_PLANS}__{CONFIGURATION}"
        return _install(work / "results" / recipe.dataset / name, results / recipe.dataset / name)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """nnU-Net reads its folders and switches from the environment; the user's own come back afterwards."""
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _write_raw(recipe: Recipe, cases: Iterable[TrainingCase], folder: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    count = 0
    for count, case in enumerate(cases, 1):
        write_array(
            np.rint(case.image).astype(np.int16), case.grid, folder / "imagesTr" / f"case_{count:03}_0000.nii.gz"
        )
        write_array(case.labels.astype(np.uint8), case.grid, folder / "labelsTr" / f"case_{count:03}.nii.gz")
    dataset: dict[str, Any] = {
        "channel_names": {"0": recipe.channel},
        "labels": {"background": 0, **recipe.labels},
        "numTraining": count,
        "file_ending": ".nii.gz",
    }
    if recipe.regions_class_order:
        dataset["regions_class_order"] = recipe.regions_class_order
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=2))


def _plan_and_preprocess(recipe: Recipe, folder: Path) -> None:
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    number = int(recipe.dataset[7:10])
    api.extract_fingerprint_dataset(number, num_processes=1, show_progress_bar=False)
    api.plan_experiment_dataset(number, overwrite_target_spacing=recipe.spacing)
    file = folder / f"{_PLANS}.json"
    plans = json.loads(file.read_text())
    configuration = plans["configurations"][CONFIGURATION]
    stages = len(recipe.features)
    configuration |= {"patch_size": list(recipe.patch), "batch_size": 2, "batch_dice": True}
    configuration["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": list(recipe.features),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }
    plans["configurations"] = {CONFIGURATION: configuration}
    file.write_text(json.dumps(plans, indent=2))
    api.preprocess_dataset(number, configurations=[CONFIGURATION], num_processes=[1], show_progress_bar=False)


def _fit(recipe: Recipe, folder: Path) -> None:
    import torch
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerNoDA import nnUNetTrainerNoDA

    class Trainer(nnUNetTrainerNoDA):  # type: ignore[misc]
        """nnU-Net's trainer without augmentation, mirroring included: it would make left and right the same.

        Some hundred iterations must do, so Adam takes the place of plain gradient descent.
        """

        def configure_optimizers(self) -> tuple[Any, Any]:
            optimizer = torch.optim.Adam(self.network.parameters(), lr=_LEARNING_RATE, weight_decay=self.weight_decay)
            return optimizer, PolyLRScheduler(optimizer, _LEARNING_RATE, self.num_epochs)

        def on_epoch_end(self) -> None:
            super().on_epoch_end()
            done, dice = self.current_epoch * per_epoch, self.logger.get_value("mean_fg_dice", step=-1)
            log.info("%s: %d of %d iterations, mean Dice %.2f", recipe.dataset, done, recipe.iterations, dice)

    # The name is stored in the checkpoint and the folder: nnU-Net's own trainer loads what this one saved.
    Trainer.__name__ = nnUNetTrainer.__name__
    per_epoch = min(25, recipe.iterations)
    torch.manual_seed(recipe.seed)
    np.random.seed(recipe.seed)
    random.seed(recipe.seed)
    plans = json.loads((folder / f"{_PLANS}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((folder / "dataset.json").read_text())
    trainer = Trainer(plans, CONFIGURATION, "all", dataset, torch.device("cpu"))
    trainer.num_iterations_per_epoch = per_epoch
    trainer.oversample_foreground_percent = recipe.foreground
    trainer.num_val_iterations_per_epoch = 1
    trainer.num_epochs = max(1, recipe.iterations // per_epoch)
    trainer.save_every = trainer.num_epochs + 1
    trainer.run_training()


def _install(trained: Path, target: Path) -> Path:
    """Keep what prediction needs: weights without the optimizer's state, and no path of this machine."""
    import torch

    fold = target / "fold_all"
    shutil.rmtree(target, ignore_errors=True)
    fold.mkdir(parents=True)
    for name in ("dataset.json", "plans.json"):
        shutil.copy(trained / name, target / name)
    saved = torch.load(trained / "fold_all" / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    kept = {
        "network_weights": saved["network_weights"],
        "trainer_name": saved["trainer_name"],
        "init_args": {"configuration": CONFIGURATION},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(kept, fold / "checkpoint_final.pth")
    return target
