"""Where a plan computes, and how much memory it will take, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.engines import Engines, shipped_engines
from medsegagent.engines.device import choose_device
from medsegagent.engines.memory import Free, Need, free_memory, gigabytes, place
from medsegagent.errors import ModelError
from medsegagent.images.boxed import NOWHERE, bounding_box
from medsegagent.images.volume import Volume
from medsegagent.planning.plan import Locator, Plan, PlannedModel, Skipped

_PLACES = {"gpu": "on the GPU", "ram": "in main memory", "file": "in a temporary file"}


def settle(plan: Plan, volumes: Sequence[Volume], engines: Engines | None = None) -> Plan:
    """Find the device, and estimate each model's memory from the shapes of the images and of its networks.

    Args:
        plan: What is to run.
        volumes: The images that the plan was made for.
        engines: Whom to ask, by the kind of model; default: those of the package.

    Returns:
        The plan with each model's `memory` said; one that cannot fit is skipped, with the estimate and the way out.
        A model whose folder cannot be read is left as it is: running it says why.

    Raises:
        UsageError: If the device asked for is not there.
    """
    if not plan.models:
        return plan.model_copy(update={"device_reason": "nothing to run"})
    device, why = choose_device(plan.device)
    plan = plan.model_copy(update={"device": device, "device_reason": why})
    known = engines or shipped_engines()
    free = free_memory(plan.device)
    boxes = [bounding_box(volume.array) or NOWHERE for volume in volumes]
    models: list[PlannedModel] = []
    skipped = list(plan.skipped)
    for planned in plan.models:
        first = _first(planned)
        try:
            need = known[first.model.kind].need(first, volumes, boxes)
        except ModelError:
            models.append(planned)
            continue
        try:
            models.append(planned.model_copy(update={"memory": _said(need, free, plan.device)}))
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
