"""DICOM as anonymisers, archives and attackers leave it: read by geometry, or refused by name."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from dicom_builder import AXIAL, ball, header, pet, positions, save, set_pixels, slices
from pydicom import FileDataset, dcmread, dcmwrite
from pydicom.pixels.utils import compress
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid

from medsegagent.errors import ImageError
from medsegagent.images.dicom import list_series, read_dicom, read_source
from medsegagent.images.read import read_volume

IDENTIFIERS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"),
    *("SeriesNumber", "StudyID", "InstanceNumber", "AcquisitionNumber", "ImageType", "SeriesDescription"),
    *("PatientName", "PatientID", "StudyDate", "SeriesDate", "AcquisitionTime", "Manufacturer", "ProtocolName"),
)
PIXEL_FACTS = ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit")


def emptied(
    case: list[FileDataset], keywords: tuple[str, ...] = IDENTIFIERS, absent: bool = False
) -> list[FileDataset]:
    for dataset in case:
        for keyword in keywords:
            if absent and keyword in dataset:
                delattr(dataset, keyword)
            elif not absent:
                setattr(dataset, keyword, None)
    return case


def write(case: list[FileDataset], folder: Path, **how: object) -> Path:
    """Write without pydicom's completion of what is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, dataset in enumerate(case):
        dcmwrite(folder / f"IM{number:03d}", dataset, enforce_file_format=False, **how)  # type: ignore[arg-type]
    return folder


class TestEmptiedIdentifiers:
    @pytest.mark.parametrize("absent", [False, True])
    @pytest.mark.parametrize("syntax", [None, JPEG2000Lossless])
    def test_a_series_without_any_is_read_by_its_geometry(
        self, tmp_path: Path, absent: bool, syntax: str | None
    ) -> None:
        array = ball((6, 64, 64))
        case = slices(array)
        if syntax:
            for dataset in case:
                compress(dataset, syntax, generate_instance_uid=False)
        volume = read_dicom(write(emptied(case, absent=absent), tmp_path / "odd"))
        plain = read_dicom(save(slices(array), tmp_path / "plain"))
        assert np.array_equal(volume.array, plain.array)
        assert volume.grid == plain.grid
        assert volume.evidence.family == "CT"
        assert volume.warnings == ()

    def test_without_modality_the_kind_of_object_says_it_and_without_both_it_is_guessed(self, tmp_path: Path) -> None:
        known = read_dicom(write(emptied(slices(ball()), ("Modality",)), tmp_path / "a"))
        assert (known.evidence.family, known.evidence.confidence) == ("CT", 1)
        guessed = read_dicom(write(emptied(slices(ball()), ("Modality", "SOPClassUID")), tmp_path / "b"))
        assert guessed.evidence.family == "CT"
        assert guessed.evidence.confidence < 1
        assert any("does not say its modality" in warning for warning in guessed.warnings)

    def test_what_the_pixels_say_themselves_may_be_absent(self, tmp_path: Path) -> None:
        case = emptied(slices(ball()), (*PIXEL_FACTS, "PixelRepresentation"), absent=True)
        assert np.array_equal(read_dicom(write(case, tmp_path)).array, ball())

    def test_two_series_without_identifiers_are_two(self, tmp_path: Path) -> None:
        keywords = ("SeriesInstanceUID", "SOPInstanceUID", "StudyInstanceUID")
        write(emptied(slices(ball(), number=3, description="arterial"), keywords), tmp_path / "a")
        write(emptied(slices(ball() + np.int16(7), number=4, description="venous"), keywords), tmp_path / "b")
        assert [item.key for item in list_series(tmp_path)[0]] == ["3", "4"]
        assert np.array_equal(read_dicom(tmp_path, series="venous").array, ball() + np.int16(7))

    def test_two_echoes_without_instance_identifiers_are_two_volumes_and_not_copies(self, tmp_path: Path) -> None:
        one = slices(ball(), modality="MR", EchoTime=2.3)
        two = slices(ball() + np.int16(9), modality="MR", EchoTime=4.6)
        write(emptied([*one, *two], ("SOPInstanceUID",)), tmp_path)
        assert np.array_equal(read_dicom(tmp_path, series="3b").array, ball() + np.int16(9))

    def test_an_identifier_made_up_for_each_file_does_not_tear_a_series_apart(self, tmp_path: Path) -> None:
        case = slices(ball())
        for dataset in case:
            dataset.SeriesInstanceUID = dataset.StudyInstanceUID = generate_uid()
        volume = read_dicom(save(case, tmp_path))
        assert np.array_equal(volume.array, ball())
        assert any("series identifier of its own" in warning for warning in volume.warnings)
        with pytest.raises(ImageError, match="one StudyInstanceUID"):
            read_source(tmp_path)

    @pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "FrameOfReferenceUID"])
    def test_results_that_would_have_to_refer_to_it_are_refused(self, tmp_path: Path, keyword: str) -> None:
        with pytest.raises(ImageError, match=f"no {keyword}, to which a DICOM result must refer"):
            read_source(write(emptied(slices(ball()), (keyword,)), tmp_path))

    def test_one_instance_identifier_for_all_slices_is_refused_for_results(self, tmp_path: Path) -> None:
        case = slices(ball())
        for dataset in case:
            dataset.SOPInstanceUID = "1.2.3"
        with pytest.raises(ImageError, match="same SOPInstanceUID"):
            read_source(write(case, tmp_path))


class TestIncompleteFiles:
    @pytest.mark.parametrize("implicit", [True, False])
    def test_without_preamble_and_meta_header(self, tmp_path: Path, implicit: bool) -> None:
        case = slices(ball())
        for dataset in case:
            dataset.preamble = None
            dataset.file_meta.clear()
        volume = read_dicom(write(case, tmp_path, implicit_vr=implicit, little_endian=True))
        assert np.array_equal(volume.array, ball())

    @pytest.mark.parametrize("syntax", [None, JPEG2000Lossless, JPEGLSLossless, RLELossless])
    def test_without_a_transfer_syntax(self, tmp_path: Path, syntax: str | None) -> None:
        array = ball((6, 64, 64))
        case = slices(array)
        for dataset in case:
            if syntax:
                compress(dataset, syntax, generate_instance_uid=False)
            dataset.preamble = None
            dataset.file_meta.clear()
        folder = write(case, tmp_path, implicit_vr=False, little_endian=True)
        assert np.array_equal(read_dicom(folder).array, array)

    def test_with_a_transfer_syntax_that_is_none(self, tmp_path: Path) -> None:
        for file in save(slices(ball()), tmp_path).iterdir():
            data = file.read_bytes()
            assert b"1.2.840.10008.1.2.1\0" in data
            file.write_bytes(data.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.5.1.4\0"))
        assert np.array_equal(read_dicom(tmp_path).array, ball())

    def test_implicit_syntax_with_a_meta_header_that_is_silent(self, tmp_path: Path) -> None:
        case = slices(ball())
        for dataset in case:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        save(case, tmp_path)
        for file in tmp_path.iterdir():
            data = file.read_bytes()
            start = data.index(b"\x02\x00\x10\x00UI")
            length = 8 + struct.unpack("<H", data[start + 6 : start + 8])[0]
            total = struct.unpack("<I", data[140:144])[0] - length
            file.write_bytes(data[:140] + struct.pack("<I", total) + data[144:start] + data[start + length :])
        assert np.array_equal(read_dicom(tmp_path).array, ball())

    def test_decimal_commas(self, tmp_path: Path) -> None:
        for file in save(slices(ball()), tmp_path / "odd").iterdir():
            dataset = dcmread(file)
            data = file.read_bytes()
            for keyword in ("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SliceThickness"):
                raw = dcmread(file).get_item(keyword).value
                data = data.replace(raw, raw.replace(b".", b","))
            file.write_bytes(data)
            assert dataset.PixelSpacing == [0.8, 0.7]
        plain = read_dicom(save(slices(ball()), tmp_path / "plain"))
        volume = read_dicom(tmp_path / "odd")
        assert volume.grid == plain.grid
        assert np.array_equal(volume.array, plain.array)
        assert len(read_source(tmp_path / "odd").headers) == 12

    @pytest.mark.parametrize("value", ["NaN", "inf", "1e400", "abc", ""])
    def test_a_position_that_is_no_number(self, tmp_path: Path, value: str) -> None:
        folder = save(slices(ball()), tmp_path)
        for file in folder.iterdir():
            data = file.read_bytes()
            data = data.replace(b"-80.000000", value.encode().ljust(10))
            file.write_bytes(data)
        with pytest.raises(ImageError, match="do not say where the slices lie"):
            read_dicom(folder)


class TestFolders:
    def test_a_linked_subfolder_is_entered_and_a_loop_is_not(self, tmp_path: Path) -> None:
        save(slices(ball()), tmp_path / "store")
        (tmp_path / "case").mkdir()
        (tmp_path / "case" / "series").symlink_to(tmp_path / "store")
        (tmp_path / "case" / "again").symlink_to(tmp_path / "case")
        (tmp_path / "store" / "up").symlink_to(tmp_path / "case")
        (tmp_path / "case" / "root").symlink_to("/")
        volume = read_dicom(tmp_path / "case")
        assert np.array_equal(volume.array, ball())

    def test_pipes_devices_and_dead_links_are_left_out_and_said(self, tmp_path: Path) -> None:
        save(slices(ball()), tmp_path)
        os.mkfifo(tmp_path / "pipe.dcm")
        (tmp_path / "zero.dcm").symlink_to("/dev/zero")
        (tmp_path / "dead.dcm").symlink_to(tmp_path / "absent")
        volume = read_dicom(tmp_path)
        assert np.array_equal(volume.array, ball())
        assert any("pipes, devices and sockets left out: 2" in warning for warning in volume.warnings)
        assert any("lead nowhere left out: 1" in warning for warning in volume.warnings)

    def test_a_dicomdir_says_to_give_the_folder(self, tmp_path: Path) -> None:
        from pydicom.fileset import FileSet

        files = FileSet()
        for dataset in slices(ball((3, 8, 8))):
            files.add(dataset)
        files.write(tmp_path)
        with pytest.raises(ImageError, match=rf"DICOMDIR.*Give the folder that it describes: {tmp_path}"):
            read_volume(tmp_path / "DICOMDIR")
        assert read_volume(tmp_path).grid.size == (8, 8, 3)

    def test_one_slice_says_to_give_the_folder(self, tmp_path: Path) -> None:
        folder = save(slices(ball()), tmp_path, lambda i: f"{i}.dcm")
        with pytest.raises(ImageError, match=rf"a single slice.*Give the folder .*: {tmp_path}"):
            read_volume(folder / "3.dcm")

    def test_a_folder_with_one_volume_says_to_give_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "case").mkdir()
        (tmp_path / "case" / "ct.nii.gz").write_bytes(b"x")
        (tmp_path / "case" / "notes.txt").write_text("x")
        with pytest.raises(ImageError, match=r"1 with \.gz, 1 with \.txt.*Give the file itself: .*ct\.nii\.gz"):
            read_volume(tmp_path / "case")

    def test_a_zip_of_a_volume_says_to_unpack_it(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"Unpack it, and give a file in it, such as ct\.nii\.gz"):
            read_volume(bomb(tmp_path / "a.zip", ("ct.nii.gz", b"x")))

    def test_a_folder_that_is_named_like_a_volume(self, tmp_path: Path) -> None:
        assert np.array_equal(read_volume(save(slices(ball()), tmp_path / "ct.nii.gz")).array, ball())

    def test_an_error_says_how_many_files_were_left_out_and_why(self, tmp_path: Path) -> None:
        folder = save(slices(ball()), tmp_path)
        for number in (3, 4, 5):
            (folder / f"IM000{number}").write_bytes((folder / f"IM000{number}").read_bytes()[:400])
        report = header("SR")
        report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
        report.save_as(folder / "report", enforce_file_format=True)
        with pytest.raises(ImageError, match=r"missing.*no images left out: 1 \(SR\).*damaged .* left out: 3"):
            read_dicom(folder)


class TestVolumesOfOneSeries:
    @pytest.mark.parametrize(
        ("keyword", "values"),
        [
            ("SequenceName", ("*fl3d1", "*fl3d2")),
            ("AcquisitionNumber", (1, 2)),
            ("ConvolutionKernel", ("B30f", "B70f")),
            ("RepetitionTime", ("4.1", "8.2")),
            ("SeriesDescription", ("in phase", "opposed phase")),
        ],
    )
    def test_are_told_apart_by_any_tag_that_does(
        self, tmp_path: Path, keyword: str, values: tuple[object, ...]
    ) -> None:
        one, two = slices(ball(), modality="MR"), slices(ball() + np.int16(9), modality="MR")
        for case, value in zip((one, two), values, strict=True):
            for dataset in case:
                setattr(dataset, keyword, value)
        save([*one, *two], tmp_path)
        found = [read_dicom(tmp_path, series=key).array for key in ("3", "3b")]
        assert {int(array.max()) for array in found} == {int(ball().max()), int(ball().max()) + 9}

    def test_a_part_that_was_scanned_again_is_a_volume_of_its_own(self, tmp_path: Path) -> None:
        again = slices(ball()[:5] + np.int16(9), where=positions(12)[:5])
        for dataset in again:
            dataset.AcquisitionNumber = 2
        volume = read_dicom(save([*slices(ball()), *again], tmp_path), series="3")
        assert np.array_equal(volume.array, ball())


class TestNotHounsfield:
    def test_a_ct_without_its_intercept_says_what_to_add(self, tmp_path: Path) -> None:
        case = emptied(slices(ball() + np.int16(1024)), ("RescaleSlope", "RescaleIntercept"), absent=True)
        volume = read_dicom(write(case, tmp_path))
        assert any("usually -1024" in warning for warning in volume.warnings)
        assert volume.unit == ""

    @pytest.mark.parametrize("signed", [True, False])
    def test_padding_brighter_than_air_becomes_air_outside_the_body_only(self, tmp_path: Path, signed: bool) -> None:
        """The circle's surroundings hold 32767; one voxel of the body does too."""
        array = ball((6, 48, 48))
        y, x = np.indices((48, 48)) - 23.5
        array[:, x**2 + y**2 > 23**2] = 32767
        array[3, 24, 24] = 32767
        case = slices(array)
        for dataset in case:
            dataset.add_new("PixelPaddingValue", "SS" if signed else "US", 32767)
        volume = read_dicom(save(case, tmp_path))
        assert volume.array[0, 0, 0] == -1000
        assert volume.array[3, 24, 24] == 32767
        inside = x**2 + y**2 <= 23**2
        assert np.array_equal(volume.array[:, inside], array[:, inside])
        assert any("was set to air" in warning for warning in volume.warnings)

    def test_padding_below_air_stays(self, tmp_path: Path) -> None:
        array = ball()
        array[:, :3] = -2000
        volume = read_dicom(save(slices(array, PixelPaddingValue=-2000), tmp_path))
        assert np.array_equal(volume.array, array)
        assert volume.warnings == ()

    def test_a_pet_keeps_its_padding(self, tmp_path: Path) -> None:
        case = pet(ball(low=0, high=20_000), PixelPaddingValue=0)
        assert read_dicom(save(case, tmp_path)).unit == "SUVbw"


def bomb(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


class TestHostileZips:
    @pytest.fixture
    def members(self, tmp_path: Path) -> list[tuple[str, bytes]]:
        return [(file.name, file.read_bytes()) for file in save(slices(ball()), tmp_path / "series").iterdir()]

    def test_a_large_member_of_zeros_is_refused_whatever_lies_beside_it(
        self, tmp_path: Path, members: list[tuple[str, bytes]]
    ) -> None:
        noise = np.random.default_rng(0).integers(0, 255, 2**21, dtype=np.uint8).tobytes()
        archive = bomb(tmp_path / "a.zip", *members, ("noise.bin", noise), ("zero.dcm", bytes(100 * 2**20)))
        with pytest.raises(ImageError, match="of almost nothing"):
            read_dicom(archive)

    def test_a_version_that_does_not_exist(self, tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
        data = bytearray(bomb(tmp_path / "a.zip", *members).read_bytes())
        start = data.index(b"PK\x01\x02")
        data[start + 6 : start + 8] = struct.pack("<H", 99)
        (tmp_path / "a.zip").write_bytes(data)
        with pytest.raises(ImageError, match="zip cannot be read"):
            read_dicom(tmp_path / "a.zip")

    def test_a_name_that_is_not_what_its_flag_says(self, tmp_path: Path, members: list[tuple[str, bytes]]) -> None:
        archive = bomb(tmp_path / "a.zip", *members, ("ä.dcm", b"x"))
        archive.write_bytes(archive.read_bytes().replace("ä".encode(), b"\xff\xfe"))
        with pytest.raises(ImageError, match="zip cannot be read"):
            read_dicom(archive)

    @pytest.mark.parametrize("cut", [10, 100, 1000])
    def test_a_directory_that_is_cut_off(self, tmp_path: Path, members: list[tuple[str, bytes]], cut: int) -> None:
        archive = bomb(tmp_path / "a.zip", *members)
        archive.write_bytes(archive.read_bytes()[:-cut])
        with pytest.raises(ImageError):
            read_dicom(archive)

    def test_a_deflated_object_that_would_fill_the_memory(self, tmp_path: Path) -> None:
        dataset = header()
        set_pixels(dataset, ball()[0])
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], list(AXIAL)
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
        data = (tmp_path / "a.dcm").read_bytes()
        start = 144 + struct.unpack("<I", data[140:144])[0]
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        many = b"".join([*(packer.compress(bytes(2**24)) for _ in range(70)), packer.flush()])
        (tmp_path / "a.dcm").write_bytes(data[:start] + many)
        with pytest.raises(ImageError, match="more than 1 GiB"):
            read_dicom(tmp_path)


@pytest.mark.parametrize("slope", ["1e39", "-1e39"])
def test_intensities_beyond_all_numbers_are_refused(tmp_path: Path, slope: str) -> None:
    case = slices(ball())
    for dataset in case:
        dataset.RescaleSlope = slope
    with pytest.raises(ImageError, match="not finite"):
        read_volume(save(case, tmp_path))


def test_a_series_larger_than_memory_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="no memory limits on this system")
    case = slices(ball((3, 8, 8)))
    for dataset in case:
        dataset.Rows = dataset.Columns = 25_000
    save(case, tmp_path)
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    try:
        with pytest.raises(ImageError, match="GB of memory"):
            read_dicom(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("start", [b"\x08\x00\x05\x00CS", b"\x10\x00\x10\x00PN\x02\x00AA", b"\x28\x00\x10\0\x02\0\0\0"])
def test_a_file_that_only_begins_like_dicom_is_none(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "a.bin").write_bytes(start + b"no more than text" * 20)
    with pytest.raises(ImageError, match="no DICOM"):
        read_dicom(tmp_path)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_a_compressed_frame_that_is_larger_than_its_header_says_is_never_decoded(tmp_path: Path, syntax: str) -> None:
    case = slices(ball((3, 64, 64)))
    for dataset in case:
        compress(dataset, syntax, generate_instance_uid=False)
        data = dataset.PixelData
        start = data.index(b"\xff\x4f\xff\x51") + 8 if syntax == JPEG2000Lossless else data.index(b"\xff\xf7") + 5
        large = b"\0\0\xff\xff" * 2 if syntax == JPEG2000Lossless else b"\xff\xff" * 2
        dataset.PixelData = data[:start] + large + data[start + len(large) :]
    with pytest.raises(ImageError, match="truncated or damaged"):
        read_dicom(save(case, tmp_path))
