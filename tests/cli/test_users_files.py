"""Nothing of the user's is ever deleted, and nothing that was computed is lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from medsegagent.errors import ExitCode
from medsegagent.phantom import CARDS, MODELS
from medsegagent.reporting.case_table import CaseOutcome
from medsegagent.road.batch import segment_cases
from medsegagent.road.case_sources import ListedCase
from medsegagent.road.result import Result
from medsegagent.road.segmenter import Segmenter

Run = Callable[..., tuple[int, str, str]]
INSTRUCTION = "liver"


def command(instruction: str | bytes, image: Path, out: Path, *more: str) -> list[str | bytes]:
    given = ["-i", str(image), "-o", str(out), "--device", "cpu", "--library", str(CARDS), "--models-dir", str(MODELS)]
    return [sys.executable, "-m", "medsegagent", "segment", instruction, *given, *more]


def test_an_overwrite_keeps_the_input_and_every_other_file_in_the_folder(
    segment_phantom: Run, ct_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert segment_phantom("liver and spleen", ct_file, "--separate")[0] == 0
    only_copy = out / "my_only_copy.nii.gz"
    shutil.copy(ct_file, only_copy)
    (out / "targets" / "mine.txt").write_text("mine")
    code, _, err = segment_phantom(INSTRUCTION, only_copy, "--separate", "--overwrite")
    assert code == 0, err
    assert only_copy.read_bytes() == ct_file.read_bytes()
    assert {file.name for file in (out / "targets").iterdir()} == {"liver.nii.gz", "mine.txt"}
    record = json.loads((out / "run.json").read_text())
    assert {"run.json", "segmentation.nii.gz", "targets/liver.nii.gz"} <= set(record["files"])
    assert only_copy.name not in record["files"]


def test_an_input_that_an_overwrite_would_replace_is_refused(
    segment_phantom: Run, ct_file: Path, tmp_path: Path
) -> None:
    assert segment_phantom(INSTRUCTION, ct_file)[0] == 0
    written = tmp_path / "out" / "segmentation.nii.gz"
    before = written.read_bytes()
    code, _, err = segment_phantom(INSTRUCTION, written, "--overwrite")
    assert (code, "is an input" in err) == (ExitCode.BAD_INPUT, True), err
    assert written.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_run_ends_as_by_ctrl_c_and_leaves_nothing(
    ct_file: Path, tmp_path: Path, number: signal.Signals
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    words = "liver, spleen, kidneys, lungs and aorta"
    with subprocess.Popen(command(words, ct_file, work / "out", "-v"), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "LabelMatcher" in line:  # the Executor speaks next: models are loading or running
                break
        time.sleep(0.5)
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(timeout=180) == ExitCode.INTERRUPTED, rest
    assert "Traceback" not in rest
    assert list(work.iterdir()) == []


def test_what_a_killed_run_left_is_gone_after_the_next(segment_phantom: Run, ct_file: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        command("liver and spleen", ct_file, tmp_path / "out", "-v"), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Executor" in line:
                break
        process.kill()
    assert list(tmp_path.glob(".medsegagent-partial-*"))
    assert segment_phantom(INSTRUCTION, ct_file)[0] == 0
    assert not list(tmp_path.glob(".medsegagent-partial-*"))


@pytest.mark.parametrize("more", [(), ("--modality", b"CT\xff")])
def test_bytes_that_are_no_text_are_refused_before_work(ct_file: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    work = tmp_path / "work"
    work.mkdir()
    instruction = b"liver" if more else b"liver \xff"
    done = subprocess.run(
        command(instruction, ct_file, work / "out", "-v", *more), capture_output=True, check=False, timeout=120
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert b"no text" in done.stderr
    assert b"Executor" not in done.stderr
    assert list(work.iterdir()) == []


def test_two_ids_that_look_alike_as_folders_keep_their_own_masks(
    cli: Callable[..., tuple[int, str, str]], ct_file: Path, tmp_path: Path
) -> None:
    library = tmp_path / "cards"
    library.mkdir()
    cards = {file.stem: json.loads(file.read_text()) for file in Path(CARDS).glob("*.json")}
    ids = iter(["x/y", "x__y", "X/Y", "x:y"])
    for name, card in cards.items():
        for model in card.get("models", ()):
            model["id"] = next(ids, model["id"])
        (library / f"{name}.json").write_text(json.dumps(card))
    given = ("--library", library, "--models-dir", MODELS, "-o", tmp_path / "out", "--device", "cpu", "--no-input")
    code, _, err = cli("segment", "liver and spleen", "-i", ct_file, *given, "--keep-predictions")
    assert code == 0, err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    ran = [item["model"]["id"] for item in record["plan"]["models"]]
    folders = list((tmp_path / "out" / "predictions").iterdir())
    assert len(folders) == len(ran) >= 2
    assert all(list(folder.glob("*.nii.gz")) for folder in folders)


def test_a_picture_that_fails_costs_nothing_else(ct_file: Path, tmp_path: Path) -> None:
    """Forced by a setting of the user's for matplotlib that needs a program which is not there."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\n")
    env = os.environ | {"MATPLOTLIBRC": str(tmp_path), "PATH": str(tmp_path)}
    done = subprocess.run(
        command(INSTRUCTION, ct_file, tmp_path / "out"), capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    assert "preview.png could not be made" in " ".join(done.stderr.split())
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"segmentation.nii.gz", "statistics.json", "run.json"} <= written
    assert "preview.png" not in written
    assert "preview.png could not be made" in " ".join(
        json.loads((tmp_path / "out" / "run.json").read_text())["warnings"]
    )


def test_a_list_of_cases_is_not_overwritten_by_the_table_of_how_they_went(
    cli: Callable[..., tuple[int, str, str]], ct_file: Path, tmp_path: Path
) -> None:
    table = tmp_path / "cases.csv"
    table.write_text(f"case,image\none,{ct_file}\n")
    before = table.read_bytes()
    given = ("--library", CARDS, "--models-dir", MODELS, "--device", "cpu")
    code, _, err = cli("segment", INSTRUCTION, "--cases", table, "-o", tmp_path, *given)
    assert (code, "cases.csv" in err) == (ExitCode.BAD_INPUT, True), err
    assert table.read_bytes() == before
    assert cli("segment", INSTRUCTION, "--cases", table, "-o", tmp_path / "out", *given)[0] == 0
    assert cli("segment", INSTRUCTION, "--cases", table, "-o", tmp_path / "out", *given)[0] == 0


def case_in(out: Path, image: Path, on_event: Callable[..., None] | None = None) -> CaseOutcome:
    """One case of a list, into `out / "one"`."""
    segmenter = Segmenter(CARDS, models_dir=MODELS, device="cpu")

    def run_case(case: ListedCase, folder: Path) -> Result:
        return segmenter.segment(case.instruction, case.images, folder, on_event=on_event)

    (outcome,) = segment_cases([ListedCase("one", {"": image}, INSTRUCTION)], out, segmenter, run_case=run_case)
    return outcome


def test_a_case_whose_folder_is_filled_meanwhile_is_put_beside_it_and_says_where(ct_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"

    def come_between(*_: object) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "notes.txt").write_text("mine")

    outcome = case_in(tmp_path, ct_file, come_between)
    assert (outcome.status, outcome.message) == ("done", f"the results are in {tmp_path / 'one-2'}")
    assert (tmp_path / "one-2" / "segmentation.nii.gz").exists()
    assert {file.name for file in folder.iterdir()} == {"notes.txt"}


def test_a_case_that_a_killed_run_was_replacing_is_found_done(ct_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    assert case_in(tmp_path, ct_file).status == "done"
    left = folder / ".medsegagent-partial-0123"
    (left / "old").mkdir(parents=True)
    (left / "new").mkdir()
    (left / "new" / "run.json").write_text("{}")
    (left / "journal.json").write_text('{"new": ["run.json"]}')
    (folder / "run.json").rename(left / "old" / "run.json")
    assert case_in(tmp_path, ct_file).status == "already done"


def test_a_list_of_cases_that_is_a_pipe_is_refused(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cases.csv")
    code, _, err = cli("segment", INSTRUCTION, "--cases", tmp_path / "cases.csv", "-o", tmp_path / "out")
    assert (code, "no regular file" in err) == (ExitCode.BAD_INPUT, True), err


def test_the_demo_leaves_the_users_image_alone(cli: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli("demo", "liver", "-o", out, "-q")[0] == 0
    first = (out / "image.nii.gz").read_bytes()
    assert cli("demo", "liver", "-o", out, "-q", "--seed", 1)[0] == 0
    assert (out / "image.nii.gz").read_bytes() != first
    record = json.loads((out / "run.json").read_text())
    record["files"].remove("image.nii.gz")
    (out / "run.json").write_text(json.dumps(record))
    (out / "image.nii.gz").write_text("mine")
    assert cli("demo", "liver", "-o", out, "-q")[0] == 0
    assert (out / "image.nii.gz").read_text() == "mine"
