"""Logits -> labels on the image's grid: nnU-Net's own labels, with a fraction of its work where the case allows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.nnunet.axes import Axis, linear_axis, nearest_axis
from medsegagent.engines.nnunet.network import TrainedNetwork

if TYPE_CHECKING:
    from torch import Tensor


def export_labels(
    logits: Tensor, trained: TrainedNetwork, properties: dict[str, Any], wanted: Collection[int] | None = None
) -> NDArray[np.unsignedinteger]:
    """Resample to the image's grid, decide, undo crop and transpose.

    The labels are those of nnU-Net's `convert_predicted_logits_to_segmentation_with_correct_shape`, voxel by voxel.
    Its default resampling (order 1; order 0 along a thick axis) is computed cell by cell, see `cells`; whatever else
    the plans ask for goes through nnU-Net's own code.

    Args:
        logits: float16, `(classes, Z, Y, X)`, finite, on the CPU, on the network's grid.
        trained: The network.
        properties: What preprocessing left: shapes, crop and spacing.
        wanted: Label values of interest; others may be missing from the result. None: all.

    Returns:
        uint8 or uint16, `(Z, Y, X)`, on the grid that was preprocessed.
    """
    axes = _pruned_axes(logits, trained, properties)
    if axes is None:
        from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

        return np.asarray(
            convert_predicted_logits_to_segmentation_with_correct_shape(
                logits, trained.plans, trained.configuration, trained.label_manager, properties
            )
        )
    labels = trained.label_manager
    dtype = np.uint8 if len(labels.foreground_labels) < 255 else np.uint16
    whole = np.zeros(properties["shape_before_cropping"], dtype=dtype)
    crop = tuple(slice(low, high) for low, high in properties["bbox_used_for_cropping"])
    _paint(logits, axes, trained, wanted, whole[crop])
    return whole.transpose(trained.plans.transpose_backward)


def is_finite(logits: Tensor) -> bool:
    """Whether half-precision logits `(classes, Z, Y, X)`, on the CPU, hold neither NaN nor infinity."""
    import torch

    from medsegagent.engines.nnunet.cells import all_finite

    bits = logits.contiguous().view(torch.int16).numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return all(pool.map(lambda one: all_finite(one.reshape(-1)), bits))


def _pruned_axes(logits: Tensor, trained: TrainedNetwork, properties: Mapping[str, Any]) -> list[Axis] | None:
    """How each axis is interpolated, or None if nnU-Net's own code must do it."""
    import torch
    from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis

    configuration = trained.configuration.configuration
    options = configuration["resampling_fn_probabilities_kwargs"]
    if configuration["resampling_fn_probabilities"] != "resample_data_or_seg_to_shape" or logits.dtype != torch.half:
        return None
    if options.get("order", 3) != 1 or options.get("is_seg", False):
        return None
    target = [properties["spacing"][axis] for axis in trained.plans.transpose_forward]
    current = [*target[: 3 - len(configuration["spacing"])], *configuration["spacing"]]
    threshold = options.get("separate_z_anisotropy_threshold")
    separate, thick = determine_do_sep_z_and_axis(
        options.get("force_separate_z", False), current, target, *(() if threshold is None else (threshold,))
    )
    sizes = list(zip(logits.shape[1:], properties["shape_after_cropping_and_before_resampling"], strict=True))
    if separate and options.get("order_z", 0) != 0 and sizes[thick][0] != sizes[thick][1]:
        return None
    return [
        nearest_axis(*size) if separate and axis == thick else linear_axis(*size) for axis, size in enumerate(sizes)
    ]


def _paint(
    logits: Tensor,
    axes: list[Axis],
    trained: TrainedNetwork,
    wanted: Collection[int] | None,
    out: NDArray[np.unsignedinteger],
) -> None:
    """Share the Z cells among threads; each writes its own planes."""
    import torch

    from medsegagent.engines.nnunet.cells import paint_labels, paint_regions

    classes, depth, _, width = logits.shape
    bits = logits.contiguous().view(torch.int16).numpy().reshape(classes, depth, -1)
    number_of = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float64)
    zyx = (axes[0], axes[1], axes[2])
    cells = len(axes[0].low)
    threads = max(1, min(torch.get_num_threads(), cells))
    # More pieces than threads: cells that hold many candidates lie together.
    edges = np.unique(np.linspace(0, cells, 4 * threads + 1).astype(int)).tolist()
    if trained.label_manager.has_regions:
        values = np.array(trained.label_manager.regions_class_order, dtype=np.int64)
        least = _first_in()

        def paint(first: int, last: int) -> None:
            paint_regions(bits, zyx, number_of, values, least, width, (first, last), out)
    else:
        mask = np.ones(classes, dtype=np.bool_) if wanted is None else np.isin(np.arange(classes), [*wanted])

        def paint(first: int, last: int) -> None:
            paint_labels(bits, zyx, number_of, mask, width, (first, last), out)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(paint, edges[:-1], edges[1:]))


def _first_in() -> int:
    """Bits of the smallest positive half-precision logit whose sigmoid exceeds 0.5 in single precision.

    Not the smallest positive number: near 0 the sigmoid rounds to 0.5 itself.
    """
    import torch

    positive = torch.arange(0x7C00, dtype=torch.int16).view(torch.half).float()
    return int((torch.sigmoid(positive) > 0.5).int().argmax())
