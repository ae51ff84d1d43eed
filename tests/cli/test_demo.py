"""`medsegagent demo` keeps its promise on a patient that it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medsegagent.road.demo import run_demo

Run = Callable[..., tuple[int, str, str]]
FLOOR = {
    "liver": 0.90,
    "spleen": 0.90,
    "kidney_left": 0.90,
    "kidney_right": 0.90,
    "lung_left": 0.90,
    "lung_right": 0.90,
    "stomach": 0.90,
    "aorta": 0.75,
    "urinary_bladder": 0.75,
    "tumor_liver": 0.75,
}


@pytest.mark.parametrize("seed", [0, 1])
def test_the_fused_masks_meet_the_promised_dice(tmp_path: Path, seed: int) -> None:
    result = run_demo(tmp_path / "demo", seed=seed)
    assert result.dice.keys() >= FLOOR.keys()
    short = {name: result.dice[name] for name, floor in FLOOR.items() if result.dice[name] < floor}
    assert not short


def test_the_command_shows_conversation_table_and_files(cli: Run, tmp_path: Path) -> None:
    code, out, err = cli("demo", "the spleen and the left kidney in this CT", "-o", tmp_path / "demo")
    assert code == 0, err
    assert "LabelMatcher" in err
    assert "Dice against truth" in out
    assert (tmp_path / "demo" / "preview.png").stat().st_size > 10_000
    assert (tmp_path / "demo" / "image.nii.gz").exists()
