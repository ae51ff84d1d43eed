"""A model that was trained on the box around what another one finds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import write_model

from medsegagent.cards.card import DatasetCard
from medsegagent.cards.library import Library
from medsegagent.engines.base import Prediction
from medsegagent.engines.installed import discover
from medsegagent.engines.nnunet.crop import box_around, cut, paste
from medsegagent.engines.nnunet.label_map import label
from medsegagent.engines.nnunet.network import load_network
from medsegagent.engines.nnunet.prepare import prepare
from medsegagent.engines.run import predict
from medsegagent.images.boxed import NOWHERE, Boxed
from medsegagent.images.read import read_volume
from medsegagent.images.volume import Grid, ModalityEvidence, Volume
from medsegagent.language.request import Modality, Request
from medsegagent.matching.selection import CardSelection, LabelExpression, Selection, TargetLabels
from medsegagent.models.installed import NnunetFolder
from medsegagent.phantom import CARDS, MODELS, make_patient, write_patient
from medsegagent.planning.choice import Choice
from medsegagent.planning.plan import PartValues, Plan
from medsegagent.planning.planner import plan

MARGIN = 6.0
FOUND = (1, 3)  # spleen and left kidney
WHOLE, BOXED = "Dataset901_Phantom_CT_Organs", "Dataset912_Boxed"
INNER = "nnUNetTrainer__nnUNetPlans__3d_fullres"
TEST_SEED = 4242


def cards(margin: float = MARGIN) -> dict[str, DatasetCard]:
    whole = json.loads((CARDS / "Phantom_CT_Organs.json").read_text())
    (model,) = whole["models"]
    grids = {"toy/whole": (2, 2, 2), "toy/whole:fast": (4, 4, 4)}
    whole["models"] = [model | {"id": name, "spacing_mm": grid} for name, grid in grids.items()]
    missing = {"id": "toy/whole:fastest", "parts": [{"dataset_folder": "Dataset919_Whole_fastest"}]}
    whole["models"].append(missing)
    crop = {"model": "toy/whole:fastest", "labels": ["kidney_left", "spleen"], "margin_mm": margin}
    boxed = {"id": "toy/boxed", "crop": crop, "parts": [{"dataset_folder": BOXED}]}
    labels = {"liver": 1, "spleen": 2, "kidney": 3}
    given = {"Boxed": {"name": "Boxed", "channel_names": {"0": "CT"}, "labels": labels, "models": [boxed]}}
    return {name: DatasetCard.model_validate(fields) for name, fields in (given | {whole["name"]: whole}).items()}


def planned(results: Path, volume: Volume, margin: float = MARGIN, **options: Any) -> Plan:
    expression = LabelExpression(plus=("spleen",), values=(2,))
    chosen = CardSelection(card="Boxed", targets=(TargetLabels(target="spleen", whole=expression),))
    selection = Selection(request=Request(instruction="x", modality=Modality()), cards=(chosen,))
    store = discover(Library(cards(margin)), [results])
    return plan(selection, store, [volume], "cpu", **options)


def ran(todo: Plan, volume: Volume) -> Prediction:
    (outcome,) = predict(todo, [volume])
    assert isinstance(outcome, Prediction)
    return outcome


def labels_of(folder: Path, volume: Volume) -> np.ndarray:
    fold = 0 if folder.parent.name == BOXED else "all"
    part = NnunetFolder(folder=folder, folds=(fold,), checkpoint="checkpoint_final.pth", labels={})
    network = load_network(part)
    return label(network, prepare(network, [volume], reorient=fold == "all"), "cpu").labels


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The phantom's trained model, which finds what it should, and an untrained one that answers anything."""
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(MODELS / WHOLE, folder / WHOLE)
    write_model(folder, name=BOXED, seed=3, spacing=(4.0, 4.0, 4.0), patch=(32, 32, 32), mirror_axes=None)
    return folder


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    """The phantom's CT, turned so that no axis is a patient axis."""
    file = tmp_path_factory.mktemp("patient") / "ct.nii.gz"
    write_patient(make_patient(TEST_SEED, contrast="CT"), file)
    volume = read_volume(file)
    turn = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
    direction = turn @ np.array(volume.grid.direction).reshape(3, 3)
    return replace(volume, grid=replace(volume.grid, direction=tuple(map(float, direction.ravel()))))


def test_the_result_is_that_of_the_cropped_image_pasted_back(results: Path, scan: Volume) -> None:
    found = np.isin(labels_of(results / WHOLE / INNER, scan), FOUND)
    assert found.any()
    todo = planned(results, scan)
    assert todo.models[0].locator is not None
    assert (
        todo.models[0].locator.model.id == "toy/whole:fast"
    )  # the one named is not installed: the coarsest of its card
    mask = ran(todo, scan).masks["spleen"]
    # The crop by other means: SimpleITK cuts the image and keeps the geometry.
    image = SimpleITK.GetImageFromArray(scan.array)
    image.SetSpacing(scan.grid.spacing)
    image.SetOrigin(scan.grid.origin)
    image.SetDirection(scan.grid.direction)
    where = np.argwhere(found)
    room = [int(MARGIN // mm) for mm in scan.grid.spacing[::-1]]
    low = [max(0, int(a) - r) for a, r in zip(where.min(0), room, strict=True)]
    high = [min(n, int(a) + 1 + r) for a, r, n in zip(where.max(0), room, found.shape, strict=True)]
    size = [int(h - a) for h, a in zip(high, low, strict=True)]
    part = SimpleITK.RegionOfInterest(image, size[::-1], low[::-1])
    grid = Grid(part.GetSize(), part.GetSpacing(), part.GetOrigin(), part.GetDirection())
    alone = labels_of(results / BOXED / INNER, replace(scan, array=SimpleITK.GetArrayFromImage(part), grid=grid)) == 2
    expected = np.zeros(found.shape, bool)
    expected[tuple(slice(a, h) for a, h in zip(low, high, strict=True))] = alone
    assert expected.any()
    assert np.array_equal(mask, expected)
    assert not np.array_equal(mask, labels_of(results / BOXED / INNER, scan) == 2)


def test_without_a_model_that_finds_the_box_it_sees_the_whole_image_and_says_so(results: Path, scan: Volume) -> None:
    todo = planned(results, scan, choice=Choice(exclude=("toy/whole", "toy/whole:fast")))
    (model,) = todo.models
    assert model.locator is None
    assert "models install toy/whole:fastest" in model.warnings[0]
    alone = labels_of(results / BOXED / INNER, scan) == 2
    assert np.array_equal(ran(todo, scan).masks["spleen"], alone)


def test_only_is_about_who_votes_and_a_failed_helper_is_not_asked_again(results: Path, scan: Volume) -> None:
    for options, helper in (
        ({"choice": Choice(only=("toy/boxed",))}, "toy/whole:fast"),
        ({"without": {"toy/whole:fast"}}, "toy/whole"),
    ):
        locator = planned(results, scan, **options).models[0].locator
        assert locator is not None
        assert locator.model.id == helper


def test_where_nothing_is_found_to_look_around_nothing_is_found(results: Path, scan: Volume) -> None:
    todo = planned(results, scan)
    locator = todo.models[0].locator
    assert locator is not None
    nothing = locator.model_copy(update={"found": (PartValues(part=0, values=(99,)),)})  # a value that it never gives
    model = todo.models[0].model_copy(update={"locator": nothing})
    outcome = ran(todo.model_copy(update={"models": (model,)}), scan)
    assert not outcome.masks["spleen"].any()
    assert "toy/whole:fast found nothing" in outcome.notes[0]


@given(
    st.tuples(*[st.integers(2, 9)] * 3),
    st.tuples(*[st.floats(0.3, 5)] * 3),
    st.floats(0, 30),
    st.data(),
)
def test_a_box_holds_the_mask_and_its_margin_and_stays_where_it_is(
    size: tuple[int, int, int], spacing: tuple[float, float, float], margin: float, data: st.DataObject
) -> None:
    grid = Grid(size, spacing, (3.0, -7.0, 11.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    mask = np.zeros(grid.shape, bool)
    for _ in range(data.draw(st.integers(1, 4))):
        mask[tuple(data.draw(st.integers(0, n - 1)) for n in grid.shape)] = True
    box = box_around(Boxed.of(mask).box, grid, margin)
    assert box is not None
    voxels = np.arange(mask.size, dtype=np.float32).reshape(grid.shape)
    volume = Volume(voxels, grid, "", Path(), "", ModalityEvidence(None, 0, ""))
    part = cut(volume, box)
    assert part.array.shape == part.grid.shape
    corner = np.array([[axis.start for axis in box[::-1]]])
    assert np.allclose(part.grid.points(np.zeros((1, 3))), grid.points(corner))
    back = paste(part.array.astype(np.uint16), box, grid)
    assert np.array_equal(back[mask], voxels[mask])
    for axis, mm in enumerate(spacing[::-1]):
        held = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        before = held[0] - box[axis].start
        assert before * mm <= margin + 1e-3
        assert box[axis].start == 0 or (before + 1) * mm > margin - 1e-3
        assert box[axis].stop > held[-1]
    assert box_around(NOWHERE, grid, margin) is None
