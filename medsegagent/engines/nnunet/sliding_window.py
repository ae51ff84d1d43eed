"""Patch by patch over the volume, with nnU-Net's own steps, weights and arithmetic: the same logits, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from medsegagent.engines.memory import Placement, zeros
from medsegagent.engines.nnunet.network import TrainedNetwork

if TYPE_CHECKING:
    from torch import Tensor

Tick = Callable[[int, int], None]
"""Told tiles done and tiles in all."""


def predict_logits(
    trained: TrainedNetwork,
    data: Tensor,
    placement: Placement,
    *,
    tile_step: float,
    mirror: bool,
    low_precision: bool = False,
    tick: Tick | None = None,
) -> Tensor:
    """Run the network over a preprocessed volume, the mean over the folds.

    Args:
        trained: The network.
        data: `(C, Z, Y, X)`, float32, on the network's grid, on the CPU.
        placement: Where the network computes and where the logits are added up.
        tile_step: Step as a fraction of the patch.
        mirror: Whether to average over mirrored patches, along the axes that the checkpoint allows.
        low_precision: Whether to compute in bfloat16 on a CPU that has it; a GPU computes in float16 as nnU-Net has it.
        tick: Told of each tile.

    Returns:
        Logits, float16, `(classes, Z, Y, X)`, on the CPU.
    """
    import torch
    from acvl_utils.cropping_and_padding.padding import pad_nd_image

    patch = tuple(trained.configuration.patch_size)
    axes = trained.mirror_axes if mirror else ()
    padded, inside = pad_nd_image(data, patch, "constant", {"value": 0}, True, None)
    tiles = _tiles(tuple(padded.shape[1:]), patch, tile_step)
    done = itertools.count(1)

    def step() -> None:
        if tick:
            tick(next(done), len(tiles) * len(trained.folds))

    total: Tensor | None = None
    with torch.inference_mode(), _arithmetic(placement.compute, low_precision):
        for weights in trained.folds:
            trained.network.load_state_dict(weights)
            trained.network.to(placement.compute)
            logits = _accumulate(trained, padded, tiles, placement, axes, step)[(slice(None), *inside[1:])].cpu()
            total = logits if total is None else total.add_(logits)
        assert total is not None  # a model has at least one fold
        return total.div_(len(trained.folds)) if len(trained.folds) > 1 else total


def _arithmetic(device: str, low_precision: bool) -> AbstractContextManager[object]:
    import torch

    if device.startswith("cuda"):
        return torch.autocast("cuda")
    if low_precision and device == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return torch.autocast("cpu", torch.bfloat16)
    return nullcontext()


def _accumulate(
    trained: TrainedNetwork,
    padded: Tensor,
    tiles: list[tuple[slice | int, ...]],
    placement: Placement,
    axes: tuple[int, ...],
    step: Callable[[], None],
) -> Tensor:
    import torch
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian

    logits = zeros((trained.label_manager.num_segmentation_heads, *padded.shape[1:]), placement)
    gaussian = compute_gaussian(
        tuple(trained.configuration.patch_size), sigma_scale=1.0 / 8, value_scaling_factor=10, device=logits.device
    )
    single = gaussian.float()
    data = padded.to(logits.device)
    weight = torch.zeros(data.shape[1:], dtype=torch.half, device=logits.device)
    for tile in tiles:
        where = (slice(None), *tile)
        patch = torch.clone(data[where][None], memory_format=torch.contiguous_format).to(placement.compute)
        prediction = _mirrored(trained.network, patch, axes)[0].to(logits.device)
        if prediction.dtype == torch.bfloat16:
            prediction = prediction.float()
        if placement.logits == "gpu":
            prediction *= gaussian
            logits[where] += prediction
        else:
            # The same sums as in one piece; torch adds half to single precision slowly where they differ in type.
            for total, one in zip(logits[where], prediction, strict=True):
                total.copy_(one.mul_(single).add_(total))
        weight[tile] += gaussian
        step()
    return torch.div(logits, weight, out=logits)


def _mirrored(network: Callable[[Tensor], Tensor], patch: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The mean of the network's answers to a patch and its mirror images, in nnU-Net's order of addition."""
    import torch

    prediction = network(patch)
    dims = [axis + 2 for axis in axes]
    flips = [chosen for count in range(1, len(dims) + 1) for chosen in itertools.combinations(dims, count)]
    for chosen in flips:
        prediction += torch.flip(network(torch.flip(patch, chosen)), chosen)
    if flips:
        prediction /= len(flips) + 1
    return prediction


def _tiles(shape: tuple[int, ...], patch: tuple[int, ...], tile_step: float) -> list[tuple[slice | int, ...]]:
    """Index of every tile; a 2D network goes slice by slice along the first axis."""
    from nnunetv2.inference.sliding_window_prediction import compute_steps_for_sliding_window

    in_plane = shape[-len(patch) :]
    starts = itertools.product(*compute_steps_for_sliding_window(in_plane, patch, tile_step))
    windows = [tuple(slice(at, at + size) for at, size in zip(start, patch, strict=True)) for start in starts]
    if len(patch) == len(shape):
        return list(windows)
    return [(index, *window) for index in range(shape[0]) for window in windows]
