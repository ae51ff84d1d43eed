"""Volumes -> a network's input; the next network's is prepared while the current one computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.memory import free_memory
from medsegagent.engines.nnunet.network import Design, TrainedNetwork
from medsegagent.engines.nnunet.orientation import AS_STORED, Reorientation, to_ras
from medsegagent.engines.nnunet.preprocess import preprocess
from medsegagent.errors import ImageError
from medsegagent.images.volume import Volume
from medsegagent.models.installed import NnunetFolder

_COPIES_TO_PREPARE = 8
"""Times the images' own size that is kept free before two networks' inputs are made ready at once."""


class Prepared(NamedTuple):
    """A network's input.

    Attributes:
        data: float32, `(C, Z, Y, X)`, on the network's grid and in its axis order.
        properties: What nnU-Net's export reads: shapes, crop and spacing.
        turn: How the image was reoriented first.
        image_voxels: Voxels of the image itself.
    """

    data: NDArray[np.float32]
    properties: dict[str, Any]
    turn: Reorientation
    image_voxels: int


class Job(NamedTuple):
    """One part of a planned model: the network, the volumes that feed it, whether they are turned to RAS+ first."""

    part: NnunetFolder
    inputs: tuple[int, ...]
    reorient: bool


def prepare(trained: TrainedNetwork, volumes: Sequence[Volume], *, reorient: bool = False) -> Prepared:
    """Reorient, crop, normalise, resample.

    Args:
        trained: The network.
        volumes: One per network channel, on one grid.
        reorient: Whether the network expects RAS+ index order (readers that reorient always do).

    Raises:
        ImageError: If the image is empty for this network.
    """
    turn = to_ras(volumes[0].grid) if reorients(trained, reorient) else AS_STORED
    turned = [turn.apply(volume.array) for volume in volumes]
    images = np.empty((len(turned), *turned[0].shape), dtype=np.float32)
    np.stack(turned, out=images)
    if not images.any():
        raise ImageError("every voxel is 0", "Give an image with content.", str(volumes[0].path))
    # As nnU-Net's readers say it: mm along Z, Y, X.
    spacing = [abs(float(mm)) for mm in turn.spacing(volumes[0].grid.spacing[::-1])]
    data, properties = preprocess(images, spacing, trained)
    return Prepared(data, properties, turn, volumes[0].array.size)


class Ahead:
    """Makes jobs' inputs ready in their order, one ahead of what is taken, in a thread of its own.

    Networks that see the same volumes in the same way (the parts of one model, mostly) share one input.
    """

    def __init__(
        self, jobs: Iterable[Job], volumes: Sequence[Volume], load: Callable[[NnunetFolder], TrainedNetwork]
    ) -> None:
        """Nothing is done before the first `take`."""
        self._todo, self._volumes, self._load = deque(jobs), volumes, load
        self._pool = ThreadPoolExecutor(1)
        self._next: Future[tuple[TrainedNetwork, Prepared]] | None = None
        self._last: tuple[object, Prepared] | None = None

    def __enter__(self) -> Self:
        """Nothing to open."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave no thread behind."""
        self._pool.shutdown(cancel_futures=True)

    def take(self, job: Job) -> tuple[TrainedNetwork, Prepared]:
        """The job's network and input; the next job's are begun. Jobs passed over are dropped.

        Raises:
            ModelError: As `load_network`.
            ImageError: As `prepare`.
        """
        while self._todo and self._todo[0] is not job:
            self._todo.popleft()
            self._next = None
        ready = self._next or self._pool.submit(self._make, job)
        self._todo.popleft()
        images = sum(volume.array.nbytes for volume in self._volumes)
        roomy = free_memory("cpu").ram > _COPIES_TO_PREPARE * images
        self._next = self._pool.submit(self._make, self._todo[0]) if self._todo and roomy else None
        return ready.result()

    def _make(self, job: Job) -> tuple[TrainedNetwork, Prepared]:
        trained = self._load(job.part)
        how = (job.inputs, reorients(trained, job.reorient), _recipe(trained))
        if self._last is None or self._last[0] != how:
            self._last = None  # its memory first
            inputs = [self._volumes[index] for index in job.inputs]
            self._last = (how, prepare(trained, inputs, reorient=job.reorient))
        return trained, self._last[1]


def reorients(design: Design, asked: bool) -> bool:
    """Whether images are turned to RAS+ index order first: where the model entry asks, or the plans' reader does it."""
    return asked or bool(design.plans.plans["image_reader_writer"].endswith("WithReorient"))


def _recipe(design: Design) -> object:
    """What decides how an image becomes the network's input; equal ones give equal inputs."""
    own = design.configuration.configuration
    keys = ("spacing", "normalization_schemes", "use_mask_for_norm", "resampling_fn_data", "resampling_fn_data_kwargs")
    intensities = design.plans.foreground_intensity_properties_per_channel
    return [design.plans.transpose_forward, intensities, *(own.get(key) for key in keys)]
