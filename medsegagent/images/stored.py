"""Voxels as a file stores them: streamed through a small buffer, checked, and never more than the header promises."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.files import check_room, open_regular
from medsegagent.images.geometry import not_finite

COMPLETE = "Check that the file is complete: copy or export it again."
MAX_VOXELS = 2**31
"""8 GiB as float32; a header that asks for more is broken, or no machine here would finish it."""
_CHUNK = 1 << 20  # a multiple of every item size
_TIGHTEST = 1040
"""Deflate's highest ratio is 1032; a header that promises more than the file could ever unpack to is wrong."""
_MOST_AFTER = 64 * 2**20
"""Bytes after the last voxel that are read to check a stream's checksum; beyond, it is another's data or a bomb."""
_LONGEST_NUMBER = 32
"""Characters per voxel in a text file."""

Packing = Literal["", "gzip", "zlib", "text"]


@dataclass(frozen=True)
class Stored:
    """Where and how a file holds the voxels of one volume.

    Attributes:
        path: The file.
        kind: Of one voxel, byte order included.
        shape: Array shape, slowest axis first.
        begin: Bytes of the file before the voxels or their packed stream.
        start: Bytes of the unpacked stream before the first voxel.
        packing: How they are compressed; "text" for numbers in words.
        scale: Slope and intercept.
    """

    path: Path
    kind: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int = 0
    start: int = 0
    packing: Packing = ""
    scale: tuple[float, float] = (1.0, 0.0)

    @property
    def voxels(self) -> int:
        """How many."""
        return math.prod(self.shape)


def check_shape(shape: tuple[int, ...], where: str) -> None:
    """Refuse what is not a volume; `shape` counts along x, y, z, ...; trailing axes of length 1 do not count.

    Raises:
        ImageError: If an axis is empty, there is but one slice, there are more than three axes, or too many voxels.
    """
    size = list(shape)
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    text = "x".join(map(str, size))
    if not size or min(size) < 1:
        raise ImageError(f"the volume is empty ({text} voxels)", COMPLETE, where)
    if len(size) > 3:
        remedy = "Give one 3D file per channel or time point (nibabel: nibabel.four_to_three)."
        raise ImageError(f"{len(size)}D ({text}), a 3D volume is needed", remedy, where)
    if len(size) < 3 or min(size) == 1:
        raise ImageError(
            f"only one slice ({text} voxels), a 3D volume is needed",
            "Give the whole volume; single slices cannot be segmented.",
            where,
        )
    if math.prod(size) > MAX_VOXELS:
        raise ImageError(
            f"the header asks for {text} voxels, more than the {MAX_VOXELS:,} that can be handled",
            "Check the file; crop or resample it if it is really that large.",
            where,
        )


def one_value(components: int, where: str) -> None:
    """Refuse colour, vectors and complex numbers.

    Raises:
        ImageError: If a voxel holds more than one value.
    """
    if components != 1:
        raise ImageError(
            f"{components} values per voxel (colour, vector or complex), one is needed",
            "Give a scalar image, or one file per channel.",
            where,
        )


def read_intensities(stored: Stored) -> NDArray[np.float32]:
    """Read the voxels as ITK gives them and nnU-Net casts them: scaled, float32.

    Raises:
        ImageError: If the file ends before its last voxel, its stream is damaged, a voxel is NaN or infinite, or they
            do not fit into memory.
    """
    slope, intercept = stored.scale

    def convert(values: NDArray[Any]) -> NDArray[np.float32]:
        if stored.scale == (1.0, 0.0):
            return values.astype(np.float32)
        # ITK turns all but float64 into float32 first, and scales in double precision.
        values = values if values.dtype.itemsize == 8 and values.dtype.kind == "f" else values.astype(np.float32)
        return (values.astype(np.float64) * slope + intercept).astype(np.float32)

    return _read(stored, np.dtype(np.float32), convert)


def read_exact(stored: Stored) -> NDArray[Any]:
    """Read the voxels without rounding: as stored, or float64 where they are scaled. For labels; errors likewise."""
    slope, intercept = stored.scale
    if stored.scale == (1.0, 0.0):
        return _read(stored, stored.kind.newbyteorder("="), lambda values: values)
    return _read(stored, np.dtype(np.float64), lambda values: values.astype(np.float64) * slope + intercept)


def _read(stored: Stored, kind: np.dtype[Any], convert: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    where = str(stored.path)
    with open_regular(stored.path) as file:
        _check_promise(stored, file)
        check_room(stored.voxels * kind.itemsize, where)
        try:
            result = np.empty(stored.voxels, dtype=kind)
            bad, done = 0, 0
            with np.errstate(all="ignore"):  # what overflows is infinite, and counted
                for values in _values(stored, file):
                    part = convert(values)
                    result[done : done + len(part)] = part
                    bad += 0 if part.dtype.kind != "f" else len(part) - int(np.count_nonzero(np.isfinite(part)))
                    done += len(part)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ImageError(f"the compressed file is truncated or damaged ({error})", COMPLETE, where) from error
        except OSError as error:
            raise ImageError(f"the file cannot be read ({error.strerror or error})", COMPLETE, where) from error
        except MemoryError as error:
            remedy = "Crop or resample it, or close other programs."
            raise ImageError("not enough memory for its voxels", remedy, where) from error
    if bad:
        raise not_finite(bad, stored.voxels, where)
    return result.reshape(stored.shape)


def _check_promise(stored: Stored, file: BinaryIO) -> None:
    """Refuse, before any memory is taken, a file that is too short for what its header promises."""
    length = file.seek(0, 2)
    held = max(0, length - stored.begin)
    needed = stored.start + stored.voxels * stored.kind.itemsize
    if stored.packing == "text":
        needed = 2 * stored.voxels - 1  # a digit and a space each
    elif stored.packing:
        held *= _TIGHTEST
    if needed > held:
        what = f"the file is truncated: it holds {length:,} bytes, and its header promises {needed:,} bytes of voxels"
        raise ImageError(what + (" compressed" if stored.packing else ""), COMPLETE, str(stored.path))
    file.seek(stored.begin)


def _values(stored: Stored, file: BinaryIO) -> Iterator[NDArray[Any]]:
    """Yield all voxels, some at a time."""
    if stored.packing == "text":
        yield _numbers(stored, file)
        return
    skip, left = stored.start, stored.voxels * stored.kind.itemsize
    rest, after = b"", 0
    for chunk in _STREAMS[stored.packing](file):
        if skip:
            cut = min(skip, len(chunk))
            skip, chunk = skip - cut, chunk[cut:]
        data = rest + chunk[: max(0, left - len(rest))]
        after += len(rest) + len(chunk) - len(data)
        whole = len(data) - len(data) % stored.kind.itemsize
        if whole:
            yield np.frombuffer(data, stored.kind, count=whole // stored.kind.itemsize)
        rest, left = data[whole:], left - whole
        if not left and (not stored.packing or after > _MOST_AFTER):
            return
    if left:
        total = stored.voxels * stored.kind.itemsize
        what = f"the file is truncated: it holds {total - left:,} of the {total:,} bytes that its header promises"
        raise ImageError(what, COMPLETE, str(stored.path))


def _numbers(stored: Stored, file: BinaryIO) -> NDArray[Any]:
    words = file.read(stored.voxels * _LONGEST_NUMBER).split(None, stored.voxels)[: stored.voxels]
    try:
        if len(words) < stored.voxels:
            raise ValueError
        return np.array([float(word) for word in words]).astype(stored.kind)
    except ValueError:
        what = f"its text does not hold {stored.voxels:,} numbers"
        raise ImageError(what, COMPLETE, str(stored.path)) from None


def _plain(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _gzip(file: BinaryIO) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=file) as unpacked:
        while chunk := unpacked.read(_CHUNK):
            yield chunk


def _zlib(file: BinaryIO) -> Iterator[bytes]:
    unpacker = zlib.decompressobj()
    while not unpacker.eof:
        data = unpacker.unconsumed_tail or file.read(_CHUNK)
        chunk = unpacker.decompress(data, _CHUNK)  # without data, what it still holds
        if chunk:
            yield chunk
        elif not data:
            raise EOFError("the stream ends too early")


_STREAMS: dict[str, Callable[[BinaryIO], Iterator[bytes]]] = {"": _plain, "gzip": _gzip, "zlib": _zlib}
