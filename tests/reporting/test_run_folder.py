from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from phantoms import LIVER, TUMOR, segmentation

from medsegagent.errors import ExitCode, OutputError
from medsegagent.files import write_json
from medsegagent.reporting.run_folder import RunFolder, write_segmentation
from medsegagent.reporting.written_files import add_file


def run_into(path: Path, text: str = "new", overwrite: bool = False) -> None:
    with RunFolder(path, overwrite=overwrite) as folder:
        (folder / "run.json").write_text(text)
        (folder / "targets").mkdir()
        (folder / "targets" / "liver.nii.gz").write_text(text)


def tree(path: Path) -> set[str]:
    return {file.relative_to(path).as_posix() for file in path.rglob("*")}


class TestAppearsWholeOrNotAtAll:
    def test_a_new_folder_with_its_parents_appears_at_the_end(self, tmp_path: Path) -> None:
        target = tmp_path / "a" / "b"
        with RunFolder(target) as folder:
            (folder / "run.json").write_text("{}")
            assert not target.exists()
        assert tree(tmp_path) == {"a", "a/b", "a/b/run.json"}

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
    def test_nothing_stays_after_a_failure(self, tmp_path: Path, error: type[BaseException]) -> None:
        def work() -> None:
            with RunFolder(tmp_path / "a" / "b") as folder:
                (folder / "half.nii.gz").write_text("half")
                raise error

        with pytest.raises(error):
            work()
        assert tree(tmp_path) == set()

    def test_an_empty_folder_is_filled_in_place_as_a_mount_must_be(self, tmp_path: Path) -> None:
        before = tmp_path.stat().st_ino
        run_into(tmp_path)
        assert tmp_path.stat().st_ino == before
        assert tree(tmp_path) == {"run.json", "targets", "targets/liver.nii.gz"}

    def test_an_earlier_run_is_replaced_whole_with_overwrite(self, tmp_path: Path) -> None:
        run_into(tmp_path, "old")
        (tmp_path / "preview.png").write_text("old")
        run_into(tmp_path, "new", overwrite=True)
        assert tree(tmp_path) == {"run.json", "targets", "targets/liver.nii.gz"}
        assert (tmp_path / "targets" / "liver.nii.gz").read_text() == "new"

    def test_an_earlier_run_survives_a_failed_overwrite(self, tmp_path: Path) -> None:
        run_into(tmp_path, "old")

        def work() -> None:
            with RunFolder(tmp_path, overwrite=True) as folder:
                (folder / "run.json").write_text("new")
                raise ValueError

        with pytest.raises(ValueError):  # noqa: PT011
            work()
        assert (tmp_path / "run.json").read_text() == "old"
        assert tree(tmp_path) == {"run.json", "targets", "targets/liver.nii.gz"}

    def test_an_earlier_run_comes_back_if_the_new_one_cannot_be_moved_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_into(tmp_path, "old")
        rename = os.rename

        def full(source: Path, target: Path) -> None:
            if Path(source).read_bytes() == b"new" if Path(source).is_file() else False:
                raise OSError(28, "No space left on device")
            rename(source, target)

        monkeypatch.setattr(os, "rename", full)
        with pytest.raises(OutputError, match="No space left"):
            run_into(tmp_path, "new", overwrite=True)
        assert (tmp_path / "run.json").read_text() == "old"
        assert (tmp_path / "targets" / "liver.nii.gz").read_text() == "old"
        assert tree(tmp_path) == {"run.json", "targets", "targets/liver.nii.gz"}


def full_run(path: Path, text: str = "new", more: tuple[str, ...] = (), **how: Any) -> RunFolder:
    """A run whose record says which it is and, as any, which files it has."""
    run = RunFolder(path, **how)
    with run as folder:
        for name in ("run.json", "targets/liver.nii.gz", "report.html", *more):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps({"which": text}))
    return run


def contents(path: Path) -> dict[str, str]:
    """File -> which run wrote it, or its text."""
    found = {}
    for file in path.rglob("*"):
        if file.is_file():
            text = file.read_text()
            found[file.relative_to(path).as_posix()] = json.loads(text)["which"] if text.startswith("{") else text
    return found


def run_of(text: str, *more: str) -> dict[str, str]:
    return dict.fromkeys(("run.json", "targets/liver.nii.gz", "report.html", *more), text)


CHILD = """
    import json, os, signal, sys
    from pathlib import Path
    from medsegagent.reporting import run_folder

    out, kill_at, text = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    rename, left = os.rename, [kill_at]

    def cut(source, target):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        rename(source, target)

    os.rename = cut
    with run_folder.RunFolder(out, overwrite=True) as folder:
        for name in ("run.json", "targets/spleen.nii.gz", "extra.txt"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps({"which": text}))
        if kill_at < 0:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def killed_run(out: Path, kill_at: int) -> int:
    """A run in another process that is killed before its so-manieth file moves; before any for -1."""
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(out), str(kill_at), "killed"]
    return subprocess.run(command, check=False, timeout=60).returncode


class TestNothingOfTheUsersGoes:
    def test_an_overwrite_replaces_what_the_earlier_run_wrote_and_keeps_the_rest(self, tmp_path: Path) -> None:
        full_run(tmp_path, "old", more=("targets/spleen.nii.gz",))
        (tmp_path / "thesis.docx").write_text("years of work")
        (tmp_path / "targets" / "notes.txt").write_text("mine")
        (tmp_path / "dicom").mkdir()
        (tmp_path / "dicom" / "1.dcm").write_text("scan")
        full_run(tmp_path, "new", overwrite=True)
        mine = {"thesis.docx": "years of work", "targets/notes.txt": "mine", "dicom/1.dcm": "scan"}
        assert contents(tmp_path) == run_of("new") | mine

    def test_the_record_lists_what_the_run_wrote(self, tmp_path: Path) -> None:
        full_run(tmp_path / "out", more=("targets/spleen.nii.gz",))
        record = json.loads((tmp_path / "out" / "run.json").read_text())
        assert record["files"] == ["report.html", "run.json", "targets/liver.nii.gz", "targets/spleen.nii.gz"]

    def test_of_a_run_without_a_list_only_the_usual_files_go(self, tmp_path: Path) -> None:
        for name in ("run.json", "segmentation.nii.gz", "scan.nii.gz", "segmentation.docx"):
            (tmp_path / name).write_text("old")
        full_run(tmp_path, overwrite=True)
        assert contents(tmp_path) == run_of("new") | {"scan.nii.gz": "old", "segmentation.docx": "old"}

    @pytest.mark.parametrize(
        "name", ["../precious.txt", "targets/../../precious.txt", "/ABSOLUTE", "link/precious.txt"]
    )
    def test_a_list_that_leads_out_of_the_folder_is_not_followed(self, tmp_path: Path, name: str) -> None:
        precious = tmp_path / "precious.txt"
        precious.write_text("mine")
        out = tmp_path / "out"
        full_run(out, "old")
        (out / "link").symlink_to(tmp_path)
        record = json.loads((out / "run.json").read_text())
        record["files"] += [name.replace("/FULL", str(precious)), None, 3, "", ".", "\0"]
        (out / "run.json").write_text(json.dumps(record))
        full_run(out, "new", overwrite=True)
        assert precious.read_text() == "mine"
        assert (out / "link" / "precious.txt").read_text() == "mine"
        assert (out / "report.html").read_text() == '{"which": "new"}'

    @pytest.mark.parametrize("through", ["itself", "a link", "a hard link", "its folder"])
    def test_an_input_that_would_go_is_refused_before_work(self, tmp_path: Path, through: str) -> None:
        out = tmp_path / "out"
        full_run(out, "old")
        file = out / "targets" / "liver.nii.gz"
        given = {"itself": file, "its folder": out}.get(through, tmp_path / "input.nii.gz")
        if through == "a link":
            given.symlink_to(file)
        if through == "a hard link":
            given.hardlink_to(file)
        with pytest.raises(OutputError, match=r"liver\.nii\.gz is an input|report\.html is an input"):
            full_run(out, overwrite=True, inputs=[given])
        assert contents(out) == run_of("old")

    def test_an_input_that_stays_may_lie_in_the_folder(self, tmp_path: Path) -> None:
        full_run(tmp_path, "old")
        only_copy = tmp_path / "my_only_copy.nii.gz"
        only_copy.write_text("scan")
        full_run(tmp_path, overwrite=True, inputs=[only_copy, tmp_path.parent])
        assert contents(tmp_path) == run_of("new") | {"my_only_copy.nii.gz": "scan"}

    @pytest.mark.parametrize("name", ["extra.txt", "extra.txt/inside", "meshes"])
    def test_a_new_file_never_takes_the_place_of_the_users(self, tmp_path: Path, name: str) -> None:
        out = tmp_path / "out"
        full_run(out, "old")
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
        run = full_run(out, "new", more=("extra.txt", "meshes/liver.stl"), overwrite=True)
        assert contents(out) == run_of("old") | {name: "mine"}
        assert contents(run.place) == run_of("new", "extra.txt", "meshes/liver.stl")
        assert str(run.place) in run.notes[0]


class TestSomethingComesBetween:
    def test_of_two_runs_to_one_new_folder_the_second_is_put_beside(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        with (second := RunFolder(out)) as folder:
            (folder / "run.json").write_text(json.dumps({"which": "second"}))
            first = full_run(out, "first")
        assert (first.place, first.notes) == (out, ())
        assert contents(out) == run_of("first")
        assert second.place == tmp_path / "out-2"
        assert contents(second.place) == {"run.json": "second"}
        assert "out-2" in second.notes[0]
        assert {path.name for path in tmp_path.iterdir()} == {"out", "out-2"}

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_file_put_there_meanwhile_stays(self, tmp_path: Path, exists: bool) -> None:
        out = tmp_path / "out"
        if exists:
            out.mkdir()
        with (run := RunFolder(out)) as folder:
            (folder / "run.json").write_text(json.dumps({"which": "new"}))
            out.mkdir(exist_ok=True)
            (out / "notes.txt").write_text("mine")
        assert contents(out) == {"notes.txt": "mine"}
        assert contents(run.place) == {"run.json": "new"}

    def test_two_overwrites_of_one_run_do_not_mix(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        full_run(out, "old")
        with (second := RunFolder(out, overwrite=True)) as folder:
            (folder / "run.json").write_text(json.dumps({"which": "second"}))
            full_run(out, "first", overwrite=True)
        assert contents(out) == run_of("first")
        assert contents(second.place) == {"run.json": "second"}

    def test_a_link_a_file_or_an_empty_folder_that_came_meanwhile(self, tmp_path: Path) -> None:
        for name, make in (("file", Path.touch), ("link", lambda path: path.symlink_to("x")), ("empty", Path.mkdir)):
            out = tmp_path / name
            with (run := RunFolder(out)) as folder:
                (folder / "run.json").write_text(json.dumps({"which": name}))
                make(out)
            assert contents(run.place) == {"run.json": name}
            assert run.place == (out if name == "empty" else tmp_path / f"{name}-2")

    def test_many_at_once_lose_nothing(self, tmp_path: Path) -> None:
        together, places = Barrier(8), []

        def work(number: int) -> None:
            with (run := RunFolder(tmp_path / "a" / "out")) as folder:
                (folder / "run.json").write_text(json.dumps({"which": str(number)}))
                together.wait()
            places.append(run.place)

        threads = [Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [contents(place) for place in places]
        assert sorted(item["run.json"] for item in found) == [str(number) for number in range(8)]
        assert len(list((tmp_path / "a").iterdir())) == 8


class TestAKilledRun:
    def test_what_it_leaves_is_removed_by_the_next_one(self, tmp_path: Path) -> None:
        for _ in range(3):
            assert killed_run(tmp_path / "out", -1) == -signal.SIGKILL
            assert len(list(tmp_path.iterdir())) == 1, "one at most is left at a time"
        full_run(tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"out"}

    def test_what_one_leaves_that_lives_is_not(self, tmp_path: Path) -> None:
        with RunFolder(tmp_path / "a") as folder:
            (folder / "half").write_text("half")
            full_run(tmp_path / "b")
            assert (folder / "half").exists()

    @pytest.mark.parametrize("moved", range(8))
    def test_while_it_publishes_leaves_the_earlier_run_to_be_put_back(self, tmp_path: Path, moved: int) -> None:
        """The old run has three files and the user one beside them; the new one has three others."""
        full_run(tmp_path, "old")
        (tmp_path / "targets" / "notes.txt").write_text("mine")
        finished = killed_run(tmp_path, moved) == 0
        with pytest.raises(OutputError, match="holds an earlier run"):
            full_run(tmp_path)
        after = {"run.json": "killed", "targets/spleen.nii.gz": "killed", "extra.txt": "killed"}
        assert contents(tmp_path) == (after if finished else run_of("old")) | {"targets/notes.txt": "mine"}
        assert finished == (moved >= 6)
        assert not list(tmp_path.glob(".medsegagent*"))

    def test_while_it_cleans_up_leaves_the_new_run(self, tmp_path: Path) -> None:
        full_run(tmp_path, "new")
        left = tmp_path / ".medsegagent-partial-0123"
        (left / "new" / "targets").mkdir(parents=True)
        (left / "old").mkdir()
        (left / "old" / "gone.txt").write_text("old")
        (left / "journal.json").write_text('{"new": ["run.json", "report.html", "targets/liver.nii.gz"]}')
        full_run(tmp_path / "other")
        full_run(tmp_path, "newer", overwrite=True)
        assert contents(tmp_path) == run_of("newer") | {f"other/{name}": "new" for name in run_of("new")}

    def test_a_journal_that_leads_out_of_the_folder_moves_nothing_there(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        full_run(out, "old")
        (tmp_path / "precious.txt").write_text("mine")
        left = out / ".medsegagent-partial-0123"
        (left / "new").mkdir(parents=True)
        (left / "new" / "x").write_text("x")
        (left / "journal.json").write_text('{"new": ["../precious.txt", "/etc/hostname", 5, null]}')
        full_run(out, "new", overwrite=True)
        assert (tmp_path / "precious.txt").read_text() == "mine"

    def test_if_even_putting_back_fails_the_earlier_run_is_not_thrown_away(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full_run(tmp_path, "old")
        rename, left = os.rename, [4]

        def failing(source: Path, target: Path) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(5, "Input/output error")
            rename(source, target)

        with monkeypatch.context() as patched:
            patched.setattr(os, "rename", failing)
            with pytest.raises(OutputError, match="Input/output error"):
                full_run(tmp_path, "new", overwrite=True)
        with pytest.raises(OutputError, match="holds an earlier run"):
            full_run(tmp_path)
        assert contents(tmp_path) == run_of("old")


def test_a_file_is_added_to_a_run_but_not_over_the_users(tmp_path: Path) -> None:
    full_run(tmp_path, "old")
    assert add_file(tmp_path, "image.nii.gz", b"first")
    assert add_file(tmp_path, "image.nii.gz", b"second")
    (tmp_path / "scan.nii.gz").write_text("mine")
    assert not add_file(tmp_path, "scan.nii.gz", b"third")
    assert contents(tmp_path) == run_of("old") | {"image.nii.gz": "second", "scan.nii.gz": "mine"}
    full_run(tmp_path, "new", overwrite=True)
    assert contents(tmp_path) == run_of("new") | {"scan.nii.gz": "mine"}


class TestRefuses:
    @pytest.mark.parametrize("name", ["a\0b", "x" * 300])
    def test_a_name_that_no_folder_can_have(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(OutputError, match="cannot be written"):
            run_into(tmp_path / name)

    def test_a_way_up_and_down_again_is_followed_before_anything_is_made(self, tmp_path: Path) -> None:
        run_into(tmp_path / "made" / ".." / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"out"}

    def test_a_link_to_nowhere(self, tmp_path: Path) -> None:
        (tmp_path / "out").symlink_to("nowhere")
        with pytest.raises(OutputError, match="link to nowhere"):
            run_into(tmp_path / "out")

    def test_an_earlier_run_without_overwrite(self, tmp_path: Path) -> None:
        run_into(tmp_path)
        with pytest.raises(OutputError, match="--overwrite") as caught:
            run_into(tmp_path)
        assert caught.value.exit_code == ExitCode.BAD_INPUT

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_a_folder_of_other_files_even_with_overwrite(self, tmp_path: Path, overwrite: bool) -> None:
        (tmp_path / "thesis.docx").write_text("years of work")
        with pytest.raises(OutputError, match="holds other files"):
            run_into(tmp_path, overwrite=overwrite)
        assert tree(tmp_path) == {"thesis.docx"}

    def test_a_file_and_a_place_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="a folder is needed"):
            run_into(tmp_path / "file")
        with pytest.raises(OutputError, match="cannot be written"):
            run_into(tmp_path / "file" / "out")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_that_may_not_be_written(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="cannot be written"):
            run_into(tmp_path / "out")


class TestSegmentationFiles:
    def test_the_map_paints_the_lesion_over_its_organ_and_both_whole_masks_are_beside_it(self, tmp_path: Path) -> None:
        write_segmentation(segmentation(), tmp_path, separate=False)
        names = json.loads((tmp_path / "segmentation.json").read_text())
        value = {item["id"]: int(key) for key, item in names.items()}
        painted = read(tmp_path / "segmentation.nii.gz")
        assert np.array_equal(painted == value["tumor.liver"], TUMOR)
        assert np.array_equal(read(tmp_path / "targets" / "liver.nii.gz") > 0, LIVER)
        assert {file.name for file in (tmp_path / "targets").iterdir()} == {"liver.nii.gz", "tumor.liver.nii.gz"}

    def test_separate_writes_every_target(self, tmp_path: Path) -> None:
        write_segmentation(segmentation(), tmp_path, separate=True)
        assert len(list((tmp_path / "targets").iterdir())) == 4

    def test_agreement_is_a_percentage(self, tmp_path: Path) -> None:
        write_segmentation(segmentation(), tmp_path, separate=False)
        assert set(np.unique(read(tmp_path / "agreement" / "liver.nii.gz"))) == {0, 50, 100}


def test_json_is_sorted_and_has_no_nan(tmp_path: Path) -> None:
    record = {"b": float("nan"), "a": (np.float32(0.5), np.int64(2), Path("x") / "y"), "c": {"é": float("inf")}}
    write_json(tmp_path / "run.json", record)
    text = (tmp_path / "run.json").read_text("utf-8")
    assert json.loads(text) == {"a": [0.5, 2, "x/y"], "b": None, "c": {"é": None}}
    assert text.startswith('{\n  "a": [')
    assert text.endswith("}\n")


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(path))
