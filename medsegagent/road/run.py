"""One request on one case: its state from the first word to the last file. A new request is a new run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medsegagent.language import parse
from medsegagent.reporting.staging import RECORD
from medsegagent.road.events import Listener, Progress, Said, Warning, tell
from medsegagent.road.options import Options

if TYPE_CHECKING:  # who only chooses cards pays for none of these
    from pathlib import Path

    from medsegagent.cards.library import Library
    from medsegagent.engines.base import Prediction
    from medsegagent.errors import Lacking
    from medsegagent.fusion.segmentation import Segmentation
    from medsegagent.language.request import Request
    from medsegagent.matching.selection import Dropped, Selection
    from medsegagent.planning.plan import Plan, Skipped
    from medsegagent.reporting.record import RunRecord, StructureResult
    from medsegagent.reporting.run_folder import RunFolder
    from medsegagent.reporting.statistics import StructureStatistics
    from medsegagent.road.case import Case
    from medsegagent.road.messages import Content, Selected
    from medsegagent.road.refiner import Outcome
    from medsegagent.road.resources import Resources

NO_USAGE: Mapping[str, object] = {
    "total": {"calls": 0, "cached": 0, "prompt_tokens": 0, "completion_tokens": 0, "seconds": 0.0},
    "agents": {},
}
"""Of a run in which no language model was asked."""


@dataclass(frozen=True)
class Finished:
    """What a finished run gave, and what its folder is written from."""

    case: Case
    library: Library
    options: Options
    selection: Selection
    plan: Plan
    segmentation: Segmentation
    predictions: tuple[Prediction, ...]
    figures: Mapping[str, StructureStatistics]
    structures: tuple[StructureResult, ...]
    dropped: tuple[Dropped, ...]
    record: RunRecord
    said: tuple[tuple[str, Content], ...]
    refined: Outcome | None = None

    def with_record(self, record: RunRecord) -> Finished:
        """The same with another record."""
        return replace(self, record=record)


@dataclass
class Run:
    """The state that steps share. Each thread of work belongs to one run, and no run sees another one's."""

    library: Library
    resources: Resources | None = None
    """None, as the case, where only cards are chosen."""
    case: Case | None = None
    options: Options = field(default_factory=Options)
    out: Path | None = None
    """The run folder to write; None: nothing is written."""
    overwrite: bool = False
    listener: Listener | None = None
    mind: Mapping[str, object] = field(default_factory=lambda: {"kind": "rules"})
    """Who thinks, for the record."""
    inputs: tuple[Path, ...] = ()
    """Files and folders that are read; an overwrite that would take one of them is refused."""
    folder: RunFolder | None = None
    """Held open from the first step to the last, so that nothing comes between."""
    usage: Callable[[], Mapping[str, object]] = lambda: NO_USAGE
    """Calls and tokens of the language model so far, in all and per agent."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set to end the run at the next tile."""

    said: list[tuple[str, Content]] = field(default_factory=list)
    """The transcript so far: who, what."""
    request: Request | None = None
    """What the rules read, once they have."""
    selected: Selected | None = None
    """The latest selection, as it was said."""
    dropped: dict[str, Dropped] = field(default_factory=dict)
    """Card -> why it is not selected, as the stages said."""
    predictions: dict[str, Prediction] = field(default_factory=dict)
    failed: dict[str, Skipped] = field(default_factory=dict)
    """Model id -> why it gave nothing."""
    lacking: tuple[Lacking, ...] | None = None
    """What could be installed for targets that no installed model gives; None before the first plan."""
    segmentation: Segmentation | None = None
    refined: Outcome | None = None
    """What the Refiner gave; None if it had no seat."""
    finished: Finished | None = None
    staging: Path | None = None
    """Where files are collected until they are published."""
    files: tuple[Path, ...] = ()
    """What was written."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> wall time."""
    _asides: list[Content] = field(default_factory=list)
    _started: float = field(default_factory=time.perf_counter)

    def fresh(self) -> Run:
        """A run on the same case with nothing done yet; into the next free folder unless it may overwrite."""
        out = self.out
        number = 1
        while out is not None and self.out is not None and not self.overwrite and (out / RECORD).exists():
            number += 1
            out = self.out.with_name(f"{self.out.name}-{number}")
        return Run(
            library=self.library,
            resources=self.resources,
            case=self.case,
            options=self.options,
            out=out,
            overwrite=self.overwrite,
            inputs=self.inputs,
            listener=self.listener,
            mind=self.mind,
            usage=self.usage,
        )

    def open_folder(self) -> None:
        """Take the run folder, if one is wanted and not yet taken.

        Raises:
            OutputError: If it may not or cannot be written.
        """
        if self.out is not None and self.folder is None:
            from medsegagent.reporting.run_folder import RunFolder

            folder = RunFolder(self.out, self.overwrite, self.inputs)
            self.staging = folder.__enter__()
            self.folder = folder

    def publish(self) -> RunFolder:
        """Let what was written appear.

        Raises:
            OutputError: If it cannot be moved into place.
        """
        assert self.folder is not None  # opened before
        folder, self.folder = self.folder, None
        folder.__exit__(None, None, None)
        return folder

    def abandon(self) -> None:
        """Leave nothing behind of a folder that was not published."""
        if self.folder is not None:
            folder, self.folder = self.folder, None
            reason = InterruptedError("the run ended without a result")
            folder.__exit__(InterruptedError, reason, None)

    def parsed(self, instruction: str) -> Request:
        """The instruction as the rules read it; read once."""
        if self.request is None or self.request.instruction != instruction:
            self.request = parse(instruction, self.library.vocabulary)
        return self.request

    def say(self, agent: str, content: Content) -> None:
        """Put it into the transcript and tell the listener."""
        from medsegagent.road.messages import Warned

        self.said.append((agent, content))
        tell(self.listener, Said(agent, content))
        if isinstance(content, Warned):
            tell(self.listener, Warning(content.text))

    def aside(self, content: Content) -> None:
        """Keep what is to be said before the step's own answer."""
        self._asides.append(content)

    def take_asides(self) -> list[Content]:
        """What was kept, once."""
        taken, self._asides = self._asides, []
        return taken

    def tile(self, model: str, done: int, total: int) -> None:
        """Tell of progress; a stopped run ends here.

        Raises:
            KeyboardInterrupt: If the run was stopped.
        """
        if self.stop.is_set():
            raise KeyboardInterrupt
        tell(self.listener, Progress(model, done, total))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Book the wall time of a block on a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - started

    def clock(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._started

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was said as a warning so far."""
        from medsegagent.road.messages import Warned

        return tuple(content.text for _, content in self.said if isinstance(content, Warned))
