"""NIfTI: the header as it stands, mended where its meaning is plain, refused where it is not.

The grid is ITK's, hence nnU-Net's, of a header that was checked first: ITK itself reads NaN as 0, fills a truncated
file up, swaps a sheared sform for the qform and takes a voxel size of 0 for 1, all without an error.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import gzip
import math
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.files import open_regular
from medsegagent.images.geometry import check_axes, grid_of, orthogonal, to_millimetres
from medsegagent.images.stored import Stored, check_shape, one_value
from medsegagent.images.volume import Grid

_LPS = np.diag([-1.0, -1.0, 1.0])
_KINDS = {
    **{2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"},
}
_SEVERAL = {32: 2, 128: 3, 1792: 2, 2048: 2, 2304: 4}
"""Data types with several values per voxel: complex and colour."""
_UNITS = {1: ("metres", 1000.0), 3: ("micrometres", 0.001)}
_LATEST_START = 2**28
"""Bytes before the voxels: a header with extensions of 256 MiB is none."""
_LARGEST_NAMES = 2**24
_CODES = 5
"""NIfTI's own codes for what an orientation is relative to are 1 to 5."""
_ROUNDED = 1e-3
"""How far beyond 1 a quaternion's square may be rounded."""


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open the file, whether it is compressed as its name says or not, for the length of a header."""
    with open_regular(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if packed:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield file


def read_header(path: Path) -> nib.Nifti1Header:
    """Read the header as it stands.

    Raises:
        ImageError: If it is not a NIfTI-1 or NIfTI-2 header.
    """
    remedy = "Check that the file is complete and of the type that its name says."
    try:
        with _unpacked(path) as file:
            block = file.read(nib.Nifti2Header.sizeof_hdr)
    except (OSError, EOFError, zlib.error) as error:
        raise ImageError(f"not a NIfTI image ({error})", remedy, str(path)) from error
    for kind in (nib.Nifti1Header, nib.Nifti2Header):
        if len(block) >= kind.sizeof_hdr and kind.may_contain_header(block):
            header = kind(block[: kind.sizeof_hdr], check=False)
            if not bytes(header["magic"].item()).startswith(b"n+"):
                what = "its voxels are in another file (a pair of .hdr and .img)"
                raise ImageError(what, "Convert it to one .nii.gz first.", str(path))
            return header
    raise ImageError("not a NIfTI image, or cut off within its header", remedy, str(path))


def stored_in(path: Path, header: nib.Nifti1Header) -> Stored:
    """Tell how the file holds its voxels.

    Raises:
        ImageError: If it is no volume of one number per voxel, of a type known here, at a possible place in the file.
    """
    where = str(path)
    size = shape_of(header)
    check_shape(size, where)
    code = int(header["datatype"])
    one_value(_SEVERAL.get(code, 1), where)
    if code not in _KINDS:
        what = f"its voxels are of data type {code}, which is none of NIfTI's for numbers"
        raise ImageError(what, "Convert it to int16 or float32 first.", where)
    offset = float(header["vox_offset"])
    first = int(header.sizeof_hdr) + 4
    if not math.isfinite(offset) or not 0 <= offset <= _LATEST_START:
        what = f"the header is damaged: it puts the voxels at byte {offset:g} of the file"
        raise ImageError(what, "Copy or export the image again.", where)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    scale = slope if math.isfinite(slope) and slope else 1.0, intercept if math.isfinite(intercept) else 0.0
    with open_regular(path) as file:
        packed = file.read(2) == b"\x1f\x8b"
    return Stored(
        path,
        np.dtype(header.endianness + _KINDS[code]),
        (*reversed(size[:3]),),
        start=max(int(offset), first),
        packing="gzip" if packed else "",
        scale=scale,
    )


def shape_of(header: nib.Nifti1Header) -> tuple[int, ...]:
    """Return the lengths of the axes, as many as the header counts; a fourth or later one of 0 is 1, as for ITK."""
    dim = [int(n) for n in header["dim"]]
    axes = dim[1 : 1 + min(max(dim[0], 0), 7)]
    return (*axes[:3], *(max(n, 1) for n in axes[3:]))


def lay_out(header: nib.Nifti1Header, where: str) -> tuple[Grid, tuple[str, ...]]:
    """Say where the voxels lie, in mm, and what was mended or is in doubt.

    Raises:
        ImageError: If voxel sizes or the orientation are singular, sheared, contradictory, or not to be known.
    """
    plain, warnings = _mended(header, where)
    warnings += check_header(plain, where)
    if plain["sform_code"] and not plain["qform_code"]:
        warnings += _straightened(plain)
    width, height, depth = shape_of(header)[:3]
    grid = replace(_by_itk(plain, where), size=(width, height, depth))
    return grid, warnings + check_agreement(plain, grid, where)


def _mended(header: nib.Nifti1Header, where: str) -> tuple[nib.Nifti1Header, tuple[str, ...]]:
    """Copy what says where the voxels lie into a NIfTI-1 header that ITK reads without guessing."""
    plain = nib.Nifti1Header()
    plain.set_data_dtype(np.uint8)
    plain["magic"], plain["vox_offset"] = b"n+1", plain.single_vox_offset
    plain["dim"] = [3, *(min(n, 32767) for n in shape_of(header)[:3]), 1, 1, 1, 1]  # NIfTI-2 may be longer
    zooms = np.abs(np.array(header["pixdim"][1:4], dtype=np.float64))
    if not np.isfinite(zooms).all() or (zooms <= 0).any():
        raise ImageError(
            f"the affine is singular: the header gives voxel sizes {zooms.tolist()} mm",
            "Repair the header's pixdim, or export the image again.",
            where,
        )
    factor, warnings = to_millimetres(*_UNITS.get(int(header["xyzt_units"]) & 7, ("", 1.0)), shape_of(header), zooms)
    plain["pixdim"][:4] = [-1.0 if header["pixdim"][0] < 0 else 1.0, *(zooms * factor)]
    plain.set_xyzt_units("mm")
    for key in ("qform_code", "sform_code"):
        plain[key] = min(max(0, int(header[key])), _CODES)
    for key in ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z"):
        plain[key] = np.asarray(header[key], dtype=np.float64) * factor
    quaternion = np.array([float(header[f"quatern_{axis}"]) for axis in "bcd"])
    square = float(quaternion @ quaternion)
    if plain["qform_code"] and not square <= 1 + _ROUNDED:  # NaN too
        if not plain["sform_code"]:
            what = f"the qform is no rotation (its quaternion's square is {square:g})"
            raise ImageError(what, "Repair the header's orientation.", where)
        plain["qform_code"] = 0
        warnings += ("the header's qform is no rotation and was left out; the sform was used",)
    elif square > 1:  # rounded: nibabel refuses from 4e-7 on, ITK takes it
        quaternion /= math.sqrt(square) * (1 + 1e-7)
    for axis, value in zip("bcd", quaternion, strict=True):
        plain[f"quatern_{axis}"] = value
    return plain, warnings


def check_header(header: nib.Nifti1Header, where: str) -> tuple[str, ...]:
    """Check the orientation; return warnings.

    Raises:
        ImageError: If the sform or qform in force is singular, sheared or not finite.
    """
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
    if not np.isfinite(affine).all():
        raise ImageError("the image's position is not a number", "Repair the header's orientation.", where)
    return ()


def _straightened(header: nib.Nifti1Header) -> tuple[str, ...]:
    """Set an sform that is a little off the right angle, for which ITK has no form, upright."""
    affine = header.get_sform().astype(np.float64)
    upright, moved = orthogonal(affine[:3, :3], shape_of(header))
    if moved == 0:
        return ()
    affine[:3, :3] = upright
    for row, key in zip(affine, ("srow_x", "srow_y", "srow_z"), strict=False):
        header[key] = row
    if moved <= 0.1 * min(voxel_sizes(affine)):
        return ()
    return (f"the axes are a little off the right angle and were straightened: voxels moved by up to {moved:.2g} mm",)


def _by_itk(header: nib.Nifti1Header, where: str) -> Grid:
    """Have ITK read the header, alone and under a plain name."""
    with tempfile.TemporaryDirectory(prefix="medsegagent-") as folder:
        file = Path(folder) / "header.nii"
        file.write_bytes(header.binaryblock + bytes(4))
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(file))
        try:
            reader.ReadImageInformation()
            return grid_of(reader)
        except RuntimeError as error:
            if "determinant is 0" in str(error):  # the only trace that ITK leaves of a singular direction
                raise ImageError("the affine is singular", "Repair the header's orientation.", where) from error
            reason = str(error).strip().splitlines()[-1].removeprefix("ITK ERROR: ")
            what = f"not a readable image ({reason[:200]})".replace(str(file), "its header")
            raise ImageError(what, "Repair the header's orientation, or export the image again.", where) from error


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


def names_within(path: Path) -> dict[int, str]:
    """Value -> name from the header's label table, as Connectome Workbench and TotalSegmentator write it.

    Raises:
        ImageError: If it is not a NIfTI file.
    """
    header = read_header(path)
    first, offset = int(header.sizeof_hdr), float(header["vox_offset"])
    if not first + 4 < offset <= _LARGEST_NAMES:
        return {}
    try:
        with _unpacked(path) as file:
            block = file.read(int(offset))[first:]
        if not block or not block[0]:
            return {}
        size, swapped = len(block) - 4, header.endianness != nib.volumeutils.native_code
        found = nib.nifti1.Nifti1Extensions.from_fileobj(BytesIO(block[4:]), size, swapped)
        contents = [part.get_content() for part in found]
    except Exception:  # nibabel raises whatever a damaged extension leads to; labels go without names then
        return {}
    for content in contents:
        if isinstance(content, bytes) and b"<Label " in content and b"<!ENTITY" not in content:
            try:
                table = ElementTree.fromstring(content.rstrip(b"\0"))
                return {int(label.get("Key", "")): (label.text or "").strip() for label in table.iter("Label")}
            except (ElementTree.ParseError, ValueError):
                continue
    return {}


def affine_ras(grid: Grid) -> NDArray[np.float64]:
    """Return the 4x4 affine in NIfTI's convention: voxel index x, y, z to patient point, mm, RAS."""
    affine = np.eye(4)
    affine[:3, :3] = _LPS @ (np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing))
    affine[:3, 3] = _LPS @ np.array(grid.origin)
    return affine
