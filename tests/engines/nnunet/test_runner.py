from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_models import make_volume, plan_for, write_model

from medsegagent.engines.base import Failure, Prediction
from medsegagent.engines.nnunet.label_map import label
from medsegagent.engines.nnunet.network import load_network
from medsegagent.engines.nnunet.orientation import to_ras
from medsegagent.engines.nnunet.prepare import prepare
from medsegagent.engines.run import predict
from medsegagent.images.volume import Grid
from medsegagent.models.installed import NnunetFolder
from medsegagent.planning.plan import PartValues, PlannedTarget


def label_map(folder: Path) -> np.ndarray:
    part = NnunetFolder(folder=folder, folds=(0,), checkpoint="checkpoint_final.pth", labels={})
    trained = load_network(part)
    return label(trained, prepare(trained, [make_volume()]), "cpu").labels


def test_masks_and_sides_are_the_label_maps_values_united_over_the_parts(tmp_path: Path) -> None:
    first, second = (write_model(tmp_path, name=f"Dataset{n}_Toy", seed=n) for n in (901, 902))
    planned = plan_for(first).models[0]
    parts = (planned.model.parts[0], planned.model.parts[0].model_copy(update={"folder": second}))
    target = PlannedTarget(
        target="thing",
        whole=(PartValues(part=0, values=(1, 3)), PartValues(part=1, values=(2,))),
        left=(PartValues(part=0, values=(1,)),),
        right=(PartValues(part=0, values=(3,)),),
    )
    model = planned.model_copy(
        update={"model": planned.model.model_copy(update={"parts": parts}), "targets": (target,), "weight": 2.0}
    )
    seen: list[tuple[str, int, int]] = []
    plan = plan_for(first).model_copy(update={"models": (model,)})
    (prediction,) = predict(plan, [make_volume()], lambda *news: seen.append(news))
    assert isinstance(prediction, Prediction)
    one, two = label_map(first), label_map(second)
    assert np.array_equal(prediction.masks["thing"], np.isin(one, (1, 3)) | (two == 2))
    assert np.array_equal(prediction.sides["thing"], np.where(one == 1, 1, np.where(one == 3, 2, 0)))
    assert prediction.masks["thing"].inside.dtype == np.bool_
    assert (prediction.weight, prediction.rank) == (2.0, 1)
    done, total = [news[1] for news in seen], {news[2] for news in seen}
    assert done == list(range(1, len(seen) + 1))
    assert total == {len(seen)}


def test_a_broken_model_is_a_failure_and_the_others_answer(tmp_path: Path) -> None:
    folders = [write_model(tmp_path, name=f"Dataset90{n}_Toy", seed=n) for n in (1, 2, 3)]
    broken = folders[1] / "fold_0" / "checkpoint_final.pth"
    os.truncate(broken, broken.stat().st_size // 2)
    outcomes = list(predict(plan_for(*folders), [make_volume()]))
    assert [type(outcome) for outcome in outcomes] == [Prediction, Failure, Prediction]
    assert "truncated" in outcomes[1].reason
    assert str(broken) in outcomes[1].reason


def test_logits_that_are_not_numbers_are_a_failure_not_an_empty_mask(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    file = folder / "fold_0" / "checkpoint_final.pth"
    content = torch.load(file, weights_only=False)
    next(iter(content["network_weights"].values())).fill_(float("nan"))
    torch.save(content, file)
    (outcome,) = predict(plan_for(folder), [make_volume()])
    assert isinstance(outcome, Failure)
    assert "NaN" in outcome.reason


def test_the_entrys_mirroring_and_step_change_the_tiles(tmp_path: Path) -> None:
    folder = write_model(tmp_path, mirror_axes=(0, 1, 2))
    counts, masks = [], []
    for options in ({}, {"tile_step_size": 1.0}, {"use_mirroring": False}):
        seen: list[int] = []
        (outcome,) = predict(
            plan_for(folder, **options), [make_volume()], lambda _, done, total, s=seen: s.append(total)
        )
        assert isinstance(outcome, Prediction)
        counts.append(len(seen))
        masks.append(outcome.masks["thing"])
    assert counts[1] < counts[0] == counts[2]
    assert not np.array_equal(masks[0], masks[2])


def test_an_image_of_zeros_is_a_failure_that_names_the_image(tmp_path: Path) -> None:
    volume = make_volume()
    volume.array[:] = 0
    (outcome,) = predict(plan_for(write_model(tmp_path)), [volume])
    assert isinstance(outcome, Failure)
    assert "image.nii.gz" in outcome.reason


@pytest.mark.parametrize("seed", range(8))
def test_reorientation_is_undone_exactly_and_follows_the_patient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    axes, signs = rng.permutation(3), rng.choice([-1.0, 1.0], 3)
    direction = np.eye(3)[:, axes] * signs
    grid = Grid((4, 5, 6), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), tuple(direction.ravel()))
    turn = to_ras(grid)
    xyz = np.stack(np.meshgrid(*map(np.arange, grid.size), indexing="ij"), -1).reshape(-1, 3)
    points = grid.points(xyz)
    for patient_axis, (sign, array_axis) in enumerate(((-1, 2), (-1, 1), (1, 0))):  # LPS to RAS, in Z, Y, X order
        coordinate = (sign * points[:, patient_axis]).reshape(grid.size).transpose(2, 1, 0).astype(np.float32)
        turned = turn.apply(coordinate)
        assert (np.diff(turned, axis=array_axis) > 0).all()
        assert np.allclose(np.diff(turned, axis=array_axis), turn.spacing(grid.spacing[::-1])[array_axis])
        assert np.array_equal(turn.undo(turned), coordinate)
