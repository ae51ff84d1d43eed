"""On disk, as JSON: answers to identical calls, and what endpoints turned out to be able to do."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from medsegagent.vocabulary.cache import cache_folder


class ReplyCache:
    """One small JSON file per key; readable only by the user, for it holds what was asked."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or cache_folder() / "llm"

    def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """What was stored for this key; None if nothing was, or if the file is unreadable."""
        try:
            stored = json.loads(self._file(key).read_bytes())
        except (OSError, ValueError):
            return None
        # The key is compared, not only its hash: a file may have been edited.
        return stored["value"] if isinstance(stored, dict) and stored.get("key") == key else None

    def put(self, key: dict[str, Any], value: dict[str, Any]) -> None:
        """Store; a cache that cannot be written is no error."""
        with suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".tmp")  # mode 0600
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump({"key": key, "value": value}, file, ensure_ascii=False, indent=1)
                Path(temporary).replace(self._file(key))
            except OSError:
                Path(temporary).unlink(missing_ok=True)

    def _file(self, key: dict[str, Any]) -> Path:
        text = json.dumps(key, sort_keys=True, ensure_ascii=False)
        return self._folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
