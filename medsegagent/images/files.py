"""Files that may be anything: only regular ones are opened, and none is read past what memory holds."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from medsegagent.errors import ImageError
from medsegagent.free_memory import main_memory


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
    free = main_memory()
    if needed > free:
        what = f"its voxels take {needed / 1e9:.2g} GB of memory, of which {max(free, 0) / 1e9:.2g} GB are free"
        raise ImageError(what, "Crop or resample it, close other programs, or use a larger machine.", where)
