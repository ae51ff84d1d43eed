"""NIfTI as found in the wild and as an attacker writes it: the right value, or one clear refusal."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.read import digest, read_labels, read_volume

Nifti = Callable[..., Path]


def same_place(one: Path, other: Path, atol: float = 1e-5) -> None:
    ours, theirs = read_volume(one), read_volume(other)
    assert np.array_equal(ours.array, theirs.array)
    for name in ("size", "spacing", "origin", "direction"):
        np.testing.assert_allclose(getattr(ours.grid, name), getattr(theirs.grid, name), atol=atol)


def spoilt(path: Path, **fields: Any) -> Path:
    raw = bytearray(path.read_bytes())
    header = nib.Nifti1Header(bytes(raw[:348]), check=False)
    for key, value in fields.items():
        header[key] = value
    raw[:348] = header.binaryblock
    path.write_bytes(raw)
    return path


class TestHeadersThatAreMended:
    @pytest.mark.parametrize("qfac", [0.0, np.nan, 5.0])
    def test_a_qfac_that_is_neither_1_nor_minus_1_is_1(self, nifti: Nifti, qfac: float) -> None:
        fields = {"qform_code": 1, "sform_code": 0}
        odd = nifti("odd.nii", **fields)
        header = nib.load(nifti("plain.nii", **fields)).header
        same_place(spoilt(odd, pixdim=[qfac, *header["pixdim"][1:]]), nifti("plain.nii", **fields))

    def test_a_quaternion_rounded_beyond_1_is_a_rotation(self, nifti: Nifti) -> None:
        third = np.sqrt((1 + 4.8e-7) / 3)
        fields = {"quatern_b": third, "quatern_c": third, "quatern_d": third, "qform_code": 1, "sform_code": 0}
        direction = np.array(read_volume(nifti("odd.nii", **fields)).grid.direction).reshape(3, 3)
        np.testing.assert_allclose(direction @ direction.T, np.eye(3), atol=1e-6)

    def test_a_qform_that_is_no_rotation_gives_way_to_the_sform_and_is_refused_without(self, nifti: Nifti) -> None:
        broken = {"quatern_b": 2.0, "qform_code": 1}
        volume = read_volume(nifti("odd.nii", **broken))
        assert any("qform is no rotation" in warning for warning in volume.warnings)
        assert volume.grid == read_volume(nifti("plain.nii")).grid
        with pytest.raises(ImageError, match="qform is no rotation"):
            read_volume(nifti("odd.nii", **broken, sform_code=0))

    @pytest.mark.parametrize(("code", "factor"), [(1, 1e-3), (3, 1e3)])
    def test_metres_and_micrometres_become_mm_and_it_is_said(self, nifti: Nifti, code: int, factor: float) -> None:
        affine = np.diag([1.5, 2, 3, 1])
        affine[:3, 3] = 10, -20, 30
        plain, odd = nifti("plain.nii", affine=affine), nifti("odd.nii", affine=affine)
        header = nib.load(odd).header
        rows = {key: np.array(header[key]) * factor for key in ("srow_x", "srow_y", "srow_z")}
        spoilt(odd, xyzt_units=code, pixdim=np.array(header["pixdim"]) * [1, *[factor] * 3, 1, 1, 1, 1], **rows)
        same_place(odd, plain, atol=1e-3)
        assert "converted to mm" in read_volume(odd).warnings[0]

    @pytest.mark.parametrize("code", [1, 3])
    def test_a_unit_that_cannot_be_true_is_not_believed_and_it_is_said(self, nifti: Nifti, code: int) -> None:
        odd = nifti("odd.nii", xyzt_units=code)
        same_place(odd, nifti("plain.nii"))
        assert "taken as mm" in read_volume(odd).warnings[0]

    def test_negative_voxel_sizes_are_lengths(self, nifti: Nifti) -> None:
        same_place(nifti("odd.nii", pixdim=[1, -1.5, 2, -3, 0, 0, 0, 0]), nifti("plain.nii"))

    def test_a_fourth_axis_of_none_is_one(self, nifti: Nifti) -> None:
        same_place(nifti("odd.nii", dim=[4, 20, 21, 22, 0, 0, 1, 1]), nifti("plain.nii"))

    @pytest.mark.parametrize("shear", [1e-5, 1e-4, 9e-4])
    def test_an_sform_a_little_off_the_right_angle_is_straightened(self, nifti: Nifti, shear: float) -> None:
        affine = np.diag([1.5, 2, 3, 1.0])
        affine[0, 1] = 2 * shear
        grid = read_volume(nifti(affine=affine)).grid
        direction = np.array(grid.direction).reshape(3, 3)
        np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-6)
        far = np.array([[19, 20, 21]])
        ras = far @ affine[:3, :3].T
        assert np.abs(grid.points(far) - ras * [-1, -1, 1]).max() < 0.05

    def test_a_file_that_is_not_compressed_as_its_name_says(self, nifti: Nifti, tmp_path: Path) -> None:
        plain = nifti("plain.nii")
        shutil.copy(plain, tmp_path / "odd.nii.gz")
        (tmp_path / "odd.nii").write_bytes(gzip.compress(plain.read_bytes()))
        same_place(tmp_path / "odd.nii.gz", plain)
        same_place(tmp_path / "odd.nii", plain)

    def test_nifti_2(self, tmp_path: Path, voxels: NDArray[np.int16], nifti: Nifti) -> None:
        nib.save(nib.Nifti2Image(voxels, np.diag([1.5, 2, 3, 1])), tmp_path / "two.nii.gz")
        same_place(tmp_path / "two.nii.gz", nifti("plain.nii"))

    def test_the_other_byte_order(self, nifti: Nifti, voxels: NDArray[np.int16], tmp_path: Path) -> None:
        header = nib.Nifti1Header(endianness=">")
        header.set_data_dtype(">i2")
        image = nib.Nifti1Image(voxels, np.diag([1.5, 2, 3, 1]), header)
        nib.save(image, tmp_path / "big.nii")
        assert (tmp_path / "big.nii").read_bytes()[:4] == b"\0\0\x01\x5c"
        same_place(tmp_path / "big.nii", nifti("plain.nii"))


class TestNames:
    @pytest.mark.parametrize("name", ["a.Nii.gz", "a.NII.GZ", "b.NII", "ä ö 图像.nii.gz", "a;b $(x) 'c.nii.gz"])
    def test_a_name_in_any_spelling(self, nifti: Nifti, tmp_path: Path, name: str) -> None:
        plain = nifti("plain.nii" if name.lower().endswith(".nii") else "plain.nii.gz")
        shutil.copy(plain, tmp_path / name)
        same_place(tmp_path / name, plain)
        assert digest(tmp_path / name) == digest(plain)

    def test_a_path_of_more_than_255_characters(self, nifti: Nifti, tmp_path: Path) -> None:
        deep = tmp_path.joinpath(*["a" * 100] * 4)
        deep.mkdir(parents=True)
        shutil.copy(nifti("plain.nii.gz"), deep / "image.nii.gz")
        same_place(deep / "image.nii.gz", tmp_path / "plain.nii.gz")

    @pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
    def test_a_name_that_is_not_utf_8(self, nifti: Nifti, tmp_path: Path, suffix: str) -> None:
        odd = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
        shutil.copy(nifti(f"plain{suffix}"), odd)
        same_place(odd, tmp_path / f"plain{suffix}")


class TestHeadersThatAreRefused:
    @pytest.mark.parametrize("code", [0, 1, 3, 1536, 9999])
    def test_a_data_type_that_is_none(self, nifti: Nifti, code: int) -> None:
        with pytest.raises(ImageError, match=f"data type {code}"):
            read_volume(nifti("odd.nii", datatype=code))

    @pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf, -352.0, -5.0, 1e30, 2.9e9])
    @pytest.mark.parametrize("name", ["odd.nii", "odd.nii.gz"])
    def test_voxels_at_an_impossible_place(self, nifti: Nifti, tmp_path: Path, offset: float, name: str) -> None:
        file = nifti("odd.nii", vox_offset=offset)
        if name.endswith(".gz"):
            (tmp_path / name).write_bytes(gzip.compress(file.read_bytes()))
        with pytest.raises(ImageError, match="puts the voxels at byte"):
            read_volume(tmp_path / name)

    def test_voxels_that_begin_after_the_end_of_the_file(self, nifti: Nifti) -> None:
        with pytest.raises(ImageError, match="truncated"):
            read_volume(nifti("odd.nii", vox_offset=1e6))

    def test_a_small_compressed_file_that_promises_gigabytes(self, nifti: Nifti, tmp_path: Path) -> None:
        file = nifti("odd.nii", dim=[3, 1200, 1200, 1200, 1, 1, 1, 1])
        (tmp_path / "odd.nii.gz").write_bytes(gzip.compress(file.read_bytes()))
        with pytest.raises(ImageError, match="truncated"):
            read_volume(tmp_path / "odd.nii.gz")

    @pytest.mark.parametrize("key", ["srow_x", "qoffset_x"])
    def test_a_position_that_is_no_number(self, nifti: Nifti, key: str) -> None:
        fields = {"srow_x": {"srow_x": [1.5, 0, 0, np.nan]}, "qoffset_x": {"qoffset_x": np.inf, "sform_code": 0}}[key]
        with pytest.raises(ImageError, match="position"):
            read_volume(nifti("odd.nii", qform_code=1, **fields))

    def test_voxels_in_another_file(self, nifti: Nifti) -> None:
        with pytest.raises(ImageError, match="in another file"):
            read_volume(nifti("odd.nii", magic=b"ni1"))

    def test_a_bomb_after_the_last_voxel_is_not_unpacked_whole(self, nifti: Nifti, tmp_path: Path) -> None:
        raw = nifti("plain.nii").read_bytes()
        packed = gzip.compress(raw + bytes(200 * 2**20), compresslevel=1)
        (tmp_path / "odd.nii.gz").write_bytes(packed[:-1_000])  # what is never read may be damaged
        same_place(tmp_path / "odd.nii.gz", tmp_path / "plain.nii")


class TestNoRegularFile:
    @pytest.mark.parametrize("name", ["pipe.nii.gz", "pipe.nrrd", "pipe.mha", "pipe.dcm", "pipe.zip"])
    def test_a_pipe_is_refused_at_once(self, tmp_path: Path, name: str) -> None:
        os.mkfifo(tmp_path / name)
        with pytest.raises(ImageError, match="no regular file"):
            read_volume(tmp_path / name)

    @pytest.mark.parametrize("name", ["zero.nii", "zero.nii.gz", "zero.nrrd", "zero.mhd", "zero.dcm"])
    def test_a_link_to_a_device_is_refused_at_once(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).symlink_to("/dev/zero")
        with pytest.raises(ImageError, match="no regular file"):
            read_volume(tmp_path / name)

    def test_a_link_to_a_file_is_that_file(self, nifti: Nifti, tmp_path: Path) -> None:
        (tmp_path / "link.nii.gz").symlink_to(nifti("plain.nii.gz"))
        same_place(tmp_path / "link.nii.gz", tmp_path / "plain.nii.gz")

    def test_a_link_to_itself_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "loop.nii").symlink_to(tmp_path / "loop.nii")
        with pytest.raises(ImageError):
            read_volume(tmp_path / "loop.nii")


class TestLabels:
    @pytest.mark.parametrize(("kind", "value"), [("<u4", 2**31), ("<i8", 2**40 + 1), ("<i4", 2**24 + 1)])
    def test_large_values_are_not_rounded(self, nifti: Nifti, kind: str, value: int) -> None:
        array = np.zeros((5, 6, 7), kind)
        array[2, 3, 4], array[2, 3, 3] = value, value - 1
        path = nifti("labels.nii.gz")
        nib.save(nib.Nifti1Image(array, np.eye(4), dtype=np.dtype(kind)), path)
        values, _, _ = read_labels(path)
        assert np.unique(values).tolist() == [0, value - 1, value]

    def test_an_empty_or_a_full_mask_is_read(self, nifti: Nifti) -> None:
        for value in (0, 1):
            values, grid, _ = read_labels(nifti(array=np.full((4, 5, 6), value, np.uint8)))
            assert values.shape == grid.shape == (6, 5, 4)
            assert (values == value).all()
