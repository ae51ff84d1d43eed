"""A place on disk for what can be computed again: JSON only, and never needed."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """The user's cache folder for this package; it may not exist and may not be writable."""
    if configured := os.environ.get("MEDSEGAGENT_CACHE"):
        return Path(configured)
    from platformdirs import user_cache_path  # only where nothing is configured

    return user_cache_path("medsegagent", appauthor=False)


def read(name: str, key: str) -> Any | None:
    """What was stored under `name`, if it was stored with the same key; None otherwise or if it is unreadable."""
    try:
        stored = json.loads((cache_folder() / name).read_bytes())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    return stored["value"] if isinstance(stored, dict) and stored.get("key") == key else None


def write(name: str, key: str, value: Any) -> None:
    """Store a JSON value. A cache that cannot be written is no error: the value is computed again next time."""
    with suppress(OSError, RuntimeError):
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({"key": key, "value": value}, file, ensure_ascii=False, separators=(",", ":"))
            Path(temporary).replace(folder / name)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
