"""An instruction with two readings: the user chooses in a terminal; elsewhere the readings are listed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from terminal import typed

from medsegagent.phantom import CARDS, MODELS

Run = Callable[..., tuple[int, str, str]]
EITHER = "spleen or liver in this CT"


def test_a_pipe_gets_the_readings_and_no_mask(segment_phantom: Run, ct_file: Path, tmp_path: Path) -> None:
    code, out, err = segment_phantom(EITHER, ct_file)
    assert (code, out) == (6, "")
    for reading in ("'spleen and liver in this CT'", "'spleen in this CT'", "'liver in this CT'"):
        assert reading in err
    assert not (tmp_path / "out").exists()


def test_in_a_terminal_the_reply_decides(ct_file: Path, tmp_path: Path) -> None:
    given = ["--library", str(CARDS), "--models-dir", str(MODELS), "-o", str(tmp_path / "out"), "--device", "cpu"]
    command = [sys.executable, "-m", "medsegagent", "segment", EITHER, "-i", str(ct_file), *given]
    with typed("9\n3\n") as terminal:  # no such reading, then the liver
        done = subprocess.run(command, stdin=terminal, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "3. liver in this CT" in done.stderr
    structures = json.loads((tmp_path / "out" / "segmentation.json").read_text()).values()
    assert ["liver" in str(item) for item in structures] == [True]


def test_match_shows_the_likeliest_reading_and_the_others(cli: Run) -> None:
    code, out, err = cli("match", "PV in [/x] CT", "--library", "benchmark")
    assert (code, "portal_vein" in out) == (6, True)
    assert "portal vein in [/x] CT" in err
    assert "pulmonary vein in [/x] CT" in err


def test_match_for_machines_has_the_question(cli: Run) -> None:
    code, out, _ = cli("match", "PV in CT", "--json")
    assert code == 6
    assert json.loads(out)["request"]["question"]["readings"] == ["portal vein in CT", "pulmonary vein in CT"]


def test_match_without_any_card_for_the_likeliest_reading_needs_an_answer(cli: Run) -> None:
    code, _, err = cli("match", "IMA in CT", "--library", "benchmark")
    assert code == 6
    assert "internal mammary artery in CT" in err
