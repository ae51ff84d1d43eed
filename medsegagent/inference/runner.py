"""Plan -> Predictions: every planned nnU-Net, one after the other, in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from medsegagent.errors import MedSegAgentError
from medsegagent.images.volume import Volume
from medsegagent.inference.label_map import label
from medsegagent.inference.masks import LabelledPart, mask_of, sides_of
from medsegagent.inference.network import load_network
from medsegagent.inference.plan import Plan, PlannedModel
from medsegagent.inference.prediction import Failure, Prediction
from medsegagent.inference.prepare import Ahead, Job
from medsegagent.inference.warm import WarmNetworks

Progress = Callable[[str, int, int], None]
"""Told model id, tiles done, tiles in all."""


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
    maps: dict[int, LabelledPart] = {}
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
        maps[index] = LabelledPart(labelled.labels)
        notes += labelled.notes
    masks = {target.target: mask_of(maps, target.whole) for target in planned.targets}
    sides = {
        target.target: sides_of(mask_of(maps, target.left), mask_of(maps, target.right))
        for target in planned.targets
        if target.left and target.right
    }
    seconds = time.perf_counter() - started
    return Prediction(model.id, model.card, planned.weight, planned.rank, masks, sides, seconds, tuple(notes))
