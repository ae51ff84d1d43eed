"""Checkpoints: loaded as tensors only, never unpickled."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsegagent.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

_AGAIN = "Install the model again."
_REFUSED = "A checkpoint must hold tensors and plain values only; ask its publisher for one saved by nnU-Net v2."


@dataclass(frozen=True)
class Checkpoint:
    """What prediction needs of a checkpoint.

    Attributes:
        weights: Parameter name -> tensor, float32.
        trainer: Class name of the trainer.
        mirror_axes: Spatial axes that test-time mirroring may flip, 0 the first; empty: none.
    """

    weights: dict[str, Tensor]
    trainer: str
    mirror_axes: tuple[int, ...]


class _Placeholder:
    """Stands for the NumPy scalars of nnU-Net's training log; holds nothing, does nothing."""

    def __init__(self, *args: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


_LOG_GLOBALS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Placeholder, name)
    for name in (
        "numpy.dtype",
        "numpy.ndarray",
        "numpy.core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
        *(f"numpy.dtypes.{name}DType" for name in ("Float16", "Float32", "Float64", "Int32", "Int64", "Bool")),
    )
]


def load_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint of nnU-Net v2.

    Raises:
        ModelError: If it is missing or truncated, or would run code on loading, or is not nnU-Net's.
    """
    content = load_tensors(file)
    try:
        weights = {_plain_name(str(name)): _as_float(tensor) for name, tensor in content["network_weights"].items()}
        axes = tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ())
        trainer = str(content["trainer_name"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"not an nnU-Net v2 checkpoint ({type(error).__name__}: {error})", _AGAIN, str(file)
        ) from error
    if not set(axes) <= {0, 1, 2}:
        raise ModelError(f"mirrors axes {axes}, which do not exist", _AGAIN, str(file))
    return Checkpoint(weights, trainer, axes)


def load_tensors(file: Path) -> Any:
    """Read a file of tensors and plain values, mapped from disk.

    Raises:
        ModelError: If it is missing or truncated, or would run code on loading.
    """
    import pickle

    import torch

    if not file.is_file():
        raise ModelError("the checkpoint is missing", _AGAIN, str(file))
    if not zipfile.is_zipfile(file):
        raise ModelError("the checkpoint is truncated, or no checkpoint at all", _AGAIN, str(file))
    try:
        with torch.serialization.safe_globals(_LOG_GLOBALS):
            # Mapped, not read: the optimizer's state, two thirds of the file, is never touched.
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        what = f"the checkpoint would run code on loading and is refused ({_first_line(error)})"
        raise ModelError(what, _REFUSED, str(file)) from error
    except Exception as error:  # a damaged archive can fail in any way
        raise ModelError(f"the checkpoint is damaged ({_first_line(error)})", _AGAIN, str(file)) from error


def _first_line(error: Exception) -> str:
    """The global that torch names, else its first line: its advice to load unsafely is not ours."""
    text = str(error)
    named = re.search(r"(?:GLOBAL|Unsupported (?:global|operand|class))[^\n]*?([\w.]+\.[\w.]+)", text)
    return named[1] if named else text.strip().partition("\n")[0][:200]


def _plain_name(name: str) -> str:
    """A parameter's name without what data-parallel or compiled training put before it."""
    for prefix in ("module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name


def _as_float(tensor: Tensor) -> Tensor:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"a weight is a {type(tensor).__name__}")
    return tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
