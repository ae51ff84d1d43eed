"""One trained nnU-Net on one case: the label map that nnU-Net's own command would write."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.memory import Placement, fallbacks, free_memory, place
from medsegagent.engines.nnunet.export import export_labels, is_finite
from medsegagent.engines.nnunet.need import estimate
from medsegagent.engines.nnunet.network import TrainedNetwork
from medsegagent.engines.nnunet.prepare import Prepared
from medsegagent.engines.nnunet.sliding_window import Tick, predict_logits
from medsegagent.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_LOG = logging.getLogger(__name__)

_DEFAULT_STEP = 0.5


class LabelMap(NamedTuple):
    """The network's own label values, uint8 or uint16, `(Z, Y, X)`; and notes on how memory was found for them."""

    labels: NDArray[np.unsignedinteger]
    notes: tuple[str, ...]


def label(
    trained: TrainedNetwork,
    prepared: Prepared,
    device: str,
    *,
    mirror: bool = True,
    tile_step: float | None = None,
    low_precision: bool = False,
    wanted: Collection[int] | None = None,
    tick: Tick | None = None,
) -> LabelMap:
    """Predict, and bring the labels back to the images' own grid.

    Args:
        trained: The network.
        prepared: Its input.
        device: Where the network computes.
        mirror: Whether to average over mirrored patches, where the checkpoint allows it.
        tile_step: Step as a fraction of the patch; None: nnU-Net's default, 0.5.
        low_precision: Whether to compute in bfloat16 on a CPU that has it.
        wanted: The network's label values of interest; others may be missing from the result. None: all.
        tick: Told of each tile.

    Returns:
        The label map, and what the user should know of how it came to be.

    Raises:
        ModelError: If the network's answer is not finite, or there is no memory for it.
    """
    import torch

    data, properties, turn, image_voxels = prepared
    need = estimate(trained, len(trained.folds), data.shape[1:], image_voxels)
    free = free_memory(device)
    logits, note = _predict(
        trained,
        torch.from_numpy(data),
        fallbacks(place(need, free, device), need, free),
        tile_step=_DEFAULT_STEP if tile_step is None else tile_step,
        mirror=mirror,
        low_precision=low_precision,
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
        _LOG.warning("no room on %s with logits in %s; trying less", placement.compute, placement.logits)
        torch.cuda.empty_cache()
    return predict_logits(trained, data, placements[-1], **how), placements[-1].reason
