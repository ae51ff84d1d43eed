"""What we installed: list, verify, remove."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from medsegagent.errors import UsageError
from medsegagent.models.hashes import read_object, sha256_of
from medsegagent.models.install import RECORD
from medsegagent.models.own_store import ModelHome


@dataclass(frozen=True)
class Verdict:
    """One installed part and whether its files are still what was installed. `faults` is empty if so."""

    model: str
    folder: Path
    faults: tuple[str, ...]


def verify(home: ModelHome, model_id: str | None = None) -> tuple[Verdict, ...]:
    """Hash the files of one model, or of all, and compare with what was installed.

    Raises:
        UsageError: If that model is not installed.
    """
    chosen = home.roots() if model_id is None else {model_id: installed_root(home, model_id)}
    return tuple(
        Verdict(model, folder, tuple(_faults(folder)))
        for model, root in chosen.items()
        for folder in sorted(root.glob("Dataset*/*__*__*"))
        if folder.is_dir()
    )


def remove(home: ModelHome, model_id: str) -> Path:
    """Remove one model, and return the folder that is gone. Its checksum stays known.

    Raises:
        UsageError: If it is not installed.
        OutputError: If the store cannot be written.
    """
    root = installed_root(home, model_id)
    with home.lock(model_id):
        # Renamed first, so that nobody sees half a model.
        away = home.staging_of(f"{model_id}.removed")
        shutil.rmtree(away, ignore_errors=True)
        away.parent.mkdir(parents=True, exist_ok=True)
        root.rename(away)
        shutil.rmtree(away)
    return root


def installed_root(home: ModelHome, model_id: str) -> Path:
    """Where a model is.

    Raises:
        UsageError: If it is not in the store.
    """
    roots = home.roots()
    if model_id not in roots:
        listed = ", ".join(roots) or "none"
        what = f"{model_id} is not in the model store (installed: {listed})"
        raise UsageError(what, "`medsegagent models install` adds models.", str(home.folder))
    return roots[model_id]


def _faults(folder: Path) -> list[str]:
    record = read_object(folder / RECORD)
    if not isinstance(files := record.get("files"), dict):
        return [f"it has no {RECORD}: not installed by medsegagent"]
    faults = []
    for name, digest in files.items():
        file = folder / name
        if not file.is_file():
            faults.append(f"{name} is missing")
        elif sha256_of(file) != digest:
            faults.append(f"{name} has changed")
    extra = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {*files, RECORD}
    return faults + [f"{name} was not there before" for name in sorted(extra)]
