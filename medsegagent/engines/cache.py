"""Networks kept in memory between cases."""

from __future__ import annotations

from collections import OrderedDict

from medsegagent.engines.nnunet.network import TrainedNetwork, load_network
from medsegagent.planning.plan import InstalledPart

_Key = tuple[str, tuple[object, ...], str, tuple[int, ...]]


class WarmNetworks:
    """Loads networks and keeps the most recently used ones, up to a number of bytes.

    A model folder that changes on disk is loaded again.
    """

    def __init__(self, limit: int = 4 * 2**30) -> None:
        """Keep at most `limit` bytes of weights; the last network loaded is always kept."""
        self._limit = limit
        self._kept: OrderedDict[_Key, TrainedNetwork] = OrderedDict()

    def get(self, part: InstalledPart) -> TrainedNetwork:
        """The part's network.

        Raises:
            ModelError: As `load_network`.
        """
        key = _key(part)
        if key not in self._kept:
            self._kept[key] = load_network(part)
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(map(_size, self._kept.values())) > self._limit:
            self._kept.popitem(last=False)
        return self._kept[key]


def _key(part: InstalledPart) -> _Key:
    files = [part.folder / "plans.json", part.folder / "dataset.json"]
    files += [part.folder / f"fold_{fold}" / part.checkpoint for fold in part.folds]
    changed = tuple(file.stat().st_mtime_ns if file.exists() else 0 for file in files)
    return str(part.folder), part.folds, part.checkpoint, changed


def _size(trained: TrainedNetwork) -> int:
    return sum(tensor.nbytes for weights in trained.folds for tensor in weights.values())
