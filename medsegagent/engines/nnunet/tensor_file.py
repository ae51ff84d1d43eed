"""Read what `torch.save` wrote without unpickling: no name in the file is ever looked up, nothing is ever called.

The file is a zip archive of stored members: `data.pkl` says which tensors there are, `data/KEY` holds the bytes of one
storage. Here the pickle is walked opcode by opcode into plain values and descriptions of tensors. Nothing is copied
before each description is known to fit its storage, and each storage its member.
"""

from __future__ import annotations

import io
import math
import mmap
import pickletools
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsegagent.untrusted import open_regular

if TYPE_CHECKING:
    from torch import Tensor

PICKLE_LIMIT = 32 * 2**20
"""Bytes of `data.pkl`; nnU-Net's largest, with the optimizer's state and the training log, have about one MB."""

_MOST_DIMENSIONS = 8
_LOCAL_HEADER = 30

_INERT = frozenset(
    [
        *(f"numpy.{name}" for name in ("dtype", "ndarray")),
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
        *(f"numpy.dtypes.{name}DType" for name in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool")),
        *("_codecs.encode", "builtins.set", "__builtin__.set", "builtins.bytearray", "builtins.complex"),
        *("torch.device", "torch.Size", "torch.serialization._get_layout", "collections.Counter"),
        *(f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float64", "int32", "int64", "bool")),
    ]
)
"""What an honest training log or optimizer refers to; it is read over."""

_STORAGES = {
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.DoubleStorage": "float64",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
_DICT, _TENSOR, _PARAMETER = (
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
)
_KNOWN = _INERT | _STORAGES.keys() | {_DICT, _TENSOR, _PARAMETER}


_WITH_VALUE = frozenset(["BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "LONG1", "SHORT_BINSTRING"])
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _Mark,
}


class ForbiddenNameError(ValueError):
    """The file refers to a name that no honest checkpoint refers to; unpickling it would run code."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that has not been read. `storage` names the member; offset, size and stride count elements."""

    storage: str
    dtype: str
    elements: int
    """Of the whole storage."""
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class _Global:
    name: str


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    elements: int


class _Mark:
    pass


class _Nothing:
    """Stands for what is read over."""


class TensorFile:
    """One file of `torch.save`'s, its members checked. `content` is what was saved, with `StoredTensor`s in it."""

    def __init__(self, file: Path) -> None:
        """Check and walk; no tensor is read.

        Raises:
            OSError: If it cannot be read.
            ForbiddenNameError: If it refers to a name off the list.
            ValueError: If it is no such file.
        """
        self._file = file
        with open_regular(file) as stream:
            self._bytes = stream.seek(0, io.SEEK_END)
            with _archive(stream) as archive:
                self._members = {info.filename: info for info in archive.infolist()}
                self._check_members()
                (self._prefix,) = _prefixes(self._members)
                if self._members.get(order := f"{self._prefix}byteorder") and archive.read(order) != b"little":
                    raise ValueError("its numbers are big-endian")
                self.content = _walk(archive.read(f"{self._prefix}data.pkl"))

    def tensors(self, described: Mapping[str, StoredTensor]) -> dict[str, Tensor]:
        """Read tensors: floating point as float32, the rest as it is. Equal descriptions share one tensor.

        Args:
            described: Name -> tensor, out of `content`.

        Raises:
            ValueError: If one does not fit its storage, a storage not its member, or all need more than is stored.
        """
        import torch

        unique = dict.fromkeys(described.values())
        starts = dict(self._starts({tensor.storage: tensor for tensor in unique}))
        for tensor in unique:
            _check_fits(tensor)
        wanted = sum(math.prod(tensor.size) * _item_bytes(tensor.dtype) for tensor in unique)
        if wanted > self._bytes:
            raise ValueError(f"its tensors expand to {wanted >> 20} MiB, it holds {self._bytes >> 20}")
        # Mapped, not read: the optimizer's state, two thirds of the file, is never touched.
        with open_regular(self._file) as stream:
            mapped = torch.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY), dtype=torch.uint8)
        made = {}
        for tensor in unique:
            start = starts[tensor.storage]
            length = tensor.elements * _item_bytes(tensor.dtype)
            raw = mapped[start : start + length]
            dtype = getattr(torch, tensor.dtype)
            storage = (raw if start % 16 == 0 else raw.clone()).view(dtype)
            kept = torch.float32 if dtype.is_floating_point else dtype
            made[tensor] = storage[tensor.offset :].as_strided(tensor.size, tensor.stride).to(kept, copy=True)
        return {name: made[tensor] for name, tensor in described.items()}

    def _check_members(self) -> None:
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in self._members.values()):
            raise ValueError("a member is compressed or encrypted, which torch.save never does")
        if sum(info.file_size for info in self._members.values()) > self._bytes:
            raise ValueError("its members are longer than itself")
        pickles = [info.file_size for name, info in self._members.items() if name.endswith("data.pkl")]
        if len(pickles) != 1 or pickles[0] > PICKLE_LIMIT:
            raise ValueError("it has no data.pkl, several, or one that is too large")

    def _starts(self, storages: Mapping[str, StoredTensor]) -> Iterator[tuple[str, int]]:
        """Where each storage begins in the file."""
        with open_regular(self._file) as stream:
            for key, tensor in storages.items():
                info = self._members.get(f"{self._prefix}data/{key}")
                if info is None or info.file_size < tensor.elements * _item_bytes(tensor.dtype):
                    raise ValueError(f"storage {key!r:.40} is missing or shorter than it says")
                stream.seek(info.header_offset)
                header = stream.read(_LOCAL_HEADER)
                if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
                    raise ValueError("a member has no header")
                start = info.header_offset + _LOCAL_HEADER
                start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
                if start + info.file_size > self._bytes:
                    raise ValueError("a member ends beyond the file")
                yield key, start


def _archive(stream: Any) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(stream)
    except (zipfile.BadZipFile, NotImplementedError, OverflowError) as error:
        raise ValueError(f"truncated, or no checkpoint at all ({error})") from error


def _prefixes(members: Mapping[str, object]) -> list[str]:
    return [name.removesuffix("data.pkl") for name in members if name.endswith("data.pkl")]


def _item_bytes(dtype: str) -> int:
    import torch

    return int(getattr(torch, dtype).itemsize)


def _check_fits(tensor: StoredTensor) -> None:
    """Every element lies in the storage, and there are no more of them than it has: no dimension without a stride."""
    whole = (tensor.offset, *tensor.size, *tensor.stride)
    if len(tensor.size) != len(tensor.stride) or len(tensor.size) > _MOST_DIMENSIONS or min(whole) < 0:
        raise ValueError("a tensor has an impossible shape")
    elements = math.prod(tensor.size)
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
    if elements > tensor.elements or (elements and last >= tensor.elements):
        raise ValueError("a tensor is larger than its storage")


def _walk(pickled: bytes) -> Any:
    """What a pickle describes. Lists are lists, dictionaries are dictionaries with plain keys."""
    try:
        return _Walk().run(pickled)
    except ValueError:
        raise
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"its data.pkl is damaged ({type(error).__name__})") from error


class _Walk:
    """A stack machine for the opcodes of protocol 2 that `torch.save` uses."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, pickled: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "STOP":
                (whole,) = self.stack
                return whole
            self.step(opcode.name, argument)
        raise ValueError("its data.pkl has no end")

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _WITH_VALUE:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name.startswith("TUPLE"):
            count = int(name[5:] or 0)
            items = [stack.pop() for _ in range(count)][::-1] if count else self._to_mark()
            stack.append(tuple(items))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(_global(argument))
        elif name == "BINPERSID":
            stack.append(_storage(stack.pop()))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments = _of_kind(stack.pop(), tuple)
            stack.append(_made(_of_kind(stack.pop(), _Global).name, arguments))
        else:
            self._fill(name)

    def _fill(self, name: str) -> None:
        """What adds to the container on top of the stack."""
        match name:
            case "APPEND" | "APPENDS":
                items = self._to_mark() if name == "APPENDS" else [self.stack.pop()]
                _of_kind(self.stack[-1], list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._to_mark() if name == "SETITEMS" else [self.stack.pop(-2), self.stack.pop()]
                _set(_of_kind(self.stack[-1], dict), items)
            case "BUILD":
                self.stack.pop()  # a state dictionary's `_metadata`, a scalar's bytes
                _of_kind(self.stack[-1], dict | _Nothing)
            case "PROTO":
                pass
            case _:
                raise ValueError(f"its data.pkl has the opcode {name}, which torch.save never writes")

    def _to_mark(self) -> list[Any]:
        at = len(self.stack) - 1 - self.stack[::-1].index(_Mark)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items


def _of_kind(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise ValueError("its data.pkl is damaged")
    return value


def _set(into: dict[Any, Any], items: list[Any]) -> None:
    for key, value in zip(items[::2], items[1::2], strict=True):
        # Plain ones only: the hash of a tuple of tuples of tuples takes for ever.
        into[_of_kind(key, str | int | float | None)] = value


def _global(argument: str) -> _Global:
    name = argument.replace(" ", ".", 1)
    if name not in _KNOWN:
        raise ForbiddenNameError(name[:200])
    return _Global(name)


def _storage(described: Any) -> _Storage:
    kind, storage, key, _, elements = _of_kind(described, tuple)
    if kind != "storage" or not isinstance(storage, _Global) or storage.name not in _STORAGES:
        raise ValueError("its data.pkl has a storage of a strange kind")
    if not isinstance(key, str) or not isinstance(elements, int) or elements < 0:
        raise ValueError("its data.pkl has a storage without a name or size")
    return _Storage(key, _STORAGES[storage.name], elements)


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    if name == _DICT:
        return {}
    if name == _PARAMETER:
        return arguments[0]
    if name != _TENSOR:
        return _Nothing()
    storage, offset, size, stride = arguments[:4]
    counts = (offset, *_of_kind(size, tuple), *_of_kind(stride, tuple))
    if not isinstance(storage, _Storage) or not all(isinstance(count, int) for count in counts):
        raise ValueError("its data.pkl has a tensor without a shape")
    return StoredTensor(storage.key, storage.dtype, storage.elements, offset, size, stride)
