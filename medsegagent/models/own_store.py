"""Where downloaded models live: one results root of its own per model id, below the user's data folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from medsegagent.errors import OutputError

_SAFE = str.maketrans({"/": "+", ":": "@"})
_BACK = str.maketrans({"+": "/", "@": ":"})


@dataclass(frozen=True)
class ModelHome:
    """The store's folder.

    Each model id has a results root of its own, because publishers reuse dataset ids and archive names. Beside them
    lie `hashes.json` (what each archive was when first seen), `.downloads`, `.staging` and `.locks`.
    """

    folder: Path

    def root_of(self, model_id: str) -> Path:
        """The results root of one model, in nnU-Net's layout; it may not exist."""
        return self.folder / folder_name(model_id)

    def roots(self) -> dict[str, Path]:
        """Model id -> results root, for every model with something installed."""
        if not os.path.isdir(self.folder):
            return {}
        folders = (
            path for path in sorted(self.folder.iterdir()) if os.path.isdir(path) and not path.name.startswith(".")
        )
        return {path.name.translate(_BACK): path for path in folders}

    @property
    def downloads(self) -> Path:
        """Archives on their way; a cut download is continued from here."""
        return self.folder / ".downloads"

    def staging_of(self, model_id: str) -> Path:
        """Where a model is unpacked before it moves into place."""
        return self.folder / ".staging" / folder_name(model_id)

    @contextmanager
    def lock(self, name: str, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Keep other processes out; waits for the one that is in, after calling `on_wait` once.

        Raises:
            OutputError: If the store cannot be written.
        """
        from filelock import FileLock, Timeout

        file = self.folder / ".locks" / f"{folder_name(name)}.lock"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(file)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if on_wait:
                    on_wait()
                lock.acquire()
        except OSError as error:
            what = f"the model store cannot be written ({error.strerror or error})"
            raise OutputError(what, "Name another folder in MEDSEGAGENT_MODELS.", str(self.folder)) from error
        try:
            yield
        finally:
            lock.release()


def default_home() -> ModelHome:
    """The store named by the environment variable `MEDSEGAGENT_MODELS`, else the one in the user's data folder."""
    if named := os.environ.get("MEDSEGAGENT_MODELS"):
        return ModelHome(Path(named).expanduser().absolute())
    from platformdirs import user_data_path

    return ModelHome(user_data_path("medsegagent", appauthor=False) / "models")


def folder_name(model_id: str) -> str:
    """A model id as one folder name: `/` and `:` become `+` and `@`, which no id has.

    Raises:
        ValueError: If the name would be hidden or lead elsewhere.
    """
    name = model_id.translate(_SAFE)
    if not name or name.startswith(".") or any(mark in name for mark in "/\\:\0"):
        raise ValueError(f"{model_id!r} cannot be a model id")
    return name
