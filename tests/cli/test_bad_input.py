"""Bad input gets one clear sentence, the right exit code, and leaves nothing behind."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

Run = Callable[..., tuple[int, str, str]]
LIVER = "segment the liver"


def write_nifti(file: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    image = nib.Nifti1Image(array, np.diag([3.0, 3.0, 3.0, 1.0]) if affine is None else affine)
    if affine is not None:
        image.set_sform(affine, code=1)
        image.set_qform(None, code=0)
    nib.save(image, file)
    return file


def refused(answer: tuple[int, str, str], code: int, *words: str) -> None:
    exit_code, _, err = answer
    assert exit_code == code, err
    assert "Traceback" not in err
    assert "error:" in err
    for word in words:
        assert word.lower() in err.lower(), err


class TestTheImage:
    def test_a_missing_file(self, segment_phantom: Run, tmp_path: Path) -> None:
        refused(segment_phantom(LIVER, tmp_path / "absent.nii.gz"), 5, "absent.nii.gz")

    @pytest.mark.parametrize("name", ["text.nii.gz", "text.nii", "text.nrrd", "text.mha", "text.xyz"])
    def test_a_file_that_is_no_image(self, segment_phantom: Run, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("this is not an image")
        refused(segment_phantom(LIVER, tmp_path / name), 5, name)
        assert not (tmp_path / "out").exists()

    def test_a_truncated_file(self, segment_phantom: Run, tmp_path: Path, ct_file: Path) -> None:
        (tmp_path / "cut.nii.gz").write_bytes(ct_file.read_bytes()[:2000])
        refused(segment_phantom(LIVER, tmp_path / "cut.nii.gz"), 5, "cut.nii.gz")

    def test_one_slice(self, segment_phantom: Run, tmp_path: Path) -> None:
        file = write_nifti(tmp_path / "slice.nii.gz", np.zeros((32, 32, 1), np.float32))
        refused(segment_phantom(LIVER, file), 5, "slice")

    def test_an_empty_file(self, segment_phantom: Run, tmp_path: Path) -> None:
        (tmp_path / "empty.nii.gz").write_bytes(gzip.compress(b""))
        refused(segment_phantom(LIVER, tmp_path / "empty.nii.gz"), 5, "empty.nii.gz")

    def test_four_dimensions(self, segment_phantom: Run, tmp_path: Path) -> None:
        file = write_nifti(tmp_path / "time.nii.gz", np.zeros((16, 16, 16, 3), np.float32))
        refused(segment_phantom(LIVER, file), 5, "4D")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_voxels_that_are_no_numbers(self, segment_phantom: Run, tmp_path: Path, bad: float) -> None:
        array = np.zeros((16, 16, 16), np.float32)
        array[8, 8, 8] = bad
        refused(segment_phantom(LIVER, write_nifti(tmp_path / "nan.nii.gz", array)), 5, "nan.nii.gz")

    def test_a_singular_affine(self, segment_phantom: Run, tmp_path: Path) -> None:
        file = write_nifti(tmp_path / "flat.nii", np.zeros((16, 16, 16), np.float32), np.diag([3.0, 3.0, 3.0, 1.0]))
        content = bytearray(file.read_bytes())
        content[312:328] = bytes(16)  # srow_z: nibabel itself would not write this
        file.write_bytes(content)
        refused(segment_phantom(LIVER, file), 5, "flat.nii")

    def test_a_sheared_affine(self, segment_phantom: Run, tmp_path: Path) -> None:
        affine = np.diag([3.0, 3.0, 3.0, 1.0])
        affine[0, 1] = 1.0
        file = write_nifti(tmp_path / "sheared.nii.gz", np.zeros((16, 16, 16), np.float32), affine)
        refused(segment_phantom(LIVER, file), 5, "shear")

    def test_several_images_where_one_is_needed(self, segment_phantom: Run, ct_file: Path) -> None:
        refused(segment_phantom(LIVER, ct_file, "-i", ct_file), 2, "name")

    def test_channels_that_no_card_can_use_are_named(self, cli: Run, tmp_path: Path, mr_file: Path) -> None:
        out = tmp_path / "out"
        instruction = "segment the enhancing tumor of the glioma in brain MRI"
        answer = cli(
            "segment", instruction, "-i", mr_file, "-o", out, "--models-dir", tmp_path, "--library", "benchmark"
        )
        refused(answer, 5, "T1", "FLAIR")

    def test_an_mr_instruction_on_an_evident_ct_stops_unless_forced(self, segment_phantom: Run, ct_file: Path) -> None:
        refused(segment_phantom("segment the liver in this MRI", ct_file), 5, "CT", "--force")
        code, _, err = segment_phantom("segment the liver in this MRI", ct_file, "--force")
        assert code == 0, err


class TestTheInstruction:
    @pytest.mark.parametrize("text", ["", "   \n\t "])
    def test_an_empty_one(self, segment_phantom: Run, ct_file: Path, text: str) -> None:
        refused(segment_phantom(text, ct_file), 2, "empty")

    def test_an_oversized_one(self, segment_phantom: Run, ct_file: Path) -> None:
        refused(segment_phantom("liver " * 4000, ct_file), 2, "20,000")

    def test_an_unknown_target_offers_the_nearest(self, segment_phantom: Run, ct_file: Path) -> None:
        refused(segment_phantom("segment the splorkeen", ct_file), 3, "spleen")

    def test_a_target_of_another_modality_says_where_it_exists(self, cli: Run) -> None:
        refused(cli("match", "segment the clavicles in MRI", "--library", "benchmark"), 3, "CT")


class TestTheModels:
    def test_none_installed_lists_the_cards(self, cli: Run, ct_file: Path, tmp_path: Path) -> None:
        answer = cli("segment", LIVER, "-i", ct_file, "-o", tmp_path / "out", "--models-dir", tmp_path)
        refused(answer, 4, "TotalSegmentator_v2", "install")

    def test_one_truncated_checkpoint_does_not_stop_the_others(
        self, segment_phantom: Run, ct_file: Path, models_copy: Path, tmp_path: Path
    ) -> None:
        broken = sorted(models_copy.rglob("checkpoint_final.pth"))
        ct = [file for file in broken if "_CT" in str(file)]
        ct[0].write_bytes(ct[0].read_bytes()[:5000])
        code, _, err = segment_phantom("segment the liver and the spleen", ct_file, models=models_copy)
        assert code == 0, err
        assert "warning" in err
        record = json.loads((tmp_path / "out" / "run.json").read_text())
        assert len(record["failed"]) == 1
        assert record["structures"]

    def test_all_truncated_is_an_error(
        self, segment_phantom: Run, ct_file: Path, models_copy: Path, tmp_path: Path
    ) -> None:
        for file in models_copy.rglob("checkpoint_final.pth"):
            file.write_bytes(file.read_bytes()[:5000])
        refused(segment_phantom(LIVER, ct_file, models=models_copy), 7, "failed")
        assert not (tmp_path / "out").exists()


class TestTheOutputFolder:
    def test_one_that_holds_a_run_is_kept_without_overwrite(
        self, segment_phantom: Run, ct_file: Path, tmp_path: Path
    ) -> None:
        assert segment_phantom(LIVER, ct_file)[0] == 0
        before = (tmp_path / "out" / "run.json").read_bytes()
        refused(segment_phantom(LIVER, ct_file), 5, "--overwrite")
        assert (tmp_path / "out" / "run.json").read_bytes() == before
        assert segment_phantom(LIVER, ct_file, "--overwrite")[0] == 0
        assert (tmp_path / "out" / "run.json").read_bytes() != before

    def test_one_that_is_a_file(self, segment_phantom: Run, ct_file: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        refused(segment_phantom(LIVER, ct_file), 5, "out")
        assert (tmp_path / "out").read_text() == "mine"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_one_that_cannot_be_written(self, segment_phantom: Run, ct_file: Path, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        try:
            refused(segment_phantom(LIVER, ct_file), 5, "out")
        finally:
            tmp_path.chmod(0o700)

    def test_none_given(self, cli: Run, ct_file: Path) -> None:
        refused(cli("segment", LIVER, "-i", ct_file), 2, "-o")
