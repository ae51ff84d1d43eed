from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from dicom_builder import ball, save, slices
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from numpy.typing import NDArray

from medsegagent.errors import ExitCode, ImageError
from medsegagent.images.read import digest, read_volume, read_volumes

Nifti = Callable[..., Path]


def sitk_file(path: Path, voxels: NDArray[np.int16], **geometry: tuple[float, ...]) -> Path:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(geometry.get("spacing", (1.5, 2, 3)))
    image.SetDirection(geometry.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    sitk.WriteImage(image, path, path.suffix in {".nrrd", ".mha"})
    return path


class TestVoxelsAreThoseOfNnunet:
    @pytest.mark.parametrize("kind", [np.int16, np.uint8, np.int32, np.float32, np.float64])
    def test_for_every_stored_type(self, nifti: Nifti, voxels: NDArray[np.int16], kind: type) -> None:
        path = nifti(array=voxels.astype(kind))
        theirs, properties = SimpleITKIO().read_images((str(path),))
        ours = read_volume(path)
        assert ours.array.dtype == np.float32
        assert np.array_equal(ours.array, theirs[0])
        assert list(ours.grid.spacing[::-1]) == properties["spacing"]

    def test_with_slope_and_intercept(self, nifti: Nifti) -> None:
        path = nifti("scaled.nii", scl_slope=0.37, scl_inter=-1024.5)
        assert np.array_equal(read_volume(path).array, SimpleITKIO().read_images((str(path),))[0][0])

    @pytest.mark.parametrize("name", ["image.nrrd", "image.mha", "image.mhd"])
    def test_in_every_format(self, tmp_path: Path, voxels: NDArray[np.int16], name: str) -> None:
        path = sitk_file(tmp_path / name, voxels)
        volume = read_volume(path)
        assert np.array_equal(volume.array, voxels)
        assert volume.grid.size == voxels.shape[::-1]
        assert volume.grid.spacing == (1.5, 2, 3)

    @pytest.mark.parametrize("name", ["ct_abdomen.nii.gz", "mr_slab.nii.gz"])
    def test_on_real_scans(self, shared: Callable[[str], Path], name: str) -> None:
        path = shared(name)
        assert np.array_equal(read_volume(path).array, SimpleITKIO().read_images((str(path),))[0][0])


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (-1, -1, 1), (1, -1, -1)])
def test_a_voxel_lies_where_the_affine_puts_it_whatever_the_orientation(nifti: Nifti, flips: tuple[int, ...]) -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])[:, [2, 0, 1]]
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(flips) * np.array([1.5, 2, 3])
    affine[:3, 3] = 10, -20, 30
    grid = read_volume(nifti(affine=affine)).grid
    index = np.array([[0, 0, 0], [3, 5, 7]])
    ras = index @ affine[:3, :3].T + affine[:3, 3]
    assert np.allclose(grid.points(index), ras * [-1, -1, 1], atol=1e-4)


class TestBadFiles:
    @pytest.fixture
    def refusal(self) -> Callable[[Path], str]:
        def read(path: Path) -> str:
            with pytest.raises(ImageError) as caught:
                read_volume(path)
            assert caught.value.exit_code == ExitCode.BAD_INPUT
            assert str(path) == caught.value.where
            assert caught.value.remedy
            return caught.value.what

        return read

    @pytest.fixture(autouse=True)
    def _quiet(self, capfd: pytest.CaptureFixture[str]) -> None:
        """ITK talks on stderr."""

    def test_a_missing_file(self, refusal: Callable[[Path], str], tmp_path: Path) -> None:
        assert refusal(tmp_path / "nope.nii.gz") == "no such file"

    @pytest.mark.parametrize("name", ["text.nii", "text.nii.gz", "text.nrrd", "text.mha", "text.mhd"])
    def test_a_file_that_is_not_an_image(self, refusal: Callable[[Path], str], tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"not an image at all" * 50)
        assert "not a" in refusal(tmp_path / name)

    def test_an_unknown_extension(self, refusal: Callable[[Path], str], tmp_path: Path) -> None:
        (tmp_path / "scan.jpg").write_bytes(b"")
        assert ".jpg is not an image format known here" in refusal(tmp_path / "scan.jpg")

    def test_an_empty_volume(self, refusal: Callable[[Path], str], nifti: Nifti) -> None:
        assert "empty (0x21x22 voxels)" in refusal(nifti("a.nii", dim=[3, 0, 21, 22, 1, 1, 1, 1]))

    def test_a_constant_volume(self, refusal: Callable[[Path], str], nifti: Nifti) -> None:
        assert "every voxel is 7" in refusal(nifti(array=np.full((4, 5, 6), 7, np.int16)))

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_single_slice(
        self, refusal: Callable[[Path], str], nifti: Nifti, voxels: NDArray[np.int16], axis: int
    ) -> None:
        assert "only one slice" in refusal(nifti(array=voxels.take([3], axis=axis)))

    def test_a_4d_volume(self, refusal: Callable[[Path], str], nifti: Nifti, voxels: NDArray[np.int16]) -> None:
        assert "4D (20x21x22x2)" in refusal(nifti(array=np.stack([voxels, voxels], axis=-1)))

    def test_a_trailing_axis_of_one_is_no_fourth_dimension(self, nifti: Nifti, voxels: NDArray[np.int16]) -> None:
        assert read_volume(nifti(array=voxels[..., None])).grid.size == (20, 21, 22)

    def test_a_colour_volume(self, refusal: Callable[[Path], str], nifti: Nifti) -> None:
        rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        assert "3 values per voxel" in refusal(nifti(array=rgb))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_voxels_that_are_no_numbers(
        self,
        refusal: Callable[[Path], str],
        nifti: Nifti,
        tmp_path: Path,
        voxels: NDArray[np.int16],
        value: float,
    ) -> None:
        broken = voxels.astype(np.float32)
        broken[1, 2, 3] = broken[4, 5, 6] = value
        assert refusal(nifti("a.nii.gz", array=broken)).startswith("2 of 9,240 voxels are not finite")
        assert refusal(nifti("a.nii", array=broken.astype(">f8"))).startswith("2 of 9,240 voxels are not finite")
        assert refusal(sitk_file(tmp_path / "a.mha", broken)).startswith("2 of 9,240 voxels are not finite")

    def test_a_singular_affine(self, refusal: Callable[[Path], str], nifti: Nifti) -> None:
        assert "singular" in refusal(nifti(affine=np.diag([1.0, 1, 0, 1])))
        assert "singular" in refusal(nifti("zero.nii", pixdim=[1, 0, 2, 3, 0, 0, 0, 0]))

    def test_a_sheared_sform_even_if_a_clean_qform_would_hide_it(
        self, refusal: Callable[[Path], str], nifti: Nifti
    ) -> None:
        affine = np.diag([1.5, 2, 3, 1.0])
        affine[0, 1] = 0.4
        assert "sheared" in refusal(nifti(affine=affine))
        assert "sheared" in refusal(nifti("both.nii", qform_code=1, srow_x=affine[0]))

    def test_sheared_and_singular_nrrd(
        self, refusal: Callable[[Path], str], tmp_path: Path, voxels: NDArray[np.int16]
    ) -> None:
        good = sitk_file(tmp_path / "good.nrrd", voxels).read_bytes()
        for name, axis in (("sheared", b"(0.5,2,0)"), ("singular", b"(1.5,0,0)")):
            path = tmp_path / f"{name}.nrrd"
            path.write_bytes(good.replace(b"(0,2,0)", axis))
            assert name in refusal(path)

    def test_a_header_with_two_voxel_sizes(self, refusal: Callable[[Path], str], nifti: Nifti) -> None:
        assert "contradicts itself" in refusal(nifti("two.nii", pixdim=[1, 1, 1, 1, 0, 0, 0, 0], qform_code=1))

    @pytest.mark.parametrize("keep", [0.001, 0.5, 0.999])
    @pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
    def test_a_truncated_nifti_which_itk_would_fill_with_zeros(
        self, refusal: Callable[[Path], str], nifti: Nifti, name: str, keep: float
    ) -> None:
        path = nifti(name)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * keep)])
        assert "cut off" in (what := refusal(path)) or "truncated" in what or "not a NIfTI" in what

    def test_a_flipped_byte_in_the_compressed_stream(self, refusal: Callable[[Path], str], nifti: Nifti) -> None:
        path = nifti()
        data = bytearray(path.read_bytes())
        data[-9] ^= 0x55
        path.write_bytes(data)
        assert "damaged" in refusal(path)

    @pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
    def test_other_truncated_files(
        self, refusal: Callable[[Path], str], tmp_path: Path, voxels: NDArray[np.int16], name: str
    ) -> None:
        path = sitk_file(tmp_path / name, voxels)
        path.write_bytes(path.read_bytes()[:5000])
        assert "truncated" in refusal(path)

    def test_an_absurd_size_before_any_memory_is_taken(self, refusal: Callable[[Path], str], nifti: Nifti) -> None:
        path = nifti("huge.nii", dim=[3, 32000, 32000, 32000, 1, 1, 1, 1])
        assert "asks for 32000x32000x32000 voxels" in refusal(path)

    @pytest.mark.parametrize("name", ["../secret.raw", "/etc/passwd", "LIST", "slice%03d.raw 1 22 1"])
    def test_a_header_that_points_elsewhere(
        self, refusal: Callable[[Path], str], tmp_path: Path, voxels: NDArray[np.int16], name: str
    ) -> None:
        path = sitk_file(tmp_path / "a.mhd", voxels)
        path.write_text(path.read_text().replace("a.raw", name))
        assert "its voxels" in refusal(path)


class TestWarnings:
    def test_no_orientation_at_all_is_said(self, nifti: Nifti) -> None:
        volume = read_volume(nifti("none.nii", sform_code=0, qform_code=0))
        assert "left and right cannot be known" in volume.warnings[0]

    def test_two_positions_in_one_header_are_said(self, nifti: Nifti) -> None:
        volume = read_volume(nifti("two.nii", qform_code=1, sform_code=4, srow_x=[1.5, 0, 0, 40]), family="CT")
        assert len(volume.warnings) == 1
        assert "place the image differently" in volume.warnings[0]

    def test_a_clean_header_gives_none_but_that_the_modality_was_guessed(self, nifti: Nifti) -> None:
        assert read_volume(nifti(), family="CT").warnings == ()
        assert read_volume(nifti(), "CT contrast").warnings == ()
        (warning,) = read_volume(nifti()).warnings
        assert "taken for CT by its intensities" in warning


class TestSeveralChannels:
    def test_keep_their_names_and_order(self, nifti: Nifti, voxels: NDArray[np.int16]) -> None:
        volumes = read_volumes({"T2": nifti("b.nii"), "T1": nifti("a.nii", array=voxels + 1)})
        assert [volume.channel for volume in volumes] == ["T2", "T1"]

    def test_may_differ_by_rounding(self, nifti: Nifti) -> None:
        moved = np.diag([1.5, 2, 3, 1.0])
        moved[2, 3] = 0.01
        assert len(read_volumes({"T1": nifti("a.nii"), "T2": nifti("b.nii", affine=moved)})) == 2


def test_the_hash_is_of_the_file_and_of_both_files_of_a_pair(tmp_path: Path, voxels: NDArray[np.int16]) -> None:
    path = sitk_file(tmp_path / "a.mhd", voxels)
    before = read_volume(path).sha256
    (tmp_path / "a.raw").write_bytes((tmp_path / "a.raw").read_bytes()[::-1])
    assert read_volume(path).sha256 != before


def test_the_digest_alone_is_the_hash_that_reading_gives(
    tmp_path: Path, voxels: NDArray[np.int16], nifti: Nifti
) -> None:
    series = save(slices(ball()), tmp_path / "dicom")
    for path in (
        nifti("a.nii.gz"),
        sitk_file(tmp_path / "a.mhd", voxels),
        sitk_file(tmp_path / "a.nrrd", voxels),
        series,
    ):
        assert digest(path) == read_volume(path).sha256
    with pytest.raises(ImageError, match="no such file"):
        digest(tmp_path / "absent.nii.gz")


def test_a_gzip_of_several_members_is_whole(tmp_path: Path, nifti: Nifti) -> None:
    raw = gzip.decompress(nifti().read_bytes())
    path = tmp_path / "members.nii.gz"
    path.write_bytes(gzip.compress(raw[:4000]) + gzip.compress(raw[4000:]))
    assert np.array_equal(read_volume(path).array, np.asarray(nib.load(path).dataobj).T)
