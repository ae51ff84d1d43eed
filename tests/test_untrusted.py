"""What is read of others' files: regular files up to a bound, and JSON that holds nothing to stumble over."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsegagent.untrusted import parse_json, read_json_object, read_regular

LIMIT = 1000


def pipe(file: Path) -> None:
    os.mkfifo(file)


def listening(file: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(file.relative_to(Path.cwd())))


NOT_FILES: dict[str, Callable[[Path], object]] = {
    "a pipe": pipe,
    "a socket": listening,
    "a folder": Path.mkdir,
    "a link to a device": lambda file: file.symlink_to("/dev/zero"),
    "a link to a pipe": lambda file: (pipe(file.with_name("pipe")), file.symlink_to("pipe")),
    "a link to itself": lambda file: file.symlink_to(file.name),
    "a link to nowhere": lambda file: file.symlink_to("nowhere"),
    "a link to what the kernel makes up": lambda file: file.symlink_to("/proc/self/pagemap"),
}


@pytest.mark.parametrize("kind", NOT_FILES)
def test_what_is_no_regular_file_is_refused_without_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    file = tmp_path / "card.json"
    NOT_FILES[kind](file)
    with pytest.raises((OSError, ValueError)):
        read_regular(file, LIMIT)


def test_a_file_is_read_up_to_the_limit_and_refused_beyond(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    file.write_bytes(b"x" * LIMIT)
    assert read_regular(file, LIMIT) == b"x" * LIMIT
    file.write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(ValueError, match="larger than"):
        read_regular(file, LIMIT)


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "-Infinity",
        "1e400",
        "-1e999999",
        "1" + 400 * "0",
        5000 * "9",
        "1" + 18 * "0" + "0",
        "[" * 100_000,
        "[" * 900 + "]" * 900,
        '{"a":' * 900 + "1" + "}" * 900,
        '"\\ud800"',
        '{"\\udfff": 1}',
        "",
        "{",
        "\x00",
        b"\xff\xfe\xff",
    ],
)
def test_json_that_would_fail_later_fails_when_it_is_read(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"holds|nested|Expecting|decode"):
        parse_json(text)


def test_what_is_no_object_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    file.write_text("[1]")
    with pytest.raises(ValueError, match="not an object"):
        read_json_object(file, LIMIT)


plain = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
text = st.text(st.characters(exclude_categories=("Cs",)))


@given(st.recursive(plain | text, lambda inner: st.lists(inner) | st.dictionaries(text, inner), max_leaves=20))
def test_whatever_is_honest_is_read_as_python_reads_it(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
