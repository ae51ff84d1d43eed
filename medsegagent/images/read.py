"""Image files to volumes. One reader per extension; a new format is one function and one line in `READERS`."""

# mypy: allow-untyped-calls
from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images import nifti
from medsegagent.images.channels import on_one_grid
from medsegagent.images.dicom import is_dicom, read_dicom
from medsegagent.images.geometry import check_axes, grid_of, not_finite
from medsegagent.images.modality import estimate_modality
from medsegagent.images.volume import ModalityEvidence, Volume

MAX_VOXELS = 2**31
"""8 GiB as float32; a header that asks for more is broken, or no machine here would finish it."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Loaded:
    """What a reader gives: the image, the files it came from, and what its tags say (None without tags)."""

    image: sitk.Image
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()
    evidence: ModalityEvidence | None = None


def read_volume(path: Path, channel: str = "", *, series: str = "", family: str | None = None) -> Volume:
    """Read one image, voxel for voxel what nnU-Net's `SimpleITKIO` reads.

    Args:
        path: A NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd) file; or DICOM: a folder, a zip
            or a file.
        channel: The name that the user gave it.
        series: Of DICOM, which series: its number or a part of its description; empty for the one that fits.
        family: CT, MR or PET, where the request names one: settles which series fits.

    Raises:
        ImageError: If there is no such file, it is not a readable 3D image of one scalar per voxel with at least two
            slices along each axis, its grid is singular or sheared, or its voxels are not finite or all the same.
    """
    where = str(path)
    if not path.exists():
        raise ImageError("no such file", "Check the path given with -i.", where)
    if extension(path) not in READERS and is_dicom(path):
        volume = read_dicom(path, channel, series=series, family=family)
        _check_shape(volume.grid.size, where)
        _check_voxels(volume.array, where)
        return volume
    loaded = _reader(path)(path)
    grid = grid_of(loaded.image)
    check_axes(np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing), where)
    # A view, so that the one copy made is the float32 one; exactly SimpleITKIO's cast.
    array = sitk.GetArrayViewFromImage(loaded.image).astype(np.float32)
    _check_voxels(array, where)
    return Volume(
        array=array,
        grid=grid,
        channel=channel,
        path=path,
        sha256=_sha256(loaded.files),
        evidence=loaded.evidence or estimate_modality(array),
        warnings=loaded.warnings,
    )


def read_volumes(paths: Mapping[str, Path], *, series: str = "", family: str | None = None) -> tuple[Volume, ...]:
    """Read the channels of one case, name -> file, in the order given, all on the first one's grid.

    `series` and `family` are those of `read_volume`. Errors too; and an ImageError if a channel lies elsewhere.
    """
    return on_one_grid([read_volume(path, channel, series=series, family=family) for channel, path in paths.items()])


def digest(path: Path, *, series: str = "", family: str | None = None) -> str:
    """Return the `sha256` that `read_volume` would give, without looking at voxels where that can be helped.

    Raises:
        ImageError: If there is no such file, or the file is unknown here.
    """
    if not path.exists():
        raise ImageError("no such file", "Check the path.", str(path))
    if extension(path) not in READERS and is_dicom(path):
        return read_dicom(path, series=series, family=family).sha256
    data = _data_file(path) if _reader(path) is _read_other else None
    return _sha256((path,) if data is None else (path, data))


def extension(path: Path) -> str:
    """Return the extension that says the format, lower case, `.nii.gz` whole."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _reader(path: Path) -> Callable[[Path], Loaded]:
    try:
        return READERS[extension(path)]
    except KeyError:
        raise ImageError(
            f"{extension(path) or 'a file without extension'} is not an image format known here",
            f"Give one of {', '.join(READERS)}, or DICOM: a folder, a zip or a file.",
            str(path),
        ) from None


def _read_nifti(path: Path) -> Loaded:
    where = str(path)
    header = nifti.read_header(path)
    _check_shape(nifti.shape_of(header), where)
    warnings = nifti.check_header(header, where)
    nifti.check_content(path, header)
    image = _read_itk(path)
    return Loaded(image, (path,), warnings + nifti.check_agreement(header, grid_of(image), where))


def _read_other(path: Path) -> Loaded:
    """Read NRRD or MetaImage, whose ITK readers notice missing bytes themselves."""
    data = _data_file(path)
    return Loaded(_read_itk(path), (path,) if data is None else (path, data))


READERS: dict[str, Callable[[Path], Loaded]] = {
    ".nii": _read_nifti,
    ".nii.gz": _read_nifti,
    ".nrrd": _read_other,
    ".nhdr": _read_other,
    ".mha": _read_other,
    ".mhd": _read_other,
}


def _read_itk(path: Path) -> sitk.Image:
    """Check what the header promises before anything of that size is allocated, then read."""
    where = str(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(where)
    try:
        reader.ReadImageInformation()
        _check_shape(reader.GetSize(), where)
        components = reader.GetNumberOfComponents()
        if components != 1:
            raise ImageError(
                f"{components} values per voxel (colour, vector or complex), one is needed",
                "Give a scalar image, or one file per channel.",
                where,
            )
        image: sitk.Image = reader.Execute()
    except RuntimeError as error:
        if "determinant is 0" in str(error):  # the only trace that ITK leaves of a singular direction
            raise ImageError("the affine is singular", "Repair the header's orientation.", where) from error
        reason = str(error).strip().splitlines()[-1].removeprefix("ITK ERROR: ")
        raise ImageError(f"not a readable image ({reason[:200]})", nifti.COMPLETE, where) from error
    return image


def _check_shape(shape: tuple[int, ...], where: str) -> None:
    """Refuse what is not a volume; trailing axes of length 1 do not count."""
    size = list(shape)
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    text = "x".join(map(str, size))
    if not size or min(size) < 1:
        raise ImageError(f"the volume is empty ({text} voxels)", nifti.COMPLETE, where)
    if len(size) > 3:
        remedy = "Give one 3D file per channel or time point (nibabel: nibabel.four_to_three)."
        raise ImageError(f"{len(size)}D ({text}), a 3D volume is needed", remedy, where)
    if len(size) < 3 or min(size) == 1:
        raise ImageError(
            f"only one slice ({text} voxels), a 3D volume is needed",
            "Give the whole volume; single slices cannot be segmented.",
            where,
        )
    if math.prod(size) > MAX_VOXELS:
        raise ImageError(
            f"the header asks for {text} voxels, more than the {MAX_VOXELS:,} that can be handled",
            "Check the file; crop or resample it if it is really that large.",
            where,
        )


def _check_voxels(array: NDArray[np.float32], where: str) -> None:
    low, high = float(array.min()), float(array.max())  # NaN and infinities show up in these two
    if not math.isfinite(low) or not math.isfinite(high):
        raise not_finite(int(array.size - np.count_nonzero(np.isfinite(array))), array.size, where)
    if low == high:
        raise ImageError(f"the volume is empty: every voxel is {low:g}", "Check that this is the right file.", where)


def _data_file(path: Path) -> Path | None:
    """Return the separate file that holds the voxels of a detached header; None if there is none.

    Raises:
        ImageError: If it lies outside the header's folder, or is a list or pattern of files.
    """
    with path.open("rb") as file:
        text = file.read(_CHUNK).decode("latin-1")
    found = re.search(r"^(?:ElementDataFile\s*=|data ?file:)[ \t]*(.*?)\s*$", text.split("\n\n")[0], re.M | re.I)
    if found is None or found[1] == "LOCAL":
        return None
    name = Path(found[1])
    if "%" in name.name or found[1].startswith("LIST"):
        raise ImageError("its voxels are in several files", "Convert it to one file first.", str(path))
    if name != Path(name.name):
        raise ImageError(
            f"its voxels would be read from {found[1]!r}, outside its folder",
            "Put header and data side by side and name the data without a folder.",
            str(path),
        )
    return path.parent / name


def _sha256(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
