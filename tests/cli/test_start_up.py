"""The light commands stay light, and the wheel works outside the clone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medsegagent.phantom import CARDS, MODELS

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "nnunetv2", "autogen_agentchat", "autogen_core", "openai", "matplotlib", "SimpleITK", "scipy")


@pytest.mark.parametrize("arguments", [["--help"], ["match", "liver in CT"], ["cards", "list"], ["--version"]])
def test_light_commands_import_neither_torch_nor_autogen(arguments: list[str]) -> None:
    probe = (
        "import sys; from medsegagent.cli.app import run_app; "
        f"code = run_app({arguments!r}); print('heavy:', sorted(set({HEAVY!r}) & set(sys.modules)), code)"
    )
    out = subprocess.check_output([sys.executable, "-c", probe], text=True, cwd=ROOT)
    assert out.strip().endswith("heavy: [] 0")


def test_a_run_that_asks_no_language_model_imports_no_client_and_no_autogen(ct_file: Path, tmp_path: Path) -> None:
    arguments = ["segment", "liver", "-i", str(ct_file), "--dry-run", "--mind", "rules", "--library", str(CARDS)]
    arguments += ["--models-dir", str(MODELS)]
    probe = (
        "import sys; from medsegagent.cli.app import run_app; "
        f"code = run_app({arguments!r}); print('heavy:', sorted({{'openai', 'autogen_core'}} & set(sys.modules)), code)"
    )
    out = subprocess.check_output([sys.executable, "-c", probe], text=True, cwd=tmp_path)
    assert out.strip().endswith("heavy: [] 0")


def test_the_wheel_works_outside_the_clone(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path / "wheel", ROOT], check=True)
    (wheel,) = (tmp_path / "wheel").glob("medsegagent-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", tmp_path / "site", wheel], check=True)
    probe = (
        "import json, medsegagent; from medsegagent.phantom import MODELS; "
        "print(json.dumps([medsegagent.__file__, len(medsegagent.Library.load('benchmark')), "
        "medsegagent.match('spleen in CT', medsegagent.Library.load('benchmark')).labels, "
        "len(list(MODELS.rglob('checkpoint_final.pth')))]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    out = subprocess.check_output([sys.executable, "-c", probe], text=True, cwd=tmp_path, env=environment)
    where, cards, labels, models = json.loads(out)
    assert where.startswith(str(tmp_path))
    assert cards == 23
    assert labels["TotalSegmentator_v2"] == [1]
    assert models >= 3
