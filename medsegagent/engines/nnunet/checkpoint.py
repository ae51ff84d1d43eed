"""Checkpoints: loaded as tensors only, never unpickled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsegagent.engines.nnunet.tensor_file import ForbiddenNameError, StoredTensor, TensorFile
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


def load_checkpoint(file: Path) -> Checkpoint:
    """Read a checkpoint of nnU-Net v2.

    Raises:
        ModelError: If `load_tensors` refuses it, or it is not nnU-Net's.
    """
    content = load_tensors(file)
    if not isinstance(trainer := content.get("trainer_name"), str):
        raise ModelError("not an nnU-Net v2 checkpoint: it has no trainer_name", _AGAIN, str(file))
    axes = content.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(axes, list | tuple) or not set(map(type, axes)) <= {int} or not set(axes) <= {0, 1, 2}:
        raise ModelError("the checkpoint mirrors axes which do not exist", _AGAIN, str(file))
    weights = {_plain_name(name): tensor for name, tensor in content["network_weights"].items()}
    return Checkpoint(weights, trainer, tuple(axes))


def load_tensors(file: Path) -> dict[str, Any]:
    """Read a checkpoint of nnU-Net v2, or of what saves as it does: plain values, and `network_weights` as tensors.

    Other tensors, such as the optimizer's, are not read: they stay `StoredTensor`s.

    Raises:
        ModelError: If it is missing or truncated, would run code on loading, needs more memory than it has bytes, or
            has no `network_weights`.
    """
    if not file.is_file():
        raise ModelError("the checkpoint is missing", _AGAIN, str(file))
    try:
        stored = TensorFile(file)
        content = stored.content
        if not isinstance(content, dict) or not isinstance(weights := content.get("network_weights"), dict):
            raise ValueError("not an nnU-Net v2 checkpoint: it has no network_weights")
        for name, tensor in weights.items():
            if not isinstance(name, str) or not isinstance(tensor, StoredTensor):
                raise ValueError(f"not an nnU-Net v2 checkpoint: the weight {name!r:.80} is no tensor")
        return content | {"network_weights": stored.tensors(weights)}
    except ForbiddenNameError as error:
        what = f"the checkpoint would run code on loading and is refused ({error})"
        raise ModelError(what, _REFUSED, str(file)) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"the checkpoint is damaged ({error})", _AGAIN, str(file)) from error


def _plain_name(name: str) -> str:
    """A parameter's name without what data-parallel or compiled training put before it."""
    for prefix in ("module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name
