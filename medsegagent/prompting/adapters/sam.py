"""`sam`: SAM, SAM 2 and their medical offspring (MedSAM, MedSAM2) through transformers, slice by slice.

Weights come from a folder as transformers saves it: config.json and model.safetensors, which holds tensors only.
"""
# mypy: allow-untyped-calls

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.device import choose_device
from medsegagent.errors import ModelError, PromptableError
from medsegagent.models.folder import read_json
from medsegagent.prompting.adapters.extras import require
from medsegagent.prompting.licences import UNKNOWN, require_accepted
from medsegagent.prompting.model import Capabilities

if TYPE_CHECKING:
    import torch

Family = Literal["sam", "medsam", "sam2"]

_CLASSES = {"sam": "SamModel", "sam2": "Sam2Model"}
_REMEDY = "Give a folder with config.json and model.safetensors, as transformers' save_pretrained writes it."
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_KEPT = 8
"""Slices whose embedding is kept; one of SAM's takes a MiB, one of SAM 2's a dozen."""
_SURE = 10.0
"""The logit that stands for a voxel of a given mask."""
_LARGEST = 65_536
_DEEPEST = 96


@dataclass
class _Slice:
    """One picture: its embedding, its size, and the last answer's low-resolution logits."""

    embedding: Any
    pixels: tuple[int, int]
    logits: torch.Tensor | None = None
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)


class Sam:
    """The picture model. Prompts follow the published convention: the newest one, and the last answer's logits."""

    def __init__(self, folder: Path, *, device: str = "auto", licence_accepted: bool = False) -> None:
        """Load the weights.

        Raises:
            PromptableError: If transformers is absent, the folder holds no weights, or their licence is not accepted.
            ModelError: If the folder asks for code, or weights and config.json do not fit.
        """
        config = _checked_config(folder)
        transformers = _transformers()
        licence = _licence(folder)
        require_accepted(licence, licence_accepted, str(folder))
        self._device, _ = choose_device(device)
        self._family: Family = _family(str(config["model_type"]), folder)
        self._model = _load(transformers, config, folder).to(self._device)
        self._size = _input_size(self._model)
        self._slices: OrderedDict[int, _Slice] = OrderedDict()
        self._capabilities = Capabilities(
            adapter="sam",
            model=folder.name,
            licence=licence,
            box3d=False,
            scribbles=False,
            negative_boxes=False,
            flat=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Points and positive boxes in one slice, and a mask to start from."""
        return self._capabilities

    def show(self, number: int, picture: NDArray[np.uint8]) -> None:
        """Embed a picture; the last few embeddings are kept."""
        import torch

        if number in self._slices:
            self._slices.move_to_end(number)
            if self._slices[number].embedding is not None:
                return
        with torch.inference_mode():
            embedding = self._model.get_image_embeddings(self._pixels(picture))
        known = self._slices.get(number)
        height, width = picture.shape
        self._slices[number] = _Slice(embedding, (height, width), known.logits if known else None)
        embedded = [key for key, item in self._slices.items() if item.embedding is not None]
        for key in embedded[:-_KEPT]:
            self._slices[key].embedding = None  # its logits stay

    def prime(self, number: int, mask: NDArray[np.bool_]) -> None:
        """Take a mask as the last answer."""
        import torch

        given = torch.from_numpy(np.where(mask, _SURE, -_SURE).astype(np.float32))[None, None]
        square = torch.full((1, 1, self._size, self._size), -_SURE)
        height, width = self._fitted(mask.shape)
        square[..., :height, :width] = torch.nn.functional.interpolate(given, (height, width), mode="bilinear")
        low = (
            self._model.prompt_encoder.mask_input_size
            if hasattr(self._model.prompt_encoder, "mask_input_size")
            else (4 * self._model.config.prompt_encoder_config.image_embedding_size,) * 2
        )
        self._slices[number].logits = torch.nn.functional.interpolate(square, tuple(low), mode="bilinear").to(
            self._device
        )

    def click(self, number: int, x: float, y: float, positive: bool) -> NDArray[np.bool_]:
        """Answer the newest click, given the last answer."""
        import torch

        here = self._slices[number]
        points = torch.tensor([[[list(self._scaled(here.pixels, x, y))]]], dtype=torch.float32)
        return self._answer(here, input_points=points, input_labels=torch.tensor([[[int(positive)]]]))

    def box(self, number: int, low: tuple[float, float], high: tuple[float, float]) -> NDArray[np.bool_]:
        """Answer a box, given the last answer."""
        import torch

        here = self._slices[number]
        corners = [*self._scaled(here.pixels, *low), *self._scaled(here.pixels, *high)]
        return self._answer(here, input_boxes=torch.tensor([[corners]], dtype=torch.float32))

    def forget(self) -> None:
        """Forget all pictures."""
        self._slices.clear()

    def close(self) -> None:
        """Forget all pictures; the network goes with the object."""
        self.forget()

    def _answer(self, here: _Slice, **prompts: torch.Tensor) -> NDArray[np.bool_]:
        import torch

        given = {name: tensor.to(self._device) for name, tensor in prompts.items()}
        if here.logits is not None:
            given["input_masks"] = here.logits
        with torch.inference_mode():
            output = self._model(image_embeddings=here.embedding, multimask_output=False, **given)
            masks = output.pred_masks.flatten(0, 2)
            here.logits = masks[int(output.iou_scores.flatten().argmax())][None, None].float().clamp(-32, 32)
            square = torch.nn.functional.interpolate(here.logits, (self._size, self._size), mode="bilinear")
            height, width = self._fitted(here.pixels)
            whole = torch.nn.functional.interpolate(square[..., :height, :width], here.pixels, mode="bilinear")
        mask: NDArray[np.bool_] = (whole[0, 0] > 0).cpu().numpy()
        return mask

    def _fitted(self, pixels: tuple[int, ...]) -> tuple[int, int]:
        """Height and width that a picture takes of the square: SAM keeps its shape, the others stretch it."""
        if self._family != "sam":
            return self._size, self._size
        scale = self._size / max(pixels)
        return max(1, round(pixels[0] * scale)), max(1, round(pixels[1] * scale))

    def _scaled(self, pixels: tuple[int, int], x: float, y: float) -> tuple[float, float]:
        height, width = self._fitted(pixels)
        return x * width / pixels[1], y * height / pixels[0]

    def _pixels(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        """The network's input, `(1, 3, S, S)`: MedSAM wants 0 to 1, the others ImageNet's mean and deviation."""
        import torch

        grey = torch.from_numpy(picture.astype(np.float32) / 255)[None, None]
        fitted = torch.nn.functional.interpolate(grey, self._fitted(picture.shape), mode="bilinear", antialias=True)
        coloured = fitted.repeat(1, 3, 1, 1)
        if self._family != "medsam":
            coloured = (coloured - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]
        square = torch.zeros((1, 3, self._size, self._size))
        square[..., : coloured.shape[2], : coloured.shape[3]] = coloured
        return square.to(self._device)


def _family(kind: str, folder: Path) -> Family:
    if kind == "sam2":
        return "sam2"
    return "medsam" if "medsam" in folder.name.lower() else "sam"


def _checked_config(folder: Path) -> dict[str, Any]:
    """Read config.json; only these two architectures, no code, and nothing beyond reason."""
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        old = any(folder.glob("*.bin")) or any(folder.glob("*.pt*")) if folder.is_dir() else False
        what = "its weights are pickled, which is not loaded" if old else "not a folder of SAM weights"
        raise PromptableError(what, _REMEDY, str(folder), "no_weights")
    config = read_json(folder / "config.json")
    if config.get("model_type") not in _CLASSES:
        what = f"config.json is of {config.get('model_type')!r}, not of {' or '.join(_CLASSES)}"
        raise ModelError(what, _REMEDY, str(folder))
    if "auto_map" in config:
        raise ModelError("config.json asks for code of its own", "Such models are not run.", str(folder))
    _check_numbers(config, folder)
    return config


def _check_numbers(value: Any, folder: Path, name: str = "") -> None:
    match value:
        case dict():
            for key, item in value.items():
                _check_numbers(item, folder, str(key))
        case list():
            for item in value:
                _check_numbers(item, folder, name)
        case int() if abs(value) > (_DEEPEST if "layers" in name or "blocks" in name else _LARGEST):
            raise ModelError(f"config.json asks for {name} {value}", "Such models are not run.", str(folder))


def _load(transformers: ModuleType, config: dict[str, Any], folder: Path) -> Any:
    kind = getattr(transformers, _CLASSES[str(config["model_type"])])
    try:
        model, report = kind.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # whatever a wrong config.json ends in
        what = f"the weights cannot be loaded ({' '.join(str(error).split())[:250]})"
        raise ModelError(what, _REMEDY, str(folder)) from error
    if missing := sorted(report["missing_keys"]):
        what = f"{len(missing)} tensors are missing, the first is {missing[0]}"
        raise ModelError(what, _REMEDY, str(folder))
    return model.eval()


def _input_size(model: Any) -> int:
    config = model.config.vision_config
    size = getattr(config, "image_size", None) or config.backbone_config.image_size
    return int(size if isinstance(size, int) else size[0])


def _licence(folder: Path) -> str:
    """The first line of LICENSE, if there is one."""
    file = folder / "LICENSE"
    if not file.is_file():
        return UNKNOWN
    with file.open(encoding="utf-8", errors="replace") as text:
        return text.readline(200).strip() or UNKNOWN


def _transformers() -> ModuleType:
    """Import transformers; a torchvision that does not fit the torch beside it is kept from it.

    torch for the CPU beside PyPI's torchvision is such a pair: importing it fails ("operator torchvision::nms does not
    exist"), and transformers, which only needs it for video and a faster resize, fails with it.
    """
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        pass
    except (ImportError, RuntimeError, OSError, AttributeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # "not there", to whoever looks for it
    transformers = require("transformers", extra="sam", feature="sam")
    if sys.modules.get("torchvision", transformers) is None:  # it may have looked before
        transformers.utils.import_utils.is_torchvision_available.cache_clear()
    return transformers
