"""What an engine has loaded, kept in memory from case to case."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_LOG = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
Loaded = TypeVar("Loaded")


class LoadedModels(Generic[Key, Loaded]):
    """Keeps what was used last, up to a number of bytes. One thread at a time may use it."""

    def __init__(self, limit: int, size: Callable[[Loaded], int]) -> None:
        """Start empty.

        Args:
            limit: Bytes; what was loaded last is always kept.
            size: Bytes of one.
        """
        self._limit = limit
        self._size = size
        self._kept: OrderedDict[Key, Loaded] = OrderedDict()

    def get(self, key: Key, load: Callable[[], Loaded]) -> Loaded:
        """What was loaded under the key, now or before."""
        if key not in self._kept:
            _LOG.debug("loading %s", key)
            self._kept[key] = load()
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and sum(map(self._size, self._kept.values())) > self._limit:
            self._kept.popitem(last=False)
        return self._kept[key]

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
