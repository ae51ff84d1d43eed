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
from medsegagent.images.files import check_room, open_regular

_MOST_MEMBERS = 200_000
_MOST_BYTES = 16 * 2**30
_SUSPECT_BYTES = 2**30
_SUSPECT_MEMBER = 64 * 2**20
_SUSPECT_RATIO = 150
"""CT deflates 2 to 3 times and a mask about 100 times; a bomb reaches 1000."""
_TAG = 8
_LONGEST_HEADER = 64 * 2**20
_MOST_INFLATED = 2**30
_DEFLATED = b"1.2.840.10008.1.2.1.99"
"""The transfer syntax whose data set is one deflated stream, which pydicom unpacks without a bound."""
_FIRST_GROUPS = (0x02, 0x08, 0x10, 0x18, 0x20, 0x28)
_SYSTEM = ("/", "/proc", "/sys", "/dev")


class Bounded:
    """A file for pydicom, which believes every length that it reads: no more is read than there is, or than allowed."""

    def __init__(self, file: IO[bytes], size: int, most: int) -> None:
        self._file, self._size, self._left = file, size, most

    def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes.

        Raises:
            EOFError: If a value is cut off, or more is read than a header may hold.
        """
        there = max(0, self._size - self._file.tell())
        if count > max(there, _TAG):  # at the end, pydicom looks for another tag
            raise EOFError("the file ends within a value")
        count = there if count < 0 else min(count, there)
        self._left -= count
        if self._left < 0:
            raise EOFError("the header is longer than any")
        return self._file.read(count)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Say where it is."""
        return self._file.tell()


@dataclass(frozen=True)
class Files:
    """Members by name (relative, `/`-separated, sorted), a way to open one, and what else lies there and why not."""

    names: tuple[str, ...]
    open: Callable[[str], AbstractContextManager[IO[bytes]]]
    size: Callable[[str], int]
    left_out: tuple[tuple[str, str], ...] = ()
    """Name and reason."""

    def read(self, name: str) -> bytes:
        """Read one member.

        Raises:
            ImageError: If it is damaged, may not be read, or does not fit into memory.
        """
        with self._opened(name) as member:
            size = self.size(name)
            check_room(2 * size, name)  # once read, once decoded
            data = member.read(size)
        _check_inflated(data[:4096], data, name)
        return data

    @contextmanager
    def header(self, name: str) -> Iterator[Bounded | None]:
        """Open one member for its header if it is DICOM, else give None; the pixels are never read.

        Raises:
            ImageError: If it is damaged or may not be read.
        """
        with self._opened(name) as member:
            head = member.read(4096)
            if not looks_like_dicom(head):
                yield None
                return
            size = self.size(name)
            if _DEFLATED in head:
                _check_inflated(head, head + member.read(min(size, _MOST_INFLATED)), name)
            member.seek(0)
            yield Bounded(member, size, _LONGEST_HEADER)

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self.open(name) as member:
                yield member
        except _UNREADABLE as error:
            what = f"the file cannot be read ({type(error).__name__})"
            raise ImageError(what, "Copy it again, and check that you may read it.", name) from error


_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)
"""What zipfile raises for members that are damaged, encrypted, or of another method."""


def looks_like_dicom(head: bytes) -> bool:
    """Tell from the first 132 bytes; files without a preamble start with an element of a low group, little endian."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8 or head[0] not in _FIRST_GROUPS or head[1] != 0:
        return False
    length = int.from_bytes(head[4:8], "little")
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return head[3] <= 0x20 and (explicit or length < 2**16)


@contextmanager
def open_files(path: Path) -> Iterator[Files]:
    """Open a folder (any nesting, links to folders followed), a zip, or one file.

    Raises:
        ImageError: If the path does not exist or the zip is unreadable, encrypted or hostile: a path that leads
            out of the archive, a link, or more data than an examination can hold.
    """
    if path.is_dir():
        names, left_out = _walk(path)
        yield Files(names, lambda name: open_regular(path / name), lambda name: (path / name).stat().st_size, left_out)
        return
    open_regular(path).close()
    if zipfile.is_zipfile(path):
        try:
            archive = zipfile.ZipFile(path)
        except Exception as error:  # a directory that is damaged or of another version may fail anywhere in zipfile
            remedy = "Copy it again, or unpack it and give the folder."
            raise ImageError(f"the zip cannot be read ({type(error).__name__})", remedy, str(path)) from error
        with archive:
            # Of a zip never more is read than the size declared, which _members has bounded.
            yield Files(_members(archive, path), archive.open, lambda name: archive.getinfo(name).file_size)
    else:
        yield Files((path.name,), lambda _: open_regular(path), lambda _: path.stat().st_size)


def _walk(folder: Path) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """All regular files below a folder; each folder is entered once, whatever links lead to it."""
    found: list[str] = []
    left_out: list[tuple[str, str]] = []
    entered: set[tuple[int, int]] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in sorted(folders) if _enters(Path(parent, name), entered)]
        for file in files:
            name = Path(parent, file).relative_to(folder).as_posix()
            try:
                regular = stat.S_ISREG(os.stat(Path(parent, file)).st_mode)
            except OSError:
                left_out.append((name, "links that lead nowhere"))
                continue
            if regular:
                found.append(name)
            else:
                left_out.append((name, "pipes, devices and sockets"))
        if len(found) > _MOST_MEMBERS:
            what = f"it holds more than {_MOST_MEMBERS:,} files"
            raise ImageError(what, "Give the folder of one examination or series.", str(folder))
    return tuple(sorted(found)), tuple(sorted(left_out))


def _enters(folder: Path, entered: set[tuple[int, int]]) -> bool:
    try:
        facts = folder.stat()
        if folder.is_symlink() and str(folder.resolve()) in _SYSTEM:
            return False
    except (OSError, RuntimeError):
        return False
    key = facts.st_dev, facts.st_ino
    new = key not in entered
    entered.add(key)
    return new


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
        if entry.file_size > _SUSPECT_MEMBER and entry.file_size > _SUSPECT_RATIO * entry.compress_size:
            raise _hostile(path, f"a member would unpack to {entry.file_size / 2**30:.1f} GiB of almost nothing")
    if len({entry.filename for entry in entries}) < len(entries):
        raise _hostile(path, "two members have the same name")
    size = sum(entry.file_size for entry in entries)
    packed = sum(entry.compress_size for entry in entries)
    if len(entries) > _MOST_MEMBERS or size > _MOST_BYTES or (size > _SUSPECT_BYTES and size > _SUSPECT_RATIO * packed):
        raise _hostile(path, f"it would unpack to {len(entries)} files and {size / 2**30:.1f} GiB")
    return tuple(sorted(entry.filename for entry in entries))


def _hostile(path: Path, reason: str) -> ImageError:
    return ImageError(f"the zip is refused: {reason}", "Unpack it yourself if you trust it.", str(path))


def _check_inflated(head: bytes, data: bytes, name: str) -> None:
    """Refuse a deflated data set that would unpack to more than an image holds."""
    if _DEFLATED not in head:
        return
    meta = head[132:144]
    if head[128:132] != b"DICM" or meta[:8] != b"\x02\x00\x00\x00UL\x04\x00":
        raise ImageError("a deflated object without a length of its own header", "Export it again.", name)
    inflater, left = zlib.decompressobj(-zlib.MAX_WBITS), _MOST_INFLATED
    pending = data[144 + int.from_bytes(meta[8:12], "little") :]
    while pending and not inflater.eof:
        left -= len(inflater.decompress(pending, 2**20))
        pending = inflater.unconsumed_tail
        if left < 0:
            raise ImageError("a deflated object that unpacks to more than 1 GiB", "Export it uncompressed.", name)
