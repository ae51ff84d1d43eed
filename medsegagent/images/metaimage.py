"""MetaImage (.mha, .mhd): the whole header is parsed here, and the voxels read by what it says; no other reader."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medsegagent.errors import ImageError
from medsegagent.images.files import open_regular
from medsegagent.images.geometry import check_axes, orthogonal
from medsegagent.images.placed import data_beside, grid_from
from medsegagent.images.stored import Packing, Stored, check_shape, one_value
from medsegagent.images.volume import Grid

_LONGEST_HEADER = 2**20
_MOST_AXES = 10
_KINDS = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
_DATA = "elementdatafile"


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Attributes:
        fields: Lower case name -> text.
        size: Of all axes, fastest first.
        stored: How the voxels are stored.
        files: The files read: this one, and its data file where it is detached.
    """

    fields: Mapping[str, str]
    size: tuple[int, ...]
    stored: Stored
    files: tuple[Path, ...]


def read_header(path: Path) -> Header:
    """Parse the header, and find its data.

    Raises:
        ImageError: If it cannot be parsed whole, is no volume of one number per voxel, or its data lie outside its
            folder or in several files.
    """
    where = str(path)
    fields, end = _lines(path)
    axes = _whole(fields, "ndims", where)
    if not 0 < axes <= _MOST_AXES:
        raise _unreadable(f"NDims = {axes}", where)
    size = tuple(int(number) for number in _numbers(fields, "dimsize", axes, where))
    check_shape(size, where)
    kind = fields.get("elementtype", "").upper()
    several = "elementnumberofchannels" in fields and _whole(fields, "elementnumberofchannels", where) != 1
    if several or kind.endswith("_ARRAY"):
        one_value(max(2, _whole(fields, "elementnumberofchannels", where, 2)), where)
    if kind not in _KINDS:
        raise _unreadable(f"ElementType = {kind[:40]}", where)
    packing: Packing = "zlib" if _true(fields, "compresseddata", where) else ""
    if not _true(fields, "binarydata", where, absent=True):
        packing = "text"
    names = [name for name in ("binarydatabyteordermsb", "elementbyteordermsb") if name in fields]
    order = ">" if names and _true(fields, names[0], where) else "<"
    local = fields[_DATA].upper() == "LOCAL"
    data = path if local else data_beside(path, fields[_DATA])
    stored = Stored(data, np.dtype(order + _KINDS[kind]), size[:3][::-1], end if local else 0, 0, packing)
    header_size = _whole(fields, "headersize", where, 0)
    if header_size == -1 and not packing:  # the voxels are the end of the file
        with open_regular(data) as file:
            length = file.seek(0, 2)
        stored = replace(stored, begin=max(stored.begin, length - stored.voxels * stored.kind.itemsize))
    elif header_size > 0 and not local:
        stored = replace(stored, begin=header_size)
    elif header_size < 0:
        raise _unreadable(f"HeaderSize = {header_size}", where)
    return Header(fields, size, stored, (path,) if local else (path, data))


def lay_out(header: Header, where: str) -> tuple[Grid, tuple[str, ...]]:
    """Say where the voxels lie, as ITK does, and what is in doubt.

    Raises:
        ImageError: If the orientation is singular, sheared or cannot be read.
    """
    fields, axes = header.fields, len(header.size)
    warnings: tuple[str, ...] = ()
    steps = next((name for name in ("elementspacing", "elementsize") if name in fields), "")
    spacing = np.abs(np.array(_numbers(fields, steps, axes, where)[:3])) if steps else np.ones(3)
    turn = next((name for name in ("transformmatrix", "rotation", "orientation") if name in fields), "")
    if turn:
        # Each axis' direction is written after the other.
        cosines = np.array(_numbers(fields, turn, axes * axes, where)).reshape(axes, axes)[:3, :3].T
    else:
        cosines = np.eye(3)
        warnings += (
            "The header says nothing about orientation (no TransformMatrix): "
            "left and right cannot be known and were taken as the file's axes suggest.",
        )
    place = next((name for name in ("offset", "position", "origin") if name in fields), "")
    origin = np.array(_numbers(fields, place, axes, where)[:3]) if place else np.zeros(3)
    check_axes(cosines * spacing, where)
    cosines, _ = orthogonal(cosines / np.linalg.norm(cosines, axis=0), header.size)
    grid = grid_from(header.size[:3], cosines * spacing, origin, where)
    return replace(grid, spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2]))), warnings


def _lines(path: Path) -> tuple[dict[str, str], int]:
    """All fields up to the one that names the data, which is the last; and where the header ends."""
    where = str(path)
    fields: dict[str, str] = {}
    with open_regular(path) as file:
        while raw := file.readline(_LONGEST_HEADER):
            if file.tell() > _LONGEST_HEADER:
                break
            line = raw.decode("latin-1").strip()
            if not line or line.startswith("#"):
                continue
            found = re.match(r"(\w+)\s*[=:]\s*(.*)$", line, re.DOTALL)
            if found is None:
                raise _unreadable(f"line {line[:60]!r}", where)
            name = found[1].lower()
            if name in fields:
                raise _unreadable(f"{found[1][:60]} is there twice", where)
            # The data file's name is what the file system has, whatever its characters.
            fields[name] = found[2] if name != _DATA else os.fsdecode(found[2].encode("latin-1"))
            if name == _DATA:
                return fields, file.tell()
    raise _unreadable("there is no ElementDataFile", where)


def _whole(fields: Mapping[str, str], name: str, where: str, absent: int | None = None) -> int:
    if name not in fields and absent is not None:
        return absent
    try:
        return int(fields[name])
    except (KeyError, ValueError):
        raise _unreadable(f"{name} is no whole number", where) from None


def _numbers(fields: Mapping[str, str], name: str, count: int, where: str) -> list[float]:
    try:
        found = [float(part) for part in fields[name].split()]
        if len(found) != count or not np.isfinite(found).all():
            raise ValueError
    except (KeyError, ValueError):
        raise _unreadable(f"{name or 'spacing'} is not {count} numbers", where) from None
    return found


def _true(fields: Mapping[str, str], name: str, where: str, absent: bool = False) -> bool:
    text = fields.get(name, str(absent)).strip().lower()
    if text[:1] not in ("t", "1", "y", "f", "0", "n"):
        raise _unreadable(f"{name} is neither true nor false", where)
    return text[:1] in ("t", "1", "y")


def _unreadable(what: str, where: str) -> ImageError:
    what = f"not a readable image (MetaImage: {what})"
    return ImageError(what, "Check that the file is complete, or save it again.", where)
