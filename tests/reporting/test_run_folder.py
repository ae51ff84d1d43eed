from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from phantoms import LIVER, TUMOR, segmentation

from medsegagent.errors import ExitCode, OutputError
from medsegagent.reporting.run_folder import RunFolder, write_json, write_segmentation


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


class TestRefuses:
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
