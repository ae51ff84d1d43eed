"""Files as users have them, good and bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def voxels() -> NDArray[np.int16]:
    """CT-like noise, X, Y, Z; every axis differs so that a swap shows."""
    return np.random.default_rng(0).integers(-1000, 1000, (20, 21, 22)).astype(np.int16)


@pytest.fixture
def nifti(tmp_path: Path, voxels: NDArray[np.int16]) -> Callable[..., Path]:
    """Write a NIfTI file; raw header fields (`pixdim`, `dim`, ...) can be spoilt after the fact."""

    def write(
        name: str = "image.nii.gz",
        array: NDArray[np.generic] | None = None,
        affine: NDArray[np.float64] | None = None,
        **fields: object,
    ) -> Path:
        image = nib.Nifti1Image(voxels if array is None else array, np.diag([1.5, 2, 3, 1]))
        image.set_sform(np.diag([1.5, 2, 3, 1]) if affine is None else affine, 1)
        if affine is not None:
            image.set_qform(None, 0)
            image.header["pixdim"][1:4] = np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-9)
        path = tmp_path / name
        nib.save(image, path)
        if fields:
            raw = bytearray(path.read_bytes())
            header = nib.Nifti1Header(bytes(raw[:348]), check=False)
            for key, value in fields.items():
                header[key] = value
            raw[:348] = header.binaryblock
            path.write_bytes(raw)
        return path

    return write


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """Find a real image beside the clone; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"real image {name} is not beside this clone")
        return path

    return find
