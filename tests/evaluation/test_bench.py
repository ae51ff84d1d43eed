from __future__ import annotations

import json
from pathlib import Path

import pytest

from medsegagent.errors import ExitCode, MedSegAgentError
from medsegagent.evaluation.bench import read_bench


def bench_file(folder: Path, *lines: object) -> Path:
    file = folder / "bench.jsonl"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    file.write_text("\n".join(texts), encoding="utf-8")
    return file


def row(**fields: object) -> dict:
    return {"query": "spleen on CT", "expected_datasets": {"WORD": [2]}} | fields


class TestReadBench:
    def test_a_row_with_all_fields(self, tmp_path: Path) -> None:
        (got,) = read_bench(bench_file(tmp_path, row(id="a-1", kind="noisy", why="because", modality="CT"))).rows
        assert (got.id, got.query, got.kind, got.why) == ("a-1", "spleen on CT", "noisy", "because")
        assert got.expected == {"WORD": frozenset({2})}

    def test_published_rows_have_no_id_and_no_kind(self, tmp_path: Path) -> None:
        got = read_bench(bench_file(tmp_path, row(), "", row(query="liver"))).rows
        assert [(item.id, item.kind) for item in got] == [("1", "unlabelled"), ("3", "unlabelled")]

    def test_values_may_be_bare_or_nested_and_a_card_without_values_is_left_out(self, tmp_path: Path) -> None:
        expected = {"BraTS21": [[1, 2], 3], "LiTS": 2, "WORD": []}
        (got,) = read_bench(bench_file(tmp_path, row(expected_datasets=expected))).rows
        assert got.expected == {"BraTS21": frozenset({1, 2, 3}), "LiTS": frozenset({2})}

    def test_line_separators_inside_a_query_do_not_break_the_row(self, tmp_path: Path) -> None:
        (got,) = read_bench(bench_file(tmp_path, row(query="spleen\u2028on\u0085CT"))).rows
        assert got.query == "spleen\u2028on\u0085CT"

    def test_a_byte_order_mark_and_windows_line_ends_are_read(self, tmp_path: Path) -> None:
        file = tmp_path / "bench.jsonl"
        file.write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode() + b"\r\n" + json.dumps(row(id="b")).encode())
        assert len(read_bench(file).rows) == 2

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("{not json", "Expecting property name"),
            ("[1]", "is a JSON list, not an object"),
            (row(query=" "), "query must be a text"),
            (row(query=3), "query must be a text, got 3"),
            ({"query": "liver"}, "expected_datasets is missing"),
            (row(expected_datasets=[1]), "expected_datasets must be an object"),
            (row(expected_datasets={"WORD": ["2"]}), "expected_datasets['WORD'] holds '2'"),
            (row(expected_datasets={"WORD": [True]}), "holds True"),
            (row(kind=7), "kind must be a text, got 7"),
            (row(id=[1]), "id must be a text or a number"),
            ("[" * 100_000, "recursion"),
        ],
    )
    def test_a_broken_row_is_named_by_line_and_field(self, tmp_path: Path, line: object, complaint: str) -> None:
        with pytest.raises(MedSegAgentError) as caught:
            read_bench(bench_file(tmp_path, row(), line))
        assert complaint in caught.value.what
        assert caught.value.where.endswith("bench.jsonl, line 2")
        assert caught.value.exit_code is ExitCode.BAD_INPUT

    def test_an_id_must_not_occur_twice(self, tmp_path: Path) -> None:
        with pytest.raises(MedSegAgentError, match=r"line 2: id 'x' is taken by line 1"):
            read_bench(bench_file(tmp_path, row(id="x"), row(id="x")))

    @pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe\x00"])
    def test_a_file_without_readable_rows_is_an_error(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "bench.jsonl"
        file.write_bytes(content)
        with pytest.raises(MedSegAgentError, match=r"bench\.jsonl: (holds no rows|cannot be read)"):
            read_bench(file)

    def test_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(MedSegAgentError, match="cannot be read"):
            read_bench(tmp_path / "none.jsonl")
