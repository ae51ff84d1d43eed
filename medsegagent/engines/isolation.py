"""Each model in a process of its own, under a watchdog: one that hangs or dies takes nothing down."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from medsegagent.engines import Engines, by_kind, shipped_engines
from medsegagent.engines.base import Failure, Prediction, Progress
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
        # What the child computes on goes down the pipe and not with its start, which would wait for ever for a child
        # that dies before it has read it all.
        mine, theirs = context.Pipe()
        child = context.Process(target=_work, args=(theirs,), daemon=True)
        child.start()
        theirs.close()
        try:
            alone = plan.model_copy(update={"models": (planned,)})
            with suppress(BrokenPipeError, ConnectionResetError):  # then it has died, which listening finds out
                mine.send((alone, list(volumes), type(known[planned.model.kind])))
            yield _listen(mine, child, planned, progress, patience)
        finally:
            child.kill()
            child.join()
            mine.close()


def _work(pipe: Connection) -> None:
    plan, volumes, engine = pipe.recv()
    for outcome in predict(plan, volumes, lambda *news: pipe.send(news), by_kind([engine()])):
        pipe.send(outcome)


def _listen(
    receive: Connection, child: BaseProcess, planned: PlannedModel, progress: Progress | None, patience: float
) -> Prediction | Failure:
    """Pass on progress until there is an outcome, silence, or a death."""
    model = planned.model
    while receive.poll(patience):
        try:
            message = receive.recv()
        except (EOFError, ConnectionResetError):
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
