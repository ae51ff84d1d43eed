"""How much memory a trained nnU-Net takes, from shapes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from medsegagent.engines.memory import Need
from medsegagent.engines.nnunet.network import Design, read_design
from medsegagent.engines.nnunet.orientation import AS_STORED, to_ras
from medsegagent.engines.nnunet.prepare import reorients
from medsegagent.images.boxed import Box, hull
from medsegagent.images.volume import Volume
from medsegagent.models.installed import NnunetFolder

_ACTIVATIONS = 8
"""Feature maps of the first stage that are alive at once: skips, both inputs of a convolution, its output."""


def need_of(
    part: NnunetFolder, inputs: Sequence[int], volumes: Sequence[Volume], boxes: Sequence[Box], *, reorient: bool
) -> Need:
    """What one network takes on the part of the images that nnU-Net's cropping leaves.

    Args:
        part: The network.
        inputs: Per channel, the index of its volume.
        volumes: The images.
        boxes: What is not 0 of each, z, y, x.
        reorient: Whether the model entry asks for RAS+ index order.

    Raises:
        ModelError: If the folder cannot be read.
    """
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    design = read_design(part.folder)
    first = volumes[inputs[0]]
    turn = to_ras(first.grid) if reorients(design, reorient) else AS_STORED
    extent = [side.stop - side.start for side in hull(boxes[index] for index in inputs)]
    shape, mm = ([own[axis] for axis in turn.axes] for own in (extent, first.grid.spacing[::-1]))
    shape, mm = ([own[axis] for axis in design.plans.transpose_forward] for own in (shape, mm))
    wanted = [*mm[: 3 - len(design.configuration.spacing)], *design.configuration.spacing]
    new = [max(int(size), 1) for size in compute_new_shape(shape, mm, wanted)]
    return estimate(design, len(part.folds), new, first.array.size)


def estimate(design: Design, folds: int, shape: Sequence[int], image_voxels: int) -> Need:
    """Estimate from shapes.

    Args:
        design: The network.
        folds: How many of its folds run.
        shape: The preprocessed volume, Z, Y, X.
        image_voxels: Voxels of the image itself.
    """
    patch = [1] * (3 - len(design.configuration.patch_size)) + list(design.configuration.patch_size)
    voxels = math.prod(max(size, least) for size, least in zip(shape, patch, strict=True))
    classes = design.label_manager.num_segmentation_heads
    features = design.configuration.network_arch_init_kwargs["features_per_stage"]
    first = features if isinstance(features, int) else features[0]
    sums = 2 if folds > 1 else 1
    channels = len(design.dataset["channel_names"])
    return Need(
        logits=2 * classes * voxels * sums,
        tile=4 * math.prod(patch) * (2 * classes + _ACTIVATIONS * first),
        rest=(4 * channels + 2) * voxels + 4 * image_voxels,
    )
