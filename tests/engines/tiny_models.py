"""Untrained nnU-Nets in nnU-Net's own layout and checkpoint format: small, quick, and noisy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from medsegagent.images.volume import Grid, ModalityEvidence, Volume
from medsegagent.models.installed import NnunetFolder, NnunetModel
from medsegagent.planning.plan import PartValues, Plan, PlannedModel, PlannedTarget

Labels = Mapping[str, int | Sequence[int]]
PLAIN: Labels = {"background": 0, "liver": 1, "spleen": 2, "kidney": 3}
REGIONS: Labels = {"background": 0, "kidney": [1, 2], "tumour": [2]}
RESAMPLING = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}


def write_model(
    results: Path,
    labels: Labels = PLAIN,
    *,
    name: str = "Dataset900_Toy",
    configuration: str = "3d_fullres",
    trainer: str = "nnUNetTrainer",
    channels: Sequence[str] = ("CT",),
    spacing: Sequence[float] = (2.0, 2.0, 2.0),
    patch: Sequence[int] = (16, 16, 16),
    folds: Sequence[int] = (0,),
    mirror_axes: Sequence[int] | None = (0, 1, 2),
    transpose: Sequence[int] = (0, 1, 2),
    reader: str = "SimpleITKIO",
    regions_order: Sequence[int] | None = None,
    seed: int = 0,
    features: Sequence[int] = (4, 8),
) -> Path:
    """Build the network through nnU-Net's own code, fill it with random weights, save as nnU-Net does."""
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    dims = len(patch)
    arch = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": len(features),
            "features_per_stage": list(features),
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
            "kernel_sizes": [[3] * dims] * len(features),
            "strides": [[1] * dims] + [[2] * dims] * (len(features) - 1),
            "n_conv_per_stage": [1] * len(features),
            "n_conv_per_stage_decoder": [1] * (len(features) - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dims}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    plans = {
        "dataset_name": name,
        "plans_name": "nnUNetPlans",
        "image_reader_writer": reader,
        "transpose_forward": list(transpose),
        "transpose_backward": [int(axis) for axis in np.argsort(transpose)],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(index): {"mean": 40.0, "std": 60.0, "percentile_00_5": -200.0, "percentile_99_5": 300.0}
            for index in range(len(channels))
        },
        "configurations": {
            configuration: {
                "data_identifier": "x",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": 2,
                "patch_size": list(patch),
                "spacing": list(spacing),
                "normalization_schemes": ["CTNormalization"] * len(channels),
                "use_mask_for_norm": [False] * len(channels),
                "resampling_fn_data": "resample_data_or_seg_to_shape",
                "resampling_fn_seg": "resample_data_or_seg_to_shape",
                "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
                "resampling_fn_data_kwargs": RESAMPLING | {"order": 3},
                "resampling_fn_seg_kwargs": RESAMPLING | {"is_seg": True},
                "resampling_fn_probabilities_kwargs": RESAMPLING,
                "architecture": arch,
            }
        },
    }
    dataset: dict[str, Any] = {
        "channel_names": {str(index): channel for index, channel in enumerate(channels)},
        "labels": labels,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    regions = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
    if regions:
        dataset["regions_class_order"] = list(regions_order or (1, 2))
    folder = results / name / f"{trainer}__nnUNetPlans__{configuration}"
    for fold in folds:
        torch.manual_seed(seed + fold)
        network = get_network_from_plans(
            arch["network_class_name"],
            arch["arch_kwargs"],
            arch["_kw_requires_import"],
            len(channels),
            len(labels) - regions,
            deep_supervision=True,
        )
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.SGD(network.parameters(), 0.01).state_dict(),
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float64(0.5)], "dice": [[np.float32(0.1)]], "array": np.zeros(2)},
            "_best_ema": np.float64(0.5),
            "current_epoch": 1,
            "init_args": {"configuration": configuration, "fold": fold, "device": torch.device("cpu")},
            "trainer_name": trainer,
            "inference_allowed_mirroring_axes": mirror_axes,
        }
        (folder / f"fold_{fold}").mkdir(parents=True)
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def edit_json(file: Path, *keys: str, value: object) -> None:
    """Set one value in a JSON file."""
    content = inner = json.loads(file.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    file.write_text(json.dumps(content))


def make_volume(
    size: tuple[int, int, int] = (37, 32, 29),
    spacing: tuple[float, float, float] = (1.5, 1.5, 2.5),
    direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    *,
    channel: str = "",
    family: str | None = "CT",
    seed: int = 0,
) -> Volume:
    """Smooth noise in Hounsfield units, with zeros around it on one side, so that nnU-Net crops."""
    rng = np.random.default_rng(seed)
    image = SimpleITK.GetImageFromArray(rng.normal(50, 400, size[::-1]).astype(np.float32))
    array = SimpleITK.GetArrayFromImage(SimpleITK.SmoothingRecursiveGaussian(image, 1.5))
    array[:3], array[:, :, -4:] = 0, 0
    grid = Grid(size, spacing, (-10.0, 5.0, 30.0), tuple(float(cosine) for cosine in direction))
    return Volume(array, grid, channel, Path("image.nii.gz"), "0" * 64, ModalityEvidence(family, 0.5, "test"))


def write_image(volume: Volume, file: Path) -> None:
    """Save through SimpleITK."""
    image = SimpleITK.GetImageFromArray(volume.array)
    image.SetSpacing(volume.grid.spacing)
    image.SetOrigin(volume.grid.origin)
    image.SetDirection(volume.grid.direction)
    SimpleITK.WriteImage(image, str(file))


def plan_for(*folders: Path, values: Sequence[int] = (1,), folds: Sequence[int] = (0,), **options: Any) -> Plan:
    """A plan that asks each model for one target made of its own values."""
    models = tuple(
        PlannedModel(
            model=NnunetModel(
                id=f"{folder.parent.name}",
                card="Toy",
                parts=(NnunetFolder(folder=folder, folds=tuple(folds), checkpoint="checkpoint_final.pth", labels={}),),
                channels=("0",),
                voter=folder.parent.name,
                **options,
            ),
            inputs=(0,),
            targets=(PlannedTarget(target="thing", whole=(PartValues(part=0, values=tuple(values)),)),),
            rank=rank,
            reason="",
        )
        for rank, folder in enumerate(folders, 1)
    )
    return Plan(models=models, device="cpu", device_reason="test")
