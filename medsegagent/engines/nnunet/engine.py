"""The engine for trained nnU-Nets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medsegagent.cards.library import Library
from medsegagent.engines.base import Failure, Found, Prediction, Progress
from medsegagent.engines.cache import LoadedModels
from medsegagent.engines.memory import Need
from medsegagent.engines.nnunet.installed import find_nnunets
from medsegagent.images.boxed import Box
from medsegagent.images.volume import Volume
from medsegagent.models.installed import NnunetFolder, NnunetModel
from medsegagent.planning.plan import Locator, PlannedModel

if TYPE_CHECKING:
    from medsegagent.engines.nnunet.network import TrainedNetwork

_Key = tuple[str, tuple[object, ...], str, tuple[int, ...]]


class NnunetEngine:
    """Runs trained nnU-Nets with nnU-Net's own labels, see docs/performance.md.

    A model folder that changes on disk is loaded again.
    """

    kind = "nnunet"

    def __init__(self, keep_bytes: int = 0) -> None:
        """Load nothing yet; keep at most so many bytes of weights in memory, and always the last network."""
        self._networks = LoadedModels[_Key, "TrainedNetwork"](keep_bytes, _size)

    def installed(self, library: Library, roots: Sequence[Path], own: Mapping[str, Path]) -> Found:
        """As `Engine.installed`, in nnU-Net's results layout."""
        return find_nnunets(library, roots, own)

    def need(self, runs: PlannedModel | Locator, volumes: Sequence[Volume], boxes: Sequence[Box]) -> Need:
        """As `Engine.need`."""
        from medsegagent.engines.nnunet.need import need_of

        model = runs.model
        assert isinstance(model, NnunetModel)  # the engines' table hands each its own kind
        needs = [
            need_of(model.parts[part], runs.inputs, volumes, boxes, reorient=model.reorient == "RAS")
            for part in runs.needed_parts
        ]
        return max(needs, key=lambda need: need.total)

    def predict(
        self, models: Sequence[PlannedModel], volumes: Sequence[Volume], device: str, progress: Progress
    ) -> Iterator[Prediction | Failure]:
        """As `Engine.predict`; the next network's input is made ready while one runs."""
        from medsegagent.engines.nnunet.runner import predict

        return predict(models, volumes, device, progress, self.network)

    def release(self) -> None:
        """Forget the networks."""
        self._networks.clear()

    def network(self, part: NnunetFolder) -> TrainedNetwork:
        """A part's network, from memory where it is kept.

        Raises:
            ModelError: If the folder asks for code, is damaged, or its weights do not fit its plans.
        """
        from medsegagent.engines.nnunet.network import load_network

        return self._networks.get(_key(part), lambda: load_network(part))


def _key(part: NnunetFolder) -> _Key:
    files = [part.folder / "plans.json", part.folder / "dataset.json"]
    files += [part.folder / f"fold_{fold}" / part.checkpoint for fold in part.folds]
    changed = tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)
    return str(part.folder), part.folds, part.checkpoint, changed


def _size(trained: TrainedNetwork) -> int:
    return sum(tensor.nbytes for weights in trained.folds for tensor in weights.values())
