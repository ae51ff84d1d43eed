from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_volume, plan_for, write_model

from medsegagent.engines.base import Failure, Prediction
from medsegagent.engines.nnunet.network import TrainedNetwork, load_network
from medsegagent.engines.nnunet.prepare import Ahead, Job, prepare
from medsegagent.engines.run import predict
from medsegagent.errors import ModelError
from medsegagent.models.installed import NnunetFolder


def job(folder: Path, *, reorient: bool = False) -> Job:
    return Job(
        NnunetFolder(folder=folder, folds=(0,), checkpoint="checkpoint_final.pth", labels={}),
        (0,),
        reorient=reorient,
    )


def test_the_next_input_is_made_while_the_current_one_is_used_and_no_further_one(tmp_path: Path) -> None:
    jobs = [job(write_model(tmp_path, name=f"Dataset90{n}_Toy", spacing=(2.0, 2.0, 2.0 + n))) for n in range(3)]
    loaded: list[NnunetFolder] = []
    second = threading.Event()

    def load(part: NnunetFolder) -> TrainedNetwork:
        loaded.append(part)
        if part is jobs[1].part:
            second.set()
        return load_network(part)

    with Ahead(jobs, [make_volume()], load) as ahead:
        assert loaded == []
        ahead.take(jobs[0])
        assert second.wait(60), "the second one is begun without being asked for"
        taken = ahead.take(jobs[1])[1]
        assert jobs[2].part not in loaded[:2]
    assert np.array_equal(taken.data, prepare(load_network(jobs[1].part), [make_volume()]).data)


def test_networks_that_see_an_image_alike_share_one_input(tmp_path: Path) -> None:
    alike = [job(write_model(tmp_path, name=f"Dataset90{n}_Toy", seed=n)) for n in range(2)]
    turned = job(alike[0].part.folder, reorient=True)
    coarser = job(write_model(tmp_path, name="Dataset905_Toy", spacing=(3.0, 3.0, 3.0)))
    with Ahead([*alike, turned, coarser], [make_volume()], load_network) as ahead:
        first, second, third, fourth = (ahead.take(one)[1].data for one in (*alike, turned, coarser))
    assert first is second
    assert third is not second
    assert fourth.shape != third.shape


def test_a_broken_part_ends_its_model_and_what_was_begun_for_it_is_dropped(tmp_path: Path) -> None:
    good, bad, last = (write_model(tmp_path, name=f"Dataset90{n}_Toy", seed=n) for n in range(3))
    os.truncate(bad / "fold_0" / "checkpoint_final.pth", 100)
    plan = plan_for(bad, last)
    first = plan.models[0]
    parts = (*first.model.parts, plan_for(good).models[0].model.parts[0])
    uses = tuple(use.model_copy(update={"part": part}) for part in (0, 1) for use in first.targets[0].whole)
    target = first.targets[0].model_copy(update={"whole": uses})
    first = first.model_copy(update={"model": first.model.model_copy(update={"parts": parts}), "targets": (target,)})
    outcomes = list(predict(plan.model_copy(update={"models": (first, plan.models[1])}), [make_volume()]))
    assert [type(outcome) for outcome in outcomes] == [Failure, Prediction]
    (alone,) = predict(plan_for(last), [make_volume()])
    assert isinstance(alone, Prediction)
    assert np.array_equal(outcomes[1].masks["thing"], alone.masks["thing"])


def test_an_error_of_the_next_one_waits_until_it_is_taken(tmp_path: Path) -> None:
    jobs = [job(write_model(tmp_path)), job(tmp_path / "gone")]
    with Ahead(jobs, [make_volume()], load_network) as ahead:
        ahead.take(jobs[0])
        with pytest.raises(ModelError, match="gone"):
            ahead.take(jobs[1])
