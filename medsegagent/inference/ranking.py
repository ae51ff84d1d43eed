"""Which model ranks higher: it settles exact ties, and says which version of a model runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from medsegagent.cards.card import DatasetCard
from medsegagent.inference.plan import InstalledModel

_SPECIALIST_LABELS = 4
_SCOPES = ("specialist", "regional model", "whole-body model")


@dataclass(frozen=True, order=True)
class Rank:
    """Sorts best first: specialists before whole-body models, then finer resolution, then more training cases.

    Attributes:
        scope: 0 specialist (few labels), 1 one body region, 2 whole body.
        grid_mm: Edge of a cube of the model's voxel volume, never finer than the scan's.
        fewer_cases: Minus the training cases.
        model: The id, so that the order is total.
    """

    scope: int
    grid_mm: float
    fewer_cases: int
    model: str

    @property
    def reason(self) -> str:
        """In a few words."""
        grid = "unknown resolution" if math.isinf(self.grid_mm) else f"{self.grid_mm:.2g} mm grid"
        cases = f"{-self.fewer_cases} training cases" if self.fewer_cases else "unknown training cases"
        return f"{_SCOPES[self.scope]}, {grid}, {cases}"


def rank(model: InstalledModel, card: DatasetCard, scan_mm: tuple[float, float, float]) -> Rank:
    """Rank a model for a scan with the given spacing (mm, x, y, z)."""
    regional = 2 if "whole" in card.body_region.casefold() else 1
    scope = 0 if len(card.labels) <= _SPECIALIST_LABELS else regional
    grid = math.inf
    if model.spacing_mm is not None:
        # Detail beyond the scan's own helps nobody; axes are paired by size, whatever the orientation.
        pairs = zip(sorted(model.spacing_mm), sorted(scan_mm), strict=True)
        grid = round(math.prod(max(own, scan) for own, scan in pairs) ** (1 / 3), 2)
    return Rank(scope, grid, -(model.num_training or 0), model.id)
