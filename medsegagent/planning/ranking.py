"""Which model ranks higher: it settles exact ties, and says which version of a model runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medsegagent.cards.card import DatasetCard, ModelEntry
from medsegagent.models.installed import InstalledModel

_SPECIALIST_LABELS = 4
_RESTRICTIONS = ("NC", "non-commercial", "licence number")
_SCOPES = ("specialist", "regional model", "whole-body model")


@dataclass(frozen=True, order=True)
class Rank:
    """Sorts best first: specialists before whole-body models, then finer resolution, then more training cases.

    Where all that is equal, a free licence comes before an unknown one, and that before a restricted one.

    Attributes:
        scope: 0 specialist (few labels), 1 one body region, 2 whole body.
        grid_mm: Edge of a cube of the model's voxel volume, never finer than the scan's.
        fewer_cases: Minus the training cases.
        licence: 0 free, 1 unknown, 2 restricted.
        model: The id, so that the order is total.
    """

    scope: int
    grid_mm: float
    fewer_cases: int
    licence: int
    model: str

    @property
    def reason(self) -> str:
        """In a few words."""
        grid = "unknown resolution" if math.isinf(self.grid_mm) else f"{self.grid_mm:.2g} mm grid"
        cases = f"{-self.fewer_cases} training cases" if self.fewer_cases else "unknown training cases"
        return f"{_SCOPES[self.scope]}, {grid}, {cases}"


def rank(model: InstalledModel | ModelEntry, card: DatasetCard, scan_mm: tuple[float, float, float]) -> Rank:
    """Rank a model, installed or not, for a scan with the given spacing (mm, x, y, z)."""
    regional = 2 if "whole" in card.body_region.casefold() else 1
    scope = 0 if len(card.labels) <= _SPECIALIST_LABELS else regional
    grid = math.inf
    if model.spacing_mm is not None:
        # Detail beyond the scan's own helps nobody; axes are paired by size, whatever the orientation.
        pairs = zip(sorted(model.spacing_mm), sorted(scan_mm), strict=True)
        grid = round(math.prod(max(own, scan) for own, scan in pairs) ** (1 / 3), 2)
    cases = model.num_training if isinstance(model, InstalledModel) else card.num_training
    return Rank(scope, grid, -(cases or 0), _restriction(model.id, card), model.id)


def _restriction(model_id: str, card: DatasetCard) -> int:
    parts = [part for entry in card.models if entry.id == model_id for part in entry.parts]
    terms = [part.source.licence for part in parts if part.source and part.source.licence]
    if not terms:
        return 1
    return 2 if any(mark in term for term in terms for mark in _RESTRICTIONS) else 0
