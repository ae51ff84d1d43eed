"""What an engine is: it finds, measures and runs one kind of model. Planning, isolation and voting know no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from medsegagent.cards.library import Library
from medsegagent.engines.memory import Need
from medsegagent.images.boxed import Box, Boxed
from medsegagent.images.volume import Volume
from medsegagent.models.installed import InstalledModel
from medsegagent.models.store import Problem
from medsegagent.planning.plan import Locator, PlannedModel

Progress = Callable[[str, int, int], None]
"""Told model id, tiles done, tiles in all. What it raises ends the prediction."""


@dataclass(frozen=True)
class Prediction:
    """One model's answer on the input's own grid.

    Attributes:
        model: `InstalledModel.id`.
        card: The card behind it.
        weight: Its vote.
        rank: 1 is the best; settles exact ties.
        masks: Target id -> mask. An empty mask is "not found by this model".
        sides: For an unsided paired target that this model splits: target id -> 0 neither, 1 the patient's left, 2 the
            patient's right.
        seconds: Wall time.
        notes: What the user should know of how the model was run, e.g. where its logits were kept and why.
    """

    model: str
    card: str
    weight: float
    rank: int
    masks: Mapping[str, Boxed[np.bool_]]
    sides: Mapping[str, Boxed[np.uint8]]
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A planned model that gave nothing; the others go on."""

    model: str
    card: str
    reason: str


@dataclass(frozen=True)
class Found:
    """What an engine finds below the results folders.

    Attributes:
        models: Usable models, by card in the library's order.
        without_card: Trained model folders that no card claims.
        problems: What is unusable, incomplete, or differs from its card.
    """

    models: tuple[InstalledModel, ...]
    without_card: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()


class Engine(Protocol):
    """Runs one kind of model. It may keep what it has loaded; `release` gives that back."""

    kind: str
    """Of the card entries and installed models that are its own."""

    def installed(self, library: Library, roots: Sequence[Path], own: Mapping[str, Path]) -> Found:
        """Find the models of its kind.

        Args:
            library: The cards in use; entries of other kinds are passed over.
            roots: Folders that are looked into for all models; where two hold the same folder, the first counts.
            own: Model id -> a folder that is looked into for that model alone, and first.
        """

    def need(self, runs: PlannedModel | Locator, volumes: Sequence[Volume], boxes: Sequence[Box]) -> Need:
        """What the largest part of a model takes.

        Args:
            runs: The model and its inputs.
            volumes: The images that it was planned for.
            boxes: What is not 0 of each image, z, y, x.

        Raises:
            ModelError: If the model cannot be read.
        """

    def predict(
        self, models: Sequence[PlannedModel], volumes: Sequence[Volume], device: str, progress: Progress
    ) -> Iterator[Prediction | Failure]:
        """Run models of its kind, in the order given; one that fails becomes a `Failure` and stops no other."""

    def release(self) -> None:
        """Forget what is kept in memory."""
