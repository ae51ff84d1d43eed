"""Where a run's files are collected until they are published, and what a killed process has left of that.

A staging folder lies beside or in the run folder and is locked while its owner lives: the system lets go of the lock
however the owner ends. `new` holds what is to be published, `old` what it replaces; `journal.json`, written before the
first file moves, names the files that move in.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from medsegagent.untrusted import read_json_object

PREFIX = ".medsegagent-partial-"
RECORD = "run.json"
"""Written last; a folder without it holds no finished run."""

_JOURNAL = "journal.json"
_JOURNAL_LIMIT = 16 * 2**20
_TRIES, _PAUSE_S = 600, 0.05
"""For a lock that is held while files are renamed."""


class Staging:
    """One owned staging folder."""

    def __init__(self, parent: Path) -> None:
        """Make it below `parent`, whose lock the caller holds, so that nobody takes it for one left behind."""
        self.folder = parent / f"{PREFIX}{secrets.token_hex(4)}"
        self.new, self.old = self.folder / "new", self.folder / "old"
        self.folder.mkdir()
        self._lock = _lock(self.folder, wait=False)
        self._done = False
        self.new.mkdir()

    def remove(self) -> None:
        """Remove it, with what was not published; what is left of an earlier run stays for the next one to put back."""
        if self._done:
            shutil.rmtree(self.old, ignore_errors=True)  # first, for while the journal is there, nothing is put back
        if self._done or not files_below(self.old):
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def move_into(self, target: Path, leaving: Sequence[str]) -> None:
        """Move the new files into `target`, and out of it those that they replace; all of it or nothing.

        Args:
            target: The folder that this one lies in.
            leaving: Files of the earlier run, relative; folders that they leave empty go too.

        Raises:
            OSError: If a file cannot be moved; `target` is as it was then.
        """
        arriving = files_below(self.new)
        (self.folder / _JOURNAL).write_text(json.dumps({"new": arriving}), "utf-8")
        try:
            for name in sorted(leaving, key=lambda name: name != RECORD):
                _move(target / name, self.old / name)
            for name in sorted(arriving, key=lambda name: name == RECORD):
                _move(self.new / name, target / name)
        except BaseException:
            _roll_back(self.folder, target, arriving)
            raise
        self._done = True
        _remove_empty(target, leaving)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out while this one looks and moves; where the file system has no locks, hope."""
    descriptor = _lock(folder, wait=True)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def put_back(folder: Path) -> None:
    """In a run folder: put back the earlier run that a killed one was replacing, if there is such a one."""
    with locked(folder.parent):
        clear_stale(folder)


def clear_stale(folder: Path) -> None:
    """Remove what killed runs left in a folder, and put back the earlier run that one of them was replacing."""
    for staging in sorted(folder.glob(f"{PREFIX}*")):
        if staging.is_symlink() or not staging.is_dir():
            continue
        descriptor = _lock(staging, wait=False)
        if descriptor is None:
            continue  # its owner lives, or nobody can tell
        try:
            if _put_back(staging, folder):
                shutil.rmtree(staging, ignore_errors=True)
        finally:
            os.close(descriptor)


def files_below(folder: Path) -> list[str]:
    """All files, relative, with forward slashes."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not _is_folder(path))


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def is_safe(folder: Path, name: object) -> bool:
    """Whether a name from a file leads to something inside the folder, through real folders only."""
    if not isinstance(name, str) or not name or set("\\\0") & set(name):
        return False
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return False
    return not any((folder / parent).is_symlink() for parent in path.parents)


def _put_back(staging: Path, folder: Path) -> bool:
    """Undo a publication that was cut off; True if nothing of the user's is left in the staging folder."""
    journal = staging / _JOURNAL
    try:
        arriving = read_json_object(journal, _JOURNAL_LIMIT)["new"]
    except (OSError, ValueError, KeyError):
        arriving = []
    if arriving and not files_below(staging / "new"):
        return True  # all had moved in: only the cleaning up was cut off
    arriving = [name for name in arriving if is_safe(folder, name)] if isinstance(arriving, list) else []
    _roll_back(staging, folder, arriving)
    return not files_below(staging / "old")


def _roll_back(staging: Path, target: Path, arriving: Sequence[str]) -> None:
    """Move the new files out again and the old ones back, the record last."""
    for name in arriving:
        if not os.path.lexists(staging / "new" / name) and os.path.lexists(target / name):
            _move(target / name, staging / "new" / name)
    _remove_empty(target, arriving)
    for name in sorted(files_below(staging / "old"), key=lambda name: name == RECORD):
        if is_safe(target, name) and not os.path.lexists(target / name):
            _move(staging / "old" / name, target / name)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(source, target)


def _remove_empty(folder: Path, names: Sequence[str]) -> None:
    """Remove the folders that these files were in, where nothing else is in them."""
    parents = {parent for name in names for parent in Path(name).parents if parent.parts}
    for parent in sorted(parents, key=lambda path: -len(path.parts)):
        with suppress(OSError):
            (folder / parent).rmdir()


def _lock(folder: Path, *, wait: bool) -> int | None:
    """A lock that ends with this process, as an open descriptor; None if another keeps it or there are none here."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        for _ in range(_TRIES if wait else 1):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return descriptor
            except BlockingIOError:
                time.sleep(_PAUSE_S if wait else 0)
    except OSError:  # a file system without locks
        pass
    except BaseException:  # Ctrl-C while it waits
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
