"""Fuzz the record and transcript of an earlier run: `python tests/fuzz/fuzz_run_json.py --minutes 15`.

A run folder whose run.json, transcript.jsonl or segmentation.json is spoilt is replaced by a new run, taken for one
already done, and replayed. The user's own file in it, and one beside it, must survive.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from harness import main
from json_spoiling import NASTY, spoilt_json

from medsegagent.agents.replay import replay
from medsegagent.errors import MedSegAgentError
from medsegagent.export.reading import read_segments
from medsegagent.phantom import CARDS, MODELS, make_patient, write_patient
from medsegagent.reporting.run_folder import RunFolder
from medsegagent.road.batch import segment_cases
from medsegagent.road.case_sources import ListedCase
from medsegagent.road.segmenter import Segmenter

_INSTRUCTION = "liver"
_HOSTILE_NAMES = (
    "../beside.txt",
    "mine.txt/..",
    "/etc/passwd",
    "link/beside.txt",
    "targets/../../beside.txt",
    "",
    ".",
    "\0",
)


@cache
def _honest() -> Path:
    """One real run."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-run-"))
    write_patient(make_patient(3), folder / "ct.nii.gz")
    _segmenter().segment(_INSTRUCTION, folder / "ct.nii.gz", folder / "run")
    return folder


@cache
def _segmenter() -> Segmenter:
    return Segmenter(CARDS, models_dir=MODELS, device="cpu")


def make(random: Random, folder: Path) -> Path:
    """Copy the run and spoil one of its files, more often than not its list of files."""
    run = folder / "run"
    shutil.copytree(_honest() / "run", run)
    name = random.choice(("run.json", "run.json", "run.json", "transcript.jsonl", "segmentation.json"))
    if name == "transcript.jsonl":
        lines = (run / name).read_bytes().splitlines()
        place = random.randrange(len(lines))
        lines[place] = spoilt_json(random, json.loads(lines[place]))
        (run / name).write_bytes(b"\n".join(lines))
    else:
        honest: Any = json.loads((run / name).read_bytes())
        if name == "run.json" and random.random() < 0.5:
            honest["files"] += random.sample([*_HOSTILE_NAMES, *NASTY], 3)
            (run / name).write_text(json.dumps(honest))
        else:
            (run / name).write_bytes(spoilt_json(random, honest))
    (run / "mine.txt").write_text("mine")
    (run / "link").symlink_to(folder)
    (folder / "beside.txt").write_text("mine")
    return run


def read(run: Path) -> object:
    """Take it for one already done, replay it, read its masks, replace it."""
    with suppress(MedSegAgentError):
        replay(run)
    with suppress(MedSegAgentError):
        read_segments(run)
    case = ListedCase(run.name, {"": _honest() / "ct.nii.gz"}, _INSTRUCTION)
    (outcome,) = segment_cases([case], run.parent, _segmenter())
    if outcome.exit_code == 1:
        raise AssertionError(outcome.message)
    with RunFolder(run, overwrite=True) as folder:
        (folder / "run.json").write_text("{}")
    kept = [run / "mine.txt", run.parent / "beside.txt"]
    if any(not file.is_file() or file.read_text() != "mine" for file in kept):
        raise AssertionError("a file of the user's is gone")
    return outcome


if __name__ == "__main__":
    _honest()  # before the cap on memory, once for all children
    sys.exit(main(make, read, __doc__))
