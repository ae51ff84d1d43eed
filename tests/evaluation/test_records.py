from __future__ import annotations

import os
from pathlib import Path

import pytest

from medsegagent.errors import OutputError
from medsegagent.evaluation.records import Header, Record, append, create, read, reopen

HEADER = Header(bench_sha256="b" * 64, pattern="C2F", model="rules", library_sha256="c" * 64, code_version="1")


def record(row_id: str, **fields: object) -> Record:
    return Record.model_validate({"id": row_id, "query": f"query {row_id}", "seconds": 0.25} | fields)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "deep" / "run.jsonl"
    create(file, HEADER)
    return file


def test_records_come_back_as_they_went_in(file: Path) -> None:
    first = record("a", labels={"WORD": [2]}, calls=3, prompt_tokens=10, completion_tokens=2, explanation="höher\n")
    second = record("b", error="TimeoutError: 30 s", query="lone surrogate \ud800, line separator \u2028")
    append(file, first)
    append(file, second)
    assert read(file) == (HEADER, {"a": first, "b": second})


def test_the_retry_of_a_failed_query_replaces_it(file: Path) -> None:
    append(file, record("a", error="TimeoutError"))
    append(file, record("a", labels={"WORD": [2]}))
    assert read(file)[1]["a"].labels == {"WORD": [2]}
    assert len(read(file)[1]) == 1


def test_a_record_file_is_never_started_twice(file: Path) -> None:
    with pytest.raises(FileExistsError):
        create(file, HEADER)


def test_a_torn_last_line_is_left_out_and_cut_off_before_the_next_record(file: Path) -> None:
    append(file, record("a"))
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"id":"b","quer')
    assert list(read(file)[1]) == ["a"]
    assert file.read_bytes() != whole  # reading changes nothing
    assert list(reopen(file, HEADER)) == ["a"]
    append(file, record("b"))
    assert list(read(file)[1]) == ["a", "b"]


def test_a_damaged_finished_line_is_an_error_that_names_the_line(file: Path) -> None:
    append(file, record("a"))
    file.write_bytes(file.read_bytes().replace(b'"seconds"', b'"sec\x00nds"'))
    with pytest.raises(OutputError, match=r"line 2 is not a line of a run's record"):
        read(file)


def test_a_foreign_file_is_neither_read_nor_changed(tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_text('{"mine": 1}\nkeep me')
    with pytest.raises(OutputError, match="line 1"):
        reopen(file, HEADER)
    assert file.read_text() == '{"mine": 1}\nkeep me'


@pytest.mark.parametrize("field", ["bench_sha256", "pattern", "model", "tag", "library_sha256", "code_version"])
def test_a_run_goes_on_only_under_the_conditions_it_began_with(file: Path, field: str) -> None:
    append(file, record("a"))
    before = file.read_bytes()
    with pytest.raises(OutputError, match=field):
        reopen(file, HEADER.model_copy(update={field: "other"}))
    assert file.read_bytes() == before


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_of_ours(tmp_path: Path) -> None:
    full = tmp_path / "run.jsonl"
    full.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)"):
        append(full, record("a"))


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        create(tmp_path / "blocked" / "run.jsonl", HEADER)
