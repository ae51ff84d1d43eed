"""What `match` shows on a terminal of 80 columns."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NINE = "liver, spleen, kidneys, pancreas, stomach, lungs, heart, aorta, bladder"


def shown(instruction: str, *options: str) -> tuple[list[str], str]:
    command = [sys.executable, "-m", "medsegagent", "match", instruction, *options]
    done = subprocess.run(command, env=os.environ | {"COLUMNS": "80"}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines(), done.stderr


@pytest.mark.parametrize(("instruction", "most"), [("liver", 24), ("bones", 24), (NINE, 40)])
def test_a_selection_fits_a_screen(instruction: str, most: int) -> None:
    lines, _ = shown(instruction)
    assert len(lines) <= most
    assert max(map(len, lines)) <= 80


def test_what_is_left_out_is_said() -> None:
    _, told = shown("liver and ureters, frobnicator")
    assert "No card of this library has ureter" in told
    assert "Not read: 'frobnicator'" in told


def test_explain_groups_what_was_dropped_by_its_reason() -> None:
    lines, _ = shown("liver in MRI", "--library", "benchmark", "--explain")
    reasons = [line for line in lines if "Takes CT, not MR." in line]
    assert len(reasons) == 1
