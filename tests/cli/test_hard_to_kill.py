"""What a run leaves behind when it is killed, starved, or told to run its models elsewhere."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medsegagent.errors import ExitCode
from medsegagent.phantom import CARDS, MODELS

Run = Callable[..., tuple[int, str, str]]
INSTRUCTION = "liver and spleen"


def command(image: Path, out: Path) -> list[str]:
    arguments = ["segment", INSTRUCTION, "-i", str(image), "-o", str(out), "--device", "cpu", "-v"]
    return [sys.executable, "-m", "medsegagent", *arguments, "--library", str(CARDS), "--models-dir", str(MODELS)]


def test_a_killed_run_leaves_nothing_that_looks_complete_and_the_next_one_goes_through(
    segment_phantom: Run, ct_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command(ct_file, out), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Executor" in line:  # the Reporter writes next
                break
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert segment_phantom(INSTRUCTION, ct_file)[0] == 0
    assert (out / "run.json").exists()


def test_a_full_disk_is_an_error_that_leaves_nothing(ct_file: Path, tmp_path: Path) -> None:
    """Forced by a limit on the size of files, which fails as a full disk does."""
    limited = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
        "from medsegagent.cli import main\n"
        f"sys.argv = {['medsegagent', *command(ct_file, tmp_path / 'out')[3:]]!r}\n"
        "sys.exit(main())\n"
    )
    # What torch and matplotlib keep between runs is not what is tested.
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == ExitCode.BAD_INPUT, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_isolated_models_give_the_same_masks(segment_phantom: Run, ct_file: Path, tmp_path: Path) -> None:
    masks = []
    for more in ((), ("--isolate", "--overwrite")):
        code, _, err = segment_phantom(INSTRUCTION, ct_file, *more)
        assert code == 0, err
        masks.append((tmp_path / "out" / "segmentation.nii.gz").read_bytes())
    assert masks[0] == masks[1]


def test_what_overrides_a_model_is_recorded(segment_phantom: Run, ct_file: Path, tmp_path: Path) -> None:
    options = ("--tta", "--step-size", "0.9", "--folds", "all")
    code, _, err = segment_phantom(INSTRUCTION, ct_file, *options)
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    for planned in record["plan"]["models"]:
        assert (planned["model"]["use_mirroring"], planned["model"]["tile_step_size"]) == (True, 0.9)
        assert planned["memory"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--step-size", "2"), ExitCode.USAGE, "step between patches"),
        (("--folds", "x"), ExitCode.USAGE, "no such fold"),
        (("--folds", "7"), ExitCode.NO_MODEL, "fold 7 (--folds) is not installed"),
    ],
)
def test_what_cannot_be_is_said(
    segment_phantom: Run, ct_file: Path, options: tuple[str, ...], code: ExitCode, said: str
) -> None:
    ended, _, err = segment_phantom(INSTRUCTION, ct_file, *options)
    assert (ended, said in err.replace("\n", " ")) == (code, True), err
