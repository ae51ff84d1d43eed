"""The bytes of a DICOM folder, zip or file, one member at a time: nothing is unpacked to disk."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from medsegagent.errors import ImageError

_MOST_MEMBERS = 200_000
_MOST_BYTES = 16 * 2**30
_SUSPECT_BYTES = 2**30
_SUSPECT_RATIO = 150
"""CT deflates 2 to 3 times and a mask about 100 times; a bomb reaches 1000."""


@dataclass(frozen=True)
class Files:
    """Members by name (relative, `/`-separated, sorted), and a way to open one."""

    names: tuple[str, ...]
    open: Callable[[str], AbstractContextManager[IO[bytes]]]

    def read(self, name: str) -> bytes:
        """Read one member.

        Raises:
            ImageError: If it is damaged or may not be read.
        """
        return self._read(name, -1)

    def read_dicom(self, name: str) -> bytes | None:
        """Read one member if it is DICOM; the rest of any other is never read.

        Raises:
            ImageError: If it is damaged or may not be read.
        """
        return self._read(name, -1) if looks_like_dicom(self._read(name, 132)) else None

    def _read(self, name: str, count: int) -> bytes:
        try:
            with self.open(name) as member:
                return member.read(count)  # of a zip never more than the size declared, which _members has bounded
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            what = f"the file cannot be read ({type(error).__name__})"
            raise ImageError(what, "Copy it again, and check that you may read it.", name) from error


def looks_like_dicom(head: bytes) -> bool:
    """Tell from the first 132 bytes; old files without a preamble start with group 0002 or 0008, little endian."""
    return head[128:132] == b"DICM" or (head[:2] in (b"\x08\x00", b"\x02\x00") and head[3:4] == b"\x00")


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Open a folder (any nesting), a zip, or one file.

    Raises:
        ImageError: If the path does not exist or the zip is unreadable, encrypted or hostile: a path that leads
            out of the archive, a link, or more data than an examination can hold.
    """
    if path.is_dir():
        yield Files(_walk(path), lambda name: (path / name).open("rb"))
    elif not path.is_file():
        raise ImageError("there is no such file or folder", "Check the path.", str(path))
    elif zipfile.is_zipfile(path):
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise ImageError("the zip is damaged", "Copy it again, or unpack it.", str(path)) from error
        with archive:
            yield Files(_members(archive, path), archive.open)
    else:
        yield Files((path.name,), lambda _: path.open("rb"))


def _walk(folder: Path) -> tuple[str, ...]:
    found = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        found += [Path(parent, file).relative_to(folder).as_posix() for file in files]
    return tuple(sorted(found))


def _members(archive: zipfile.ZipFile, path: Path) -> tuple[str, ...]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    for entry in entries:
        posix, windows = PurePosixPath(entry.filename), PureWindowsPath(entry.filename)
        if posix.is_absolute() or windows.anchor or ".." in posix.parts or ".." in windows.parts:
            raise _hostile(path, "a member's name leads out of the archive")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise _hostile(path, "a member is a link")
        if entry.flag_bits & 1:
            raise ImageError("the zip is encrypted", "Unpack it yourself and give the folder.", str(path))
    if len({entry.filename for entry in entries}) < len(entries):
        raise _hostile(path, "two members have the same name")
    size = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if len(entries) > _MOST_MEMBERS or size > _MOST_BYTES or (size > _SUSPECT_BYTES and size > _SUSPECT_RATIO * packed):
        raise _hostile(path, f"it would unpack to {len(entries)} files and {size / 2**30:.1f} GiB")
    return tuple(sorted(entry.filename for entry in entries))


def _hostile(path: Path, reason: str) -> ImageError:
    return ImageError(f"the zip is refused: {reason}", "Unpack it yourself if you trust it.", str(path))
