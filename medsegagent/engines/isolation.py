"""Each model in a process of its own, under a watchdog: one that hangs or dies takes nothing down."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from medsegagent.engines import Engines, by_kind, shipped_engines
from medsegagent.engines.base import Engine, Failure, Prediction, Progress
from medsegagent.engines.run import predict
from medsegagent.images.volume import Volume
from medsegagent.planning.plan import Plan, PlannedModel

PATIENCE = 900.0
"""Seconds without a tile after which a model counts as hung."""


def predict_isolated(
    plan: Plan,
    volumes: Sequence[Volume],
    progress: Progress | None = None,
    engines: Engines | None = None,
    *,
    patience: float = PATIENCE,
) -> Iterator[Prediction | Failure]:
    """As `predict`, one process after the other.

    Args:
        plan: What to run.
        volumes: The images that the plan was made for; every process gets a copy.
        progress: Told of each tile.
        engines: Who runs models of each kind, default those of the package; every process makes a new one.
        patience: Seconds without news after which a process is ended.

    Yields:
        Per model its masks, or why there are none.
    """
    context = multiprocessing.get_context("spawn")  # a forked CUDA or OpenMP runtime does not work
    known = engines or shipped_engines()
    for planned in plan.models:
        receive, send = context.Pipe(duplex=False)
        alone = plan.model_copy(update={"models": (planned,)})
        work = (send, alone, list(volumes), type(known[planned.model.kind]))
        child = context.Process(target=_work, args=work, daemon=True)
        child.start()
        send.close()
        try:
            yield _listen(receive, child, planned, progress, patience)
        finally:
            child.kill()
            child.join()
            receive.close()


def _work(send: Connection, plan: Plan, volumes: Sequence[Volume], engine: type[Engine]) -> None:
    for outcome in predict(plan, volumes, lambda *news: send.send(news), by_kind([engine()])):
        send.send(outcome)


def _listen(
    receive: Connection, child: BaseProcess, planned: PlannedModel, progress: Progress | None, patience: float
) -> Prediction | Failure:
    """Pass on progress until there is an outcome, silence, or a death."""
    model = planned.model
    while receive.poll(patience):
        try:
            message = receive.recv()
        except EOFError:
            child.join()
            return Failure(model.id, model.card, f"its process died ({_death(child.exitcode)})")
        if isinstance(message, Prediction | Failure):
            return message
        if progress:
            progress(*message)
    return Failure(model.id, model.card, f"no sign of life for {patience:.0f} s; it was stopped")


def _death(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "killed, probably for want of memory"
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
