"""What one case needs that is too big, or too live, for a message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medsegagent.cards.library import Library
from medsegagent.engines.cache import WarmNetworks
from medsegagent.engines.nnunet.runner import Progress
from medsegagent.engines.prediction import Prediction
from medsegagent.errors import Lacking
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.volume import Volume
from medsegagent.models.effort import Effort
from medsegagent.models.store import Store
from medsegagent.planning.choice import Choice
from medsegagent.planning.plan import Skipped
from medsegagent.reporting.statistics import StructureStatistics
from medsegagent.road.refiner import Outcome, Refinement
from medsegagent.vocabulary import Vocabulary


@dataclass(frozen=True)
class Options:
    """How the user wants the case done.

    Attributes:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        force: Go on where the instruction's modality contradicts the image.
        dry_run: Stop after the plan.
        separate: Write one mask per target too.
        keep_predictions: Write every model's own masks too.
        choice: Which of the models that could answer run.
        effort: How thoroughly they run.
        fusion: How their masks become one, of `medsegagent.fusion.rules.RULES`.
        keep_outliers: Let a model vote that disagrees far beyond the others.
        isolate: Run each model in a process of its own.
        formats: Further file formats, of `medsegagent.export.formats.FORMATS`.
        complete: Refuse where some targets have no installed model but could have one; else the others are run.
        series: Which series of a DICOM study: its number or a part of its description; empty for the one that fits.
    """

    device: str = "auto"
    force: bool = False
    dry_run: bool = False
    separate: bool = False
    keep_predictions: bool = False
    choice: Choice = field(default_factory=Choice)
    effort: Effort = field(default_factory=Effort)
    fusion: str = "majority"
    keep_outliers: bool = False
    isolate: bool = False
    formats: tuple[str, ...] = ()
    series: str = ""
    complete: bool = False
    refinement: Refinement = field(default_factory=Refinement)
    """Whether, by whom and with what masks are refined before they are reported."""


@dataclass
class Workspace:
    """The state of one case; the agents that act (Executor, Reporter) work on it."""

    library: Library
    vocabulary: Vocabulary
    store: Store
    volumes: tuple[Volume, ...]
    options: Options
    folder: Path
    """Where files go; a temporary folder that becomes the run folder at the end."""
    progress: Progress | None = None
    networks: WarmNetworks | None = None
    """Networks kept from case to case."""
    predictions: dict[str, Prediction] = field(default_factory=dict)
    failed: dict[str, Skipped] = field(default_factory=dict)
    """Model id -> why it gave nothing."""
    lacking: tuple[Lacking, ...] | None = None
    """What could be installed for targets that no installed model gives; None before the first plan."""
    segmentation: Segmentation | None = None
    figures: Mapping[str, StructureStatistics] = field(default_factory=dict)
    """Structure id -> what was measured."""
    refined: Outcome | None = None
    """What the Refiner gave; None if it had no seat."""
    seconds: dict[str, float] = field(default_factory=dict)

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Book wall time on a stage."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
