"""The folder that a run leaves behind: whole, or not at all."""

from __future__ import annotations

import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from pydantic import BaseModel

from medsegagent.errors import OutputError
from medsegagent.fusion.overlap import label_map, overlapping
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.write import Label, write_label_map, write_mask
from medsegagent.reporting.colours import colours_of

_STAGING = ".medsegagent-partial-"
RECORD = "run.json"
"""Written last; a folder without it holds no finished run."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """A context in which results are written.

    Raises:
        OutputError: For whatever the operating system refuses: a full disk, a quota, a folder that went away.
    """
    try:
        yield
    except OSError as error:
        what = f"the results cannot be written ({error.strerror or error})"
        raise OutputError(what, "Free some space, or choose another place with -o.", str(folder.parent)) from error


class RunFolder:
    """A context in which a run's files are collected before they appear.

    `with RunFolder(path) as folder:` gives an empty temporary folder. On leaving without an exception it becomes
    `path`; on any exception, KeyboardInterrupt included, it is removed and `path` is as it was. A new `path` appears
    by one rename. Into an existing folder (empty, or an earlier run with `overwrite`) the files move one by one,
    `run.json` last, because a folder in use, such as a container's mount, cannot be renamed over.
    """

    def __init__(self, path: Path, overwrite: bool = False) -> None:
        self._path = path.absolute()
        self._overwrite = overwrite
        self._made: list[Path] = []
        self._staging = Path()

    def __enter__(self) -> Path:
        """Check that the folder may be written, before any work is done.

        Raises:
            OutputError: If `path` is a file, holds anything (unless it is an earlier run and `overwrite` is set), or
                cannot be written.
        """
        try:
            self._check()
            parent = self._path if self._path.is_dir() else self._path.parent
            self._make_parents(parent)
            self._staging = parent / f"{_STAGING}{secrets.token_hex(4)}"
            self._staging.mkdir()
        except OSError as error:
            self._remove_parents()
            raise self._refusal(
                f"the folder cannot be written ({error.strerror})", "Choose another with -o."
            ) from error
        return self._staging

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish, or clean up."""
        try:
            if kind is None:
                self._publish()
        except OSError as error:
            raise self._refusal(f"the results cannot be moved into place ({error.strerror})", "Try again.") from error
        finally:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._remove_parents()

    def _check(self) -> None:
        if not self._path.exists():
            return
        if not self._path.is_dir():
            raise self._refusal("this is a file, a folder is needed", "Choose another with -o.")
        if not (held := self._entries()):
            return
        if RECORD not in held:
            raise self._refusal("the folder holds other files, and no earlier run", "Choose another with -o.")
        if not self._overwrite:
            raise self._refusal("the folder holds an earlier run", "Choose another with -o, or give --overwrite.")

    def _entries(self) -> list[str]:
        return [entry.name for entry in self._path.iterdir() if not entry.name.startswith(_STAGING)]

    def _make_parents(self, parent: Path) -> None:
        missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            self._made.append(folder)

    def _remove_parents(self) -> None:
        """Remove the folders made for nothing."""
        for folder in reversed(self._made):
            if any(folder.iterdir()):
                return
            folder.rmdir()

    def _publish(self) -> None:
        if not self._path.exists():
            os.rename(self._staging, self._path)
            return
        old = self._staging / "old"
        new = sorted(self._staging.iterdir(), key=lambda entry: entry.name == RECORD)
        old.mkdir()
        for name in sorted(self._entries(), key=lambda name: name != RECORD):
            os.rename(self._path / name, old / name)
        try:
            for entry in new:
                os.rename(entry, self._path / entry.name)
        except BaseException:
            for entry in new:  # back to the earlier run
                if (self._path / entry.name).exists():
                    os.rename(self._path / entry.name, entry)
            for kept in old.iterdir():
                os.rename(kept, self._path / kept.name)
            raise

    def _refusal(self, what: str, remedy: str) -> OutputError:
        return OutputError(what, remedy, str(self._path))


def write_segmentation(segmentation: Segmentation, folder: Path, separate: bool) -> None:
    """Write the masks of a run.

    `segmentation.nii.gz` holds all structures, contained over containing, with `segmentation.json` beside it;
    `targets/ID.nii.gz` each whole mask, with `separate` or where it shares voxels with another;
    `agreement/ID.nii.gz` the percentage of yes-weight, uint8.
    """
    grid = segmentation.grid
    colours = colours_of([item.id for item in segmentation.structures])
    labels = [Label(item.value, item.id, item.name, colours[item.id]) for item in segmentation.structures]
    write_label_map(label_map(segmentation), grid, labels, folder / "segmentation.nii.gz")
    whole = {item.id for item in segmentation.structures} if separate else overlapping(segmentation)
    for item in segmentation.structures:
        (folder / "agreement").mkdir(exist_ok=True)
        write_mask(item.agreement, grid, folder / "agreement" / f"{item.id}.nii.gz")
        if item.id in whole:
            (folder / "targets").mkdir(exist_ok=True)
            write_mask(item.mask, grid, folder / "targets" / f"{item.id}.nii.gz")


def write_json(path: Path, record: Any) -> None:
    """Write a record as JSON: keys sorted, indent 2, NaN and infinities as null."""
    text = json.dumps(_plain(record), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(
        text, "utf-8", errors="backslashreplace"
    )  # a file's name need not be UTF-8; JSON's escapes can say it


def _plain(value: Any) -> Any:
    """Turn models, arrays' scalars, paths and tuples into what JSON knows."""
    match value:
        case BaseModel():
            return _plain(value.model_dump())
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case np.generic():
            return _plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case Path():
            return value.as_posix()
        case _:
            return value
