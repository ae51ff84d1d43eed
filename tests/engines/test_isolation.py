from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
from tiny_models import make_volume, plan_for, write_model

from medsegagent.engines.base import Failure, Prediction
from medsegagent.engines.isolation import predict_isolated
from medsegagent.engines.run import predict


def test_a_killed_model_is_a_failure_and_the_next_answers_as_in_process(tmp_path: Path) -> None:
    folders = [write_model(tmp_path, name=f"Dataset90{n}_Toy", seed=n) for n in (1, 2)]
    plan = plan_for(*folders, tile_step_size=0.2, use_mirroring=False)  # many tiles: it is killed long before the last

    def kill_the_first(model: str, done: int, _: int) -> None:
        if model == "Dataset901_Toy" and done == 1:
            multiprocessing.active_children()[0].kill()

    killed, answered = predict_isolated(plan, [make_volume()], kill_the_first)
    assert isinstance(killed, Failure)
    assert "killed, probably for want of memory" in killed.reason
    assert isinstance(answered, Prediction)
    expected = list(predict(plan, [make_volume()]))[1]
    assert isinstance(expected, Prediction)
    assert np.array_equal(answered.masks["thing"], expected.masks["thing"])
    assert multiprocessing.active_children() == []


def test_a_silent_model_is_stopped(tmp_path: Path) -> None:
    (outcome,) = predict_isolated(plan_for(write_model(tmp_path)), [make_volume()], patience=0.2)
    assert isinstance(outcome, Failure)
    assert "no sign of life" in outcome.reason
    assert multiprocessing.active_children() == []


class EndsItsReader:
    """Whoever unpickles it exits."""

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (3,)


def test_a_process_that_dies_before_it_has_read_its_images_is_a_failure(tmp_path: Path) -> None:
    images = [EndsItsReader(), make_volume((120, 120, 120))]  # more than a pipe holds
    (outcome,) = predict_isolated(plan_for(write_model(tmp_path)), images)  # type: ignore[arg-type]
    assert isinstance(outcome, Failure)
    assert "its process died (exit code 3)" in outcome.reason
