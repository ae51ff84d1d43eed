"""One trained nnU-Net on one case: the label map that nnU-Net's own command would write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError, ModelError
from medsegagent.images.volume import Volume
from medsegagent.inference.export import export_labels, is_finite
from medsegagent.inference.memory import Placement, estimate, fallbacks, free_memory, place
from medsegagent.inference.network import TrainedNetwork
from medsegagent.inference.orientation import AS_STORED, to_ras
from medsegagent.inference.preprocess import preprocess
from medsegagent.inference.sliding_window import Tick, predict_logits

if TYPE_CHECKING:
    from torch import Tensor

_DEFAULT_STEP = 0.5


class LabelMap(NamedTuple):
    """The network's own label values, uint8 or uint16, `(Z, Y, X)`; and notes on how memory was found for them."""

    labels: NDArray[np.unsignedinteger]
    notes: tuple[str, ...]


def segment_volumes(
    trained: TrainedNetwork,
    volumes: Sequence[Volume],
    device: str,
    *,
    reorient: bool = False,
    mirror: bool = True,
    tile_step: float | None = None,
    wanted: Collection[int] | None = None,
    tick: Tick | None = None,
) -> LabelMap:
    """Preprocess, predict, and bring the labels back to the images' own grid.

    Args:
        trained: The network.
        volumes: One per network channel, on one grid.
        device: Where the network computes.
        reorient: Whether the network expects RAS+ index order (readers that reorient always do).
        mirror: Whether to average over mirrored patches, where the checkpoint allows it.
        tile_step: Step as a fraction of the patch; None: nnU-Net's default, 0.5.
        wanted: The network's label values of interest; others may be missing from the result. None: all.
        tick: Told of each tile.

    Returns:
        The label map, and what the user should know of how it came to be.

    Raises:
        ImageError: If the image is empty for this network.
        ModelError: If the network's answer is not finite, or there is no memory for it.
    """
    import torch

    reorient = reorient or trained.plans.plans["image_reader_writer"].endswith("WithReorient")
    turn = to_ras(volumes[0].grid) if reorient else AS_STORED
    turned = [turn.apply(volume.array) for volume in volumes]
    images = np.empty((len(turned), *turned[0].shape), dtype=np.float32)
    np.stack(turned, out=images)
    if not images.any():
        raise ImageError("every voxel is 0", "Give an image with content.", str(volumes[0].path))
    # As nnU-Net's readers say it: mm along Z, Y, X.
    spacing = [abs(float(mm)) for mm in turn.spacing(volumes[0].grid.spacing[::-1])]
    data, properties = preprocess(images, spacing, trained)
    del images
    need = estimate(trained, data.shape[1:], volumes[0].array.size)
    free = free_memory(device)
    logits, note = _predict(
        trained,
        torch.from_numpy(data),
        fallbacks(place(need, free, device), need, free),
        tile_step=_DEFAULT_STEP if tile_step is None else tile_step,
        mirror=mirror,
        tick=tick,
    )
    if not is_finite(logits):
        raise ModelError("the network's answer holds NaN or infinity", "Its weights are damaged; install it again.")
    labels = turn.undo(export_labels(logits, trained, properties, wanted))
    return LabelMap(labels, (note,) if note else ())


def _predict(trained: TrainedNetwork, data: Tensor, placements: Sequence[Placement], **how: Any) -> tuple[Tensor, str]:
    """Logits from the first placement that has room, and why it was not the usual one."""
    import torch

    for placement in placements[:-1]:
        with suppress(torch.OutOfMemoryError):
            return predict_logits(trained, data, placement, **how), placement.reason
        torch.cuda.empty_cache()
    return predict_logits(trained, data, placements[-1], **how), placements[-1].reason
