from __future__ import annotations

import json
from pathlib import Path

import pytest

import medsegagent
from medsegagent import Library


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDSEGAGENT_CACHE", str(tmp_path / "cache"))
    cards = tmp_path / "cards"
    cards.mkdir()
    for number in range(60):
        labels = {"background": 0, "kidney_left": 1, "liver and masses": [2, 3], "liver masses": 3, "GTVp": 4}
        card = {"channel_names": {"0": "MR or CT"}, "labels": labels, "description": "nasopharyngeal carcinoma"}
        (cards / f"Card{number:02}.json").write_text(json.dumps(card), encoding="utf-8")
    (cards / "Broken.json").write_text("{}", encoding="utf-8")
    return cards


class TestCompiledLibrary:
    def test_it_answers_as_the_files_do(self, folder: Path) -> None:
        fresh, opened = Library.load(folder), Library.load(folder)
        assert dict(opened.cards) == dict(fresh.cards)
        assert dict(opened.bindings) == dict(fresh.bindings)
        assert opened.channels == fresh.channels
        assert opened.cards_with == fresh.cards_with
        assert [str(problem) for problem in opened.problems] == [str(problem) for problem in fresh.problems]
        for query in ("liver, CT", "left kidney, MRI", "GTVp", "retina"):
            assert medsegagent.match(query, opened) == medsegagent.match(query, fresh)

    def test_a_changed_file_is_read_again(self, folder: Path) -> None:
        Library.load(folder)
        file = folder / "Card07.json"
        file.write_text(file.read_text(encoding="utf-8").replace("kidney_left", "spleen"), encoding="utf-8")
        assert medsegagent.match("spleen, CT", Library.load(folder)).labels == {"Card07": [1]}
