from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medsegagent.cards.library import Library
from medsegagent.errors import OutputError, UsageError
from medsegagent.evaluation import records
from medsegagent.evaluation.bench import Bench, read_bench
from medsegagent.evaluation.patterns import Answer
from medsegagent.evaluation.records import Header
from medsegagent.evaluation.results import Evaluation
from medsegagent.evaluation.run import code_version, evaluate_selection, library_sha256, recompute_metrics, run_bench

ROOT = Path(__file__).parents[2]
ROWS = [
    {"id": "a", "query": "spleen on CT", "expected_datasets": {"WORD": [2]}, "kind": "organ"},
    {"id": "b", "query": "liver & tumour <b>", "expected_datasets": {"LiTS": [1, 2]}, "kind": "lesion", "why": "both"},
    {"id": "c", "query": "retina", "expected_datasets": {}, "kind": "negative"},
]


class Oracle:
    """Knows the bench's answers, counts what it is asked, and fails where it is told to."""

    def __init__(self, bench: Bench, failing: tuple[str, ...] = ()) -> None:
        self.expected = {row.query: row.expected for row in bench.rows}
        self.failing = failing
        self.asked: list[str] = []

    def __call__(self, query: str) -> Answer:
        self.asked.append(query)
        if query in self.failing:
            raise ConnectionError("the server hung up")
        labels = {card: sorted(values) for card, values in self.expected[query].items()}
        return Answer(labels, calls=2, prompt_tokens=100, completion_tokens=10, explanation=f"read {query!r}")


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load("benchmark")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    file = tmp_path / "small.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return read_bench(file)


def header(bench: Bench) -> Header:
    return Header(bench_sha256=bench.sha256, pattern="C2F", model="org/oracle-1", library_sha256="l", code_version="v")


def asked_lines(folder: Path) -> list[str]:
    return [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()[1:]]


class TestRun:
    def test_it_leaves_a_record_results_a_page_and_a_log_under_one_stem(
        self, bench: Bench, library: Library, tmp_path: Path
    ) -> None:
        found = run_bench(bench, Oracle(bench), header(bench), library, folder=tmp_path / "results", log=True)
        assert set(found.files) == {"record", "json", "html", "log"}
        assert {file.stem for file in found.files.values()} == {found.files["json"].stem}
        assert found.files["json"].stem.startswith("C2F_small_oracle-1_20")
        assert sorted(file.suffix for file in (tmp_path / "results").iterdir()) == [".html", ".json", ".jsonl", ".log"]

    def test_the_results_hold_figures_cost_and_every_answer(
        self, bench: Bench, library: Library, tmp_path: Path
    ) -> None:
        found = run_bench(bench, Oracle(bench), header(bench), library, folder=tmp_path)
        results = json.loads(found.files["json"].read_text())
        assert results["accuracy"]["rates"] == {"hit_rate": 1.0, "all_found": 1.0, "any_found": 1.0}
        assert results["accuracy"]["legacy"]["all_found"] == pytest.approx(2 / 3)
        assert results["accuracy"]["refusals"] == {"negatives": 1, "correct": 1, "wrong": 0, "rate": 1.0}
        assert (results["cost"]["calls"], results["cost"]["prompt_tokens"]) == (6, 300)
        assert [row["record"]["labels"] for row in results["rows"]] == [{"WORD": [2]}, {"LiTS": [1, 2]}, {}]

    def test_an_error_is_recorded_counts_as_wrong_and_is_asked_again_on_resume(
        self, bench: Bench, library: Library, tmp_path: Path
    ) -> None:
        first = run_bench(bench, Oracle(bench, failing=("retina",)), header(bench), library, folder=tmp_path)
        assert (first.accuracy.failed, first.accuracy.rates.all_found) == (1, pytest.approx(2 / 3))
        assert first.accuracy.refusals.correct == 0
        assert "ConnectionError: the server hung up" in first.files["html"].read_text()
        again = Oracle(bench)
        second = run_bench(bench, again, header(bench), library, folder=tmp_path, resume=True)
        assert again.asked == ["retina"]
        assert (second.accuracy.failed, second.accuracy.rates.all_found) == (0, 1)
        assert second.files["record"] == first.files["record"]

    def test_an_answer_that_is_no_answer_is_an_error_of_that_query_only(
        self, bench: Bench, library: Library, tmp_path: Path
    ) -> None:
        def answer(query: str) -> Answer:
            return Answer({"WORD": ["two"]} if "spleen" in query else {})  # type: ignore[list-item]

        found = run_bench(bench, answer, header(bench), library, folder=tmp_path)
        assert [item.score.failed for item in found.rows] == [True, False, False]

    def test_without_resume_a_new_run_begins_even_within_the_same_second(
        self, bench: Bench, library: Library, tmp_path: Path
    ) -> None:
        for _ in range(3):
            oracle = Oracle(bench)
            run_bench(bench, oracle, header(bench), library, folder=tmp_path / "results")
            assert len(oracle.asked) == 3
        assert len(list((tmp_path / "results").glob("*.jsonl"))) == 3

    def test_resume_without_an_earlier_run_just_runs(self, bench: Bench, library: Library, tmp_path: Path) -> None:
        oracle = Oracle(bench)
        run_bench(bench, oracle, header(bench), library, folder=tmp_path / "results", resume=True)
        assert len(oracle.asked) == 3

    def test_resume_refuses_a_run_made_under_other_conditions(
        self, bench: Bench, library: Library, tmp_path: Path
    ) -> None:
        run_bench(bench, Oracle(bench), header(bench), library, folder=tmp_path)
        other = header(bench).model_copy(update={"library_sha256": "changed"})
        oracle = Oracle(bench)
        with pytest.raises(OutputError, match=r"library_sha256 'l' there, 'changed' now.*Leave out --resume"):
            run_bench(bench, oracle, other, library, folder=tmp_path, resume=True)
        assert oracle.asked == []

    def test_a_run_that_saves_nothing_leaves_nothing_but_can_be_resumed_while_it_lasts(
        self, bench: Bench, library: Library, tmp_path: Path
    ) -> None:
        def interrupted(query: str) -> Answer:
            if query == "retina":
                raise KeyboardInterrupt
            return Answer()

        with pytest.raises(KeyboardInterrupt):
            run_bench(bench, interrupted, header(bench), library, folder=tmp_path / "r", save=False)
        oracle = Oracle(bench)
        found = run_bench(bench, oracle, header(bench), library, folder=tmp_path / "r", save=False, resume=True)
        assert oracle.asked == ["retina"]
        assert found.files == {}
        assert list((tmp_path / "r").iterdir()) == []

    def test_the_log_gives_every_verdict_and_the_summary(self, bench: Bench, library: Library, tmp_path: Path) -> None:
        oracle = Oracle(bench)
        oracle.expected = oracle.expected | {"liver & tumour <b>": {"LiTS": frozenset({1}), "WORD": frozenset({1})}}
        found = run_bench(bench, oracle, header(bench), library, folder=tmp_path, log=True)
        log = found.files["log"].read_text()
        assert "[1] Correct!" in log
        assert "[2] Wrong! missing LiTS [2]; extra WORD [1]" in log
        assert "[Summary] All found: 2.00 / 3 (66.67%); legacy (empty scores 0): 1.00 / 3" in log


class TestCrashes:
    def test_cut_at_any_byte_a_run_resumes_to_the_same_figures_asking_only_what_is_lost(
        self, bench: Bench, library: Library, tmp_path: Path
    ) -> None:
        whole = run_bench(bench, Oracle(bench), header(bench), library, folder=tmp_path / "whole")
        content = whole.files["record"].read_bytes()
        for cut in range(len(content) + 1):
            folder = tmp_path / "cut"
            folder.mkdir(exist_ok=True)
            file = folder / whole.files["record"].name
            file.write_bytes(content[:cut])
            oracle = Oracle(bench)
            found = run_bench(bench, oracle, header(bench), library, folder=folder, resume=True, save=False)
            kept = max(content[:cut].count(b"\n") - 1, 0)
            assert oracle.asked == [row.query for row in bench.rows[kept:]], cut
            assert found.accuracy == whole.accuracy, cut

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
    def test_killed_again_and_again_it_loses_and_doubles_nothing(self, library: Library, tmp_path: Path) -> None:
        rows = [{"id": f"r{i}", "query": f"q{i}", "expected_datasets": {"WORD": [i % 16 + 1]}} for i in range(60)]
        bench_file = tmp_path / "b.jsonl"
        bench_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        bench = read_bench(bench_file)
        script = textwrap.dedent(f"""
            import time
            from pathlib import Path
            from medsegagent.cards.library import Library
            from medsegagent.evaluation.bench import read_bench
            from medsegagent.evaluation.patterns import Answer
            from medsegagent.evaluation.records import Header
            from medsegagent.evaluation.run import run_bench

            def answer(query):
                with open({str(tmp_path / "asked")!r}, "a") as stream:
                    stream.write(query + "\\n")
                time.sleep(0.004)
                return Answer({{"WORD": [int(query[1:]) % 16 + 1]}})

            bench = read_bench(Path({str(bench_file)!r}))
            header = Header.model_validate_json({header(bench).model_dump_json()!r})
            folder = Path({str(tmp_path / "out")!r})
            run_bench(bench, answer, header, Library.load("benchmark"), folder=folder, resume=True)
        """)
        kills = 0
        for threshold in (1, 20, 45):
            with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as process:
                deadline = time.monotonic() + 60
                while process.poll() is None and time.monotonic() < deadline:
                    if len(asked_lines(tmp_path / "out")) >= threshold:
                        os.kill(process.pid, signal.SIGKILL)
                        break
                    time.sleep(0.002)
                kills += process.wait() == -signal.SIGKILL
        assert kills == 3
        subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
        (record,) = (tmp_path / "out").glob("*.jsonl")
        answered = [json.loads(line)["id"] for line in record.read_text().splitlines()[1:]]
        assert answered == [row["id"] for row in rows]
        asked = (tmp_path / "asked").read_text().split()
        assert len(asked) <= len(rows) + kills  # at most the query in flight is asked again
        found = recompute_metrics(bench_file, record)
        assert (found.accuracy.rates.all_found, found.accuracy.failed) == (1, 0)
        assert (tmp_path / "out" / f"{record.stem}.json").exists()


class TestRecompute:
    @pytest.fixture
    def found(self, bench: Bench, library: Library, tmp_path: Path) -> Evaluation:
        return run_bench(bench, Oracle(bench), header(bench), library, folder=tmp_path / "results")

    @pytest.mark.parametrize("kind", ["record", "json"])
    def test_figures_and_cost_come_back_from_either_file(self, bench: Bench, found: Evaluation, kind: str) -> None:
        again = recompute_metrics(bench.file, found.files[kind])
        assert (again.accuracy, again.cost, again.header) == (found.accuracy, found.cost, found.header)

    def test_a_torn_record_is_scored_as_far_as_it_goes(self, bench: Bench, found: Evaluation) -> None:
        file = found.files["record"]
        file.write_bytes(file.read_bytes()[:-5])
        again = recompute_metrics(bench.file, file)
        assert (again.accuracy.failed, again.accuracy.rates.all_found) == (1, pytest.approx(2 / 3))

    def test_a_corrected_expectation_changes_the_figures_but_a_changed_query_is_unanswered(
        self, bench: Bench, found: Evaluation
    ) -> None:
        rows = [ROWS[0] | {"expected_datasets": {"WORD": [3]}}, ROWS[1] | {"query": "lien"}, ROWS[2]]
        bench.file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        again = recompute_metrics(bench.file, found.files["record"])
        assert [item.score.all_found for item in again.rows] == [False, False, True]
        assert again.accuracy.failed == 1

    def test_the_published_systems_result_files_are_scored(self, bench: Bench, tmp_path: Path) -> None:
        file = tmp_path / "theirs.json"
        file.write_text(
            json.dumps(
                {
                    "1": {"WORD": [2]},
                    "2": {"reply": {"thought": "hm", "answer": {"LiTS": [[1, 2]]}}, "chat_history": []},
                    "3": {"reply": {"WORD": "none"}, "chat_history": []},
                }
            )
        )
        again = recompute_metrics(bench.file, file)
        assert [item.score.all_found for item in again.rows] == [True, True, False]
        assert again.accuracy.failed == 1
        assert again.cost.p50_s is None

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": [{}]}', '{"accuracy": 1}'])
    def test_another_file_is_an_error(self, bench: Bench, tmp_path: Path, content: str) -> None:
        file = tmp_path / "x.json"
        file.write_text(content)
        with pytest.raises(OutputError, match=r"x\.json: is not a"):
            recompute_metrics(bench.file, file)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_self_contained_and_lets_no_query_act(library: Library, tmp_path: Path) -> None:
    query = "<script>alert(1)</script> liver \"&'"
    file = tmp_path / "b.jsonl"
    file.write_text(json.dumps({"query": query, "expected_datasets": {"<i>": [1]}, "kind": "<u>", "why": "<s>"}))
    bench = read_bench(file)

    def answer(query: str) -> Answer:
        return Answer({"LiTS": [1], "WORD": [99]}, explanation=f"<em>{query}</em>")

    page = run_bench(bench, answer, header(bench), library, folder=tmp_path).files["html"].read_text()
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.links == []
    assert tags.seen.isdisjoint({"script", "u", "s", "em"})
    assert "&lt;script&gt;alert(1)" in page
    assert "1 liver" in page
    assert "99 (no such label)" in page


class TestIdentity:
    def test_the_library_digest_follows_the_cards_and_not_their_order(self, library: Library) -> None:
        backwards = Library(dict(reversed(list(library.cards.items()))))
        fewer = Library({name: card for name, card in library.cards.items() if name != "LiTS"})
        assert library_sha256(backwards) == library_sha256(library) != library_sha256(fewer)

    def test_the_code_version_names_release_and_sources(self) -> None:
        assert code_version() == code_version()
        assert len(code_version().rpartition(", ")[2]) == 16


class TestPatterns:
    def test_an_unknown_pattern_is_answered_with_the_known_ones(self, bench: Bench, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"unknown pattern 'c3f'\. Known: C2F"):
            evaluate_selection(bench.file, pattern="c3f", folder=tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_an_unknown_model_is_answered_with_the_known_ones(self, bench: Bench) -> None:
        with pytest.raises(UsageError, match="Known: rules"):
            evaluate_selection(bench.file, model="gpt-9")


def evaluate(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "evaluate.py"), *options]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


class TestCommand:
    def test_a_wrong_pattern_exits_with_the_usage_code_and_no_traceback(self, bench: Bench, tmp_path: Path) -> None:
        done = evaluate(tmp_path, "--test_file_path", str(bench.file), "--test_pattern", "Single_Turn")
        assert done.returncode == 2
        assert "Known: C2F" in done.stderr
        assert "Traceback" not in done.stderr

    def test_an_unreadable_bench_exits_with_the_input_code(self, tmp_path: Path) -> None:
        done = evaluate(tmp_path, "--test_file_path", "none.jsonl")
        assert done.returncode == 5
        assert "none.jsonl" in done.stderr

    def test_metrics_are_recomputed_from_a_file(self, bench: Bench, library: Library, tmp_path: Path) -> None:
        record = run_bench(bench, Oracle(bench), header(bench), library, folder=tmp_path / "r").files["record"]
        done = evaluate(
            tmp_path, "--test_file_path", str(bench.file), "--recompute_metrics_from_file", str(record)
        )  # fmt: skip
        assert done.returncode == 0
        assert "All found: 3.00 / 3" in done.stdout
        assert records.read(record)[0] == header(bench)
