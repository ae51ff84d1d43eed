from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_volume, plan_for, write_model

from medsegagent.engines.base import Prediction
from medsegagent.engines.run import predict
from medsegagent.errors import UsageError
from medsegagent.models.effort import FAST_STEP, Effort, folds_named
from medsegagent.models.installed import NnunetModel
from medsegagent.planning.plan import Plan


def model(**options: object) -> NnunetModel:
    planned = plan_for(Path("Dataset900_Toy", "a__b__c"), folds=(0, 1, 2)).models[0].model
    return planned.model_copy(update=options)


def test_nothing_asked_changes_nothing() -> None:
    assert model(use_mirroring=False, tile_step_size=0.8).tuned(Effort()) == model(
        use_mirroring=False, tile_step_size=0.8
    )


def test_what_is_asked_overrides_the_entry() -> None:
    asked = model(use_mirroring=False, tile_step_size=0.8).tuned(Effort(folds=(1,), mirror=True, tile_step=0.3))
    assert (asked.use_mirroring, asked.tile_step_size, asked.parts[0].folds) == (True, 0.3, (1,))


def test_fast_takes_larger_steps_without_mirroring_unless_the_user_says_otherwise() -> None:
    fast = model().tuned(Effort(fast=True))
    assert (fast.use_mirroring, fast.tile_step_size) == (False, FAST_STEP)
    assert model(tile_step_size=0.9).tuned(Effort(fast=True)).tile_step_size == 0.9, "the entry is faster still"
    careful = model().tuned(Effort(fast=True, mirror=True, tile_step=0.5))
    assert (careful.use_mirroring, careful.tile_step_size) == (True, 0.5)


def test_a_fold_that_is_not_installed_is_named() -> None:
    assert model().lacks(Effort(folds=(0, 2))) is None
    assert "fold 4 (--folds) is not installed, only 0, 1, 2" in str(model().lacks(Effort(folds=(0, 4))))


def test_folds_are_read_as_users_name_them() -> None:
    assert folds_named(["1", "0", "1"]) == (1, 0)
    assert folds_named(["all"]) == ("all",)
    assert folds_named([]) is None
    with pytest.raises(UsageError, match="no such fold: -1"):
        folds_named(["-1"])


@pytest.mark.parametrize("step", [0.0, -1.0, 1.5, float("nan")])
def test_a_step_that_leaves_gaps_is_refused(step: float) -> None:
    with pytest.raises(UsageError, match="step between patches"):
        Effort(tile_step=step)


def test_low_precision_is_near_the_usual_answer_and_not_the_same(tmp_path: Path) -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this CPU has no bfloat16")
    plan = plan_for(write_model(tmp_path, spacing=(1.0, 1.0, 1.0)))

    def mask(low_precision: bool) -> np.ndarray:
        models = tuple(item.model_copy(update={"low_precision": low_precision}) for item in plan.models)
        (prediction,) = predict(Plan(models=models, device="cpu", device_reason=""), [make_volume()])
        assert isinstance(prediction, Prediction)
        return prediction.masks["thing"].dense()

    usual, quick = mask(False), mask(True)
    dice = 2 * (usual & quick).sum() / (usual.sum() + quick.sum())
    assert 0.9 < dice < 1, "an untrained network's boundaries are noise; they must move a little, and only a little"
