"""NRRD, attached or detached: the whole header is parsed here, and the voxels read by what it says; no other reader."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.files import open_regular
from medsegagent.images.geometry import check_axes, orthogonal, to_millimetres
from medsegagent.images.placed import data_beside, grid_from
from medsegagent.images.stored import Packing, Stored
from medsegagent.images.volume import Grid

_LONGEST_HEADER = 64 * 2**20
_MOST_AXES = 16
_SIGNS = {
    **dict.fromkeys(("left-posterior-superior", "lps"), (1, 1, 1)),
    **dict.fromkeys(("right-anterior-superior", "ras"), (-1, -1, 1)),
    **dict.fromkeys(("left-anterior-superior", "las"), (1, -1, 1)),
}
"""What turns a space's coordinates into LPS."""
_KINDS = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split("|")}
_PACKINGS: dict[str, Packing] = {
    "raw": "",
    "gzip": "gzip",
    "gz": "gzip",
    "txt": "text",
    "text": "text",
    "ascii": "text",
}
_UNITS = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres", ""), ("", 1.0)),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), ("metres", 1000.0)),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), ("centimetres", 10.0)),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers"), ("micrometres", 0.001)),
    **dict.fromkeys(("micrometre", "micrometres"), ("micrometres", 0.001)),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), ("nanometres", 1e-06)),
}


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Attributes:
        fields: Lower case without blanks ("spacedirections") -> text.
        pairs: What programs add, key -> value.
        sizes: Of all axes, fastest first.
        spatial: Which three axes are space; fewer if the header does not say so.
        stored: How the voxels are stored, all axes.
        files: The files read: this one, and its data file where it is detached.
    """

    fields: Mapping[str, str]
    pairs: Mapping[str, str]
    sizes: tuple[int, ...]
    spatial: tuple[int, ...]
    stored: Stored
    files: tuple[Path, ...]


def read_header(path: Path) -> Header:
    """Parse the header, and find its data.

    Raises:
        ImageError: If it cannot be parsed whole, or its data lie outside its folder or in several files.
    """
    where = str(path)
    fields, pairs, end = _lines(path)
    try:
        axes = int(fields["dimension"])
        sizes = tuple(int(part) for part in fields["sizes"].split())
        kind = _KIND_OF[" ".join(fields["type"].lower().split())]
        packing = _PACKINGS[fields.get("encoding", "raw").lower()]
        skip_lines, skip_bytes = int(fields.get("lineskip", "0")), int(fields.get("byteskip", "0"))
        order = {"little": "<", "big": ">"}[fields.get("endian", "little").lower()]
    except KeyError as error:
        raise _unreadable(f"{error.args[0]!r} is missing, or is none that is known here", where) from None
    except ValueError as error:
        raise _unreadable(f"a number is none: {str(error)[:80]}", where) from None
    if not 0 < axes <= _MOST_AXES or len(sizes) != axes or min(sizes) < 0:
        raise _unreadable(f"dimension {axes} with sizes {fields['sizes'][:60]}", where)
    if packing != "text" and np.dtype(kind).itemsize > 1 and "endian" not in fields:
        raise _unreadable("'endian' is missing", where)
    if skip_lines < 0 or skip_bytes < -1 or (skip_bytes == -1 and packing) or (skip_lines and packing):
        raise _unreadable("'line skip' or 'byte skip' cannot be followed", where)
    data = data_beside(path, fields["datafile"]) if "datafile" in fields else path
    stored = Stored(data, np.dtype(order + kind), sizes[::-1], 0 if data != path else end, skip_bytes, packing)
    if skip_bytes == -1:  # the voxels are the end of the file
        with open_regular(data) as file:
            length = file.seek(0, 2)
        begin = length - stored.voxels * stored.kind.itemsize
        stored = Stored(data, stored.kind, stored.shape, max(begin, stored.begin), 0, packing)
    elif skip_lines:
        stored = Stored(data, stored.kind, stored.shape, _after_lines(stored, skip_lines), skip_bytes, packing)
    return Header(fields, pairs, sizes, _spatial(fields, sizes), stored, (path,) if data == path else (path, data))


def is_segmentation(header: Header) -> bool:
    """Tell whether 3D Slicer wrote it as a segmentation, whatever its name."""
    return any(re.match(r"Segment(ation_|\d+_)", key) for key in header.pairs)


def lay_out(header: Header, where: str) -> tuple[Grid, tuple[str, ...]]:
    """Say where the voxels lie, as ITK does but in mm, and what is in doubt.

    Raises:
        ImageError: If the orientation is singular, sheared or cannot be read, or there are not three spatial axes.
    """
    size = tuple(header.sizes[axis] for axis in header.spatial)
    fields = header.fields
    warnings: tuple[str, ...] = ()
    space = fields.get("space", "").lower().removesuffix("-time")
    directions = _vectors(fields.get("spacedirections", ""))
    if directions:
        if len(directions) != len(header.sizes):
            raise _unreadable("'space directions' are not as many as the axes", where)
        rows = [directions[axis] for axis in header.spatial]
        if len(rows) != 3 or any(row is None or len(row) != 3 for row in rows):
            raise _unreadable("'space directions' are not those of three axes in space", where)
        signs = np.array(_SIGNS.get(space, (1, 1, 1)), dtype=np.float64)
        matrix = np.array(rows, dtype=np.float64).T * signs[:, None]
        origin = np.array(_origin(fields, where)) * signs
        named = re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))
    else:
        matrix, origin = np.diag(_spacings(header, where)), np.zeros(3)
        units = re.findall(r'"([^"]*)"', fields.get("units", ""))
        named = [units[axis] for axis in header.spatial if axis < len(units)]
    check_axes(matrix, where)
    factor, more = _in_mm(named, size, np.linalg.norm(matrix, axis=0))
    warnings += more
    if not directions or space not in _SIGNS:
        warnings += (
            "The header says nothing about orientation (no 'space directions' in a patient's 'space'): "
            "left and right cannot be known and were taken as the file's axes suggest.",
        )
    upright, moved = orthogonal(matrix, size)
    if moved > 0.1 * float(np.linalg.norm(matrix, axis=0).min()):
        text = f"the axes are a little off the right angle and were straightened: voxels moved by up to {moved:.2g} mm"
        warnings += (text,)
    return grid_from(size, upright * factor, origin * factor, where), warnings


def _lines(path: Path) -> tuple[dict[str, str], dict[str, str], int]:
    """All fields and pairs, and where the header ends."""
    where = str(path)
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    with open_regular(path) as file:
        if not re.fullmatch(rb"NRRD\d{4}\s*", file.readline(16)):
            raise _unreadable("it does not begin as NRRD does", where)
        while raw := file.readline(_LONGEST_HEADER):
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not line.strip():
                break
            if file.tell() > _LONGEST_HEADER:
                raise _unreadable("the header does not end within 64 MiB", where)
            if line.startswith("#"):
                continue
            found = re.match(r"([^:]+):(=|\s|$)(.*)", line, re.DOTALL)
            if found is None:
                raise _unreadable(f"line {line[:60]!r}", where)
            if found[2] == "=":
                pairs[found[1].strip()] = found[3].strip()
                continue
            name = "".join(found[1].lower().split())
            if name in fields:
                raise _unreadable(f"{found[1].strip()[:60]!r} is there twice", where)
            # The data file's name is what the file system has, whatever its characters.
            fields[name] = found[3].strip() if name != "datafile" else os.fsdecode(raw.partition(b":")[2].strip())
        return fields, pairs, file.tell()


def _after_lines(stored: Stored, count: int) -> int:
    with open_regular(stored.path) as file:
        file.seek(stored.begin)
        for _ in range(count):
            if not file.readline(_LONGEST_HEADER):
                raise _unreadable("'line skip' leads beyond the end of the data", str(stored.path))
        return file.tell()


def _spatial(fields: Mapping[str, str], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes that are space: those with a direction; without directions by their kinds; without those all."""
    directions = _vectors(fields.get("spacedirections", ""))
    if len(directions) == len(sizes):
        return tuple(axis for axis, vector in enumerate(directions) if vector is not None)
    kinds = fields.get("kinds", "").lower().split()
    if len(kinds) == len(sizes):
        return tuple(axis for axis, kind in enumerate(kinds) if kind in ("domain", "space", "none", "???"))
    return tuple(range(len(sizes)))


def _vectors(text: str) -> list[tuple[float, ...] | None]:
    found: list[tuple[float, ...] | None] = []
    for part in re.findall(r"\(([^)]*)\)|none", text):
        try:
            vector = tuple(float(number) for number in part.split(",")) if part else None
        except ValueError:
            vector = ()
        found.append(None if vector and all(np.isnan(vector)) else vector)
    return found


def _origin(fields: Mapping[str, str], where: str) -> tuple[float, ...]:
    if "spaceorigin" not in fields:
        return 0.0, 0.0, 0.0
    vectors = _vectors(fields["spaceorigin"])
    if len(vectors) != 1 or vectors[0] is None or len(vectors[0]) != 3:
        raise _unreadable("'space origin' is no point", where)
    return vectors[0]


def _spacings(header: Header, where: str) -> NDArray[np.float64]:
    """Spacing in mm along the spatial axes; 1 where the header does not say, as for ITK."""
    try:
        given = [float(part) for part in header.fields.get("spacings", "").split()]
    except ValueError:
        raise _unreadable("'spacings' are no numbers", where) from None
    own = [given[axis] if axis < len(given) else np.nan for axis in header.spatial]
    return np.array([1.0 if np.isnan(step) else abs(step) for step in own])


def _in_mm(named: list[str], size: tuple[int, ...], spacing: NDArray[np.float64]) -> tuple[float, tuple[str, ...]]:
    units = {name.strip().lower() for name in named} or {""}
    if len(units) > 1 or not units <= _UNITS.keys():
        return 1.0, (f"the header gives lengths in {', '.join(sorted(units))[:60]}; taken as mm",)
    return to_millimetres(*_UNITS[units.pop()], size, spacing)


def _unreadable(what: str, where: str) -> ImageError:
    return ImageError(
        f"not a readable image (NRRD: {what})", "Check that the file is complete, or save it again.", where
    )
