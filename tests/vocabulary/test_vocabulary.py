from __future__ import annotations

import os
from pathlib import Path

import pytest

from medsegagent.errors import VocabularyError
from medsegagent.vocabulary import Sided, Vocabulary, load
from medsegagent.vocabulary.compile import compile_files, data_files
from medsegagent.vocabulary.text import stem, term_key, tokenize
from medsegagent.vocabulary.vocabulary import open_files

VOCABULARY = load()


def written(folder: Path, text: str) -> list[Path]:
    file = folder / "concepts.yaml"
    file.write_text(text, encoding="utf-8")
    return [file]


class TestData:
    def test_every_concept_can_be_built_and_related(self) -> None:
        for id_ in VOCABULARY.ids:
            assert VOCABULARY.concept(id_).name
            assert any(item.id == id_ for item in VOCABULARY.closure(id_))
            assert VOCABULARY.contains(id_, id_)

    def test_no_concept_is_its_own_whole(self) -> None:
        for id_ in VOCABULARY.ids:
            for whole in VOCABULARY.concept(id_).part_of:
                assert id_ not in VOCABULARY.wholes(whole), f"{id_} lies in {whole} and the reverse"

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("concepts: {liver: {colour: red}}", "unknown keys"),
            ("concepts: {liver: {kind: thingy}}", "kind 'thingy' is unknown"),
            ("concepts: {liver: {part_of: nowhere}}", "names 'nowhere'"),
            ("liver: {}", "needs a 'concepts' mapping"),
            ("concepts: {liver: [", "not readable YAML"),
        ],
    )
    def test_a_broken_data_file_names_the_fault(self, tmp_path: Path, text: str, complaint: str) -> None:
        with pytest.raises(VocabularyError, match=complaint):
            compile_files(written(tmp_path, text))


class TestRelations:
    @pytest.mark.parametrize(
        ("outer", "inner"),
        [
            ("liver", "tumor.liver"),
            ("kidney", "renal_cell_carcinoma"),
            ("heart", "heart_ventricle"),
            ("brain", "hippocampus"),
            ("lung", "lung_middle_lobe"),
            ("abdomen", "liver"),
            ("glioma", "enhancing_tumor"),
        ],
    )
    def test_a_whole_contains_its_parts_members_and_lesions(self, outer: str, inner: str) -> None:
        assert VOCABULARY.contains(outer, inner)
        assert not VOCABULARY.contains(inner, outer)

    def test_a_side_takes_only_what_lies_on_it(self) -> None:
        right = VOCABULARY.closure("lung", "right")
        assert Sided("lung_middle_lobe") in right
        assert Sided("lung_upper_lobe", "left") not in right
        assert Sided("lung") not in right

    def test_a_composed_lesion_knows_its_site(self) -> None:
        assert VOCABULARY.concept("cyst.pancreas").name == "pancreas cyst"
        assert VOCABULARY.site("subdural_hematoma") == "brain"

    def test_an_unknown_id_is_a_key_error(self) -> None:
        with pytest.raises(KeyError):
            VOCABULARY.concept("flurb")

    def test_the_nearest_terms_to_a_misspelling_are_offered(self) -> None:
        assert VOCABULARY.nearest("pancraes")[0] == "pancreas"


class TestText:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("kidneys", "Kidney"),
            ("oesophagus", "esophagus"),
            ("haemorrhage", "hemorrhage"),
            ("tumours", "tumor"),
            ("vertebrae", "vertebra"),
            ("metastases", "metastasis"),
            ("Zwölffingerdarm", "Zwoelffingerdarm"),
            ("gall-bladder", "gall bladder"),
        ],
    )
    def test_spelling_variants_share_a_key(self, one: str, other: str) -> None:
        assert term_key(one) == term_key(other)

    def test_offsets_point_into_the_original_text(self) -> None:
        text = "Die Größe der Niere"
        assert [text[t.start : t.end] for t in tokenize(text)] == ["Die", "Größe", "der", "Niere"]

    def test_stems_are_stable(self) -> None:
        for word in ("kidney", "hemorrhage", "vertebra", "tumor", "abscess"):
            assert stem(stem(word)) == stem(word)


class TestCache:
    def test_a_stale_or_broken_cache_is_built_anew(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEDSEGAGENT_CACHE", str(tmp_path))
        for stored in ('{"key": "old", "value": 3}', "not json"):
            (tmp_path / "vocabulary.json").write_text(stored)
            assert "liver" in open_files(())
        assert open_files(()).closure("spine") == VOCABULARY.closure("spine")

    @pytest.mark.skipif(os.name != "posix" or not hasattr(os, "geteuid"), reason="needs POSIX permissions")
    def test_a_cache_that_cannot_be_written_is_no_error(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        blocked = tmp_path / "file"
        blocked.write_text("a file where a folder is wanted")
        monkeypatch.setenv("MEDSEGAGENT_CACHE", str(blocked / "cache"))
        assert "spleen" in open_files(())

    def test_the_compiled_table_is_plain_json(self) -> None:
        table = compile_files(data_files())
        assert isinstance(Vocabulary(table).concept("liver").name, str)
