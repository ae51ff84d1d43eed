"""`run.json`: one type, written with a version; an older record is still read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsegagent import Options, Segmenter
from medsegagent.errors import OutputError
from medsegagent.phantom import CARDS, MODELS
from medsegagent.reporting.record import SCHEMA_VERSION, RunRecord, read_record

MODEL = {
    "id": "phantom/ct_organs",
    "card": "Phantom_CT_Organs",
    "parts": [
        {"folder": "/models/a__b__c", "folds": [0], "checkpoint": "checkpoint_final.pth", "labels": {"spleen": [1]}}
    ],
    "channels": ["0"],
    "voter": "phantom/ct_organs",
    "use_mirroring": None,
    "tile_step_size": None,
    "reorient": "RAS",
    "spacing_mm": [4.0, 4.0, 4.0],
    "num_training": 40,
    "crop": None,
}
VERSION_1 = {
    "created": "2026-11-01T10:00:00+00:00",
    "versions": {"medsegagent": "0.1.0"},
    "library": "all",
    "inputs": [],
    "request": {"instruction": "spleen", "modality": {"families": ["CT"]}},
    "selection": [],
    "plan": {
        "models": [
            {
                "model": MODEL,
                "inputs": [0],
                "targets": [{"target": "spleen", "whole": [{"part": 0, "values": [1]}]}],
                "rank": 1,
                "reason": "",
            }
        ],
        "device": "cpu",
        "device_reason": "",
    },
    "structures": [
        {
            "id": "spleen",
            "name": "spleen",
            "volume_ml": 1.0,
            "voxels": 9,
            "voters": ["phantom/ct_organs"],
            "agreement": None,
        }
    ],
    "failed": [],
    "warnings": ["one"],
    "notes": {},
    "seconds": {"total": 1.5},
    "mind": {"kind": "rules", "usage": {}},
    "asked": {
        "instruction": "spleen",
        "modality": None,
        "library": "all",
        "mind": "rules",
        "language_model": None,
        "options": {
            "force": False,
            "separate": True,
            "choice": {"per_target": 2, "prefer": [], "only": [], "exclude": [], "weights": []},
            "effort": {"folds": None, "mirror": None, "tile_step": None, "fast": False, "roi": False},
            "fusion": "majority",
        },
    },
}


def test_what_is_written_is_read_back_whole(ct_file: Path, tmp_path: Path) -> None:
    team = Segmenter(CARDS, models_dir=MODELS, device="cpu")
    result = team.segment("the spleen in this CT", ct_file, tmp_path / "out", Options(max_models=1))
    record = read_record(tmp_path / "out")
    assert record.schema_version == SCHEMA_VERSION
    assert record.structures == result.structures
    assert record.plan == result.plan
    assert set(record.files) == {file.relative_to(tmp_path / "out").as_posix() for file in result.files}


def test_a_record_without_a_version_is_read_with_its_options_in_todays_words(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps(VERSION_1))
    record = read_record(tmp_path)
    assert record.schema_version == 1
    assert record.asked.library == "all"
    assert record.asked.options["max_models"] == 2
    assert record.asked.options["fast"] is False
    assert record.plan.models[0].model.id == "phantom/ct_organs"
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 2}', "\0", '{"created": 1e999}', '{"asked": 1}'])
def test_what_is_no_record_is_refused_with_a_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(OutputError, match=r"run\.json: .* Give the folder"):
        read_record(tmp_path)


def test_a_folder_without_one_is_no_finished_run(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no finished run"):
        read_record(tmp_path)
