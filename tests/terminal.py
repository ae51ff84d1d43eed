"""A terminal in which somebody types."""

from __future__ import annotations

import os
import pty
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def typed(text: str) -> Iterator[int]:
    """A terminal's file descriptor, for a process's stdin, in which a text is typed already."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, text.encode())
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)
