"""DICOM folders against ITK's own series reader, and against arithmetic."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_builder import (
    AXIAL,
    CORONAL,
    OBLIQUE,
    SAGITTAL,
    SECRETS,
    ball,
    enhanced,
    header,
    pet,
    positions,
    save,
    set_pixels,
    slices,
)
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.pixels.utils import compress
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from medsegagent.errors import AnswerNeededError, ImageError, UsageError
from medsegagent.images.dicom import list_series, read_dicom


def by_itk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


class TestGeometry:
    @pytest.mark.parametrize("turn", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
    def test_a_series_has_the_voxels_and_the_place_that_itk_gives_it(
        self, turn: tuple[float, ...], tmp_path: Path
    ) -> None:
        volume = read_dicom(save(slices(ball(), turn), tmp_path))
        reference = by_itk(tmp_path)
        assert np.array_equal(volume.array, sitk.GetArrayFromImage(reference))
        assert volume.grid.size == reference.GetSize()
        for ours, theirs in [
            (volume.grid.spacing, reference.GetSpacing()),
            (volume.grid.origin, reference.GetOrigin()),
            (volume.grid.direction, reference.GetDirection()),
        ]:
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
        assert volume.warnings == ()

    def test_a_slice_order_that_runs_downwards_gives_the_same_volume(self, tmp_path: Path) -> None:
        up = slices(ball())
        down = slices(ball()[::-1], where=positions(12)[::-1])
        first, second = (read_dicom(save(case, tmp_path / str(i))) for i, case in enumerate((up, down)))
        assert np.array_equal(first.array, second.array)
        assert first.grid == second.grid

    def test_one_enhanced_multi_frame_object_reads_as_the_series_does(self, tmp_path: Path) -> None:
        classic = read_dicom(save(slices(ball()), tmp_path / "classic"))
        multi = read_dicom(save([enhanced(ball())], tmp_path / "multi", lambda _: "one.dcm") / "one.dcm")
        assert np.array_equal(multi.array, classic.array * 2 - 24)
        assert multi.grid == classic.grid

    def test_rescale_slope_and_intercept_of_each_slice_count(self, tmp_path: Path) -> None:
        case = slices(ball())
        for number, dataset in enumerate(case):
            dataset.RescaleSlope, dataset.RescaleIntercept = 1 + number, -1024
        volume = read_dicom(save(case, tmp_path))
        assert np.array_equal(volume.array, ball() * (1.0 + np.arange(12))[:, None, None] - 1024)


class TestCorrections:
    def test_a_tilted_gantry_is_sheared_upright_and_said(self, tmp_path: Path) -> None:
        """The ellipsoid's centre of mass, in mm, must lie where the slices' own positions put it."""
        where = positions(12) + np.arange(12)[:, None] * (0, 2.5 * np.tan(np.radians(15)), 0)
        array = np.where(ball() > 0, 100, 0).astype(np.int16)
        volume = read_dicom(save(slices(array, where=where), tmp_path))
        assert "tilted by 15.0 degrees" in volume.warnings[0]
        z, y, x = np.nonzero(array)
        truth = (where[z] + x[:, None] * (0.7, 0, 0) + y[:, None] * (0, 0.8, 0)).mean(axis=0)
        indices = np.argwhere(volume.array > 0)[:, ::-1]
        weights = volume.array[volume.array > 0]
        found = (volume.grid.points(indices) * weights[:, None]).sum(axis=0) / weights.sum()
        np.testing.assert_allclose(found, truth, atol=1e-3)
        assert volume.grid.size[1] > array.shape[1]
        assert weights.sum() == pytest.approx(array.sum(), rel=1e-4)

    def test_a_missing_slice_is_interpolated_and_said(self, tmp_path: Path) -> None:
        array = ball((20, 16, 16))
        case = slices(array)
        del case[7]
        volume = read_dicom(save(case, tmp_path))
        assert volume.array.shape == array.shape
        np.testing.assert_allclose(volume.array[7], (array[6].astype(float) + array[8]) / 2)
        assert np.array_equal(np.delete(volume.array, 7, axis=0), np.delete(array, 7, axis=0))
        assert "missing slices were interpolated from their neighbours (number 8)" in volume.warnings[0]

    @pytest.mark.parametrize("gone", [[5, 6, 7], [2, 5, 8, 11]])
    def test_more_missing_slices_than_can_be_filled_in_are_an_error(self, gone: list[int], tmp_path: Path) -> None:
        case = [dataset for number, dataset in enumerate(slices(ball((16, 8, 8)))) if number not in gone]
        with pytest.raises(ImageError, match="slices are missing"):
            read_dicom(save(case, tmp_path))

    def test_uneven_spacing_is_resampled_and_said(self, tmp_path: Path) -> None:
        """On an image that is a ramp along z, linear interpolation gives the ramp back."""
        heights = np.concatenate([np.arange(10) * 2.0, 18 + np.arange(1, 8) * 3.0])
        array = np.rint(np.ones((17, 8, 8)) * heights[:, None, None] * 10).astype(np.int16)
        where = np.array((0, 0, 0)) + heights[:, None] * (0, 0, 1)
        volume = read_dicom(save(slices(array, where=where), tmp_path))
        assert "resampled" in volume.warnings[0]
        found = volume.grid.points(np.array([[0, 0, k] for k in range(volume.grid.size[2])]))[:, 2]
        np.testing.assert_allclose(volume.array[:, 0, 0], found * 10, atol=1e-3)
        assert found[-1] == pytest.approx(heights[-1])

    def test_rounded_positions_are_no_reason_to_resample(self, tmp_path: Path) -> None:
        where = np.round(positions(12, step=1 / 3), 2)
        volume = read_dicom(save(slices(ball(), where=where), tmp_path))
        assert np.array_equal(volume.array, ball())
        assert volume.warnings == ()

    def test_the_same_slice_exported_twice_counts_once(self, tmp_path: Path) -> None:
        case = slices(ball())
        again = slices(ball())[4:6]
        volume = read_dicom(save([*case, *again], tmp_path))
        assert np.array_equal(volume.array, ball())
        assert volume.warnings == ("duplicate slices left out: 2",)

    def test_the_same_file_in_two_folders_counts_once(self, tmp_path: Path) -> None:
        case = slices(ball())
        save(case, tmp_path / "a")
        save(case[:5], tmp_path / "b")
        volume = read_dicom(tmp_path)
        assert np.array_equal(volume.array, ball())
        assert "copies of the same object left out: 5" in volume.warnings[0]

    def test_two_different_images_at_one_place_are_an_error(self, tmp_path: Path) -> None:
        other = slices(ball() + np.int16(5))[4]
        with pytest.raises(ImageError, match="two different images lie at the place of slice 5"):
            read_dicom(save([*slices(ball()), other], tmp_path))

    def test_slices_scattered_without_order_are_an_error(self, tmp_path: Path) -> None:
        where = positions(12) + np.random.default_rng(1).uniform(-9, 9, (12, 3)) * (1, 1, 0)
        with pytest.raises(ImageError, match="without any order"):
            read_dicom(save(slices(ball(), where=where), tmp_path))


class TestSeries:
    def test_mixed_series_in_nested_folders_are_listed_each_with_its_facts(self, tmp_path: Path) -> None:
        save(slices(ball(), number=3, description="Abdomen"), tmp_path / "a" / "b")
        save(slices(ball((8, 6, 6)), CORONAL, number=4, description="T2 tse", modality="MR"), tmp_path)
        listed, _ = list_series(tmp_path)
        assert [(s.key, s.family, s.description, s.grid.size) for s in listed if s.grid] == [
            ("3", "CT", "Abdomen", (20, 24, 12)),
            ("4", "MR", "T2 tse", (6, 6, 8)),
        ]

    def test_the_series_of_the_requested_family_is_chosen(self, tmp_path: Path) -> None:
        save(slices(ball(), number=3), tmp_path)
        save(slices(ball((11, 6, 6)), number=4, modality="MR"), tmp_path / "mr")
        volume = read_dicom(tmp_path, family="MR")
        assert volume.evidence.family == "MR"
        assert volume.evidence.confidence == 1
        assert "of 2 series" in volume.warnings[0]

    def test_series_that_could_both_be_meant_are_a_question(self, tmp_path: Path) -> None:
        save(slices(ball(), number=3, description="arterial"), tmp_path)
        save(slices(ball(), number=4, description="venous"), tmp_path / "b")
        with pytest.raises(AnswerNeededError, match=r"(?s)arterial.*venous.*--series"):
            read_dicom(tmp_path)
        assert read_dicom(tmp_path, series="4").array.shape == (12, 24, 20)
        assert "venous" not in str(read_dicom(tmp_path, series="Arter").warnings)
        with pytest.raises(UsageError, match="names no series"):
            read_dicom(tmp_path, series="5")

    def test_a_scout_and_reformatted_images_do_not_raise_the_question(self, tmp_path: Path) -> None:
        save(slices(ball(), number=3), tmp_path)
        save(
            slices(ball((2, 30, 30)), SAGITTAL, number=1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
            tmp_path / "1",
        )
        save(slices(ball(), CORONAL, number=5, ImageType=["DERIVED", "SECONDARY", "MPR"]), tmp_path / "5")
        assert read_dicom(tmp_path).grid.size == (20, 24, 12)

    def test_two_echoes_in_one_series_are_two_volumes(self, tmp_path: Path) -> None:
        first = slices(ball(), modality="MR", EchoTime=2.3)
        second = slices(ball() + np.int16(9), modality="MR", EchoTime=4.6)
        save([*first, *second], tmp_path)
        listed, _ = list_series(tmp_path)
        assert [(s.key, s.description) for s in listed] == [
            ("3", "Abdomen 1.0 [EchoTime 2.3]"),
            ("3b", "Abdomen 1.0 [EchoTime 4.6]"),
        ]
        assert np.array_equal(read_dicom(tmp_path, series="3b").array, ball() + np.int16(9))

    def test_objects_that_are_no_images_are_left_out_and_counted(self, tmp_path: Path) -> None:
        report, mask = header("SR"), header("SEG", number=9)
        report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        mask.SOPClassUID = SegmentationStorage
        set_pixels(mask, ball((1, 24, 20))[0])
        (tmp_path / "notes.txt").write_text("no DICOM")
        volume = read_dicom(save([*slices(ball()), report, mask], tmp_path))
        assert any("objects that are no images left out: 1 (SR)" in warning for warning in volume.warnings)
        assert np.array_equal(volume.array, ball())

    def test_colour_captures_are_listed_and_not_read(self, tmp_path: Path) -> None:
        capture = header("OT", number=99)
        capture.SOPClassUID = SecondaryCaptureImageStorage
        set_pixels(capture, ball((1, 24, 20))[0])
        capture.SamplesPerPixel = 3
        save([capture], tmp_path)
        with pytest.raises(ImageError, match="colour images"):
            read_dicom(tmp_path)


class TestPixels:
    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
    def test_compressed_series_decode_to_the_same_voxels(self, syntax: str, tmp_path: Path) -> None:
        case = slices(ball((6, 64, 64)))
        for dataset in case:
            compress(dataset, syntax, generate_instance_uid=False)
        assert np.array_equal(read_dicom(save(case, tmp_path)).array, ball((6, 64, 64)))

    def test_jpeg_lossless_as_archives_send_it_decodes_to_the_same_voxels(self, tmp_path: Path) -> None:
        gdcm = pytest.importorskip("gdcm", reason="no JPEG Lossless encoder without python-gdcm")
        save(slices(ball((6, 24, 20))), tmp_path / "plain")
        (tmp_path / "packed").mkdir()
        for file in (tmp_path / "plain").iterdir():
            reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
            reader.SetFileName(str(file))
            assert reader.Read()
            change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
            change.SetInput(reader.GetImage())
            assert change.Change()
            writer.SetFile(reader.GetFile())
            writer.SetImage(change.GetOutput())
            writer.SetFileName(str(tmp_path / "packed" / file.name))
            assert writer.Write()
        assert dcmread(next((tmp_path / "packed").iterdir())).file_meta.TransferSyntaxUID.endswith(".4.70")
        assert np.array_equal(read_dicom(tmp_path / "packed").array, ball((6, 24, 20)))

    def test_pet_becomes_suv_by_weight_dose_and_decay(self, tmp_path: Path) -> None:
        volume = read_dicom(save(pet(ball(low=0, high=20_000)), tmp_path))
        stored = ball(low=0, high=20_000) * (1 + np.arange(12) / 4)[:, None, None]
        np.testing.assert_allclose(volume.array, stored * 70_000 / (350e6 * 2 ** (-3600 / 6588)), rtol=1e-5)
        assert volume.unit == "SUVbw"

    def test_a_dose_given_before_midnight_is_an_hour_before_not_a_day_after(self, tmp_path: Path) -> None:
        case = pet(ball(low=0, high=20_000))
        for dataset in case:
            dataset.SeriesTime = dataset.AcquisitionTime = "003000"
            dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "233000.00"
        ours = read_dicom(save(case, tmp_path / "a")).array
        assert np.array_equal(ours, read_dicom(save(pet(ball(low=0, high=20_000)), tmp_path / "b")).array)

    @pytest.mark.parametrize(
        ("tag", "value", "said"),
        [("PatientWeight", None, "weight"), ("Units", "PROPCPS", "PROPCPS"), ("DecayCorrection", "NONE", "decay")],
    )
    def test_pet_without_the_facts_for_suv_stays_as_stored_and_says_so(
        self, tag: str, value: object, said: str, tmp_path: Path
    ) -> None:
        case = pet(ball(low=0, high=20_000))
        for dataset in case:
            setattr(dataset, tag, value)
        volume = read_dicom(save(case, tmp_path))
        assert any("not SUV" in warning and said in warning for warning in volume.warnings)
        assert volume.array[0].max() == ball(low=0, high=20_000)[0].max()
        assert volume.unit == ""


class TestSecrets:
    def test_nothing_that_comes_out_names_the_patient_or_a_date(self, tmp_path: Path) -> None:
        save(slices(ball(), number=3, description="DOE JANE 20240506 Abdomen"), tmp_path / "a")
        save(pet(ball(low=0, high=20_000), number=4, description="PET HOSP-4711"), tmp_path / "b")
        (tmp_path / "broken.dcm").write_bytes((tmp_path / "a" / "IM0000").read_bytes()[:700])
        listed, warnings = list_series(tmp_path)
        said = f"{listed} {warnings} {[s.summary for s in listed]}"
        for key in ("3", "4"):
            volume = read_dicom(tmp_path, series=key)
            said += f"{volume.warnings} {volume.evidence}"
        with pytest.raises(AnswerNeededError) as question:
            read_dicom(tmp_path)
        said += str(question.value)
        assert not [secret for secret in (*SECRETS, "JANE") if secret.lower() in said.lower()]
        assert "Abdomen" in said

    def test_pydicom_is_kept_from_quoting_headers_in_warnings_and_logs(
        self, tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
    ) -> None:
        case = slices(ball())
        for dataset in case:
            dataset.add_new(0x00080018, "UI", "JANE DOE's own")
            dataset.add_new(0x00281053, "DS", "1.00000000000000000000")
        folder = save(case, tmp_path)
        assert any("JANE" in str(warning.message) for warning in recwarn)  # pydicom does quote it when writing
        recwarn.clear()
        caplog.clear()
        read_dicom(folder)
        assert [str(warning.message) for warning in recwarn] == []
        assert caplog.text == ""


class TestBadFiles:
    def test_a_truncated_slice_is_named(self, tmp_path: Path) -> None:
        folder = save(slices(ball()), tmp_path)
        victim = folder / "IM0003"
        victim.write_bytes(victim.read_bytes()[:-200])
        with pytest.raises(ImageError, match=r"IM0003: the object is truncated"):
            read_dicom(folder)

    def test_a_truncated_header_is_left_out_and_said(self, tmp_path: Path) -> None:
        folder = save(slices(ball((16, 24, 20))), tmp_path)
        (folder / "IM0003").write_bytes((folder / "IM0003").read_bytes()[:400])
        volume = read_dicom(folder)
        assert any("damaged DICOM files left out: 1 (the first is IM0003)" in w for w in volume.warnings)
        assert any("missing slices" in w for w in volume.warnings)

    def test_an_object_without_pixel_data_is_named(self, tmp_path: Path) -> None:
        case = slices(ball())
        del case[2].PixelData
        with pytest.raises(ImageError, match="no pixel data"):
            read_dicom(save(case, tmp_path))

    def test_slices_without_positions_are_refused(self, tmp_path: Path) -> None:
        case = slices(ball())
        for dataset in case:
            del dataset.ImagePositionPatient
        with pytest.raises(ImageError, match="do not say where the slices lie"):
            read_dicom(save(case, tmp_path))

    def test_a_folder_without_dicom_says_so(self, tmp_path: Path) -> None:
        (tmp_path / "readme.txt").write_text("hello")
        with pytest.raises(ImageError, match="no DICOM file"):
            read_dicom(tmp_path)

    def test_a_size_that_no_memory_holds_is_refused_before_any_allocation(self, tmp_path: Path) -> None:
        case = slices(ball((3, 8, 8)))
        for dataset in case:
            dataset.Rows = dataset.Columns = 65535
        with pytest.raises(ImageError, match="too large"):
            read_dicom(save(case, tmp_path))


def zipped(members: dict[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


class TestZip:
    @pytest.fixture
    def members(self, tmp_path: Path) -> dict[str, bytes]:
        folder = save(slices(ball()), tmp_path / "series")
        return {f"CASE/S1/{file.name}": file.read_bytes() for file in folder.iterdir()}

    def test_a_zip_reads_as_its_folder_does(self, members: dict[str, bytes], tmp_path: Path) -> None:
        volume = read_dicom(zipped(members, tmp_path / "case.zip"))
        folder = read_dicom(tmp_path / "series")
        assert np.array_equal(volume.array, folder.array)
        assert volume.grid == folder.grid

    @pytest.mark.parametrize("name", ["../evil.dcm", "/etc/evil.dcm", "C:\\evil.dcm", "a/..\\..\\evil.dcm"])
    def test_a_path_that_leads_out_is_refused(self, name: str, members: dict[str, bytes], tmp_path: Path) -> None:
        before = sorted(tmp_path.rglob("*"))
        archive = zipped({**members, name: b"x"}, tmp_path / "case.zip")
        with pytest.raises(ImageError, match="leads out of the archive"):
            read_dicom(archive)
        assert sorted(tmp_path.rglob("*")) == sorted([*before, archive])

    def test_a_link_is_refused(self, members: dict[str, bytes], tmp_path: Path) -> None:
        archive = zipped(members, tmp_path / "case.zip")
        with zipfile.ZipFile(archive, "a") as more:
            link = zipfile.ZipInfo("link.dcm")
            link.external_attr = 0o120777 << 16
            more.writestr(link, "/etc/passwd")
        with pytest.raises(ImageError, match="is a link"):
            read_dicom(archive)

    def test_a_bomb_is_refused_before_it_is_unpacked(self, tmp_path: Path) -> None:
        archive = tmp_path / "bomb.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bomb:
            bomb.writestr("a.dcm", bytes(2**20))
            bomb.infolist()[0].file_size = 1100 * 2**20  # what the directory promises is all that may be trusted
        with pytest.raises(ImageError, match=r"would unpack to 1\.1 GiB"):
            read_dicom(archive)

    def test_a_damaged_member_is_left_out_and_a_damaged_zip_is_an_error(
        self, members: dict[str, bytes], tmp_path: Path
    ) -> None:
        archive = zipped(members, tmp_path / "case.zip")
        data = bytearray(archive.read_bytes())
        archive.write_bytes(data[: len(data) // 2])
        with pytest.raises(ImageError):
            read_dicom(archive)


def test_the_hash_is_of_the_content_and_not_of_the_names(tmp_path: Path) -> None:
    case = slices(ball())
    first = read_dicom(save(case, tmp_path / "a"))
    second = read_dicom(save(case, tmp_path / "b", lambda i: f"x/{12 - i}.dcm"))
    changed: NDArray[np.int16] = ball() + np.int16(1)
    assert first.sha256 == second.sha256 != read_dicom(save(slices(changed), tmp_path / "c")).sha256
