"""What `medsegagent segment` leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medsegagent.phantom import CARDS, MODELS, make_patient, write_patient

Run = Callable[..., tuple[int, str, str]]
INSTRUCTION = "segment the liver, the spleen, both kidneys and any liver tumour in this CT"


@pytest.fixture
def run_folder(segment_phantom: Run, ct_file: Path, tmp_path: Path) -> Path:
    code, _, err = segment_phantom(INSTRUCTION, ct_file, "--keep-predictions")
    assert code == 0, err
    return tmp_path / "out"


def test_the_folder_holds_what_the_readme_lists(run_folder: Path) -> None:
    files = {str(file.relative_to(run_folder)) for file in run_folder.rglob("*") if file.is_file()}
    for name in (
        "segmentation.nii.gz",
        "segmentation.json",
        "preview.png",
        "statistics.json",
        "run.json",
        "transcript.jsonl",
        "agreement/spleen.nii.gz",
    ):
        assert name in files
    assert any(name.startswith("predictions/") for name in files)
    # The lesion overlaps its organ, so whole masks of both are written without being asked for.
    assert "targets/liver.nii.gz" in files


def test_every_mask_is_on_the_grid_of_the_image(run_folder: Path, ct_file: Path) -> None:
    image = nib.load(ct_file)
    for file in run_folder.rglob("*.nii.gz"):
        mask = nib.load(file)
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)


def test_the_label_map_holds_the_values_that_its_sidecar_names(run_folder: Path) -> None:
    values = set(np.unique(np.asarray(nib.load(run_folder / "segmentation.nii.gz").dataobj))) - {0}
    sidecar = json.loads((run_folder / "segmentation.json").read_text())
    assert values == {int(value) for value in sidecar}


def test_the_record_says_what_ran_and_why(run_folder: Path, ct_file: Path) -> None:
    record = json.loads((run_folder / "run.json").read_text())
    assert record["request"]["instruction"] == INSTRUCTION
    assert {target["target"] for card in record["selection"] for target in card["targets"]}
    assert all(model["reason"] for model in record["plan"]["models"])
    assert record["inputs"][0]["sha256"]
    assert record["versions"]["nnunetv2"]
    assert str(ct_file.parent) not in (run_folder / "run.json").read_text()


@pytest.mark.parametrize("orientation", ["LPS", "SAL", "PIR"])
def test_the_liver_is_found_whatever_the_orientation_of_the_file(
    segment_phantom: Run, tmp_path: Path, orientation: str
) -> None:
    patient = make_patient(4243, contrast="CT", orientation=orientation)
    write_patient(patient, tmp_path / "ct.nii.gz")
    code, _, err = segment_phantom(
        "segment the liver and the left kidney in this CT", tmp_path / "ct.nii.gz", "--separate"
    )
    assert code == 0, err
    for name, floor in (("liver", 0.9), ("kidney_left", 0.85)):
        mask = np.asarray(nib.load(tmp_path / "out" / "targets" / f"{name}.nii.gz").dataobj).transpose() > 0
        truth = patient.mask(name)
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > floor


def test_the_conversation_is_shown_as_it_happens(segment_phantom: Run, ct_file: Path) -> None:
    code, _, err = segment_phantom("segment the spleen in this CT", ct_file, "-v")
    assert code == 0
    speakers = ["Parser", "ModalityMatcher", "AnatomyMatcher", "LabelMatcher", "Executor", "Reporter"]
    positions = [err.index(speaker) for speaker in speakers]
    assert positions == sorted(positions)


def test_a_dry_run_shows_request_selection_and_plan(segment_phantom: Run, ct_file: Path, tmp_path: Path) -> None:
    code, out, _ = segment_phantom("segment the spleen in this CT", ct_file, "--dry-run")
    assert code == 0
    for word in ("understood", "card", "rank", "device"):
        assert word in out
    assert not (tmp_path / "out").exists()


def test_rule_weights_and_outliers_are_the_users_to_choose(segment_phantom: Run, ct_file: Path, tmp_path: Path) -> None:
    with_weight = ("--fusion", "union", "--weight", "phantom=2.5", "--keep-outliers")
    code, _, err = segment_phantom("segment the spleen in this CT", ct_file, *with_weight)
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    votes = [(item["weight"], item["weight_reason"]) for item in record["plan"]["models"]]
    assert votes == [(2.5, "--weight phantom=2.5")] * len(votes)
    agreement = np.asarray(nib.load(tmp_path / "out" / "agreement" / "spleen.nii.gz").dataobj)
    fused = np.asarray(nib.load(tmp_path / "out" / "segmentation.nii.gz").dataobj)
    assert np.array_equal(fused > 0, agreement > 0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--fusion", "mean"), "majority, staple, intersection, union, best"),
        (("--weight", "phantom=nan"), "positive"),
        (("--weight", "fantom=2"), "'phantom'"),
        (("--only", "nobody"), "models list"),
    ],
)
def test_a_rule_or_model_that_does_not_exist_is_refused(
    segment_phantom: Run, ct_file: Path, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    code, _, err = segment_phantom("segment the spleen in this CT", ct_file, *more)
    assert code == 2
    assert words in err
    assert not (tmp_path / "out").exists()


def test_a_model_trained_on_a_box_gets_it_from_another_one_or_the_run_says_that_it_did_not(
    cli: Run, ct_file: Path, tmp_path: Path
) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    for file in CARDS.glob("*_CT_*.json"):
        card = json.loads(file.read_text())
        if "Tumour" in card["name"]:
            card["models"][0]["crop"] = {"model": "phantom/ct_organs", "labels": ["liver"]}
        (cards / file.name).write_text(json.dumps(card))
    given = ("--library", cards, "--models-dir", MODELS, "--device", "cpu", "--no-input")
    runs = {}
    for name, more in (("box", ()), ("whole", ("--exclude", "phantom/ct_organs"))):
        code, _, err = cli("segment", "liver tumour", "-i", ct_file, "-o", tmp_path / name, *given, *more)
        assert code == 0, err
        runs[name] = json.loads((tmp_path / name / "run.json").read_text())
    (planned,) = runs["box"]["plan"]["models"]
    assert planned["locator"]["model"]["id"] == "phantom/ct_organs"
    assert not [text for text in runs["box"]["warnings"] if "trained on the box" in text]
    (told,) = [text for text in runs["whole"]["warnings"] if "trained on the box" in text]
    assert "`medsegagent models install phantom/ct_organs`" in told
    assert all(run["structures"][0]["voxels"] > 0 for run in runs.values())


def test_what_a_model_did_not_see_is_said(cli: Run, ct_file: Path, tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    card = json.loads((CARDS / "Phantom_CT_Organs.json").read_text())
    (model,) = card["models"]
    speeds = {"own/whole": 2, "own/whole:coarse": 4}
    card["models"] = [model | {"id": name, "spacing_mm": [mm] * 3, "voter": "own"} for name, mm in speeds.items()]
    (cards / "card.json").write_text(json.dumps(card))
    given = ("--library", cards, "--models-dir", MODELS, "--device", "cpu", "--no-input", "--roi", "auto")
    code, _, err = cli("segment", "spleen", "-i", ct_file, "-o", tmp_path / "out", *given)
    assert code == 0, err
    (told,) = [text for text in json.loads((tmp_path / "out" / "run.json").read_text())["warnings"] if "--roi" in text]
    assert told.startswith("own/whole: it saw ")
    assert "own/whole:coarse" in told
