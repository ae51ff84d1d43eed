"""NRRD and MetaImage: as ITK reads them, and never from a file that the header should not name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from medsegagent.errors import ImageError
from medsegagent.images.read import read_volume

SECRET = "its voxels"


def write(path: Path, voxels: NDArray[np.generic], compressed: bool = True, seed: int = 0) -> Path:
    """An oblique image; spacing, origin and direction are as crooked as scanners give them."""
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7324219, 1.1, 2.9999))
    image.SetOrigin((-101.3, 22.7, 1234.5678))
    image.SetDirection(Rotation.random(random_state=seed).as_matrix().ravel())
    sitk.WriteImage(image, str(path), compressed)
    return path


def like_itk(path: Path) -> None:
    image, volume = sitk.ReadImage(str(path)), read_volume(path)
    assert np.array_equal(volume.array, sitk.GetArrayFromImage(image).astype(np.float32))
    assert volume.grid.size == image.GetSize()
    assert volume.grid.spacing == pytest.approx(image.GetSpacing(), rel=1e-15)
    np.testing.assert_allclose(volume.grid.origin, image.GetOrigin(), rtol=1e-12)
    np.testing.assert_allclose(volume.grid.direction, image.GetDirection(), atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
@pytest.mark.parametrize("compressed", [True, False])
def test_an_oblique_image_lies_where_itk_has_it(
    tmp_path: Path, voxels: NDArray[np.int16], name: str, compressed: bool, seed: int
) -> None:
    like_itk(write(tmp_path / name, voxels, compressed, seed))


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_every_type(tmp_path: Path, voxels: NDArray[np.int16], name: str, kind: str) -> None:
    like_itk(write(tmp_path / name, (np.abs(voxels) // 10).astype(kind)))


def nrrd(path: Path, voxels: NDArray[np.generic], *lines: str, text: bool = False) -> Path:
    """A header by hand; `lines` replace fields of the same name."""
    given = {line.partition(":")[0]: line for line in lines}
    fields = {
        "type": "type: int16",
        "dimension": "dimension: 3",
        "space": "space: left-posterior-superior",
        "sizes": f"sizes: {' '.join(map(str, voxels.shape[::-1]))}",
        "space directions": "space directions: (1.5,0,0) (0,2,0) (0,0,3)",
        "endian": "endian: little",
        "encoding": f"encoding: {'ascii' if text else 'raw'}",
        "space origin": "space origin: (10,20,30)",
    }
    kept = [line for line in {**fields, **given}.values() if line.partition(":")[2]]
    data = " ".join(map(str, voxels.ravel())).encode() if text else voxels.astype("<i2").tobytes()
    path.write_bytes("\n".join(["NRRD0005", *kept, "", ""]).encode() + data)
    return path


class TestNrrd:
    @pytest.mark.parametrize("space", ["right-anterior-superior", "RAS", "left-anterior-superior", "LPS"])
    def test_each_patient_space(self, tmp_path: Path, voxels: NDArray[np.int16], space: str) -> None:
        like_itk(nrrd(tmp_path / "a.nrrd", voxels, f"space: {space}"))

    def test_text(self, tmp_path: Path, voxels: NDArray[np.int16]) -> None:
        like_itk(nrrd(tmp_path / "a.nrrd", voxels, text=True))

    @pytest.mark.parametrize(("unit", "factor"), [("um", 1e3), ("m", 1e-3), ("cm", 0.1), ("microns", 1e3)])
    def test_space_units_become_mm_and_it_is_said(
        self, tmp_path: Path, voxels: NDArray[np.int16], unit: str, factor: float
    ) -> None:
        axes = f"({1.5 * factor},0,0) (0,{2 * factor},0) (0,0,{3 * factor})"
        odd = nrrd(
            tmp_path / "odd.nrrd",
            voxels,
            f"space directions: {axes}",
            f"space origin: ({10 * factor},{20 * factor},{30 * factor})",
            f'space units: "{unit}" "{unit}" "{unit}"',
        )
        volume, plain = read_volume(odd), read_volume(nrrd(tmp_path / "plain.nrrd", voxels))
        np.testing.assert_allclose(volume.grid.spacing, plain.grid.spacing)
        np.testing.assert_allclose(volume.grid.origin, plain.grid.origin)
        assert "converted to mm" in volume.warnings[0]
        assert not any("mm" in warning for warning in plain.warnings)

    @pytest.mark.parametrize(
        "lines",
        [
            ("space:", "space directions:", "space origin:", "spacings: 1.5 2 3"),
            ("space:", "space directions:", "space origin:"),
            ("space: 3D-right-handed",),
        ],
    )
    def test_no_orientation_is_said(self, tmp_path: Path, voxels: NDArray[np.int16], lines: tuple[str, ...]) -> None:
        path = nrrd(tmp_path / "a.nrrd", voxels, *lines)
        like_itk(path)
        assert "left and right cannot be known" in read_volume(path).warnings[0]

    def test_a_slicer_segmentation_given_as_an_image_says_to_rename_it(
        self, tmp_path: Path, voxels: NDArray[np.int16]
    ) -> None:
        four = np.stack([voxels, voxels], axis=-1)
        lines = ("dimension: 4", "space directions: none (1,0,0) (0,1,0) (0,0,1)", "Segment0_ID:=a")
        with pytest.raises(ImageError, match=r"rename it to Segmentation\.seg\.nrrd"):
            read_volume(nrrd(tmp_path / "Segmentation.nrrd", four, *lines))

    def test_comments_of_more_than_a_mebibyte_hide_nothing(self, tmp_path: Path, voxels: NDArray[np.int16]) -> None:
        (tmp_path / "outside.raw").write_bytes(voxels.astype("<i2").tobytes())
        (tmp_path / "in").mkdir()
        comment = "# " + "x" * 78
        many = "\n".join([comment] * 20_000)
        path = nrrd(tmp_path / "in" / "a.nrrd", voxels, many, "data file: ../outside.raw")
        with pytest.raises(ImageError, match="outside its folder"):
            read_volume(path)
        like_itk(nrrd(tmp_path / "good.nrrd", voxels, many))

    @pytest.mark.parametrize(
        "line",
        [
            *("dimension: 0", "dimension: -1", "dimension: 2000000000", "sizes: 2 2", "sizes: a b c", "sizes: -1 4 4"),
            *(
                "type: block",
                "encoding: bzip2",
                "endian:",
                "endian: little\nno field at all",
                "space directions: (1,0,0) (0,1,0)",
            ),
            *("space origin: (0,0)", "space origin: (nan,0,0)", "space directions: (a,0,0) (0,1,0) (0,0,1)"),
            *("line skip: -3", "byte skip: -9", "sizes: 99999999999999999999 1 1"),
        ],
    )
    def test_what_cannot_be_parsed_is_refused(self, tmp_path: Path, voxels: NDArray[np.int16], line: str) -> None:
        with pytest.raises(ImageError):
            read_volume(nrrd(tmp_path / "a.nrrd", voxels, line))

    def test_a_field_given_twice_is_refused(self, tmp_path: Path, voxels: NDArray[np.int16]) -> None:
        with pytest.raises(ImageError, match="twice"):
            read_volume(nrrd(tmp_path / "a.nrrd", voxels, "Data File: a.raw\ndatafile: b.raw"))


DECOYS = [
    "ElementDataFile = {}",
    "ElementDataFile : {}",
    "  ElementDataFile = {}",
    "\tElementDataFile={}",
    "\nElementDataFile = {}",
    "elementdatafile = {}",
    "ElementDataFile = {}\nElementDataFile = LOCAL",
]


class TestMetaImage:
    @pytest.mark.parametrize("decoy", DECOYS)
    @pytest.mark.parametrize("target", ["../secret.raw", "{}/secret.raw", "link.raw", "up/secret.raw"])
    def test_data_outside_the_folder_are_never_read(
        self, tmp_path: Path, voxels: NDArray[np.int16], decoy: str, target: str
    ) -> None:
        (tmp_path / "secret.raw").write_bytes(voxels.astype("<i2").tobytes())
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "link.raw").symlink_to(tmp_path / "secret.raw")
        (folder / "up").symlink_to(tmp_path)
        path = write(folder / "a.mhd", voxels, compressed=False)
        (folder / "a.raw").unlink()
        line = decoy.replace("{}", target.format(tmp_path))
        path.write_text(re.sub(r"ElementDataFile = .*", lambda _: line, path.read_text()))
        with pytest.raises(ImageError, match=SECRET):
            read_volume(path)

    @pytest.mark.parametrize("decoy", DECOYS[:-1])
    def test_data_beside_the_header_are_read_however_it_is_spelt(
        self, tmp_path: Path, voxels: NDArray[np.int16], decoy: str
    ) -> None:
        path = write(tmp_path / "a.mhd", voxels, compressed=False)
        path.write_text(path.read_text().replace("ElementDataFile = a.raw", decoy.format("a.raw")))
        assert np.array_equal(read_volume(path).array, voxels)

    def test_a_folder_of_links_into_a_store_is_read(self, tmp_path: Path, voxels: NDArray[np.int16]) -> None:
        (tmp_path / "store").mkdir()
        (tmp_path / "view").mkdir()
        write(tmp_path / "store" / "a.mhd", voxels, compressed=False)
        for name in ("a.mhd", "a.raw"):
            (tmp_path / "view" / name).symlink_to(tmp_path / "store" / name)
        assert np.array_equal(read_volume(tmp_path / "view" / "a.mhd").array, voxels)

    @pytest.mark.parametrize("axes", ["-1", "0", "2000000000", "99999999999999999999", "x", ""])
    def test_an_absurd_number_of_axes(self, tmp_path: Path, voxels: NDArray[np.int16], axes: str) -> None:
        path = write(tmp_path / "a.mha", voxels)
        path.write_bytes(path.read_bytes().replace(b"NDims = 3", f"NDims = {axes}".encode()))
        with pytest.raises(ImageError, match="not a readable image"):
            read_volume(path)

    def test_no_orientation_is_said(self, tmp_path: Path, voxels: NDArray[np.int16]) -> None:
        path = write(tmp_path / "a.mha", voxels)
        data = re.sub(rb"TransformMatrix = [^\n]*\n", b"", path.read_bytes())
        path.write_bytes(data)
        assert "left and right cannot be known" in read_volume(path).warnings[0]

    def test_most_significant_byte_first(self, tmp_path: Path, voxels: NDArray[np.int16]) -> None:
        path = write(tmp_path / "a.mhd", voxels, compressed=False)
        path.write_text(path.read_text().replace("MSB = False", "MSB = True"))
        (tmp_path / "a.raw").write_bytes(voxels.astype(">i2").tobytes())
        like_itk(path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
@pytest.mark.parametrize("rename", [b"caf\xe9", b"a" * 200])
def test_names_that_are_not_utf_8_or_long(tmp_path: Path, voxels: NDArray[np.int16], name: str, rename: bytes) -> None:
    path = write(tmp_path / name, voxels)
    odd = path.with_name(os.fsdecode(rename) + path.suffix)
    path.rename(odd)
    assert np.array_equal(read_volume(odd).array, voxels)


def test_several_values_per_voxel_are_refused(tmp_path: Path) -> None:
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    refused: list[Callable[[], object]] = []
    for name in ("a.nrrd", "a.mha"):
        sitk.WriteImage(image, str(tmp_path / name))
        with pytest.raises(ImageError, match="3 values per voxel"):
            refused.append(read_volume(tmp_path / name))
    assert not refused
