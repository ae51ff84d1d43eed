"""Several cases in one call: a bad one stops no other, a finished one is kept."""

from __future__ import annotations

import csv
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

from medsegagent.phantom import CARDS, MODELS
from medsegagent.reporting.case_table import CaseOutcome, write_case_table
from medsegagent.road.batch import segment_cases
from medsegagent.road.case_sources import ListedCase
from medsegagent.road.segmenter import Segmenter

Answer = tuple[int, str, str]
WITH = ("--library", CARDS, "--models-dir", MODELS, "--device", "cpu")


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "cases.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def states(out: Path) -> dict[str, tuple[str, str]]:
    return {row["case"]: (row["status"], row["exit_code"]) for row in table_of(out)}


@pytest.fixture
def scans(tmp_path: Path, ct_file: Path) -> Path:
    """A good case, a damaged one, and one whose own instruction matches nothing."""
    folder = tmp_path / "scans"
    folder.mkdir()
    shutil.copy(ct_file, folder / "good.nii.gz")
    (folder / "bad.nii.gz").write_bytes(ct_file.read_bytes()[:2000])
    rows = ["case,image,instruction", "bad,bad.nii.gz,", "odd,good.nii.gz,segment the splorkeen"]
    rows += ["absent,nowhere.nii.gz,", "good,good.nii.gz,"]
    (folder / "list.csv").write_text("\n".join(rows), "utf-8")
    return folder


def test_a_bad_case_stops_no_other_and_a_restart_does_only_what_is_left(
    cli: Callable[..., Answer], scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def run(*more: object, instruction: str = "the spleen in this CT") -> Answer:
        return cli("segment", instruction, "--cases", scans / "list.csv", "-o", out, *WITH, *more)

    code, shown, err = run()
    assert code == 8
    assert "Traceback" not in err
    assert states(out) == {
        "bad": ("failed", "5"),
        "odd": ("failed", "3"),
        "absent": ("failed", "5"),
        "good": ("done", "0"),
    }
    assert "1 done, 3 failed" in shown
    assert sorted(entry.name for entry in out.iterdir()) == ["cases.csv", "good"]
    row = table_of(out)[-1]
    spleen = json.loads((out / "good" / "run.json").read_text())["structures"][0]
    assert float(row["spleen_ml"]) == pytest.approx(spleen["volume_ml"], abs=1e-3)

    before = (out / "good" / "run.json").read_bytes()
    (scans / "list.csv").write_text("case,image\ngood,good.nii.gz\n", "utf-8")
    code, shown, _ = run()
    assert code == 0
    assert states(out) == {"good": ("already done", "0")}
    assert float(table_of(out)[0]["spleen_ml"]) == float(row["spleen_ml"])

    for more in ({"instruction": "the liver in this CT"}, {}):
        code, shown, _ = run(*(() if more else ("--separate",)), **more)
        assert (code, states(out)) == (8, {"good": ("failed", "5")})
        assert "--overwrite" in shown
    shutil.copy(scans / "bad.nii.gz", scans / "good.nii.gz")  # another image
    assert run()[0] == 8
    assert (out / "good" / "run.json").read_bytes() == before


def test_networks_stay_in_memory_from_case_to_case(ct_file: Path, models_copy: Path, tmp_path: Path) -> None:
    cases = [ListedCase(name, {"": ct_file}, "the spleen in this CT") for name in ("a", "b")]
    segmenter = Segmenter(CARDS, models_dir=models_copy, device="cpu")
    outcomes = segment_cases(cases, tmp_path / "out", segmenter)
    assert next(outcomes).status == "done"
    for file in models_copy.rglob("checkpoint_final.pth"):  # a second look at the disk would fail
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        file.write_bytes(b"gone")
        os.utime(file, ns=times)
    assert next(outcomes).status == "done"


def test_an_interrupt_keeps_finished_cases(ct_file: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "scans", tmp_path / "out"
    scans.mkdir()
    for name in ("a", "b"):
        shutil.copy(ct_file, scans / f"{name}.nii.gz")
    arguments = ["segment", "the spleen in this CT", "--cases", scans, "-o", out, *WITH, "-v"]
    command = [sys.executable, "-m", "medsegagent", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("a: done"):
                break
        for line in process.stderr:
            if "LabelMatcher" in line:
                break
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        shown, rest = process.communicate(timeout=180)
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert "1 done" in shown
    assert {name: state for name, (state, _) in states(out).items()} == {"a": "done", "b": "pending"}
    assert sorted(entry.name for entry in out.iterdir()) == ["a", "cases.csv"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("liver", "-o", "OUT"), 2, "--cases"),
        (("liver", "-i", "a.nii", "--cases", "SCANS", "-o", "OUT"), 2, "--cases"),
        (("liver", "--cases", "SCANS"), 2, "-o"),
        (("liver", "--cases", "SCANS", "-o", "OUT", "--dry-run"), 2, "--dry-run"),
        (("liver", "--cases", "SCANS", "-o", "OUT", "--fusion", "mean"), 2, "--fusion"),
        (("--cases", "SCANS", "-o", "OUT"), 5, "no instruction"),
        (("liver", "--cases", "ABSENT.csv", "-o", "OUT"), 5, "ABSENT"),
    ],
)
def test_what_can_be_used_for_no_case_is_refused_before_any(
    cli: Callable[..., Answer], scans: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    places = {"OUT": tmp_path / "out", "SCANS": scans}
    answer, _, err = cli("segment", *(places.get(part, part) for part in arguments), *WITH)
    assert answer == code, err
    assert words in err
    assert not (tmp_path / "out").exists()


def test_the_folder_of_one_run_is_no_place_for_many(cli: Callable[..., Answer], scans: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    code, _, err = cli("segment", "liver", "--cases", scans, "-o", tmp_path / "out", *WITH)
    assert code == 5
    assert "one case" in err
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["run.json"]


def test_an_earlier_record_that_is_damaged_is_no_finished_run(tmp_path: Path, ct_file: Path) -> None:
    (tmp_path / "a").mkdir()
    for text in ("", "[]", '{"asked": 1}', "\0"):
        (tmp_path / "a" / "run.json").write_text(text)
        cases = [ListedCase("a", {"": ct_file}, "liver")]
        (outcome,) = segment_cases(cases, tmp_path, Segmenter(CARDS, models_dir=MODELS))
        assert (outcome.status, outcome.exit_code) == ("failed", 5)
        assert "--overwrite" in outcome.message


def test_a_bug_in_one_case_is_its_outcome(tmp_path: Path) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    cases = [ListedCase("a", {}, "liver")]
    (outcome,) = segment_cases(cases, tmp_path / "out", Segmenter(CARDS, models_dir=MODELS), run_case=broken)
    assert (outcome.exit_code, outcome.message) == (1, "a bug in medsegagent: ZeroDivisionError: by zero")


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    failed = CaseOutcome("a", "failed", 5, message="=HYPERLINK(1)\nnext")
    write_case_table(tmp_path, ["a", "b"], [failed])
    assert table_of(tmp_path)[0]["message"] == "'=HYPERLINK(1) next"
    assert table_of(tmp_path)[1]["status"] == "pending"
    assert [entry.name for entry in tmp_path.iterdir()] == ["cases.csv"]
