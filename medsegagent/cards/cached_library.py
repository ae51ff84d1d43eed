"""A compiled library on disk: the cards' fields, channels and bindings, so that a large library opens at once.

The compiled form is only used if every file still has the name, size and time that it was compiled from. Cards are
validated when it is made, and become objects when somebody looks at them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from medsegagent.vocabulary import cache

T = TypeVar("T")
_FORMAT = "2"


class Lazy(Mapping[str, T], Generic[T]):
    """A mapping whose values are made from plain data when they are first asked for."""

    def __init__(self, raw: Mapping[str, Any], make: Callable[[Any], T]) -> None:
        self._raw = raw
        self._make = make
        self._made: dict[str, T] = {}

    def __getitem__(self, key: str) -> T:
        if key not in self._made:
            self._made[key] = self._make(self._raw[key])
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


def key_of(files: Sequence[Path], vocabulary_digest: str) -> str:
    """What the compiled form of these files depends on: their names, sizes and times, and the vocabulary."""
    digest = hashlib.sha256(f"{_FORMAT} {vocabulary_digest}".encode())
    for file in files:
        digest.update(f"{file}\0{_state(file)}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def read(files: Sequence[Path], key: str) -> dict[str, Any] | None:
    """The compiled form, if there is a fresh one."""
    found = cache.read(_name(files), key)
    parts = {"cards", "channels", "bindings", "index", "problems"}
    return found if isinstance(found, dict) and found.keys() == parts else None


def write(files: Sequence[Path], key: str, compiled: dict[str, Any]) -> None:
    """Keep the compiled form; a cache that cannot be written is no error."""
    cache.write(_name(files), key, compiled)


def _state(file: Path) -> str:
    """What changes with a file's content; a link to nowhere is reported when it is read."""
    try:
        stat = file.stat()
    except OSError:
        return "unreadable"
    return f"{stat.st_size}\0{stat.st_mtime_ns}"


def _name(files: Sequence[Path]) -> str:
    ends = f"{files[0]} {files[-1]}".encode("utf-8", "surrogateescape")
    return f"library-{hashlib.sha256(ends).hexdigest()[:16]}.json"
