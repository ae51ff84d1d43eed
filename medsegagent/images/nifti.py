"""What a NIfTI header says that ITK would hide: shear, contradictions, and files that end too early.

ITK reads NaN as 0, fills a truncated file up, swaps a sheared sform for the qform and takes a voxel size of 0 for 1,
all without an error, so the header and the stored bytes are checked here first.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import gzip
import math
import zlib
from io import BufferedIOBase
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.openers import ImageOpener
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.geometry import check_axes, not_finite
from medsegagent.images.volume import Grid

_CHUNK = 1 << 20  # a multiple of every item size
COMPLETE = "Check that the file is complete: copy or export it again."
_LPS = np.diag([-1.0, -1.0, 1.0])


def read_header(path: Path) -> nib.Nifti1Header:
    """Read the header as it stands; nibabel would mend some of what `check_header` refuses.

    Raises:
        ImageError: If it is not a NIfTI-1 or NIfTI-2 header.
    """
    remedy = "Check that the file is complete and of the type that its name says."
    try:
        with ImageOpener(str(path)) as file:
            block = file.read(nib.Nifti2Header.sizeof_hdr)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(f"not a NIfTI image ({error})", remedy, str(path)) from error
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if kind.may_contain_header(block):
            return kind(block[: kind.sizeof_hdr], check=False)
    raise ImageError("not a NIfTI image, or cut off within its header", remedy, str(path))


def check_header(header: nib.Nifti1Header, where: str) -> tuple[str, ...]:
    """Check the geometry; return warnings.

    Raises:
        ImageError: If the voxel sizes or the sform or qform in force are singular or sheared.
    """
    zooms = np.array(header["pixdim"][1:4], dtype=np.float64)
    if not np.isfinite(zooms).all() or (zooms <= 0).any():
        raise ImageError(
            f"the affine is singular: the header gives voxel sizes {zooms.tolist()} mm",
            "Repair the header's pixdim, or export the image again.",
            where,
        )
    if not header["sform_code"] and not header["qform_code"]:
        return (
            "The header says nothing about orientation (sform and qform codes are 0): "
            "left and right cannot be known and were taken as the file's axes suggest.",
        )
    try:
        affine = header.get_best_affine().astype(np.float64)
    except ValueError as error:  # a quaternion that is no rotation
        raise ImageError(f"the qform is no rotation ({error})", "Repair the header's orientation.", where) from error
    check_axes(affine[:3, :3], where)
    return ()


def check_agreement(header: nib.Nifti1Header, grid: Grid, where: str) -> tuple[str, ...]:
    """Compare the header's affine with the grid that ITK (hence nnU-Net) made of it; return warnings.

    Raises:
        ImageError: If they differ in voxel size: volumes in mL and the models' resolution would be a guess.
    """
    if not header["sform_code"] and not header["qform_code"]:
        return ()
    affine = header.get_best_affine().astype(np.float64)
    sizes = voxel_sizes(affine)
    if not np.allclose(sizes, grid.spacing, rtol=0.01):
        raise ImageError(
            f"the header contradicts itself: voxels of {np.round(sizes, 4).tolist()} mm by its sform, "
            f"of {np.round(grid.spacing, 4).tolist()} mm by its pixdim or qform",
            "Find out which is right and set both to it (nibabel: image.set_sform, image.set_qform).",
            where,
        )
    ours = affine_ras(grid)
    corner = np.array([*(n - 1 for n in grid.size), 1.0])
    apart = max(float(np.linalg.norm((affine - ours)[:3] @ point)) for point in (corner, np.array([0.0, 0, 0, 1])))
    if apart > 0.5 * min(grid.spacing):
        return (
            f"sform and qform place the image differently (up to {apart:.1f} mm apart). The qform was used, as "
            "nnU-Net does; a viewer that goes by the sform shows image and mask apart.",
        )
    return ()


def shape_of(header: nib.Nifti1Header) -> tuple[int, ...]:
    """Return the lengths of the axes, as many as the header counts."""
    dim = [int(n) for n in header["dim"]]
    return tuple(dim[1 : 1 + min(max(dim[0], 0), 7)])


def check_content(path: Path, header: nib.Nifti1Header) -> None:
    """Read the stored voxels once, in constant memory, and check that they are all there and finite.

    Raises:
        ImageError: If the file ends before its last voxel, its compressed stream is damaged, or a voxel is NaN or
            infinite.
    """
    where = str(path)
    kind = header.get_data_dtype()
    voxels = math.prod(shape_of(header))
    start = int(header["vox_offset"])
    expected = start + voxels * kind.itemsize
    compressed = path.suffix.lower() == ".gz"
    if not compressed and kind.kind != "f":
        length, bad = path.stat().st_size, 0
    else:
        try:
            with gzip.open(path) if compressed else path.open("rb") as file:
                length, bad = _scan(file, kind, start, expected)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ImageError(f"the compressed file is truncated or damaged ({error})", COMPLETE, where) from error
    if length < expected:
        what = f"the file is truncated: it holds {length:,} of the {expected:,} bytes that its header promises"
        raise ImageError(what, COMPLETE, where)
    if bad:
        raise not_finite(bad, voxels, where)


def _scan(file: BufferedIOBase, kind: np.dtype[np.generic], start: int, stop: int) -> tuple[int, int]:
    """Read to the end, which also checks a gzip's CRC; return the length and the number of non-finite floats."""
    length = len(file.read(start))
    bad = 0
    while chunk := file.read(_CHUNK):
        if kind.kind == "f" and length < stop:
            whole = min(len(chunk), stop - length) // kind.itemsize
            values = np.frombuffer(chunk, kind, count=whole)
            bad += whole - int(np.count_nonzero(np.isfinite(values)))
        length += len(chunk)
    return length, bad


def affine_ras(grid: Grid) -> NDArray[np.float64]:
    """Return the 4x4 affine in NIfTI's convention: voxel index x, y, z to patient point, mm, RAS."""
    affine = np.eye(4)
    affine[:3, :3] = _LPS @ (np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing))
    affine[:3, 3] = _LPS @ np.array(grid.origin)
    return affine
