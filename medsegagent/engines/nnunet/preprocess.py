"""nnU-Net's preprocessing of a case, from arrays, with its default image resampling as three small matrices.

What inference does not need (a resampled mask, filled holes where normalisation takes no mask, double-precision copies
of the whole image) is left out; what remains gives the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.nnunet.axes import nearest_axis
from medsegagent.engines.nnunet.network import TrainedNetwork
from medsegagent.errors import ImageError

if TYPE_CHECKING:
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

_SPLINE_ORDER = 3
_LEAST_VOXELS = 3
"""Between two voxels alone the spline is their plain mean, whose rounding to float32 is a tie: either way is right, and
only nnU-Net's own order of summing tells which way nnU-Net goes."""


def preprocess(
    images: NDArray[np.float32], spacing: list[float], trained: TrainedNetwork
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Transpose, crop to what is not zero, normalise, resample: `DefaultPreprocessor.run_case_npy`.

    Args:
        images: `(C, Z, Y, X)`, C-contiguous; overwritten.
        spacing: mm along Z, Y, X.
        trained: The network whose plans are followed.

    Returns:
        The network's input, float32, in the plans' axis order; and the properties that nnU-Net's export reads.

    Raises:
        ImageError: If nothing is left of the image on the network's grid.
    """
    from acvl_utils.cropping_and_padding.bounding_boxes import get_bbox_from_mask
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    forward = trained.plans.transpose_forward
    configuration = trained.configuration
    data = images.transpose([0, *(axis + 1 for axis in forward)])
    nonzero = data[0] != 0
    for channel in data[1:]:
        nonzero |= channel != 0
    box = get_bbox_from_mask(nonzero)
    crop = tuple(slice(low, high) for low, high in box)
    properties: dict[str, Any] = {
        "spacing": spacing,
        "shape_before_cropping": data.shape[1:],
        "bbox_used_for_cropping": box,
    }
    data = data[(slice(None), *crop)]
    properties["shape_after_cropping_and_before_resampling"] = data.shape[1:]
    own_spacing = [spacing[axis] for axis in forward]
    # A 2D configuration does not change the distance between slices.
    new_spacing = [*own_spacing[: 3 - len(configuration.spacing)], *configuration.spacing]
    new_shape = compute_new_shape(data.shape[1:], own_spacing, new_spacing)
    if 0 in new_shape:
        what = f"the image is thinner than half a voxel of the network ({min(configuration.spacing):.3g} mm and more)"
        raise ImageError(what, "Give an image that covers more of the patient.")
    data = DefaultPreprocessor(verbose=False)._normalize(
        data,
        _outside(nonzero, crop, needed=any(configuration.use_mask_for_norm)),
        configuration,
        trained.plans.foreground_intensity_properties_per_channel,
    )
    return _resample(data, tuple(map(int, new_shape)), own_spacing, new_spacing, configuration), properties


def _outside(nonzero: NDArray[np.bool_], crop: tuple[slice, ...], *, needed: bool) -> NDArray[np.int8]:
    """`(1, Z, Y, X)`, -1 outside the patient (holes are inside), 0 elsewhere; all 0 where nobody asks."""
    from scipy.ndimage import binary_fill_holes

    if not needed:
        return np.broadcast_to(np.int8(0), (1, *nonzero[crop].shape))
    return np.where(binary_fill_holes(nonzero)[crop], np.int8(0), np.int8(-1))[None]


def _resample(
    data: NDArray[np.float32],
    shape: tuple[int, ...],
    spacing: list[float],
    new_spacing: list[float],
    configuration: ConfigurationManager,
) -> NDArray[np.float32]:
    from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis

    options = configuration.configuration["resampling_fn_data_kwargs"]
    threshold = options.get("separate_z_anisotropy_threshold")
    separate, thick = determine_do_sep_z_and_axis(
        options.get("force_separate_z", False), spacing, new_spacing, *(() if threshold is None else (threshold,))
    )
    usual = (
        configuration.configuration["resampling_fn_data"] == "resample_data_or_seg_to_shape"
        and options.get("order", _SPLINE_ORDER) == _SPLINE_ORDER
        and options.get("order_z", 0) == 0
        and not options.get("is_seg", False)
        and min(data.shape[1:]) >= _LEAST_VOXELS
    )
    if not usual or data.shape[1:] == shape:
        return np.asarray(configuration.resampling_fn_data(data, shape, spacing, new_spacing))
    result = np.empty((len(data), *shape), dtype=np.float32)
    for channel, into in zip(data, result, strict=True):
        if separate:
            _resample_planes(np.moveaxis(channel, thick, 0), np.moveaxis(into, thick, 0))
        else:
            _resample_volume(channel, into)
    return result


def _resample_volume(volume: NDArray[np.float32], into: NDArray[np.float32]) -> None:
    """`skimage.transform.resize(order=3)` of `(Z, Y, X)`: cubic splines, clipped to the input's range."""
    across, down, along = (spline_matrix(*sizes) for sizes in zip(volume.shape, into.shape, strict=True))
    planes = np.stack([down @ plane.astype(np.float64) @ along.T for plane in volume])
    low, high = volume.min(), volume.max()
    for row in range(into.shape[1]):
        into[:, row] = np.clip(across @ planes[:, row], low, high)


def _resample_planes(volume: NDArray[np.float32], into: NDArray[np.float32]) -> None:
    """The same per plane of a thick-slice volume; the first axis takes the nearest plane, as nnU-Net does."""
    down, along = (spline_matrix(*sizes) for sizes in zip(volume.shape[1:], into.shape[1:], strict=True))
    same = volume.shape[1:] == into.shape[1:]
    nearest = nearest_axis(volume.shape[0], into.shape[0])
    for index, first, last in zip(nearest.low, nearest.first[:-1], nearest.first[1:], strict=True):
        plane = volume[index]
        fine = plane if same else down @ plane.astype(np.float64) @ along.T
        into[first:last] = np.clip(fine, plane.min(), plane.max())


def spline_matrix(size_in: int, size_out: int) -> NDArray[np.float64]:
    """What `scipy.ndimage.zoom(order=3, mode="nearest", grid_mode=True)` does along one axis, `(out, in)`.

    The operation is linear and separable: its columns are its answers to unit impulses.
    """
    from scipy.ndimage import zoom

    if size_in == size_out:
        return np.eye(size_in)
    factor = size_out / size_in
    columns = [zoom(one, factor, order=_SPLINE_ORDER, mode="nearest", grid_mode=True) for one in np.eye(size_in)]
    return np.stack(columns, axis=1)
