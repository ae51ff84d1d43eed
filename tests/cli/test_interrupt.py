"""Ctrl-C ends a run cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from medsegagent.phantom import CARDS, MODELS


def test_ctrl_c_exits_130_and_leaves_nothing(ct_file: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-m", "medsegagent", "segment", "liver, spleen, kidneys, lungs and aorta"]
    command += ["-i", str(ct_file), "-o", str(work / "out"), "--device", "cpu", "-v"]
    command += ["--library", str(CARDS), "--models-dir", str(MODELS)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "LabelMatcher" in line:  # the Executor speaks next: models are loading or running
                break
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(timeout=180) == 130, rest
    assert "Traceback" not in rest
    assert list(work.iterdir()) == []
