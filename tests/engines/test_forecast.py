from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_volume, plan_for, write_model

from medsegagent.engines import forecast
from medsegagent.engines.forecast import settle
from medsegagent.engines.memory import Free, Need
from medsegagent.engines.nnunet import need
from medsegagent.engines.nnunet.need import estimate
from medsegagent.engines.nnunet.network import Design, load_network
from medsegagent.engines.nnunet.prepare import prepare
from medsegagent.errors import UsageError


@pytest.mark.parametrize("reader", ["SimpleITKIO", "NibabelIOWithReorient"])
def test_the_shape_settlen_is_the_shape_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    folder = write_model(tmp_path, spacing=(3.0, 1.0, 2.0), transpose=(2, 0, 1), reader=reader)
    volume = make_volume(direction=(0, 0, 1, 1, 0, 0, 0, 1, 0))
    seen = []

    def noted(design: Design, folds: int, shape: Sequence[int], image_voxels: int) -> Need:
        seen.append(shape)
        return estimate(design, folds, shape, image_voxels)

    monkeypatch.setattr(need, "estimate", noted)
    settle(plan_for(folder), [volume])
    assert seen == [list(prepare(load_network(plan_for(folder).models[0].model.parts[0]), [volume]).data.shape[1:])]


def test_an_unknown_device_is_a_usage_error(tmp_path: Path) -> None:
    plan = plan_for(write_model(tmp_path)).model_copy(update={"device": "tpu"})
    with pytest.raises(UsageError, match="tpu"):
        settle(plan, [make_volume()])


def test_each_model_says_what_it_takes_and_where_its_logits_go(tmp_path: Path) -> None:
    (planned,) = settle(plan_for(write_model(tmp_path)), [make_volume()]).models
    assert "in main memory" in planned.memory
    assert "GB" in planned.memory


def test_what_cannot_fit_is_left_out_before_anything_runs_and_says_how_much_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, large = write_model(tmp_path), write_model(tmp_path, name="Dataset901_Fine", spacing=(0.05, 0.05, 0.05))
    monkeypatch.setattr(forecast, "free_memory", lambda _: Free(2 * 10**9, 10**9))
    told = settle(plan_for(small, large), [make_volume()])
    assert [item.model.id for item in told.models] == ["Dataset900_Toy"]
    (skipped,) = told.skipped
    assert (skipped.model, skipped.lacks) == ("Dataset901_Fine", "memory")
    assert "needs about" in skipped.reason
    assert "Crop the image" in skipped.reason


def test_a_folder_that_cannot_be_read_is_left_for_the_run_to_report(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    (folder / "plans.json").write_text("{")
    assert settle(plan_for(folder), [make_volume()]).models == plan_for(folder).models


def test_an_empty_image_has_a_forecast_too(tmp_path: Path) -> None:
    volume = make_volume()
    np.copyto(volume.array, 0)
    assert settle(plan_for(write_model(tmp_path)), [volume]).models[0].memory
