"""`nninteractive`: the real package, in this process, on weights that passed our checks.

The package itself would unpickle the checkpoint and import what its JSON names. It never sees the folder: plans and
weights are read by the checks that nnU-Net models go through, and the finished network is handed over.
"""
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medsegagent.engines.device import choose_device
from medsegagent.engines.nnunet.checkpoint import load_tensors
from medsegagent.engines.nnunet.trust import check_plans
from medsegagent.errors import ModelError, PromptableError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.models.folder import read_json
from medsegagent.prompting.adapters.extras import require
from medsegagent.prompting.adapters.nni_session import current_mask, forward, offered
from medsegagent.prompting.licences import UNKNOWN, require_accepted
from medsegagent.prompting.model import Capabilities
from medsegagent.prompting.prompts import Prompt

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_AGAIN = "Give a folder with plans.json, dataset.json, inference_info.json and fold_0/checkpoint_final.pth."
_OFFICIAL = "Dataset225_nnInteractiveV2"
_OFFICIAL_LICENCE = "CC BY-NC-SA 4.0"

Kind = Literal["points", "bbox2d", "bbox3d", "lasso", "scribble"]
Channel = Annotated[int, Field(ge=-64, le=64)]


class _Info(BaseModel):
    """inference_info.json: what the weights were trained to take."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    inference_class: Literal["nnInteractiveInferenceSession"] = "nnInteractiveInferenceSession"
    point_radius: Annotated[float, Field(ge=1, le=64)] = 4
    preferred_scribble_thickness: Annotated[int, Field(ge=1, le=64)] | list[Annotated[int, Field(ge=1, le=64)]] = 2
    interaction_decay: Annotated[float, Field(gt=0, le=1)] = 0.98
    pad_mode_image: Literal["constant"] = "constant"
    supported_interactions: dict[Kind, bool] = {}
    supports_initial_label: bool = True
    supports_zero_shot_label_refinement: bool = True
    interaction_channels: Annotated[int, Field(ge=1, le=64)] = 6
    channel_mapping: dict[Kind | Literal["prev_seg"], Channel | tuple[Channel, Channel]] = {}


class NNInteractive:
    """The adapter. One session; the network is shared by all sessions on the same weights and device."""

    def __init__(self, folder: Path, *, device: str = "auto", licence_accepted: bool = False) -> None:
        """Load the weights.

        Raises:
            PromptableError: If the package is absent, the folder holds no weights, or their licence is not accepted.
            ModelError: If the folder asks for code, is damaged, or its weights do not fit.
        """
        module = require("nnInteractive.inference.inference_session", extra="interactive", feature="nninteractive")
        import torch

        chosen = _device(device)
        self._artifacts = _load(folder.absolute(), _stamp(folder), chosen)
        require_accepted(self._artifacts["license"], licence_accepted, str(folder))
        with _quietly():
            self._session = module.nnInteractiveInferenceSession(
                device=torch.device(chosen), torch_n_threads=torch.get_num_threads(), do_autozoom=True
            )
            self._session.initialize_from_loaded_artifacts(self._artifacts)
        self._capabilities = offered("nninteractive", folder.name, self._session)
        self._buffer: NDArray[np.uint8] | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What the weights were trained for."""
        return self._capabilities

    def open(self, array: NDArray[np.float32], grid: Grid) -> None:
        """Hand over the image; the package keeps a normalised copy of it until it is closed."""
        self._buffer = np.zeros(grid.shape, np.uint8)
        with _quietly():
            self._session.set_image(array[None])
            self._session.set_target_buffer(self._buffer)
            self._session._finish_preprocessing_and_initialize_interactions()  # else a thread fails, and prints, later

    def apply(self, prompt: Prompt) -> None:
        """Give one prompt and predict.

        Raises:
            ModelError: If the network fails, for example for want of memory.
        """
        try:
            with _quietly():
                forward(self._session, prompt)
        except (RuntimeError, ValueError, AssertionError, IndexError, TypeError) as error:
            what = f"nnInteractive failed ({' '.join(str(error).split())[:250]})"
            raise ModelError(what, "Try --device cpu, or the walker.", self._capabilities.model) from error

    def mask(self) -> Boxed[np.bool_]:
        """Return the current mask."""
        assert self._buffer is not None
        return current_mask(self._buffer)

    def undo(self) -> bool:
        """Take back the last prompt; the package remembers one."""
        with _quietly():
            return bool(self._session.undo())

    def close(self) -> None:
        """Let go of the image and what belongs to it."""
        if self._buffer is not None:
            with _quietly():
                self._session._finish_preprocessing_and_initialize_interactions()
                self._session._reset_session()
            self._buffer = None


def _device(requested: str) -> str:
    chosen, _ = choose_device(requested)
    return "cpu" if chosen == "mps" else chosen  # the package has no branch for it


def _stamp(folder: Path) -> int:
    """When the weights were last written: others must not be taken for them."""
    file = _fold(folder) / "checkpoint_final.pth"
    return file.stat().st_mtime_ns if file.is_file() else 0


def _fold(folder: Path) -> Path:
    folds = sorted(path for path in folder.glob("fold_*") if path.is_dir()) if folder.is_dir() else []
    if len(folds) != 1:
        what = "not a folder of nnInteractive weights" if not folds else f"{len(folds)} fold_* folders, one is needed"
        raise PromptableError(what, _AGAIN, str(folder), "no_weights")
    return folds[0]


@lru_cache(maxsize=2)
def _load(folder: Path, stamp: int, device: str) -> dict[str, Any]:
    """Check, build and load: what `initialize_from_loaded_artifacts` wants."""
    from nnInteractive.interaction.point import PointInteraction_stub
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    info = _info(folder)
    content = load_tensors(_fold(folder) / "checkpoint_final.pth")
    raw = read_json(folder / "plans.json")
    try:
        name = str(content["init_args"]["configuration"])
        weights = {str(key): tensor.float() for key, tensor in content["network_weights"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError("the checkpoint is not nnInteractive's", _AGAIN, str(folder)) from error
    plans = check_plans(raw, name, folder / "plans.json")
    channels = read_json(folder / "dataset.json").get("channel_names", {})
    if not isinstance(channels, dict) or len(channels) != 1:
        raise ModelError("it does not take exactly one image", _AGAIN, str(folder))
    dataset = {"channel_names": {"0": "image"}, "labels": {"background": 0, "object": 1}}
    manager = PlansManager(plans)
    configuration = manager.get_configuration(name)
    thickness = info.preferred_scribble_thickness
    return {
        "capability_content": info.model_dump(exclude_unset=True, exclude={"inference_class"}),
        "point_interaction": PointInteraction_stub(info.point_radius, True),
        "preferred_scribble_thickness": [thickness] * 3 if isinstance(thickness, int) else thickness,
        "interaction_decay": info.interaction_decay,
        "pad_mode_data": info.pad_mode_image,
        "network": _network(configuration, 1 + info.interaction_channels + 1, weights, folder).to(device),
        "plans_manager": manager,
        "configuration_manager": configuration,
        "dataset_json": dataset,
        "trainer_name": "nnUNetTrainer",
        "label_manager": manager.get_label_manager(dataset),
        "license": _licence(folder, raw.get("dataset_name")),
    }


def _info(folder: Path) -> _Info:
    file = folder / "inference_info.json"
    if not file.is_file():
        file = folder / "inference_session_class.json"  # of the first weights; may be no more than a name
        if file.is_file() and file.read_bytes()[:1] == b'"':
            return _Info(interaction_decay=0.9)
    try:
        return _Info.model_validate(read_json(file))
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{file.name} is not usable ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        raise ModelError(what, _AGAIN, str(folder)) from error


def _network(configuration: Any, channels: int, weights: dict[str, torch.Tensor], folder: Path) -> torch.nn.Module:
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    try:
        with torch.device("meta"):  # shapes without memory: plans cannot ask for more than the checkpoint fills
            network: torch.nn.Module = get_network_from_plans(
                configuration.network_arch_class_name,
                configuration.network_arch_init_kwargs,
                configuration.network_arch_init_kwargs_req_import,
                channels,
                2,
                allow_init=False,
                deep_supervision=False,
            )
        network.load_state_dict(weights, strict=True, assign=True)
    except (RuntimeError, ValueError, TypeError, AssertionError, KeyError, IndexError) as error:
        what = f"the weights do not fit the network of plans.json ({' '.join(str(error).split())[:250]})"
        raise ModelError(what, _AGAIN, str(folder)) from error
    return network.eval()


def _licence(folder: Path, dataset: object) -> str:
    """The first line of LICENSE; of the official weights, which came without one, what their page says."""
    file = folder / "LICENSE"
    if file.is_file():
        with file.open(encoding="utf-8", errors="replace") as text:
            if first := text.readline(200).strip():
                return first
    return _OFFICIAL_LICENCE if dataset == _OFFICIAL else UNKNOWN


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The package prints as it goes: to the log with it."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        yield
    for line in filter(None, (line.strip() for line in said.getvalue().splitlines())):
        log.debug("%s", line)
