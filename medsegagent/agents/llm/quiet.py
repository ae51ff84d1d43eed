"""Warnings of other packages that would mislead, or quote a key, kept away while an endpoint is asked; not longer."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_MESSAGES = (
    # autogen-ext compares model names and finish reasons of OpenAI's own service; any other server trips them.
    "(Resolved model|Finish reason) mismatch",
    # It quotes what a broken endpoint answered, which may be the key.
    "Pydantic serializer warnings",
)
_lock = threading.Lock()
_users = 0
_added: list[object] = []


@contextmanager
def quiet() -> Iterator[None]:
    """The filters, for as long as anyone is in the context, from whichever thread or task."""
    global _users
    with _lock:
        _users += 1
        if _users == 1:
            for message in _MESSAGES:
                warnings.filterwarnings("ignore", message=message, category=UserWarning)
                _added.append(warnings.filters[0])
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                for entry in _added:
                    if entry in warnings.filters:
                        warnings.filters.remove(entry)  # type: ignore[attr-defined]
                _added.clear()
