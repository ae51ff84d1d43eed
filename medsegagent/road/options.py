"""How the user wants a run done: one flat type, for Python, the command line and every server."""

from __future__ import annotations

from dataclasses import dataclass, field

from medsegagent.cards.card import Fold
from medsegagent.fusion.names import check_rule
from medsegagent.models.effort import Effort
from medsegagent.planning.choice import Choice
from medsegagent.prompting.wanted import Refinement


@dataclass(frozen=True)
class Options:
    """How a run is done. Everything has a default; a name that means nothing is refused at once.

    Which models, by id, card, or publisher (the first part of ids):

    Attributes:
        max_models: At most so many voters for each target, best rank first.
        prefer: Ranked before all others, in this order.
        only: If any, no others run.
        exclude: Never run.
        weights: (name, vote) for votes other than 1.
        complete: Refuse where some targets have no installed model but could have one; else the others are run.
        folds: Only these folds of each nnU-Net; None: all that are installed.
        mirror: Average over mirrored patches, or not; None: as each model says.
        tile_step: Step between patches, as a fraction of the patch, in (0, 1]; None: as each model says.
        fast: No mirroring, larger steps, low precision: quicker, and not the very same labels.
        roi: Let a coarser installed model say where a finer one looks.
        isolate: Run each model in a process of its own, under a watchdog.
        fusion: How masks become one, of `medsegagent.fusion.rules.RULES`.
        keep_outliers: Let a model vote that disagrees far beyond the others.
        modality: "CT", "MR T1", "PET/CT", ...; overrides the instruction and the image.
        series: Which series of a DICOM study: its number or a part of its description; empty for the one that fits.
        force: Go on where the instruction's modality contradicts the image.
        dry_run: Stop after the plan.
        separate: Write one mask per target too.
        keep_predictions: Write every model's own masks too.
        formats: Further file formats, of `medsegagent.export.formats.FORMATS`.
        refinement: Whether, by whom and with what masks are corrected before they are reported.

    Raises:
        UsageError: If a value is out of range, or a name is none.
    """

    max_models: int = 3
    prefer: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    weights: tuple[tuple[str, float], ...] = ()
    complete: bool = False
    folds: tuple[Fold, ...] | None = None
    mirror: bool | None = None
    tile_step: float | None = None
    fast: bool = False
    roi: bool = False
    isolate: bool = False
    fusion: str = "majority"
    keep_outliers: bool = False
    modality: str | None = None
    series: str = ""
    force: bool = False
    dry_run: bool = False
    separate: bool = False
    keep_predictions: bool = False
    formats: tuple[str, ...] = ()
    refinement: Refinement = field(default_factory=Refinement)

    def __post_init__(self) -> None:
        """Check what can be checked without a library."""
        check_rule(self.fusion)
        _ = self.choice, self.effort  # each checks its own

    @property
    def choice(self) -> Choice:
        """Which models may run, for planning."""
        return Choice(self.max_models, self.prefer, self.only, self.exclude, self.weights)

    @property
    def effort(self) -> Effort:
        """How thoroughly they run, for planning."""
        return Effort(self.folds, self.mirror, self.tile_step, self.fast, self.roi)
