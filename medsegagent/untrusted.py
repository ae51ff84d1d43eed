"""Files that others made: regular files only, read up to a bound; JSON without what no honest file holds."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import IO, Any, NoReturn

_DEEPEST = 64
_MOST_DIGITS = 18
"""Of an integer: fewer than 64 bits."""


def open_regular(file: Path) -> IO[bytes]:
    """Open a file for reading: never a pipe, which waits for a writer, nor a device, which has no end.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is anything but a regular file, or its name holds a NUL.
    """
    # Looked at before it is opened, for opening a device may move it; and again after, for it may have been replaced.
    _require_regular(os.stat(file).st_mode)
    descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _require_regular(os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(file: Path, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes, whatever the file system says of its size.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no regular file, or longer.
    """
    with open_regular(file) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"larger than {limit >> 20} MiB")
    return content


def read_json_object(file: Path, limit: int) -> dict[str, Any]:
    """A JSON object from a regular file of at most `limit` bytes.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no regular file, longer, or holds what `parse_json` refuses or anything but an object.
    """
    content = parse_json(read_regular(file, limit))
    if not isinstance(content, dict):
        raise ValueError(f"holds a JSON {type(content).__name__}, not an object")
    return content


def reason(error: OSError | ValueError) -> str:
    """Why one of these functions gave nothing, without the path, which the message names anyway."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def parse_json(text: str | bytes) -> Any:
    """Decode JSON whose numbers are finite and of 64 bits at most, whose strings are Unicode, and that is not deep.

    Python's own reader takes NaN, 1e400 and integers of any length, each of which ends some later sum in an error
    that nobody expects.

    Raises:
        ValueError: If it is no such JSON.
    """
    try:
        content = json.loads(text, parse_constant=_refuse_constant, parse_int=_integer, parse_float=_float)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    level = [content]
    for _ in range(_DEEPEST):
        level = [child for value in level for child in _children(value)]
        if not level:
            return content
    raise ValueError("nested too deeply")


def _require_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise ValueError("a folder" if stat.S_ISDIR(mode) else "no regular file, but a pipe, socket or device")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:  # told here, and not when it is printed
            raise ValueError("holds half a character (a lone surrogate)") from error
    return []


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is no JSON number")


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > _MOST_DIGITS:
        raise ValueError(f"holds a number of {len(digits)} digits")
    return int(digits)


def _float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"holds the number {digits[:20]}, which is beyond all measure")
    return value
