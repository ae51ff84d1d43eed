from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medsegagent.cards.library import Library
from medsegagent.evaluation.bench import read_bench
from medsegagent.evaluation.patterns import answerer
from medsegagent.evaluation.run import evaluate_selection

ROOT = Path(__file__).parents[2]
ROWS = [
    ("a", "Segment the left kidney in this MRI", {"TotalSegmentator_MRI": [3], "AMOS22_Task2": [3]}),
    ("b", "renal masses, CT", {"KiTS23": [2, 3]}),
    ("c", "spleen on ultrasound", {}),
]


@pytest.fixture
def bench_file(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"id": i, "query": q, "expected_datasets": e}) + "\n" for i, q, e in ROWS))
    return file


def evaluate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "evaluate.py"), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_rules_answer_a_bench_offline_and_say_how_they_read_it(bench_file: Path, tmp_path: Path) -> None:
    found = evaluate_selection(bench_file, folder=tmp_path / "results")
    assert [item.row.id for item in found.failures] == []
    assert (found.cost.calls, found.cost.prompt_tokens) == (0, 0)
    explanations = [item.record.explanation for item in found.rows if item.record]
    assert "left kidney" in explanations[0]
    assert "refused" in explanations[2]


def test_a_folder_of_cards_replaces_the_benchmark_library(bench_file: Path, tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    cards.mkdir()
    shutil.copy(ROOT / "dataset" / "KiTS23.json", cards)
    found = evaluate_selection(bench_file, cards=cards, folder=tmp_path / "results")
    assert [item.score.all_found for item in found.rows] == [False, True, True]


def test_an_oversized_query_is_refused_rather_than_an_error() -> None:
    answer = answerer("C2F", "rules", Library.load("benchmark"))("spleen on CT " * 2_000)
    assert answer.labels == {}
    assert "20" in answer.explanation


def test_the_script_leaves_results_in_the_current_directory_and_resumes_them(bench_file: Path, tmp_path: Path) -> None:
    first = evaluate(tmp_path, "--test_file_path", str(bench_file), "--test_pattern", "C2F", "--log_to_file")
    assert first.returncode == 0, first.stderr
    assert "All found: 3.00 / 3 (100.00%); legacy (empty scores 0): 2.00 / 3" in first.stdout
    files = sorted((tmp_path / "results").iterdir())
    assert [file.suffix for file in files] == [".html", ".json", ".jsonl", ".log"]
    record = files[2].read_bytes()
    files[2].write_bytes(record[: record.rindex(b'{"id":"c"') + 4])
    again = evaluate(tmp_path, "--test_file_path", str(bench_file), "--test_pattern", "C2F", "--resume")
    assert again.returncode == 0, again.stderr
    assert "All found: 3.00 / 3" in again.stdout
    assert sorted((tmp_path / "results").iterdir()) == files
    assert files[2].read_bytes().startswith(record[: record.rindex(b'{"id":"c"')])


def test_the_script_leaves_nothing_when_told_so(bench_file: Path, tmp_path: Path) -> None:
    done = evaluate(tmp_path, "--test_file_path", str(bench_file), "--skip_results_saving")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results").iterdir()) == []


def test_our_own_bench_stays_right(tmp_path: Path) -> None:
    file = ROOT / "model_selection_test_case.jsonl"
    found = evaluate_selection(file, folder=tmp_path, save=False)
    assert found.accuracy.queries == len(read_bench(file).rows)
    assert found.accuracy.rates.all_found >= 0.99
    assert found.accuracy.refusals.rate is not None
    assert found.accuracy.refusals.rate >= 0.98
    assert found.accuracy.failed == 0
