"""Patterns over a bench, against a scripted server: calls, tokens and behaviour, side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loopback import KEY, Fails, Loopback, Says, always
from oracle import Oracle

from medsegagent import Library, match
from medsegagent.agents.llm.config import Endpoint
from medsegagent.agents.llm.mind import Mind
from medsegagent.agents.patterns.evaluating import evaluate_patterns
from medsegagent.cli.app import run_app

Serve = Callable[..., Loopback]
ROOT = Path(__file__).resolve().parents[3]
QUERIES = ("the spleen on CT", "both kidneys, MRI", "stroke lesion on DWI", "segment the retina on CT")


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load("benchmark")


@pytest.fixture
def bench(tmp_path: Path, library: Library) -> Path:
    file = tmp_path / "four.jsonl"
    rows = [{"query": query, "expected_datasets": match(query, library).labels, "kind": "x"} for query in QUERIES]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def mind(server: Loopback, **more: Any) -> Mind:
    return Mind("llm", Endpoint.model_validate(server.entry()), use_cache=False, **more)


def test_ours_asks_at_most_four_times_and_a_right_model_is_right(
    serve: Serve, library: Library, bench: Path, tmp_path: Path
) -> None:
    server = serve(Oracle(library))
    (found,) = evaluate_patterns(bench, ["C2F"], mind(server), workers=1, folder=tmp_path / "r")
    assert found.accuracy.rates.all_found == 1
    assert found.header is not None
    assert (found.header.pattern, found.header.model) == ("C2F", "scripted")
    calls = [item.record.calls for item in found.rows if item.record]
    assert len(calls) == 4
    assert max(calls) <= 4
    assert found.cost.calls == len(server.asked)
    assert found.cost.prompt_tokens == sum(asked.prompt_tokens for asked in server.asked)


def test_a_query_with_two_readings_is_answered_with_the_likeliest_as_nobody_can_be_asked(
    serve: Serve, library: Library, tmp_path: Path
) -> None:
    file = tmp_path / "one.jsonl"
    expected = match("portal vein in CT", library).labels
    file.write_text(json.dumps({"query": "PV in CT", "expected_datasets": expected, "kind": "x"}) + "\n")
    server = serve(Oracle(library))
    found = evaluate_patterns(file, ["C2F", "Hybrid"], mind(server), workers=1, folder=tmp_path / "r")
    assert [item.accuracy.rates.all_found for item in found] == [1, 1]
    assert server.asked == []


def test_hybrid_asks_nothing_that_the_rules_know(serve: Serve, bench: Path, tmp_path: Path) -> None:
    server = serve(always("boom"))
    (found,) = evaluate_patterns(bench, ["Hybrid"], mind(server), folder=tmp_path / "r")
    assert server.asked == []
    assert found.accuracy.rates.all_found == 1


def test_an_answer_of_the_rules_is_never_counted_as_the_models(serve: Serve, bench: Path, tmp_path: Path) -> None:
    server = serve(lambda asked: Fails(401))
    (found,) = evaluate_patterns(bench, ["C2F"], mind(server), workers=1, folder=tmp_path / "r")
    assert found.accuracy.failed == len(QUERIES)
    assert all(item.record and "refuses the key" in str(item.record.error) for item in found.rows)
    assert KEY not in found.files["record"].read_text() + found.files["html"].read_text()


def test_resuming_asks_only_what_failed(serve: Serve, library: Library, bench: Path, tmp_path: Path) -> None:
    server = serve(lambda asked: Fails(400) if "MRI" in asked.turns[0] else Says('Final Answer: {"answer": {}}'))
    evaluate_patterns(bench, ["Native"], mind(server), folder=tmp_path / "r")
    server.asked.clear()
    server.behaviour = always('Final Answer: {"answer": {"LiTS": [1]}}')
    (found,) = evaluate_patterns(bench, ["Native"], mind(server), folder=tmp_path / "r", resume=True)
    assert [asked.turns for asked in server.asked] == [["both kidneys, MRI"]]
    assert found.accuracy.failed == 0


def test_the_command_sets_patterns_side_by_side(
    serve: Serve, bench: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server = serve(always('Final Answer: {"thought": "", "answer": {}}'))
    config = tmp_path / "llm.json"
    config.write_text(json.dumps([server.entry()]))
    options = ["--pattern", "Native,CoT,ReAct_SelfVerify", "--model", "scripted", "--config", str(config)]
    assert run_app(["evaluate", "selection", str(bench), *options, "-o", str(tmp_path / "r"), "--no-cache"]) == 0
    said = capfd.readouterr()
    assert "ReAct_SelfVerify" in said.out
    assert "Prompt tokens" in said.out
    page = (tmp_path / "r" / "comparison.html").read_text()
    assert page.count("<div class=row>") == 3 * 9
    assert KEY not in said.out + said.err + page
    assert len(server.asked) == 4 * len(QUERIES)


def test_evaluate_py_takes_model_tag_and_pattern(serve: Serve, bench: Path, tmp_path: Path) -> None:
    server = serve(always('Final Answer: {"thought": "", "answer": {}}'))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OAI_CONFIG_LIST": json.dumps([server.entry(tags=["t"])])}
    command = [sys.executable, str(ROOT / "evaluate.py"), "--test_file_path", str(bench), "--test_pattern", "Native"]
    options = ["--model", "scripted", "--tag", "t", "--no-cache"]
    done = subprocess.run([*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"LLM: {len(QUERIES)} calls" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert list((tmp_path / "results").glob("Native_four_scripted_*.json"))
    wrong = subprocess.run(
        [*command, "--model", "other"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert wrong.returncode == 5
    assert "scripted [t]" in wrong.stderr
