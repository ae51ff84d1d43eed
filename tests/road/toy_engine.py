"""A second kind of model: a threshold. It is not shipped; it shows what the rest knows of engines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from medsegagent.cards.card import DatasetCard, ModelEntry, ModelPart
from medsegagent.cards.library import Library
from medsegagent.engines.base import Failure, Found, Prediction, Progress
from medsegagent.engines.cache import LoadedModels
from medsegagent.engines.memory import Need
from medsegagent.images.boxed import Box, Boxed
from medsegagent.images.volume import Volume
from medsegagent.models.installed import InstalledModel, InstalledPart
from medsegagent.models.store import Problem
from medsegagent.planning.plan import Locator, PlannedModel


class ThresholdPart(ModelPart):
    file: str
    """JSON below a root: value -> [lowest, highest] intensity."""


class ThresholdEntry(ModelEntry):
    kind: Literal["threshold"] = "threshold"
    parts: Annotated[tuple[ThresholdPart, ...], Field(min_length=1)]


class ThresholdCard(DatasetCard):
    models: tuple[ThresholdEntry, ...] = ()  # type: ignore[assignment]


class ThresholdModel(InstalledModel):
    kind: Literal["threshold"] = "threshold"


class ThresholdEngine:
    kind = "threshold"

    def __init__(self, keep_bytes: int = 2**20, needs: int = 1000) -> None:
        self.loads = 0
        self._needs = needs
        self._tables = LoadedModels[Path, dict[str, list[float]]](keep_bytes, len)

    def installed(self, library: Library, roots: Sequence[Path], own: Mapping[str, Path]) -> Found:
        models, problems = [], []
        for card in library:
            for entry in card.models:
                if not isinstance(entry, ThresholdEntry):
                    continue
                files = [root / entry.parts[0].file for root in roots if (root / entry.parts[0].file).exists()]
                if not files:
                    problems.append(Problem(card.name, roots[0], "its table is missing"))
                    continue
                part = InstalledPart(folder=files[0], labels=dict(card.labels))
                models.append(
                    ThresholdModel(
                        id=entry.id, card=card.name, parts=(part,), channels=("0",), voter=entry.voter or entry.id
                    )
                )
        return Found(tuple(models), problems=tuple(problems))

    def need(self, runs: PlannedModel | Locator, volumes: Sequence[Volume], boxes: Sequence[Box]) -> Need:
        return Need(logits=0, tile=self._needs, rest=0)

    def predict(
        self, models: Sequence[PlannedModel], volumes: Sequence[Volume], device: str, progress: Progress
    ) -> Iterator[Prediction | Failure]:
        for planned in models:
            progress(planned.model.id, 0, 1)
            file = planned.model.parts[0].folder
            table = self._tables.get(file, lambda file=file: self._load(file))  # type: ignore[misc]
            if "broken" in table:
                yield Failure(planned.model.id, planned.model.card, "its table is broken")
                continue
            image = volumes[planned.inputs[0]].array
            masks = {}
            for target in planned.targets:
                inside = np.zeros(image.shape, dtype=np.bool_)
                for use in target.whole:
                    for value in use.values:
                        low, high = table[str(value)]
                        inside |= (image >= low) & (image <= high)
                masks[target.target] = Boxed.of(inside)
            progress(planned.model.id, 1, 1)
            yield Prediction(planned.model.id, planned.model.card, planned.weight, planned.rank, masks, {}, 0.0)

    def release(self) -> None:
        self._tables.clear()

    def _load(self, file: Path) -> dict[str, list[float]]:
        self.loads += 1
        table: dict[str, list[float]] = json.loads(file.read_text())
        return table
