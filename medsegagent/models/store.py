"""The model store: which models are installed, and what they give in their cards' words.

The user's results folders are read, never written; what we install lies in folders of its own (see `own_store`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from medsegagent.cards.card import DatasetCard
from medsegagent.models.installed import InstalledModel


@dataclass(frozen=True)
class Problem:
    """Something about an installed model that the user should know. `card` is empty if none is concerned."""

    card: str
    folder: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.folder}{f' ({self.card})' if self.card else ''}: {self.reason}"


@dataclass(frozen=True)
class Store:
    """What is installed.

    Attributes:
        models: Usable models of the cards, sorted by card.
        cards: The library's cards, by name.
        without_card: Trained model folders that no card claims.
        problems: What is unusable, incomplete, or differs from its card.
    """

    models: tuple[InstalledModel, ...]
    cards: Mapping[str, DatasetCard]
    without_card: tuple[Path, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def labels(self) -> dict[str, frozenset[str]]:
        """Model id -> the card's labels that its installed parts give."""
        return {model.id: frozenset(label for part in model.parts for label in part.labels) for model in self.models}

    def of_card(self, name: str) -> tuple[InstalledModel, ...]:
        """The usable models behind one card."""
        return tuple(model for model in self.models if model.card == name)


def results_roots(models_dir: Path | None = None) -> tuple[Path, ...]:
    """The user's own results folders: `models_dir`, else the environment variable `nnUNet_results`, else none."""
    if models_dir is not None:
        return (models_dir,)
    named = os.environ.get("nnUNet_results", "")  # noqa: SIM112 (nnU-Net's own spelling)
    return (Path(named),) if named else ()
