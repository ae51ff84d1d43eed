"""The answers of a run on disk: append-only JSONL, one header line, one line per answered query.

A line is written in one piece and synced before the next query is asked, so that a run killed at any moment has lost
at most the query in flight. A last line without its newline is torn and is asked again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from medsegagent.errors import OutputError


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Header(_Frozen):
    """What a run's answers depend on. Two runs may share a file only if all of it is equal."""

    format: int = 1
    bench_sha256: str
    pattern: str
    model: str
    tag: str = ""
    library_sha256: str
    code_version: str


class Record(_Frozen):
    """One query and what came back; `error` is set if nothing did."""

    id: str
    query: str
    labels: dict[str, list[int]] = {}
    seconds: float | None = None
    """None: not timed."""
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    explanation: str = ""
    error: str | None = None


def create(file: Path, header: Header) -> None:
    """Start a record file, which must not exist.

    Raises:
        FileExistsError: If it does.
        OutputError: If it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(file, error) from error
    try:
        with file.open("xb") as stream:
            _write(stream.fileno(), header)
        _sync_folder(file.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise _unwritable(file, error) from error


def append(file: Path, record: Record) -> None:
    """Add one record and return once it is on the disk.

    Raises:
        OutputError: If it cannot be written.
    """
    try:
        with file.open("ab") as stream:
            _write(stream.fileno(), record)
    except OSError as error:
        raise _unwritable(file, error) from error


def read(file: Path) -> tuple[Header | None, dict[str, Record]]:
    """Read a record file; a torn last line is left out.

    Returns:
        The header (None if not even that was finished) and the records by query id. Where an id occurs again, the
        later record counts: it is the retry of a failed one.

    Raises:
        OutputError: If the file cannot be read or a finished line is not one of ours.
    """
    try:
        lines = file.read_bytes().split(b"\n")[:-1]  # what follows the last newline is torn, or nothing
    except OSError as error:
        raise OutputError(f"cannot be read ({error})", "Give the JSONL that a run has written.", str(file)) from error
    header: Header | None = None
    records: dict[str, Record] = {}
    for number, line in enumerate(lines, start=1):
        try:
            raw = json.loads(line)  # not pydantic's reader, which knows no lone surrogates
            if number == 1:
                header = Header.model_validate(raw)
            else:
                record = Record.model_validate(raw)
                records[record.id] = record
        except (ValueError, RecursionError) as error:
            what = f"line {number} is not a line of a run's record"
            raise OutputError(what, "Move the file away and start a new run.", str(file)) from error
    return header, records


def reopen(file: Path, header: Header) -> dict[str, Record]:
    """Take up a run again: check that it is the same run, and cut off a torn last line.

    Returns:
        The records so far, by query id.

    Raises:
        OutputError: If the file belongs to another bench, pattern, model, library or code version, or is damaged.
    """
    found, records = read(file)
    if found is None:
        _cut(file, keep=0)
        with file.open("ab") as stream:
            _write(stream.fileno(), header)
        return {}
    if differing := [name for name in Header.model_fields if getattr(found, name) != getattr(header, name)]:
        what = "was made under other conditions: " + "; ".join(
            f"{name} {getattr(found, name)!r:.60} there, {getattr(header, name)!r:.60} now" for name in differing
        )
        raise OutputError(what, "Leave out --resume to start a new run.", str(file))
    content = file.read_bytes()
    _cut(file, keep=content.rfind(b"\n") + 1)
    return records


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return  # Windows cannot open a folder, and keeps names without being asked
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cut(file: Path, keep: int) -> None:
    try:
        with file.open("rb+") as stream:
            stream.truncate(keep)
            os.fsync(stream.fileno())
    except OSError as error:
        raise _unwritable(file, error) from error


def _write(descriptor: int, line: Header | Record) -> None:
    # ASCII: a lone surrogate in a query or an LLM's answer cannot break the file.
    data = memoryview(json.dumps(line.model_dump(), separators=(",", ":")).encode("ascii") + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _unwritable(file: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot be written ({error.strerror or error})", "Choose another folder.", str(file))
