"""Image files to volumes. One reader per extension; a new format is one function and one line in `READERS`."""

# mypy: allow-untyped-calls
from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError, MissingFileError
from medsegagent.images import metaimage, nifti, nrrd
from medsegagent.images.channels import channel_families, on_one_grid
from medsegagent.images.dicom import is_dicom, read_dicom
from medsegagent.images.files import open_regular
from medsegagent.images.geometry import not_finite
from medsegagent.images.modality import about_guess, estimate_modality, looks_like_labels
from medsegagent.images.stored import Stored, check_shape, one_value, read_exact, read_intensities
from medsegagent.images.volume import Grid, Volume

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Opened:
    """What a reader makes of a file's header, checked; the voxels are still to be read.

    Attributes:
        stored: Where they are; three axes.
        grid: Where they lie in the patient.
        files: That they are read from, the header's first.
        warnings: What was mended or is in doubt.
    """

    stored: Stored
    grid: Grid
    files: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def read_volume(path: Path, channel: str = "", *, series: str = "", family: str | None = None) -> Volume:
    """Read one image, voxel for voxel what nnU-Net's `SimpleITKIO` reads.

    Args:
        path: A NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd) file; or DICOM: a folder, a zip
            or a file.
        channel: The name that the user gave it.
        series: Of DICOM, which series: its number or a part of its description; empty for the one that fits.
        family: CT, MR or PET, where the request names one: settles which series fits, and what a file that does not
            say it is taken for.

    Raises:
        ImageError: If there is no such file, it is not a readable 3D image of one scalar per voxel with at least two
            slices along each axis, its grid is singular or sheared, or its voxels are not finite or all the same.
    """
    where = str(path)
    _check_exists(path)
    if _is_dicom(path):
        volume = read_dicom(path, channel, series=series, family=family)
        check_shape(volume.grid.size, where)
        check_voxels(volume.array, where)
        return volume
    opened = open_image(path)
    array = read_intensities(opened.stored)
    check_voxels(array, where)
    evidence = estimate_modality(array)
    named = channel_families(channel)
    family = next(iter(named)) if len(named) == 1 else family
    warnings = (*opened.warnings, *looks_like_labels(array), *about_guess(evidence, array, family))
    return Volume(
        array=array,
        grid=opened.grid,
        channel=channel,
        path=path,
        sha256=_sha256(opened.files),
        evidence=evidence,
        warnings=warnings,
    )


def read_volumes(paths: Mapping[str, Path], *, series: str = "", family: str | None = None) -> tuple[Volume, ...]:
    """Read the channels of one case, name -> file, in the order given, all on the first one's grid.

    `series` and `family` are those of `read_volume`. Errors too; and an ImageError if a channel lies elsewhere.
    """
    return on_one_grid([read_volume(path, channel, series=series, family=family) for channel, path in paths.items()])


def read_labels(path: Path) -> tuple[NDArray[Any], Grid, tuple[str, ...]]:
    """Read a mask or label map, not DICOM, without rounding, whatever it holds.

    Returns:
        The values `(Z, Y, X)` in the file's own type, or float64 where they are scaled; the grid; and warnings.

    Raises:
        ImageError: As for `read_volume`, but for the voxels, of which NaN and infinite ones alone are refused.
    """
    _check_exists(path)
    opened = open_image(path)
    return read_exact(opened.stored), opened.grid, opened.warnings


def digest(path: Path, *, series: str = "", family: str | None = None) -> str:
    """Return the `sha256` that `read_volume` would give, without looking at voxels where that can be helped.

    Raises:
        ImageError: If there is no such file, or the file is unknown here.
    """
    _check_exists(path)
    if _is_dicom(path):
        return read_dicom(path, series=series, family=family).sha256
    return _sha256(open_image(path).files)


def extension(path: Path) -> str:
    """Return the extension that says the format, lower case, `.nii.gz` whole."""
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def open_image(path: Path) -> Opened:
    """Read and check a file's header.

    Raises:
        ImageError: If the file is unknown here, or its header cannot be used.
    """
    try:
        reader = READERS[extension(path)]
    except KeyError:
        raise ImageError(
            f"{extension(path) or 'a file without extension'} is not an image format known here",
            f"Give one of {', '.join(READERS)}, or DICOM: a folder, a zip or a file.",
            str(path),
        ) from None
    return reader(path)


def _open_nifti(path: Path) -> Opened:
    header = nifti.read_header(path)
    stored = nifti.stored_in(path, header)
    grid, warnings = nifti.lay_out(header, str(path))
    return Opened(stored, grid, (path,), warnings)


def _open_nrrd(path: Path) -> Opened:
    header, where = nrrd.read_header(path), str(path)
    spatial = list(header.spatial)
    while len(spatial) > 3 and header.sizes[spatial[-1]] == 1:
        spatial.pop()
    components = math.prod(n for axis, n in enumerate(header.sizes) if axis not in spatial)
    if components != 1 and nrrd.is_segmentation(header):
        what = "it is a segmentation of 3D Slicer in several layers, no image"
        remedy = f"Give the image; to convert or compare the segmentation, rename it to {path.stem}.seg.nrrd."
        raise ImageError(what, remedy, where)
    check_shape(tuple(header.sizes[axis] for axis in spatial), where)
    one_value(components, where)
    header = replace(header, spatial=tuple(spatial))
    grid, warnings = nrrd.lay_out(header, where)
    return Opened(replace(header.stored, shape=grid.shape), grid, header.files, warnings)


def _open_metaimage(path: Path) -> Opened:
    header = metaimage.read_header(path)
    grid, warnings = metaimage.lay_out(header, str(path))
    return Opened(header.stored, grid, header.files, warnings)


READERS: dict[str, Callable[[Path], Opened]] = {
    ".nii": _open_nifti,
    ".nii.gz": _open_nifti,
    ".nrrd": _open_nrrd,
    ".nhdr": _open_nrrd,
    ".mha": _open_metaimage,
    ".mhd": _open_metaimage,
}


def _is_dicom(path: Path) -> bool:
    return path.is_dir() or (extension(path) not in READERS and is_dicom(path))


def _check_exists(path: Path) -> None:
    try:
        path.stat()
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise MissingFileError("no such file", "Check the path.", str(path)) from error
        what = f"it cannot be read ({error.strerror})"
        raise ImageError(what, "Check the path and that you may read it.", str(path)) from error
    except ValueError as error:
        raise MissingFileError("no such file", "Check the path.", str(path)) from error


def check_voxels(array: NDArray[np.float32], where: str) -> None:
    """Refuse voxels that are not finite, or all the same."""
    low, high = float(array.min()), float(array.max())  # NaN and infinities show up in these two
    if not math.isfinite(low) or not math.isfinite(high):
        raise not_finite(int(array.size - np.count_nonzero(np.isfinite(array))), array.size, where)
    if low == high:
        raise ImageError(
            f"the volume is empty: every voxel is {low:g}", "Check that this is the image and not a mask.", where
        )


def _sha256(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
