"""docs/add_a_card.md, followed step by step, and what `cards check` finds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medsegagent.cards import DatasetCard
from medsegagent.cards.binding import bind
from medsegagent.cards.checking import check_card
from medsegagent.vocabulary import load

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A dataset folder as nnU-Net leaves it (the JSON files are all that adding a card reads)."""
    folder = tmp_path / "nnUNet_results" / "Dataset123_MyOrgans"
    model = folder / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    model.mkdir(parents=True)
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "liver": 1, "kidney_left": 2, "kidney_right": 3, "roi_7": 4},
        "numTraining": 12,
        "file_ending": ".nii.gz",
    }
    (model / "dataset.json").write_text(json.dumps(dataset))
    return folder


class TestTheTutorial:
    def test_a_trained_model_becomes_a_card_that_answers(self, cli: Run, trained: Path, tmp_path: Path) -> None:
        code, out, err = cli("cards", "add", trained, "-o", tmp_path / "my_cards")
        assert code == 0, err
        assert "left kidney" in out
        assert "roi_7" in out
        code, out, err = cli("match", "the left kidney on CT", "--library", tmp_path / "my_cards", "--json")
        assert code == 0, err
        assert json.loads(out)["labels"] == {"MyOrgans": [2]}

    def test_a_label_that_does_not_say_what_it_is_gets_its_meaning_from_bindings(
        self, cli: Run, trained: Path, tmp_path: Path
    ) -> None:
        cli("cards", "add", trained, "-o", tmp_path / "my_cards")
        file = tmp_path / "my_cards" / "MyOrgans.json"
        code, out, _ = cli("cards", "check", file)
        assert code == 0
        assert "roi_7" in out
        card = json.loads(file.read_text()) | {"bindings": {"roi_7": "spleen"}}
        file.write_text(json.dumps(card))
        _, out, _ = cli("cards", "check", file)
        assert "roi_7" not in out
        _, out, _ = cli("match", "spleen on CT", "--library", tmp_path / "my_cards", "--json")
        assert json.loads(out)["labels"] == {"MyOrgans": [4]}

    def test_another_name_keeps_the_model_behind_the_card(self, cli: Run, trained: Path, tmp_path: Path) -> None:
        code, _, err = cli("cards", "add", trained, "-o", tmp_path / "my_cards", "--name", "Clinic")
        assert code == 0, err
        card = json.loads((tmp_path / "my_cards" / "Clinic.json").read_text())
        assert card["models"][0]["parts"][0]["dataset_folder"] == "Dataset123_MyOrgans"

    def test_an_existing_card_is_not_overwritten(self, cli: Run, trained: Path, tmp_path: Path) -> None:
        cli("cards", "add", trained, "-o", tmp_path / "my_cards")
        before = (tmp_path / "my_cards" / "MyOrgans.json").read_bytes()
        code, _, err = cli("cards", "add", trained, "-o", tmp_path / "my_cards")
        assert code == 5
        assert "--name" in err
        assert (tmp_path / "my_cards" / "MyOrgans.json").read_bytes() == before

    def test_a_folder_without_a_model_is_said(self, cli: Run, tmp_path: Path) -> None:
        code, _, err = cli("cards", "add", tmp_path)
        assert code == 5
        assert "dataset.json" in err

    def test_the_page_shows_a_card_that_is_valid(self) -> None:
        page = (Path(__file__).resolve().parents[2] / "docs" / "add_a_card.md").read_text()
        block = page.split("```json\n")[1].split("```")[0]
        assert DatasetCard.model_validate(json.loads(block)).labels["liver"] == (1,)


def found(**changes: Any) -> str:
    """What the check says of a card, as one text."""
    card = {"name": "C", "channel_names": {"0": "CT"}, "labels": {"liver": 1, "spleen": 2}} | changes
    valid, vocabulary = DatasetCard.model_validate(card), load()
    findings = check_card(valid, bind(valid, vocabulary), vocabulary)
    return " | ".join(f"{item.label}: {item.text}" for item in findings)


class TestTheCheck:
    def test_a_sound_card_has_no_finding(self) -> None:
        assert found() == ""

    def test_an_unbound_label_is_named_with_what_is_near(self) -> None:
        assert "qwzx: bound to no concept" in found(labels={"liver": 1, "qwzx": 2})

    def test_two_labels_of_one_meaning(self) -> None:
        assert "means the same as 'liver'" in found(labels={"liver": 1, "Hepar": 2})

    def test_a_gap_in_the_values(self) -> None:
        assert "no label has the value 2" in found(labels={"liver": 1, "spleen": 3})

    def test_one_value_for_two_labels(self) -> None:
        assert "has the values of 'liver'" in found(labels={"liver": 1, "spleen": 1})

    def test_an_impossible_order_of_regions(self) -> None:
        regions = {"labels": {"liver": [1, 2], "liver tumour": 2}}
        assert found(**regions, regions_class_order=[1, 2]) == ""
        assert "has 1 values for 2 labels" in found(**regions, regions_class_order=[1])
        assert "paints [7]" in found(**regions, regions_class_order=[1, 7])
        assert "one value twice" in found(**regions, regions_class_order=[1, 1])
