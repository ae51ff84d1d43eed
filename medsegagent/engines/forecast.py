"""How much memory a plan will take, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.engines.memory import Free, Need, estimate, free_memory, gigabytes, place
from medsegagent.engines.nnunet.network import read_design
from medsegagent.engines.nnunet.orientation import AS_STORED, to_ras
from medsegagent.engines.nnunet.prepare import reorients
from medsegagent.errors import ModelError
from medsegagent.images.boxed import NOWHERE, Box, bounding_box, hull
from medsegagent.images.volume import Volume
from medsegagent.planning.plan import InstalledPart, Locator, Plan, PlannedModel, Skipped

_PLACES = {"gpu": "on the GPU", "ram": "in main memory", "file": "in a temporary file"}


def foresee(plan: Plan, volumes: Sequence[Volume]) -> Plan:
    """Estimate each model's memory from the shapes of the images and of its networks.

    Args:
        plan: What is to run.
        volumes: The images that the plan was made for.

    Returns:
        The plan with each model's `memory` said; one that cannot fit is skipped, with the estimate and the way out.
        A model whose folder cannot be read is left as it is: running it says why.
    """
    free = free_memory(plan.device)
    boxes = [bounding_box(volume.array) or NOWHERE for volume in volumes]
    models: list[PlannedModel] = []
    skipped = list(plan.skipped)
    for planned in plan.models:
        first = _first(planned)
        try:
            needs = [_need(first.model.parts[index], first, volumes, boxes) for index in first.needed_parts]
        except ModelError:
            models.append(planned)
            continue
        largest = max(needs, key=lambda need: need.total)
        try:
            models.append(planned.model_copy(update={"memory": _said(largest, free, plan.device)}))
        except ModelError as error:
            reason = f"{error.what}. {error.remedy}"
            skipped.append(Skipped(card=planned.model.card, model=planned.model.id, reason=reason, lacks="memory"))
    return plan.model_copy(update={"models": tuple(models), "skipped": tuple(skipped)})


def _first(runs: PlannedModel | Locator) -> PlannedModel | Locator:
    """What sees the whole image: the model, or the first one of those that find its box."""
    return _first(runs.locator) if runs.locator else runs


def _said(need: Need, free: Free, device: str) -> str:
    where = place(need, free, device)
    return f"about {gigabytes(need.total)}; its logits, {gigabytes(need.logits)}, {_PLACES[where.logits]}"


def _need(part: InstalledPart, runs: PlannedModel | Locator, volumes: Sequence[Volume], boxes: Sequence[Box]) -> Need:
    """What one network takes on the part of the images that nnU-Net's cropping leaves."""
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

    design = read_design(part.folder)
    first = volumes[runs.inputs[0]]
    turn = to_ras(first.grid) if reorients(design, runs.model.reorient == "RAS") else AS_STORED
    extent = [side.stop - side.start for side in hull(boxes[index] for index in runs.inputs)]
    shape, mm = ([own[axis] for axis in turn.axes] for own in (extent, first.grid.spacing[::-1]))
    shape, mm = ([own[axis] for axis in design.plans.transpose_forward] for own in (shape, mm))
    wanted = [*mm[: 3 - len(design.configuration.spacing)], *design.configuration.spacing]
    new = [max(int(size), 1) for size in compute_new_shape(shape, mm, wanted)]
    return estimate(design, len(part.folds), new, first.array.size)
