"""Images that are in memory already: numpy, SimpleITK and nibabel, as volumes."""

# mypy: allow-untyped-calls
from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medsegagent.errors import ArgumentTypeError, UsageError
from medsegagent.images.geometry import check_axes, grid_of
from medsegagent.images.modality import about_guess, estimate_modality, looks_like_labels
from medsegagent.images.volume import Grid, Volume

if TYPE_CHECKING:
    import nibabel
    import SimpleITK as sitk  # noqa: N813

_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0])
_SAME_MM = 1e-4
"""Relative difference under which the header's voxel sizes are taken for the lengths of the affine's axes."""


def volume_of(
    array: ArrayLike,
    *,
    grid: Grid | None = None,
    spacing: Sequence[float] | None = None,
    affine: ArrayLike | None = None,
    channel: str = "",
) -> Volume:
    """Make a volume of an array.

    Args:
        array: Intensities (HU for CT). With `grid` or `spacing` its axes are z, y, x, as SimpleITK's arrays; with
            `affine` they are the affine's own, x, y, z, as nibabel's.
        grid: Where the voxels are.
        spacing: Voxel size in mm, x, y, z, of an image whose axes run to the patient's left, back and head, and whose
            first voxel is at (0, 0, 0).
        affine: 4x4, from voxel index to mm, RAS+, as nibabel's.
        channel: What the image is ("FLAIR"), where a model takes several.

    Raises:
        UsageError: If not just one of `grid`, `spacing` and `affine` is given, or it does not fit the array.
        ImageError: If the grid is singular or sheared, or the voxels cannot be used.
    """
    given = [name for name, value in (("grid", grid), ("spacing", spacing), ("affine", affine)) if value is not None]
    if len(given) != 1:
        what = f"where the voxels are is said {len(given)} times"
        raise UsageError(what, "Give one of grid, spacing and affine.", ", ".join(given) or "grid")
    values = np.asarray(array)
    if values.ndim != 3:
        raise UsageError(f"an array of {values.ndim} axes, a volume has 3", "Give one image per channel.", "array")
    if values.dtype.kind not in "iufb":
        raise ArgumentTypeError(f"voxels of type {values.dtype}", "Give numbers.", "array")
    if affine is not None:
        values = values.transpose()
        grid = grid_of_affine(np.asarray(affine, dtype=np.float64), values.shape[::-1])
    elif spacing is not None:
        if len(spacing) != 3 or not all(np.isfinite(mm) and mm > 0 for mm in spacing):
            raise UsageError(f"no voxel size: {spacing!r}", "Give three positive numbers, mm, x, y, z.", "spacing")
        x, y, z = map(float, spacing)
        size = values.shape
        grid = Grid((size[2], size[1], size[0]), (x, y, z), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    assert grid is not None  # one of the three was given
    if values.shape != grid.shape:
        what = f"the array has shape {values.shape}, the grid {grid.shape} (z, y, x)"
        raise UsageError(what, "Give the array's own grid.", "grid")
    check_axes(np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing), "grid")
    return _volume(values, grid, channel)


def volume_of_image(image: sitk.Image | nibabel.spatialimages.SpatialImage, channel: str = "") -> Volume:
    """Make a volume of a SimpleITK or nibabel image.

    Raises:
        ArgumentTypeError: If it is neither.
        UsageError: If it is not three-dimensional with one number per voxel.
        ImageError: If its grid is singular or sheared, or its voxels cannot be used.
    """
    if (itk := sys.modules.get("SimpleITK")) and isinstance(image, itk.Image):
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            kind = f"{image.GetDimension()} axes, {image.GetNumberOfComponentsPerPixel()} values per voxel"
            raise UsageError(f"an image of {kind}", "Give a volume of one number per voxel.", "image")
        return volume_of(itk.GetArrayViewFromImage(image), grid=grid_of(image), channel=channel)
    if (nib := sys.modules.get("nibabel")) and isinstance(image, nib.spatialimages.SpatialImage):
        if image.affine is None:
            raise UsageError("the nibabel image has no affine", "Give it one.", "image")
        values = np.asanyarray(image.dataobj)
        while values.ndim > 3 and values.shape[-1] == 1:
            values = values[..., 0]
        volume = volume_of(values, affine=image.affine, channel=channel)
        return _with_sizes(volume, image.header.get_zooms()[:3])
    kind = type(image).__name__
    raise ArgumentTypeError(
        f"no image: {kind}",
        "Give a path, a SimpleITK or nibabel image, or medsegagent.volume_of(array, ...).",
        "image",
    )


def grid_of_affine(affine: NDArray[np.float64], size: Sequence[int]) -> Grid:
    """The grid of a 4x4 RAS+ affine and a size, x, y, z.

    Raises:
        UsageError: If it is no 4x4 matrix of finite numbers.
        ImageError: If it is singular or sheared.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise UsageError("no affine", "Give a 4x4 matrix of finite numbers.", "affine")
    axes = _LPS_OF_RAS @ affine[:3, :3]
    check_axes(axes, "affine")
    lengths = np.linalg.norm(axes, axis=0)
    x, y, z = (_LPS_OF_RAS @ affine[:3, 3]).tolist()
    return Grid(
        size=(int(size[0]), int(size[1]), int(size[2])),
        spacing=(float(lengths[0]), float(lengths[1]), float(lengths[2])),
        origin=(x, y, z),
        direction=tuple((axes / lengths).ravel().tolist()),
    )


def _with_sizes(volume: Volume, zooms: Sequence[Any]) -> Volume:
    """The header's voxel sizes, which file readers take, where they are the affine's up to rounding."""
    sizes = tuple(float(mm) for mm in zooms)
    near = all(abs(mm - own) <= _SAME_MM * own for mm, own in zip(sizes, volume.grid.spacing, strict=True))
    if not near:
        return volume
    grid = Grid(volume.grid.size, (sizes[0], sizes[1], sizes[2]), volume.grid.origin, volume.grid.direction)
    return Volume(**{**vars(volume), "grid": grid})


def _volume(values: NDArray[Any], grid: Grid, channel: str) -> Volume:
    from medsegagent.images.read import check_voxels
    from medsegagent.images.stored import check_shape

    array = np.ascontiguousarray(values, dtype=np.float32)
    check_shape(grid.size, "array")
    check_voxels(array, "array")
    digest = hashlib.sha256(array.tobytes())
    digest.update(repr((grid.size, grid.spacing, grid.origin, grid.direction)).encode())
    evidence = estimate_modality(array)
    return Volume(
        array=array,
        grid=grid,
        channel=channel,
        path=Path("array"),
        sha256=digest.hexdigest(),
        evidence=evidence,
        warnings=(*looks_like_labels(array), *about_guess(evidence, array, None)),
    )
