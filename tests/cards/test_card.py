"""What a card may look like, and what a broken one gets."""

from __future__ import annotations

import json
import os
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

    @pytest.mark.parametrize(
        "model_id", ["", ".hidden", "a/.hidden", "a//b", "/a", "a/", "a:", "a/..", "a b", "a\nb", "ä" * 149, "a" * 151]
    )
    def test_a_model_id_that_makes_no_safe_folder_is_refused(self, tmp_path: Path, model_id: str) -> None:
        models = [{"id": model_id, "parts": [{"dataset_folder": "Dataset001_X"}]}]
        with pytest.raises(CardError, match=r"models\.0\.id"):
            load_card(written(tmp_path, CARD | {"models": models}))

    @pytest.mark.parametrize(
        ("source", "field"),
        [
            ({"url": ""}, "url"),
            ({"url": "file:///etc/passwd"}, "url"),
            ({"url": "ftp://example.org/m.zip"}, "url"),
            ({"url": "http:///m.zip"}, "url"),
            ({"url": "https://user:secret@example.org/m.zip"}, "url"),
            ({"url": "https://example.org@evil.test/m.zip"}, "url"),
            ({"url": "https://example.org/m.zip\r\nHost: evil.test"}, "url"),
            ({"url": "https://example.org/\u202epiz.m"}, "url"),
            ({"url": "javascript:alert(1)"}, "url"),
            ({"url": "/etc/passwd"}, "url"),
            ({"archive": "../../etc/passwd"}, "archive"),
            ({"archive": ".hidden"}, "archive"),
            ({"archive": "a\\b.zip"}, "archive"),
            ({"size": -1}, "size"),
            ({"sha256": "<html>"}, "sha256"),
        ],
    )
    def test_a_source_that_is_no_file_on_the_web_is_refused(
        self, tmp_path: Path, source: dict[str, Any], field: str
    ) -> None:
        part = {"dataset_folder": "Dataset001_X", "source": {"url": "https://example.org/m.zip"} | source}
        with pytest.raises(CardError, match=rf"models\.0\.parts\.0\.source\.{field}"):
            load_card(written(tmp_path, CARD | {"models": [{"id": "m", "parts": [part]}]}))

    @pytest.mark.parametrize(
        ("entry", "part"),
        [
            ({"tile_step_size": 1e-9}, {}),
            ({"spacing_mm": [0.0, 1.0, 1.0]}, {}),
            ({"crop": {"model": "../x", "labels": ["a"]}}, {}),
            ({"crop": {"model": "x", "labels": ["a"], "margin_mm": 1e300}}, {}),
            ({}, {"folds": [-1]}),
            ({}, {"folds": [10**9]}),
            ({}, {"dataset_folder": "Dataset001_" + "x" * 300}),
            ({}, {"trainer": "T" * 200, "plans": "P" * 200}),
            ({}, {"checkpoint": ".pth"}),
            ({}, {"labels": {"liver": 10**12}}),
        ],
    )
    def test_a_number_or_name_that_would_end_in_trouble_is_refused(
        self, tmp_path: Path, entry: dict[str, Any], part: dict[str, Any]
    ) -> None:
        models = [{"id": "m", "parts": [{"dataset_folder": "Dataset001_X"} | part]} | entry]
        with pytest.raises(CardError, match=r"models\.0"):
            load_card(written(tmp_path, CARD | {"models": models}))

    @pytest.mark.parametrize("labels", [{"9" * 5000: "liver"}, {"x" * 1000: 1}, {str(i): i + 1 for i in range(5000)}])
    def test_labels_beyond_all_measure_are_refused(self, tmp_path: Path, labels: dict[str, Any]) -> None:
        with pytest.raises(CardError, match="labels"):
            load_card(written(tmp_path, CARD | {"labels": labels}))

    @pytest.mark.parametrize("others", [1, 60])
    def test_pipes_devices_folders_and_links_to_nowhere_do_not_take_the_others_down(
        self, tmp_path: Path, others: int
    ) -> None:
        os.mkfifo(tmp_path / "Pipe.json")
        (tmp_path / "Zero.json").symlink_to("/dev/zero")
        (tmp_path / "Lost.json").symlink_to("nowhere")
        (tmp_path / "Folder.json").mkdir()
        for number in range(others):
            written(tmp_path, CARD | {"name": f"Mine{number}"}, f"Mine{number}.json")
        library = Library.load(tmp_path)
        assert len(library) == others
        assert {Path(problem.where).stem for problem in library.problems} == {"Pipe", "Zero", "Lost", "Folder"}

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
