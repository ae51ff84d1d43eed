"""A site's own words, beside the shipped ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import medsegagent
from medsegagent import Library
from medsegagent.errors import VocabularyError
from medsegagent.images.channels import channel_kind
from medsegagent.vocabulary import Sided, load

HOUSE = """
concepts:
  liver: {en: "big brown one", de: Leberchen}
  spleen: {en: lien_roi}
  frobnicator: {kind: organ, region: abdomen, paired: true, en: frob}
words:
  modality: {CT: "tubescan"}
"""


@pytest.fixture
def house(tmp_path: Path) -> Path:
    file = tmp_path / "house.yaml"
    file.write_text(HOUSE, encoding="utf-8")
    return file


class TestASitesVocabulary:
    def test_its_words_are_read_and_the_shipped_ones_still_are(self, house: Path) -> None:
        library = Library.load("benchmark", vocabulary=[house])
        plain = Library.load("benchmark")
        said = medsegagent.match("the big brown one, tubescan", library)
        assert said.labels == medsegagent.match("liver, CT", plain).labels
        assert medsegagent.match("the big brown one, CT", plain).labels == {}
        assert medsegagent.match("both kidneys on CT", library).labels == medsegagent.match("kidneys, CT", plain).labels

    def test_its_words_bind_the_labels_of_cards(self, house: Path, tmp_path: Path) -> None:
        card = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "frob_left": 1, "lien_roi": 2}}
        (tmp_path / "cards").mkdir()
        (tmp_path / "cards" / "House.json").write_text(json.dumps(card), encoding="utf-8")
        library = Library.load(tmp_path / "cards", [house])
        bound = [binding.concepts for binding in library.bindings["House"]]
        assert bound == [(Sided("frobnicator", "left"),), (Sided("spleen"),)]
        assert medsegagent.match("left frob", library).labels == {"House": [1]}

    def test_the_same_files_give_the_same_vocabulary_and_none_the_shipped_one(self, house: Path) -> None:
        assert load([house]) is load([house])
        assert load() is load()
        assert load([house]) is not load()
        assert Library.load("benchmark").vocabulary is load()

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("concepts: {liver: {region: pelvis}}", "of a known concept"),
            ("concepts: {liver: {part_of: [spleen]}}", "of a known concept"),
            ("concepts: {Big One: {en: x}}", "is no id"),
            ("concepts: {one: {part_of: [two]}, two: {part_of: [one]}}", "itself"),
            ("concepts: {one: {number: many}}", "number is 'many'"),
            ("concepts: {one: 3}", "is no mapping"),
            ("concepts: &a {one: {en: x}}\nwords: *a", "alias"),
            ("- a list", "needs 'concepts' or 'words'"),
            ("concepts: {", "not readable YAML"),
            ("concepts: " + "[" * 5000, "not readable YAML"),
        ],
    )
    def test_a_broken_file_is_refused_by_name(self, tmp_path: Path, text: str, complaint: str) -> None:
        file = tmp_path / "broken.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(VocabularyError, match=complaint) as caught:
            load([file])
        assert "broken.yaml" in str(caught.value) or caught.value.where in ("one", "two")

    def test_a_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(VocabularyError, match="cannot be read"):
            load([tmp_path / "none.yaml"])


def test_every_sequence_that_an_instruction_can_name_is_known_in_the_name_of_an_image() -> None:
    terms = {key: load().meanings(key) for key in load().keys if key.isascii()}
    named = {
        key: meaning.id.partition("/")[2]
        for key, meanings in terms.items()
        for meaning in meanings
        if meaning.id.startswith("modality:MR/")
    }
    assert {"SWI", "T2star", "T1", "T1ce", "FLAIR", "DWI"} <= set(named.values())
    assert {key: channel_kind(key) for key in named} == named
