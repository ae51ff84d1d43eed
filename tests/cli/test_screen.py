"""What comes from files reaches neither the terminal nor the page as anything but text."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_builder import ball, save, slices
from hypothesis import given
from hypothesis import strategies as st

from medsegagent.cli import screen
from medsegagent.errors import ExitCode
from medsegagent.reporting.html import table, tag
from medsegagent.wording import plain

EVIL = "\x1b]0;owned\x07\x1b[2Jliver\x9b31m \u202eevil\u2066 \u200f\r\x00end"
STEERING = ["\x1b", "\x07", "\x9b", "\u202e", "\u2066", "\u200f", "\r", "\x00"]


@given(st.text(st.characters(exclude_categories=())))
def test_plain_text_can_be_written_and_steers_nothing(text: str) -> None:
    shown = plain(text)
    shown.encode("utf-8")
    assert not [c for c in shown if ord(c) < 32 and c not in "\n\t"]
    assert plain(shown) == shown


@pytest.mark.parametrize(
    "text", ["Leber und Milz", "أرني الكبد والطحال", "肝脏和脾脏", "a\n\tb", "x̂ ± 3 µm", "👩\u200d⚕️"]
)
def test_what_people_write_stays(text: str) -> None:
    assert plain(text) == text


def test_every_way_to_the_screen_is_plain(capfd: pytest.CaptureFixture[str]) -> None:
    screen.problem(EVIL)
    screen.warn(EVIL)
    screen.table([EVIL], [[EVIL], [os.fsdecode(b"caf\xe9")]], title=EVIL)
    screen.out.print(EVIL, markup=False, highlight=False)
    screen.as_json({EVIL: [EVIL, os.fsdecode(b"caf\xe9")]})
    shown = "".join(capfd.readouterr())
    assert not [c for c in STEERING if c in shown]
    assert "liver" in shown


def test_json_for_machines_loses_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    screen.as_json({EVIL: EVIL})
    assert json.loads(capfd.readouterr().out) == {EVIL: EVIL}


def test_the_page_is_plain() -> None:
    page = tag("p", EVIL, title=EVIL) + table([EVIL], [[EVIL]], caption=EVIL)
    assert not [c for c in STEERING if c in page]


def test_a_series_and_a_file_with_such_names(cli: Callable[..., Any], tmp_path: Path) -> None:
    case = slices(ball(), description=EVIL.replace("\x00", ""))
    for dataset in case:
        dataset.add_new("SeriesNumber", "LO", "3\x1b[31m")
    save(case, tmp_path / "a")
    sitk.WriteImage(sitk.GetImageFromArray(ball()), str(tmp_path / "ct.nii.gz"))
    (tmp_path / "ct.nii.gz").rename(tmp_path / os.fsdecode("ct\x1b[2J\u202e".encode() + b"\xe9.nii.gz"))
    for more in ([], ["--json"]):
        answer = cli("inspect", tmp_path, *more)
        assert answer.code == ExitCode.OK
        assert not [c for c in STEERING if c in answer.out + answer.err]
