"""Files that may be anything: only regular ones are opened, and none is read past what memory holds."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from medsegagent.errors import ImageError


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; nothing else is waited for or read.

    Raises:
        ImageError: If it is absent, may not be read, or is a pipe, a device or a socket.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        # Looked at before it is opened, for opening a device may move it; without O_NONBLOCK, a pipe waits.
        regular = stat.S_ISREG(os.stat(path).st_mode)
        number = os.open(path, flags) if regular else -1
    except (OSError, ValueError) as error:  # a ValueError for a name with a null byte
        reason = error.strerror if isinstance(error, OSError) else "no file name"
        what = f"the file cannot be opened ({reason})"
        raise ImageError(what, "Check the path, and that you may read it.", str(path)) from error
    try:
        if not regular or not stat.S_ISREG(os.fstat(number).st_mode):
            what = "it is no regular file (but a pipe, a device or a socket)"
            raise ImageError(what, "Copy the image into a file and give that.", str(path))
        return os.fdopen(number, "rb")
    except BaseException:
        if regular:
            os.close(number)
        raise


def check_room(needed: int, where: str) -> None:
    """Refuse what will not fit into memory before any of it is taken.

    Args:
        needed: Bytes.
        where: For the message.

    Raises:
        ImageError: If less is free.
    """
    free = free_memory()
    if needed > free:
        what = f"its voxels take {needed / 1e9:.2g} GB of memory, of which {max(free, 0) / 1e9:.2g} GB are free"
        raise ImageError(what, "Crop or resample it, close other programs, or use a larger machine.", where)


def free_memory() -> int:
    """Bytes of main memory that may still be taken; the limits of the process and its control group count."""
    return min(value for value in (_available(), _cgroup_left(), _address_space_left()) if value is not None)


def _available() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else sys.maxsize


def _cgroup_left() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        return int((folder / "memory.max").read_text()) - int((folder / "memory.current").read_text())
    except (OSError, ValueError):  # none, or "max"
        return None


def _address_space_left() -> int | None:
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (ImportError, OSError, ValueError):
        return None
