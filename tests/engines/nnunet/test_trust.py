"""A model folder is untrusted: nothing in it may run, whatever it asks for."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import REGIONS, edit_json, make_volume, plan_for, write_model

from medsegagent.engines.base import Failure
from medsegagent.engines.nnunet.checkpoint import load_checkpoint
from medsegagent.engines.nnunet.network import load_network
from medsegagent.engines.nnunet.trust import check_folder
from medsegagent.engines.run import predict
from medsegagent.errors import ModelError
from medsegagent.models.installed import NnunetFolder

ARCHITECTURE = ("configurations", "3d_fullres", "architecture")


class Burglar:
    """Unpickling it creates a file."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.trace}",)


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    return tmp_path / "executed"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path)


def checkpoint_of(folder: Path) -> Path:
    return folder / "fold_0" / "checkpoint_final.pth"


def run(folder: Path) -> Failure:
    (outcome,) = predict(plan_for(folder), [make_volume()])
    assert isinstance(outcome, Failure)
    return outcome


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(folder: Path, trace: Path) -> None:
    content = torch.load(checkpoint_of(folder), weights_only=False)
    torch.save(content | {"logging": Burglar(trace)}, checkpoint_of(folder))
    assert "would run code" in run(folder).reason
    assert not trace.exists()
    torch.load(checkpoint_of(folder), weights_only=False)
    assert trace.exists(), "the burglar works where pickles are trusted, so the test shows something"


def test_a_bare_pickle_is_refused_and_runs_nothing(folder: Path, trace: Path) -> None:
    checkpoint_of(folder).write_bytes(pickle.dumps(Burglar(trace)))
    assert "no checkpoint at all" in run(folder).reason
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 10, 0.5, -1])
def test_a_truncated_checkpoint_is_a_model_error(folder: Path, kept: float) -> None:
    file = checkpoint_of(folder)
    size = file.stat().st_size
    os.truncate(file, int(size * kept) if 0 < kept < 1 else int(kept) if kept >= 0 else size - 1)
    with pytest.raises(ModelError, match="checkpoint"):
        load_checkpoint(file)


def test_a_missing_checkpoint_or_one_of_another_kind_is_a_model_error(folder: Path) -> None:
    torch.save({"state_dict": {}}, checkpoint_of(folder))
    with pytest.raises(ModelError, match="not an nnU-Net v2 checkpoint"):
        load_checkpoint(checkpoint_of(folder))
    checkpoint_of(folder).unlink()
    with pytest.raises(ModelError, match="missing"):
        load_checkpoint(checkpoint_of(folder))


def test_numpy_scalars_of_the_training_log_do_not_get_in_the_way(folder: Path) -> None:
    checkpoint = load_checkpoint(checkpoint_of(folder))
    assert checkpoint.trainer == "nnUNetTrainer"
    assert checkpoint.mirror_axes == (0, 1, 2)
    expected = torch.load(checkpoint_of(folder), weights_only=False)["network_weights"]
    assert all(torch.equal(expected[name], tensor) for name, tensor in checkpoint.weights.items())


@pytest.mark.parametrize("key", ["conv_op", "norm_op", "dropout_op", "nonlin"])
def test_plans_that_import_a_function_into_the_network_run_nothing(folder: Path, trace: Path, key: str) -> None:
    edit_json(folder / "plans.json", *ARCHITECTURE, "arch_kwargs", key, value="os.system")
    edit_json(folder / "plans.json", *ARCHITECTURE, "arch_kwargs", f"{key}_kwargs", value={"command": f"touch {trace}"})
    assert "not allowed" in run(folder).reason
    assert not trace.exists()


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((*ARCHITECTURE, "network_class_name"), "os.system"),
        ((*ARCHITECTURE, "network_class_name"), "torch.hub.load"),
        ((*ARCHITECTURE, "_kw_requires_import"), ["conv_op", "features_per_stage"]),
        ((*ARCHITECTURE, "arch_kwargs", "block"), "subprocess.Popen"),
        ((*ARCHITECTURE, "arch_kwargs", "n_stages"), 10**6),
        ((*ARCHITECTURE, "arch_kwargs", "nonlin_kwargs"), {"inplace": "os.system"}),
        (("configurations", "3d_fullres", "resampling_fn_data"), "os.system"),
        (("configurations", "3d_fullres", "resampling_fn_probabilities"), "system"),
        (("configurations", "3d_fullres", "resampling_fn_seg_kwargs"), {"command": "true"}),
        (("configurations", "3d_fullres", "preprocessor_name"), "Popen"),
        (("configurations", "3d_fullres", "normalization_schemes"), ["exec"]),
        (("configurations", "3d_fullres", "patch_size"), [10**9, 16, 16]),
        (("configurations", "3d_fullres", "spacing"), [1e-9, 1.0, 1.0]),
        (("configurations", "3d_fullres", "previous_stage"), "3d_lowres"),
        (("image_reader_writer",), "os.system"),
        (("label_manager",), "os.system"),
        (("transpose_forward",), [0, 0, 1]),
        (("transpose_backward",), [1, 2, 0]),
    ],
)
def test_plans_that_ask_for_anything_off_the_lists_are_refused(folder: Path, keys: tuple[str, ...], value: Any) -> None:
    edit_json(folder / "plans.json", *keys, value=value)
    with pytest.raises(ModelError, match=r"plans\.json asks for something that is not allowed") as caught:
        check_folder(folder)
    assert keys[-1] in caught.value.what


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "liver": []},
        {"liver": 1},
        {"background": 0, "liver": 2},
        {"background": 0, "liver": -1},
        {"background": 0, "a": "1"},
    ],
)
def test_labels_that_are_not_nnunets_are_refused(folder: Path, labels: dict[str, Any]) -> None:
    edit_json(folder / "dataset.json", "labels", value=labels)
    with pytest.raises(ModelError, match=r"dataset\.json"):
        check_folder(folder)


def test_regions_need_an_order(tmp_path: Path) -> None:
    folder = write_model(tmp_path, REGIONS)
    edit_json(folder / "dataset.json", "regions_class_order", value=[1])
    with pytest.raises(ModelError, match="regions_class_order"):
        check_folder(folder)


def test_inheritance_between_configurations_is_resolved_and_a_circle_refused(folder: Path) -> None:
    plans = folder / "plans.json"
    edit_json(plans, "configurations", "3d_child", value={"inherits_from": "3d_fullres", "patch_size": [32, 16, 16]})
    child = folder.rename(folder.with_name("nnUNetTrainer__nnUNetPlans__3d_child"))
    checked = check_folder(child).plans["configurations"]["3d_child"]
    assert checked["patch_size"] == [32, 16, 16]
    assert checked["spacing"] == [2.0, 2.0, 2.0]
    edit_json(child / "plans.json", "configurations", "3d_fullres", "inherits_from", value="3d_child")
    with pytest.raises(ModelError, match="no usable configuration"):
        check_folder(child)


def test_plans_of_an_older_nnunet_build_the_same_network(folder: Path) -> None:
    old = {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": [1, 1],
        "n_conv_per_stage_decoder": [1],
        "num_pool_per_axis": [1, 1, 1],
        "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
        "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
    }
    for key, value in old.items():
        edit_json(folder / "plans.json", "configurations", "3d_fullres", key, value=value)
    with_architecture = sum(p.numel() for p in load(folder).network.parameters())
    content = (folder / "plans.json").read_text().replace('"architecture"', '"unused"')
    (folder / "plans.json").write_text(content)
    assert sum(p.numel() for p in load(folder).network.parameters()) == with_architecture


def test_weights_that_do_not_fit_the_plans_are_a_model_error_and_cost_no_memory(folder: Path) -> None:
    edit_json(folder / "plans.json", *ARCHITECTURE, "arch_kwargs", "features_per_stage", value=[4096, 4096])
    edit_json(folder / "plans.json", *ARCHITECTURE, "arch_kwargs", "kernel_sizes", value=[[63, 63, 63]] * 2)
    with pytest.raises(ModelError, match="weights do not fit"):
        load(folder)


def test_a_trainer_that_changes_the_network_is_honoured_without_a_search(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    content = torch.load(checkpoint_of(folder), weights_only=False)
    torch.save(content | {"trainer_name": "nnUNetTrainerBN"}, checkpoint_of(folder))
    with pytest.raises(ModelError, match="running_mean"):  # its batch norm wants what these weights lack
        load(folder)
    torch.save(content | {"trainer_name": "nnUNetTrainer_4000epochs_NoMirroring"}, checkpoint_of(folder))
    assert load(folder).label_manager.num_segmentation_heads == 4


def load(folder: Path) -> Any:
    return load_network(NnunetFolder(folder=folder, folds=(0,), checkpoint="checkpoint_final.pth", labels={}))
