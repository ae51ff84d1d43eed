from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from medsegagent.cards.card import DatasetCard
from medsegagent.cards.library import Library
from medsegagent.engines.installed import discover
from medsegagent.models.store import Store, results_roots

LABELS = {"background": 0, "kidney_left": 1, "kidney_right": 2, "liver": 3}


def card(name: str = "Toy", **fields: Any) -> DatasetCard:
    given = {"name": name, "channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": 7} | fields
    return DatasetCard.model_validate(given)


def part(folder: str, **fields: Any) -> dict[str, Any]:
    return {"dataset_folder": folder, **fields}


def install(
    root: Path,
    dataset: str,
    labels: Mapping[str, Any] = LABELS,
    *,
    inner: str = "nnUNetTrainer__nnUNetPlans__3d_fullres",
    channels: Sequence[str] = ("CT",),
    folds: Sequence[str] = ("0",),
    checkpoint: str = "checkpoint_final.pth",
    spacing: Sequence[float] = (3.0, 1.0, 2.0),
    **configuration: Any,
) -> Path:
    folder = root / dataset / inner
    folder.mkdir(parents=True)
    for fold in folds:
        (folder / f"fold_{fold}").mkdir()
        (folder / f"fold_{fold}" / checkpoint).touch()
    names = {str(index): channel for index, channel in enumerate(channels)}
    (folder / "dataset.json").write_text(json.dumps({"channel_names": names, "labels": labels}))
    plans = {
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
        "configurations": {inner.split("__")[2]: {"spacing": list(spacing)} | configuration},
    }
    (folder / "plans.json").write_text(json.dumps(plans))
    return folder


def find(root: Path, *cards: DatasetCard) -> Store:
    return discover(Library({one.name: one for one in cards}), [root])


def test_a_folder_named_after_the_card_is_its_model_with_labels_by_name(tmp_path: Path) -> None:
    own = {"background": 0, "Liver": 1, "kidney left": 2, "Kidney-Right": 3, "spleen": 4, "ignore": 5}
    folder = install(tmp_path, "Dataset123_Toy", own, folds=("1", "0", "all"))
    (model,) = find(tmp_path, card()).models
    (only,) = model.parts
    assert only.folder == folder
    assert only.labels == {"liver": (1,), "kidney_left": (2,), "kidney_right": (3,)}
    assert only.folds == (0, 1)
    assert model.spacing_mm == (3.0, 2.0, 1.0), "x, y, z in the file's axes, the plans' transpose undone"
    assert (model.card, model.channels, model.num_training) == ("Toy", ("0",), 7)


def test_fold_all_counts_where_it_is_alone_and_the_best_checkpoint_where_there_is_no_final(tmp_path: Path) -> None:
    install(tmp_path, "Dataset001_Toy", folds=("all",), checkpoint="checkpoint_best.pth")
    (model,) = find(tmp_path, card()).models
    assert (model.parts[0].folds, model.parts[0].checkpoint) == (("all",), "checkpoint_best.pth")


def test_regions_keep_their_lists(tmp_path: Path) -> None:
    install(tmp_path, "Dataset001_Toy", {"background": 0, "liver": [1, 2], "kidney_left": 2})
    (model,) = find(tmp_path, card()).models
    assert model.parts[0].labels == {"liver": (1, 2), "kidney_left": (2,)}


@pytest.mark.parametrize(
    ("own", "expected"),
    [(("PET", "CT"), ("1", "0")), (("ct", "pet"), ("0", "1")), (("first", "second"), ("0", "1"))],
)
def test_channels_match_by_name_where_the_names_agree_else_by_order(
    tmp_path: Path, own: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    install(tmp_path, "Dataset001_Toy", channels=own)
    (model,) = find(tmp_path, card(channel_names={"0": "CT", "1": "PET"})).models
    assert model.channels == expected


def test_an_entrys_folder_is_one_model_and_not_found_again_by_name(tmp_path: Path) -> None:
    install(tmp_path, "Dataset001_Toy")
    entry = {"id": "toy/one", "parts": [part("Dataset001_Toy")], "voter": "toy", "reorient": "RAS"}
    store = find(tmp_path, card(models=[entry]))
    (model,) = store.models
    assert (model.id, model.voter, model.reorient) == ("toy/one", "toy", "RAS")
    assert model.parts[0].labels == {"kidney_left": (1,), "kidney_right": (2,), "liver": (3,)}
    assert store.problems == ()


def test_a_model_in_parts_is_usable_for_the_parts_that_are_installed(tmp_path: Path) -> None:
    organs = part("Dataset291_organs", labels={"liver": 1})
    kidneys = part("Dataset292_kidneys", labels={"kidney_left": 1, "kidney_right": 2}, folds=[0, 4])
    folder = install(tmp_path, "Dataset292_kidneys", {"background": 0, "kidney_left": 1, "kidney_right": 2})
    store = find(tmp_path, card(models=[{"id": "toy/total", "parts": [organs, kidneys]}]))
    (model,) = store.models
    assert [one.folder for one in model.parts] == [folder]
    assert model.parts[0].folds == (0,)
    assert [problem.reason for problem in store.problems] == ["fold 4 is not installed"]


def test_an_entrys_map_that_differs_from_the_installed_one_is_told(tmp_path: Path) -> None:
    folder = install(tmp_path, "Dataset001_Toy", {"background": 0, "kidney_left": 2, "kidney_right": 1})
    store = find(tmp_path, card(models=[{"id": "toy/one", "parts": [part("Dataset001_Toy")]}]))
    reasons = [problem.reason for problem in store.problems]
    assert any("no values for liver" in reason for reason in reasons)
    assert any("other values for kidney_left, kidney_right" in reason for reason in reasons)
    assert {problem.folder for problem in store.problems} == {folder}
    assert "liver" not in store.models[0].parts[0].labels


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"channels": ("CT", "PET")}, "takes 2 channels"),
        ({"labels": {"background": 0, "spleen": 1}}, "none of its labels"),
        ({"checkpoint": "checkpoint_latest.pth"}, "no fold holds"),
        ({"previous_stage": "3d_lowres"}, "cascade"),
    ],
)
def test_what_cannot_be_used_is_told_and_takes_nothing_down(
    tmp_path: Path, options: dict[str, Any], reason: str
) -> None:
    install(tmp_path, "Dataset001_Toy", **options)
    install(tmp_path, "Dataset002_Other")
    store = find(tmp_path, card(), card("Other"))
    assert [model.card for model in store.models] == ["Other"]
    assert [reason in problem.reason for problem in store.problems] == [True]
    assert store.without_card == ()


@pytest.mark.parametrize("damage", ["{", "[]", '{"labels": 3}', None])
@pytest.mark.parametrize("file", ["dataset.json", "plans.json"])
def test_a_damaged_or_missing_json_file_is_a_problem(tmp_path: Path, file: str, damage: str | None) -> None:
    path = install(tmp_path, "Dataset001_Toy") / file
    path.unlink()
    if damage is not None:
        path.write_text(damage)
    store = find(tmp_path, card())
    assert store.models == ()
    assert len(store.problems) == 1
    assert str(path.parent) in str(store.problems[0])


def test_models_without_a_card_are_listed(tmp_path: Path) -> None:
    folder = install(tmp_path, "Dataset777_Mystery")
    install(tmp_path, "Dataset778_Untrained", folds=())
    assert find(tmp_path, card()).without_card == (folder,)


def test_a_configuration_that_inherits_its_spacing_has_it(tmp_path: Path) -> None:
    folder = install(tmp_path, "Dataset001_Toy")
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["3d_child"] = {"inherits_from": "3d_fullres"}
    (folder / "plans.json").write_text(json.dumps(plans))
    folder.rename(folder.with_name("nnUNetTrainer__nnUNetPlans__3d_child"))
    (model,) = find(tmp_path, card()).models
    assert model.spacing_mm == (3.0, 2.0, 1.0)


def test_the_first_root_wins_and_a_missing_one_is_a_problem(tmp_path: Path) -> None:
    folders = [install(tmp_path / name, "Dataset001_Toy") for name in ("a", "b")]
    entry = {"id": "toy/one", "parts": [part("Dataset001_Toy")]}
    cards = Library({"Toy": card(models=[entry])})
    store = discover(cards, [tmp_path / "gone", tmp_path / "a", tmp_path / "b"])
    assert [model.parts[0].folder for model in store.models] == folders[:1]
    assert [problem.folder.name for problem in store.problems] == ["gone"]


def test_the_option_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_results", raising=False)
    assert results_roots(None) == ()
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    assert results_roots(None) == (tmp_path,)
    assert results_roots(Path("other")) == (Path("other"),)


BAD_JSON = {
    "an infinite value": '"labels": {"background": 0, "liver": Infinity}',
    "a value beyond all measure": '"labels": {"background": 0, "liver": 1e400}',
    "a value of 401 digits": f'"labels": {{"background": 0, "liver": {10**400}}}',
    "a value of 401 digits in quotes": f'"labels": {{"background": 0, "liver": "{10**400}"}}',
    "a value that no output has": '"labels": {"background": 0, "liver": -1}',
    "a key of 5,000 digits": f'"labels": {{"background": 0, "liver": 3}}, "channel_names": {{"{"9" * 5000}": "CT"}}',
    "labels that are a list": '"labels": ["liver"]',
    "channels that are a word": '"labels": {"background": 0, "liver": 3}, "channel_names": "CT"',
    "half a character": '"labels": {"background": 0, "\\ud800": 1}',
    "lists without end": '"labels": ' + "[" * 5000 + "]" * 5000,
}


@pytest.mark.parametrize("kind", BAD_JSON)
def test_a_folder_with_a_strange_dataset_json_is_a_problem_and_the_others_stay(tmp_path: Path, kind: str) -> None:
    install(tmp_path, "Dataset001_Toy")
    bad = install(tmp_path, "Dataset002_Toy")
    (bad / "dataset.json").write_text('{"channel_names": {"0": "CT"}, ' + BAD_JSON[kind] + "}")
    store = find(tmp_path, card())
    assert [model.parts[0].folder.parent.name for model in store.models] == ["Dataset001_Toy"]
    assert [problem.folder for problem in store.problems] == [bad]


@pytest.mark.parametrize(
    "plans",
    [
        {"transpose_backward": [10**9, 1, 2]},
        {"transpose_backward": [-1, 0, 1]},
        {"transpose_backward": [0, 1]},
        {"configurations": {"3d_fullres": {"spacing": [1.0, 0.0, 1.0]}}},
        {"configurations": {"3d_fullres": {"spacing": [1.0, "inf", 1.0]}}},
        {"configurations": {"3d_fullres": {"spacing": 3}}},
        {"configurations": {"3d_fullres": {"inherits_from": "3d_fullres"}}},
        {"configurations": ["3d_fullres"]},
    ],
)
def test_a_folder_with_strange_plans_is_a_problem_and_the_others_stay(tmp_path: Path, plans: dict[str, Any]) -> None:
    install(tmp_path, "Dataset001_Toy")
    bad = install(tmp_path, "Dataset002_Toy")
    (bad / "plans.json").write_text(json.dumps(json.loads((bad / "plans.json").read_text()) | plans))
    store = find(tmp_path, card())
    assert len(store.models) == 1
    assert [problem.folder for problem in store.problems] == [bad]


@pytest.mark.parametrize("name", ["dataset.json", "plans.json"])
def test_a_pipe_or_an_endless_device_in_a_model_folder_is_a_problem(tmp_path: Path, name: str) -> None:
    for dataset, make in (
        ("Dataset001_Toy", os.mkfifo),
        ("Dataset002_Toy", lambda path: os.symlink("/dev/zero", path)),
    ):
        file = install(tmp_path, dataset) / name
        file.unlink()
        make(file)
    store = find(tmp_path, card())
    assert store.models == ()
    assert [f"{name} is not readable JSON" in problem.reason for problem in store.problems] == [True, True]
