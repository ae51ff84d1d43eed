"""Plan -> Predictions: every planned nnU-Net, one after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import MedSegAgentError
from medsegagent.images.volume import Volume
from medsegagent.inference.label_map import label
from medsegagent.inference.network import load_network
from medsegagent.inference.plan import PartValues, Plan, PlannedModel
from medsegagent.inference.prediction import Failure, Prediction
from medsegagent.inference.prepare import Ahead, Job
from medsegagent.inference.warm import WarmNetworks

Progress = Callable[[str, int, int], None]
"""Told model id, tiles done, tiles in all."""

LabelMaps = Mapping[int, NDArray[np.unsignedinteger]]
"""Part index -> that network's label map."""


def predict(
    plan: Plan, volumes: Sequence[Volume], progress: Progress | None = None, networks: WarmNetworks | None = None
) -> Iterator[Prediction | Failure]:
    """Run the planned models, best rank first. One that fails never stops the others.

    Args:
        plan: What to run.
        volumes: The images that the plan was made for.
        progress: Told of each tile.
        networks: Where networks are kept for the next case; None: they are not kept.

    Yields:
        Per model its masks on the first volume's grid, or why there are none.
    """
    jobs = {
        (planned.model.id, part): Job(planned.model.parts[part], planned.inputs, planned.model.reorient == "RAS")
        for planned in plan.models
        for part in planned.needed_parts
    }
    with Ahead(jobs.values(), volumes, networks.get if networks else load_network) as ahead:
        for planned in plan.models:
            own = {part: jobs[planned.model.id, part] for part in planned.needed_parts}
            try:
                yield _predict_one(planned, own, ahead, plan.device, progress)
            except MedSegAgentError as error:
                yield Failure(planned.model.id, planned.model.card, str(error))
            except MemoryError:
                yield Failure(planned.model.id, planned.model.card, "out of memory")
            except Exception as error:  # nnU-Net and torch raise what they like; the other models go on
                reason = str(error).strip().partition("\n")[0] or "no reason given"
                yield Failure(planned.model.id, planned.model.card, f"{type(error).__name__}: {reason}")


def _predict_one(
    planned: PlannedModel, jobs: Mapping[int, Job], ahead: Ahead, device: str, progress: Progress | None
) -> Prediction:
    started = time.perf_counter()
    model = planned.model
    maps: dict[int, NDArray[np.unsignedinteger]] = {}
    notes: list[str] = []
    for count, (index, job) in enumerate(jobs.items()):

        def tick(done: int, total: int, before: int = count) -> None:
            if progress:
                # Parts have much the same number of tiles; the total is corrected as they come.
                progress(model.id, before * total + done, len(jobs) * total)

        labelled = label(
            *ahead.take(job),
            device,
            mirror=model.use_mirroring is not False,
            tile_step=model.tile_step_size,
            low_precision=planned.low_precision,
            wanted={value for use in planned.uses if use.part == index for value in use.values},
            tick=tick,
        )
        maps[index] = labelled.labels
        notes += labelled.notes
    masks = {target.target: _mask(maps, target.whole) for target in planned.targets}
    sides = {
        target.target: _sides(_mask(maps, target.left), _mask(maps, target.right))
        for target in planned.targets
        if target.left and target.right
    }
    seconds = time.perf_counter() - started
    return Prediction(model.id, model.card, planned.weight, planned.rank, masks, sides, seconds, tuple(notes))


def _mask(maps: LabelMaps, uses: Sequence[PartValues]) -> NDArray[np.bool_]:
    """The union over the parts of the voxels that hold one of the values."""
    return reduce(np.logical_or, [_holds(maps[use.part], use.values) for use in uses])


def _holds(labels: NDArray[np.unsignedinteger], values: Sequence[int]) -> NDArray[np.bool_]:
    largest = np.iinfo(labels.dtype).max
    wanted = np.zeros(largest + 1, dtype=np.bool_)
    wanted[[value for value in values if value <= largest]] = True
    return np.ascontiguousarray(wanted[labels])


def _sides(left: NDArray[np.bool_], right: NDArray[np.bool_]) -> NDArray[np.uint8]:
    sides = left.astype(np.uint8)
    sides[right] = 2
    return sides
