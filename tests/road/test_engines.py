"""Another kind of model goes the whole road: planning, memory, isolation, keeping and voting know no nnU-Net."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy_engine import ThresholdCard, ThresholdEngine

from medsegagent import Library, Options, Segmenter
from medsegagent.engines import by_kind
from medsegagent.engines.nnunet.engine import NnunetEngine
from medsegagent.errors import AllModelsFailedError
from medsegagent.phantom import CARDS, MODELS


def card(name: str, *models: str) -> ThresholdCard:
    entries = [
        {"id": f"threshold/{model}", "kind": "threshold", "parts": [{"file": f"{model}.json"}]} for model in models
    ]
    fields = {"name": name, "channel_names": {"0": "CT"}, "labels": {"spleen": 1}, "models": entries}
    return ThresholdCard.model_validate(fields)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "narrow.json").write_text(json.dumps({"1": [40, 60]}))
    (folder / "wide.json").write_text(json.dumps({"1": [20, 80]}))
    (folder / "broken.json").write_text(json.dumps({"broken": True}))
    return folder


def segmenter(tables: Path, engine: ThresholdEngine, *models: str) -> Segmenter:
    library = Library({"Toy": card("Toy", *models)})
    return Segmenter(library, models_dir=tables, device="cpu", engines=by_kind([engine]))


def test_its_models_are_found_planned_run_and_voted_on(tables: Path, ct_file: Path) -> None:
    result = segmenter(tables, ThresholdEngine(), "narrow", "wide").segment("the spleen in this CT", ct_file)
    (spleen,) = result.structures
    assert set(spleen.voters) == {"threshold/narrow", "threshold/wide"}
    assert spleen.voxels > 0
    assert result.record is not None
    assert {item.model.kind for item in result.record.plan.models} == {"threshold"}


def test_what_it_cannot_run_is_its_failure_and_the_others_go_on(tables: Path, ct_file: Path) -> None:
    result = segmenter(tables, ThresholdEngine(), "broken", "wide").segment("the spleen in this CT", ct_file)
    assert [item.model for item in result.record.failed] == ["threshold/broken"]  # type: ignore[union-attr]
    with pytest.raises(AllModelsFailedError, match="its table is broken"):
        segmenter(tables, ThresholdEngine(), "broken").segment("the spleen in this CT", ct_file)


def test_what_does_not_fit_the_memory_is_left_out_with_its_need(tables: Path, ct_file: Path) -> None:
    with pytest.raises(AllModelsFailedError, match="prediction needs about"):
        segmenter(tables, ThresholdEngine(needs=10**15), "wide").segment("the spleen in this CT", ct_file)


def test_what_it_has_loaded_stays_for_the_next_request(tables: Path, ct_file: Path) -> None:
    engine = ThresholdEngine()
    team = segmenter(tables, engine, "wide")
    for _ in range(3):
        team.segment("the spleen in this CT", ct_file)
    assert engine.loads == 1


def test_it_runs_in_a_process_of_its_own(tables: Path, ct_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    engine = ThresholdEngine()
    team = segmenter(tables, engine, "wide")
    alone = team.segment("the spleen in this CT", ct_file, options=Options(isolate=True))
    assert engine.loads == 0, "another process's engine ran"
    assert alone.structures == team.segment("the spleen in this CT", ct_file).structures


def test_both_kinds_vote_on_one_structure(tables: Path, ct_file: Path) -> None:
    cards = Library.load(CARDS).cards | {"Toy": card("Toy", "wide")}
    engines = by_kind([NnunetEngine(), ThresholdEngine()])
    both = tables.parent / "both"
    both.mkdir()
    for folder in MODELS.glob("Dataset*"):
        (both / folder.name).symlink_to(folder)
    (both / "wide.json").write_bytes((tables / "wide.json").read_bytes())
    team = Segmenter(Library(cards), models_dir=both, device="cpu", engines=engines)
    (spleen,) = team.segment("the spleen in this CT", ct_file, options=Options(keep_outliers=True)).structures
    assert {"threshold/wide", "phantom/ct_organs"} <= set(spleen.voters)


def test_an_older_card_names_no_kind_and_is_an_nnunet() -> None:
    entries = [entry for card in Library.load("all") for entry in card.models]
    assert entries
    assert {entry.kind for entry in entries} == {"nnunet"}
