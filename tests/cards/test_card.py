"""What a card may look like, and what a broken one gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medsegagent.cards import Library, load_card
from medsegagent.errors import CardError

CARD: dict[str, Any] = {
    "name": "Mine",
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "kidneys": [2, 3]},
}


def written(folder: Path, card: object, name: str = "Mine.json") -> Path:
    file = folder / name
    file.write_text(card if isinstance(card, str) else json.dumps(card))
    return file


class TestAValidCard:
    def test_labels_are_values_without_the_background(self, tmp_path: Path) -> None:
        card = load_card(written(tmp_path, CARD))
        assert card.labels == {"liver": (1,), "kidneys": (2, 3)}

    def test_it_survives_being_written_and_read(self, tmp_path: Path) -> None:
        card = load_card(written(tmp_path, CARD))
        again = load_card(written(tmp_path, card.model_dump_json(by_alias=True), "again.json"))
        assert again == card

    def test_an_older_card_loads_without_what_only_it_has(self, tmp_path: Path) -> None:
        older = {
            "name": "Old",
            "description": "d",
            "input_modalities": {"0": "MR or CT"},
            "labels": {"liver": 1, "kidneys": [2, 3]},
            "numTraining": 40,
            "file_ending": ".nii.gz",
            "models": {"nnUNet": {"path": "somewhere"}},
            "odd": 1,
        }
        card = load_card(written(tmp_path, older))
        assert card.channel_names == {"0": "MR or CT"}
        assert card.num_training == 40
        assert card.models == ()

    def test_a_bare_dataset_json_is_a_card(self, tmp_path: Path) -> None:
        dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": 3}
        dataset |= {"file_ending": ".nii.gz", "reference": "r", "overwrite_image_reader_writer": "SimpleITKIO"}
        assert load_card(written(tmp_path, dataset, "Livers.json")).name == "Livers"

    def test_labels_of_nnunet_v1_are_turned_around(self, tmp_path: Path) -> None:
        v1 = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}}
        assert load_card(written(tmp_path, v1)).labels == {"liver": (1,)}


class TestABrokenCard:
    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"labels": {"liver": 0}}, ["labels", "liver", ">= 1"]),
            ({"labels": {"liver": "one"}}, ["labels.liver", "'one'"]),
            ({"labels": {}}, ["labels"]),
            ({"labels": {"background": 0}}, ["no foreground label"]),
            ({"channel_names": {"1": "CT"}}, ["channel_names", "'0'"]),
            ({"channel_names": {"0": " "}}, ["channel 0 has no name"]),
            ({"numTraining": -1}, ["numTraining", "-1"]),
            ({"name": "../evil"}, ["name", "../evil"]),
            ({"lables": {}}, ["lables", "Extra"]),
            ({"bindings": {"spleen": "spleen"}}, ["spleen"]),
            ({"models": [{"id": "a/../b", "parts": []}]}, ["models.0"]),
            ({"models": [{"id": "m", "parts": [{"dataset_folder": "../Dataset001_X"}]}]}, ["dataset_folder"]),
            ({"models": [{"id": "m", "parts": [{"dataset_folder": "Dataset001_X", "labels": {"lung": 1}}]}]}, ["lung"]),
        ],
    )
    def test_the_message_names_file_field_and_value(
        self, tmp_path: Path, change: dict[str, Any], words: list[str]
    ) -> None:
        with pytest.raises(CardError) as error:
            load_card(written(tmp_path, CARD | change))
        for word in ["Mine.json", *words]:
            assert word in str(error.value)

    @pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"a": ' * 5000])
    def test_what_is_no_json_object_is_said(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(CardError, match=r"Mine\.json"):
            load_card(written(tmp_path, text))

    def test_it_does_not_take_the_others_down(self, tmp_path: Path) -> None:
        written(tmp_path, CARD)
        written(tmp_path, "{", "Broken.json")
        written(tmp_path, CARD, "Twice.json")
        library = Library.load(tmp_path)
        assert list(library.cards) == ["Mine"]
        assert {Path(problem.where).name for problem in library.problems} == {"Broken.json", "Twice.json"}


class TestTheShippedCards:
    def test_all_23_load(self) -> None:
        library = Library.load("benchmark")
        assert len(library) == 23
        assert library.problems == ()

    def test_every_label_of_every_card_is_bound_to_a_concept(self) -> None:
        library = Library.load("all")
        unbound = [
            (name, binding.label)
            for name, bindings in library.bindings.items()
            for binding in bindings
            if not binding.concepts
        ]
        assert unbound == []

    def test_a_folder_that_does_not_exist_is_said(self) -> None:
        with pytest.raises(CardError, match="no such folder"):
            Library.load("no/such/folder")
