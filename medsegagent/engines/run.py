"""Plan -> Predictions: every planned model by its kind's engine, best rank first."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby

from medsegagent.engines import Engines, shipped_engines
from medsegagent.engines.base import Failure, Prediction, Progress
from medsegagent.images.volume import Volume
from medsegagent.planning.plan import Plan

_LOG = logging.getLogger(__name__)


def predict(
    plan: Plan, volumes: Sequence[Volume], progress: Progress | None = None, engines: Engines | None = None
) -> Iterator[Prediction | Failure]:
    """Run the planned models. One that fails never stops the others.

    Args:
        plan: What to run.
        volumes: The images that the plan was made for.
        progress: Told of each tile.
        engines: Who runs models of each kind; default: those of the package, which keep nothing.

    Yields:
        Per model its masks on the first volume's grid, or why there are none.
    """
    known = engines or shipped_engines()
    for kind, models in groupby(plan.models, key=lambda planned: planned.model.kind):
        for outcome in known[kind].predict(list(models), volumes, plan.device, progress or _ignore):
            if isinstance(outcome, Failure):
                _LOG.warning("%s failed: %s", outcome.model, outcome.reason)
            else:
                _LOG.info("%s ran in %.1f s", outcome.model, outcome.seconds)
            yield outcome


def _ignore(model: str, done: int, total: int) -> None:
    """Where nobody listens."""
