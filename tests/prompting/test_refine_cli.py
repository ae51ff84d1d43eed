"""`medsegagent refine` on a real run of the phantom: versions, undo, what follows from a mask, and every bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from medsegagent.errors import OutputError, PromptError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.images.write import write_mask
from medsegagent.phantom import CARDS, MODELS, make_patient
from medsegagent.prompting.policies.base import Act, Stop, Undo
from medsegagent.prompting.policies.person import read_line
from medsegagent.prompting.policies.vision import VisionEndpoint
from medsegagent.prompting.prompts import Box, Point
from medsegagent.prompting.versions import HISTORY, read_history, store
from medsegagent.prompting.wanted import Refinement
from medsegagent.road.asked import what_was_asked
from medsegagent.road.options import Options
from medsegagent.road.segmenter import Segmenter

PATIENT = make_patient(4242, "CT")
Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def finished(ct_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two models on two organs; copy it, don't change it."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    Segmenter(CARDS, models_dir=MODELS).segment("liver and spleen", ct_file, folder)
    return folder


@pytest.fixture
def run(finished: Path, ct_file: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.copyfile(ct_file, tmp_path / ct_file.name)
    return folder


def volume_of(run: Path, structure: str = "liver") -> float:
    return float(json.loads((run / "statistics.json").read_text())[structure]["fused"]["volume_ml"])


def painted(run: Path, name: str = "segmentation.nii.gz") -> np.ndarray:
    array: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(run / name)))
    return array


def a_voxel_of(structure: str) -> str:
    k, j, i = (int(index) for index in np.median(np.argwhere(PATIENT.mask(structure)), axis=0))
    return f"{i},{j},{k}"


def test_a_correction_is_a_new_version_that_everything_follows_and_undo_is_one_step_back(run: Path, cli: Cli) -> None:
    before = {name: (run / name).read_bytes() for name in ("report.html", "preview.png", "segmentation.nii.gz")}
    whole, volume = painted(run).copy(), volume_of(run)
    truth = PATIENT.mask("liver")
    voxel = a_voxel_of("liver")
    answer = cli("refine", run, "liver", "--not", voxel)
    assert answer.code == 0, answer.err
    assert "version 2 of 2" in answer.out
    history = read_history(run).of("liver")
    assert [version.parent for version in history.versions] == [None, 1]
    assert "phantom/ct_organs" in history.versions[0].who
    assert "walker" in history.current.who
    assert history.current.prompts == (f"- point ({voxel.replace(',', ', ')})",)
    i, j, k = (int(index) for index in voxel.split(","))
    value = whole[k, j, i]
    assert painted(run)[k, j, i] != value
    assert painted(run, history.current.file)[k, j, i] == 0
    assert volume_of(run) < volume
    record = json.loads((run / "run.json").read_text())
    assert record["corrections"][0]["version"] == 2
    assert [item["volume_ml"] for item in record["structures"] if item["id"] == "liver"] == [volume_of(run)]
    page = (run / "report.html").read_text()
    assert "Corrections" in page
    assert "as the models gave it" in page
    assert all((run / name).read_bytes() != content for name, content in before.items())
    assert not list(run.glob(".medsegagent-partial-*"))
    far = ~np.isin(whole, [value])
    assert np.array_equal(painted(run)[far], whole[far])  # the other structure is untouched
    assert truth.any()

    assert cli("refine", run, "liver", "--undo").code == 0
    assert volume_of(run) == pytest.approx(volume)
    assert np.array_equal(painted(run), whole)
    assert len(read_history(run).of("liver").versions) == 2  # nothing was thrown away
    back = cli("refine", run, "liver", "--undo")
    assert (back.code, "nothing to undo" in back.err) == (2, True)
    assert cli("refine", run, "liver", "--choose", 2).code == 0
    assert volume_of(run) < volume
    listed = cli("refine", run, "Liver", "--versions")
    assert "*2" in listed.out
    missing = cli("refine", run, "liver", "--choose", 7)
    assert (missing.code, "There are 1, 2" in missing.err) == (2, True)


def test_the_other_structure_is_as_before_where_two_are_corrected(run: Path, cli: Cli) -> None:
    spleen = volume_of(run, "spleen")
    assert cli("refine", run, "liver", "--not", a_voxel_of("liver")).code == 0
    assert volume_of(run, "spleen") == pytest.approx(spleen)
    assert cli("refine", run, "spleen", "--point", a_voxel_of("spleen"), "--fresh").code == 0
    assert set(read_history(run).structures) == {"liver", "spleen"}


def test_an_oracle_scores_its_turns_and_disagreement_needs_no_truth(run: Path, cli: Cli, tmp_path: Path) -> None:
    truth = tmp_path / "truth.nii.gz"
    write_mask(PATIENT.mask("liver", "liver_lesion"), PATIENT.grid, truth)
    answer = cli("refine", run, "liver", "--policy", "oracle", "--truth", truth, "--budget", 2)
    assert answer.code == 0, answer.err
    assert answer.err.count("Dice") == 2
    answer = cli("refine", run, "liver", "--policy", "disagreement")
    assert answer.code == 0, answer.err
    assert "what no model has" in answer.err or "the middle of what all" in answer.err


def test_a_script_and_a_scribble_file_are_given_in_order(run: Path, cli: Cli, tmp_path: Path) -> None:
    i, j, k = (int(index) for index in a_voxel_of("spleen").split(","))
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"kind": "point", "voxel": [i, j, k], "positive": False}]))
    assert cli("refine", run, "spleen", "--script", script).code == 0
    line = np.zeros(PATIENT.grid.shape, bool)
    line[k, j, i - 2 : i + 2] = True
    write_mask(line, PATIENT.grid, tmp_path / "line.nii.gz")
    assert cli("refine", run, "spleen", "--scribble", tmp_path / "line.nii.gz").code == 0
    assert painted(run, "masks/spleen.3.nii.gz")[line].all()


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--point", "999,0,0"], 2, "outside the image"),
        (["--point", "1,2"], 2, "no voxel"),
        (["--box", "5:5,1:2,1:2"], 2, "no volume"),
        (["--box", "5,1,2"], 2, "no box"),
        (["--point", "1,2,3", "--policy", "disagreement"], 2, "Give one of both"),
        (["--policy", "oracle"], 2, "--truth FILE"),
        (["--policy", "script"], 2, "--script FILE"),
        (["--with", "magic", "--point", "40,40,30"], 2, "no promptable model"),
        (["--with", "http", "--point", "40,40,30"], 2, "--url"),
        (["--with", "sam", "--point", "40,40,30"], 4, "--promptable FOLDER"),
        (["--with", "nninteractive", "--point", "40,40,30"], 4, "models install nninteractive"),
        (["-i", "no_such.nii.gz", "--point", "40,40,30"], 5, "no such file"),
        (["--undo"], 2, "never corrected"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    options: list[str], code: int, said: str, run: Path, cli: Cli
) -> None:
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    answer = cli("refine", run, "liver", *options)
    assert (answer.code, said in answer.err) == (code, True), answer.err
    after = {file: file.read_bytes() for file in run.rglob("*") if file.is_file() and "episodes" not in file.parts}
    assert after == before


def test_a_scribble_on_another_grid_an_unknown_structure_and_no_run_are_refused(
    run: Path, cli: Cli, tmp_path: Path
) -> None:
    other = Grid((5, 6, 7), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    mask = np.zeros((7, 6, 5), bool)
    mask[3, 3, 3] = True
    write_mask(mask, other, tmp_path / "other.nii.gz")
    for arguments, code, said in (
        ((run, "liver", "--scribble", tmp_path / "other.nii.gz"), 5, "another grid"),
        ((run, "pancreas", "--undo"), 2, "It has liver, spleen"),
        ((tmp_path, "liver", "--undo"), 5, "no finished run"),
    ):
        answer = cli("refine", *arguments)
        assert (answer.code, said in answer.err) == (code, True), answer.err


def test_the_runs_image_is_known_by_its_checksum(run: Path, mr_file: Path, ct_file: Path, cli: Cli) -> None:
    for file in run.parent.glob("*.nii.gz"):
        file.unlink()
    voxel = a_voxel_of("liver")
    assert "Give it with -i" in cli("refine", run, "liver", "--point", voxel).err
    assert "its checksum differs" in cli("refine", run, "liver", "--point", voxel, "-i", mr_file).err
    assert cli("refine", run, "liver", "--point", voxel, "-i", ct_file).code == 0


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"structures": {"liver": {"chosen": 1, "versions": [{"file": "../x"}]}}}']
)
def test_a_damaged_history_is_refused_and_left_alone(damage: str, run: Path, cli: Cli) -> None:
    (run / HISTORY).write_text(damage)
    answer = cli("refine", run, "liver", "--point", "40,40,30")
    assert (answer.code, "masks.json is damaged" in answer.err) == (5, True)
    assert (run / HISTORY).read_text() == damage
    with pytest.raises(OutputError):
        read_history(run)


def test_a_person_at_the_terminal_can_click_err_take_back_and_stop(
    run: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    voxel = a_voxel_of("liver").replace(",", " ")
    lines = iter(["what?", "- 999 1 1", "undo", f"- {voxel}", "undo", f"- {voxel}", "stop"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    answer = cli("refine", run, "liver")
    assert answer.code == 0, answer.err
    assert "is no prompt" in answer.err
    assert "outside the image" in answer.err
    assert "nothing to take back" in answer.err
    assert len(read_history(run).of("liver").current.prompts) == 1


def test_lines_are_read_as_a_person_writes_them() -> None:
    assert read_line("+ 1 2 3") == read_line("+1,2,3") == Act(Point(voxel=(1, 2, 3)), "by hand")
    assert read_line("-1 2 3") == Act(Point(voxel=(1, 2, 3), positive=False), "by hand")
    assert read_line("box 1:2 3:4 5:6") == Act(Box(low=(1, 3, 5), high=(2, 4, 6)), "by hand")
    assert isinstance(read_line("undo"), Undo)
    assert isinstance(read_line(""), Stop)
    for line in ("+ 1 2", "hello", "box 1 2 3", "+ a b c"):
        with pytest.raises(PromptError):
            read_line(line)


def test_a_version_never_overwrites_another(tmp_path: Path) -> None:
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    history = read_history(tmp_path)
    for count in (1, 2, 3):
        mask = np.zeros((4, 4, 4), bool)
        mask[:count] = True
        history = store(tmp_path, history, "x", Boxed.of(mask), grid, who="a test", parent=count - 1 or None)
    history = history.choosing("x", 1)
    history = store(tmp_path, history, "x", Boxed.of(mask), grid, who="a test", parent=1)
    assert [version.version for version in history.of("x").versions] == [1, 2, 3, 4]
    assert [painted(tmp_path, f"masks/x.{number}.nii.gz").sum() for number in (1, 2, 3)] == [16, 32, 48]


def test_promptable_models_are_listed_with_what_they_lack(cli: Cli) -> None:
    answer = cli("promptable", "list")
    assert answer.code == 0
    assert "walker" in answer.out
    assert "ready" in answer.out


def test_installing_weights_shows_source_hash_and_licence_and_asks(cli: Cli) -> None:
    answer = cli("models", "install", "nninteractive")
    assert answer.code == 6
    for part in ("huggingface.co/MIC-DKFZ/nnInteractive", "b3ac4421", "CC BY-NC-SA 4.0", "--accept-licence"):
        assert part in answer.err


def test_a_refiner_between_executor_and_reporter_says_every_turn_and_keeps_both_masks(
    ct_file: Path, segment_phantom: Cli, tmp_path: Path
) -> None:
    answer = segment_phantom("liver and spleen", ct_file, "--refine", "disagreement", "-v")
    assert answer.code == 0, answer.err
    assert "Refiner" in answer.err + answer.out
    run = tmp_path / "out"
    history = read_history(run)
    record = json.loads((run / "run.json").read_text())
    assert {item["structure"] for item in record["corrections"]} == set(history.structures) != set()
    assert record["asked"]["options"]["refinement"]["kind"] == "disagreement"
    assert record["promptable"].startswith("walker")
    for name, versions in history.structures.items():
        assert [version.parent for version in versions.versions] == [None, 1]
        before, after = (painted(run, version.file) > 0 for version in versions.versions)
        share = painted(run, f"agreement/{name}.nii.gz")
        assert not (before ^ after)[(share == 0) | (share == 100)].any()  # what all agree on is never changed
    assert "Corrections" in (run / "report.html").read_text()
    said = [json.loads(line) for line in (run / "transcript.jsonl").read_text().splitlines()]
    assert any(line.get("type") == "Refined" or "turn" in json.dumps(line) for line in said)


def test_a_promptable_model_that_is_not_there_is_said_before_anything_is_lost(
    ct_file: Path, segment_phantom: Cli, tmp_path: Path
) -> None:
    answer = segment_phantom("liver", ct_file, "--refine", "disagreement", "--with", "sam")
    assert (answer.code, "--promptable FOLDER" in answer.err) == (4, True), answer.err
    answer = segment_phantom("liver", ct_file, "--refine", "llm", "--config", tmp_path / "none.json")
    assert answer.code in (2, 5), answer.err


def test_the_key_of_a_vision_model_is_in_no_record() -> None:
    endpoint = VisionEndpoint("sees", "http://127.0.0.1:1/v1", key="sk-very-secret", send_images=True)
    options = Options(refinement=Refinement("llm", endpoint=endpoint))
    asked = what_was_asked("liver", options, Segmenter(CARDS, models_dir=MODELS).resources, {"kind": "rules"})
    assert "sk-very-secret" not in asked.model_dump_json() + repr(options)
    assert asked.options["refinement"]["vision_model"] == "sees"


def test_a_result_that_was_kept_in_memory_is_saved_with_both_masks(ct_file: Path, tmp_path: Path) -> None:
    options = Options(refinement=Refinement("disagreement"))
    result = Segmenter(CARDS, models_dir=MODELS).segment("spleen", ct_file, options=options)
    folder = result.save(tmp_path / "saved")
    versions = read_history(folder).of("spleen")
    assert np.array_equal(painted(folder, versions.current.file) > 0, result.masks["spleen"])
    assert versions.versions[0].volume_ml != versions.current.volume_ml or versions.current.prompts
