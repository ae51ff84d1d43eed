"""Runs side by side, and queries asked at the same time."""

from __future__ import annotations

import json
import threading
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from medsegagent.cards.library import Library
from medsegagent.errors import OutputError
from medsegagent.evaluation.bench import Bench, read_bench
from medsegagent.evaluation.compare import comparison_page, read_runs, runs_of, show_comparison, write_comparison
from medsegagent.evaluation.patterns import Answer
from medsegagent.evaluation.records import Header
from medsegagent.evaluation.results import Evaluation
from medsegagent.evaluation.run import run_bench

ROWS = [{"query": f"organ {n} on CT", "expected_datasets": {"WORD": [n]}, "kind": "organ"} for n in range(1, 9)]


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load("benchmark")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    file = tmp_path / "eight.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return read_bench(file)


def run(bench: Bench, library: Library, folder: Path, pattern: str, wrong: int, calls: int, **how: int) -> Evaluation:
    def answer(query: str) -> Answer:
        number = int(query.split()[1])
        return Answer({"WORD": [number + (number <= wrong)]}, calls=calls, prompt_tokens=1000 * calls)

    header = Header(bench_sha256=bench.sha256, pattern=pattern, model="m<1>", library_sha256="l", code_version="v")
    return run_bench(bench, answer, header, library, folder=folder, **how)


def test_the_figures_of_each_run_stand_side_by_side(bench: Bench, library: Library, tmp_path: Path) -> None:
    made = [run(bench, library, tmp_path / "r", "C2F", 0, 4), run(bench, library, tmp_path / "r", "Native", 2, 1)]
    ours, native = runs_of(made)
    assert (ours.all_found, ours.calls, ours.prompt_tokens) == (1.0, 4.0, 4000.0)
    assert (native.all_found, native.calls, native.prompt_tokens) == (0.75, 1.0, 1000.0)
    assert read_runs([item.files["json"] for item in made]) == (ours, native)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    show_comparison((ours, native), console)
    text = console.export_text()
    assert "75.0%" in text
    assert "4,000" in text


def test_the_page_is_well_formed_and_escapes(bench: Bench, library: Library, tmp_path: Path) -> None:
    page = comparison_page(runs_of([run(bench, library, tmp_path / "r", "C2F", 0, 4)]))
    assert "m<1>" not in page
    assert "m&lt;1&gt;" in page
    open_tags: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Checker().feed(page)
    assert open_tags == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"accuracy": {}}'])
def test_a_file_that_is_no_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(OutputError, match=r"x\.json"):
        read_runs([tmp_path / "x.json"])


def test_workers_ask_at_the_same_time_and_lose_nothing(bench: Bench, library: Library, tmp_path: Path) -> None:
    together = threading.Barrier(4, timeout=10)

    def answer(query: str) -> Answer:
        together.wait()  # passes only if four are asked at once
        return Answer({"WORD": [int(query.split()[1])]})

    header = Header(bench_sha256=bench.sha256, pattern="C2F", model="m", library_sha256="l", code_version="v")
    found = run_bench(bench, answer, header, library, folder=tmp_path / "r", workers=4)
    assert found.accuracy.rates.all_found == 1
    assert len(found.files["record"].read_text().splitlines()) == 1 + len(ROWS)


def test_a_page_replaces_a_page_and_nothing_else(bench: Bench, library: Library, tmp_path: Path) -> None:
    runs = runs_of([run(bench, library, tmp_path / "r", "C2F", 0, 4)])
    page = tmp_path / "page.html"
    for _ in range(2):
        write_comparison(runs, page)
    results = tmp_path / "results.json"
    results.write_text("years of work")
    with pytest.raises(OutputError, match="no comparison, and stays"):
        write_comparison(runs, results)
    assert results.read_text() == "years of work"
