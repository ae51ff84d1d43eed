"""A network from checked plans and tensors, without nnU-Net's search for a trainer class.

Finding a trainer by name imports every trainer module. The base trainer only calls `get_network_from_plans`, and so do
we; a trainer's own module is imported, directly, where nnU-Net's trainer changes the network.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsegagent.engines.nnunet.checkpoint import Checkpoint, load_checkpoint
from medsegagent.engines.nnunet.trust import check_folder
from medsegagent.errors import ModelError
from medsegagent.models.installed import NnunetFolder

if TYPE_CHECKING:
    from nnunetv2.utilities.label_handling.label_handling import LabelManager
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
    from torch import Tensor, nn

_OWN_NETWORK = {
    "nnUNetTrainerBN": "nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN",
}
"""Trainers whose `build_network_architecture` is their own, and where nnunetv2 keeps them."""


@dataclass(frozen=True)
class Design:
    """What a model folder's plans.json and dataset.json say, checked.

    Attributes:
        plans: nnU-Net's access to plans.json.
        configuration: nnU-Net's access to the configuration.
        label_manager: nnU-Net's access to the labels.
        dataset: dataset.json.
    """

    plans: PlansManager
    configuration: ConfigurationManager
    label_manager: LabelManager
    dataset: dict[str, Any]


@dataclass(frozen=True)
class TrainedNetwork(Design):
    """One trained nnU-Net, on the CPU.

    Attributes:
        network: The network, without deep supervision, in evaluation mode; holds the first fold's weights.
        folds: Each fold's weights.
        mirror_axes: Spatial axes that test-time mirroring may flip.
    """

    network: nn.Module
    folds: tuple[dict[str, Tensor], ...]
    mirror_axes: tuple[int, ...]


def read_design(folder: Path) -> Design:
    """Check and read what a network looks like, without its weights.

    Args:
        folder: `.../DATASET/TRAINER__PLANS__CONFIGURATION`.

    Raises:
        ModelError: If the folder asks for code or is damaged.
    """
    checked = check_folder(folder)

    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "old nnU-Net plans format": nnU-Net converts them itself
            plans = PlansManager(checked.plans)
            configuration = plans.get_configuration(checked.configuration)
        return Design(plans, configuration, plans.get_label_manager(checked.dataset), checked.dataset)
    except Exception as error:  # each part of it is allowed, but they do not fit; nnU-Net raises what it likes
        what = f"nnU-Net can make nothing of plans.json and dataset.json ({type(error).__name__}: {str(error)[:200]})"
        raise ModelError(what, "Install the model again.", str(folder)) from error


def load_network(part: NnunetFolder) -> TrainedNetwork:
    """Check, build and load one part of a model.

    Raises:
        ModelError: If the folder asks for code, is damaged, or its weights do not fit its plans.
    """
    design = read_design(part.folder)
    checkpoints = [load_checkpoint(part.folder / f"fold_{fold}" / part.checkpoint) for fold in part.folds]
    try:
        network = _build(design, checkpoints[0].trainer)
        network.load_state_dict(checkpoints[0].weights, strict=True, assign=True)
        _check_alike(checkpoints)
    except (RuntimeError, ValueError, TypeError, AssertionError, KeyError, IndexError) as error:
        what = f"the weights do not fit the network of plans.json ({' '.join(str(error).split())[:250]})"
        raise ModelError(what, "Install the model again.", str(part.folder)) from error
    return TrainedNetwork(
        network=network.eval(),
        folds=tuple(checkpoint.weights for checkpoint in checkpoints),
        mirror_axes=checkpoints[0].mirror_axes,
        **vars(design),
    )


def _build(design: Design, trainer: str) -> nn.Module:
    import torch

    configuration = design.configuration
    channels, classes = len(design.dataset["channel_names"]), design.label_manager.num_segmentation_heads

    # On the meta device a network has shapes but no memory: plans cannot ask for more than the checkpoint fills.
    with torch.device("meta"):
        if trainer in _OWN_NETWORK:
            own = getattr(import_module(_OWN_NETWORK[trainer]), trainer)
            network: nn.Module = own.build_network_architecture(
                design.plans, configuration, channels, classes, enable_deep_supervision=False
            )
            return network

        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            channels,
            classes,
            allow_init=False,
            deep_supervision=False,
        )
        return network


def _check_alike(checkpoints: list[Checkpoint]) -> None:
    first = checkpoints[0].weights
    for other in checkpoints[1:]:
        if {name: t.shape for name, t in first.items()} != {name: t.shape for name, t in other.weights.items()}:
            raise ValueError("the folds hold different networks")
