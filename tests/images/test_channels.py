"""Channels by the names of files and series, and on one grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_builder import ball, pet, save, slices

from medsegagent.errors import ImageError
from medsegagent.images.channels import channel_of_file
from medsegagent.images.dicom import read_dicom
from medsegagent.images.inspection import channel_of
from medsegagent.images.read import read_volumes


@pytest.mark.parametrize(
    ("name", "channel"),
    [
        ("sub-01_ses-2_T1w.nii.gz", "T1"),
        ("sub-01_ce-gadolinium_T1w.nii.gz", "T1ce"),
        ("sub-01_FLAIR.nii", "FLAIR"),
        ("BraTS_0001_t1ce.nii.gz", "T1ce"),
        ("BraTS-GLI-00000-t2w.nii.gz", "T2"),
        ("sub-01_adc.nrrd", "ADC"),
        ("sub-01_ct.nii.gz", "CT"),
        ("sub-01_pet.nii.gz", "PET"),
        ("ct_abdomen.nii.gz", ""),
        ("t2_report_final.nii.gz", ""),
        ("image.mha", ""),
    ],
)
def test_a_bids_suffix_names_the_channel(name: str, channel: str) -> None:
    assert channel_of_file(Path("/data") / name) == channel


def test_the_series_whose_description_is_the_channels_is_read(tmp_path: Path) -> None:
    for number, text in enumerate(["AX T1 post Gd", "AX T1 SE", "AX T2 FLAIR", "AX T2 TSE"], 1):
        save(slices(ball() + np.int16(number), number=number, description=text, modality="MR"), tmp_path / text)
    for channel, number in {"T1ce": 1, "T1": 2, "FLAIR": 3, "T2": 4}.items():
        assert np.array_equal(read_dicom(tmp_path, channel).array, ball() + np.int16(number))


def test_pet_and_ct_of_one_study_are_told_apart_and_laid_on_one_grid(tmp_path: Path) -> None:
    save(slices(ball(), number=1), tmp_path / "a")
    save(pet(ball((10, 20, 18), low=0, high=9000), spacing=(1.0, 1.0), number=2), tmp_path / "b")
    ct, suv = read_volumes({"CT": tmp_path, "PET": tmp_path})
    assert (ct.evidence.family, suv.evidence.family) == ("CT", "PET")
    assert suv.grid == ct.grid
    assert "resampled from 18x20x10 voxels" in suv.warnings[-1]


def ramp(path: Path, spacing: tuple[float, float, float], size: tuple[int, int, int], origin: float = 0.0) -> Path:
    """An image whose value is the x position in mm."""
    image = sitk.PhysicalPointSource(sitk.sitkVectorFloat32, size, (origin, 0.0, 0.0), spacing)
    sitk.WriteImage(sitk.VectorIndexSelectionCast(image, 0), str(path))
    return path


class TestOneGrid:
    def test_a_channel_on_another_grid_is_resampled_in_patient_space_and_said(self, tmp_path: Path) -> None:
        fine = ramp(tmp_path / "t1.nii", (1, 1, 1), (20, 10, 10))
        coarse = ramp(tmp_path / "t2.nii", (2, 2, 2), (12, 6, 6), origin=-1.0)
        first, second = read_volumes({"T1": fine, "T2": coarse}, family="MR")
        np.testing.assert_allclose(second.array, first.array, atol=1e-5)
        assert second.grid == first.grid
        assert "resampled from 12x6x6 voxels" in second.warnings[0]
        assert first.warnings == ()

    def test_what_is_not_covered_is_said(self, tmp_path: Path) -> None:
        first = ramp(tmp_path / "t1.nii", (1, 1, 1), (20, 10, 10))
        half = ramp(tmp_path / "t2.nii", (1, 1, 1), (10, 10, 10))
        _, second = read_volumes({"T1": first, "T2": half}, family="MR")
        assert "covers 5" in second.warnings[0]
        assert second.array[0, 0, -1] == 0

    def test_images_with_nothing_in_common_are_refused(self, tmp_path: Path) -> None:
        here = ramp(tmp_path / "t1.nii", (1, 1, 1), (20, 10, 10))
        there = ramp(tmp_path / "t2.nii", (1, 1, 1), (20, 10, 10), origin=19.0)
        with pytest.raises(ImageError, match=r"t2\.nii: shares [0-9]% of the space of t1\.nii"):
            read_volumes({"T1": here, "T2": there})

    def test_another_frame_of_reference_is_said(self, tmp_path: Path) -> None:
        moved = slices(ball((10, 24, 20)), number=2, modality="MR", FrameOfReferenceUID="1.2.3.4")
        save(slices(ball(), number=1), tmp_path / "a")
        save(moved, tmp_path / "b")
        _, second = read_volumes({"CT": tmp_path / "a", "T2": tmp_path / "b"})
        assert "frames of reference differ" in second.warnings[0]
        assert "1.2.3.4" not in str(second)


def test_a_dicom_series_is_named_by_its_description_and_else_by_its_modality(tmp_path: Path) -> None:
    save(slices(ball(), description="AX T1 post Gd", modality="MR"), tmp_path / "t1")
    save(slices(ball(), description="Abdomen"), tmp_path / "ct")
    save(slices(ball(), description="Abdomen", number=5), tmp_path / "ct" / "more")
    save(slices(ball(), description="Abdomen"), tmp_path / "one")
    assert [channel_of(tmp_path / name) for name in ("t1", "one", "ct")] == ["T1ce", "CT", ""]
    assert channel_of(tmp_path / "sub-01_FLAIR.nii.gz") == "FLAIR"
