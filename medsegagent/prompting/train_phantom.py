"""`python -m medsegagent.prompting.train_phantom`: train the demo's promptable model on synthetic patients.

A U-Net of nnU-Net's with nnInteractive's eight inputs: the image, the mask so far, boxes in and out, points in and out,
scribbles in and out. It learns from clicks made the way people make them: the first inside a structure, the next ones
where its own mask, or a spoilt one it starts from, is wrong. The folder is nnInteractive's own layout, so that the real
package runs it.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medsegagent.phantom import MODELS
from medsegagent.phantom.patient import make_patient
from medsegagent.prompting.catalogue import PHANTOM
from medsegagent.prompting.clicker import next_click

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

PATCH = 56
"""Of the model: nnInteractive plans its patches with a margin of 24 voxels to each side."""
RADIUS = 2
DECAY = 0.98
FEATURES = [8, 16, 24, 24]
CONFIGURATION = "3d_fullres"
_SEEDS = range(30)
_ROUNDS = (1, 2, 3)
_STAGES = ((40, 3000, 2e-3), (PATCH, 700, 1.2e-3), (PATCH, 850, 1e-3))
"""Patch size, iterations, first learning rate: small patches are quick, and the last part gets used to the model's."""
_CHANNELS = 8

ORGANS = (
    ("lung_left",),
    ("lung_right",),
    ("liver", "liver_lesion"),
    ("spleen",),
    ("kidney_left",),
    ("kidney_right",),
    ("stomach",),
    ("aorta",),
    ("aorta",),
    ("aorta",),
    ("bladder",),
)
"""The structures that it learns: each in one piece, and large enough to be clicked; the thin one more often."""

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Example:
    """An image, z-scored, and the structures in it; `(Z, Y, X)` each."""

    image: Array
    structures: tuple[Mask, ...]


def plans() -> dict[str, Any]:
    """The plans.json of the model."""
    stages = len(FEATURES)
    resample = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration: dict[str, Any] = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [PATCH] * 3,
        "spacing": [4.35] * 3,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": stages,
                "features_per_stage": FEATURES,
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": [[3, 3, 3]] * stages,
                "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
                "n_conv_per_stage": [2] * stages,
                "n_conv_per_stage_decoder": [1] * (stages - 1),
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    for kind in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{kind}"] = "resample_data_or_seg_to_shape"
        configuration[f"resampling_fn_{kind}_kwargs"] = resample | {"is_seg": kind == "seg"}
    return {
        "dataset_name": "Dataset904_Phantom_Promptable",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
        "configurations": {CONFIGURATION: configuration},
    }


def build() -> torch.nn.Module:
    """The network, as nnInteractive builds it."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    architecture = plans()["configurations"][CONFIGURATION]["architecture"]
    network: torch.nn.Module = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        _CHANNELS,
        2,
        deep_supervision=False,
    )
    return network


def examples() -> list[Example]:
    """CT patients, at full size and, as a zoomed-out view shows them, at two thirds."""
    made = []
    for seed in _SEEDS:
        patient = make_patient(seed, "CT")
        masks = [patient.mask(*names) for names in ORGANS]
        made.append(_example(patient.image, masks))
        if seed % 3 == 0:
            small = [ndimage.zoom(mask.astype(np.float32), 2 / 3, order=1) >= 0.5 for mask in masks]
            made.append(_example(ndimage.zoom(patient.image, 2 / 3, order=1), small))
    return made


def _example(image: Array, masks: list[Mask]) -> Example:
    scaled = ((image - image.mean()) / image.std()).astype(np.float32)
    return Example(scaled, tuple(mask for mask in masks if mask.any()))


def turned(example: Example, rng: np.random.Generator) -> tuple[Array, Mask]:
    """One structure of an example, axes swapped and flipped at random: the file's order means nothing."""
    mask = example.structures[rng.integers(len(example.structures))]
    order = rng.permutation(3)
    flips = tuple(slice(None, None, int(step)) for step in rng.choice([1, -1], 3))
    noise = rng.normal(0, 0.01, example.image.shape).astype(np.float32)
    image = (example.image + noise).transpose(order)[flips]
    return np.ascontiguousarray(image), np.ascontiguousarray(mask.transpose(order)[flips])


class Clicks:
    """The state of one simulated refinement: points and the mask so far, on a whole image."""

    def __init__(self, image: Array, truth: Mask, rng: np.random.Generator) -> None:
        self.image, self.truth, self._rng = image, truth, rng
        self.mask = np.zeros_like(truth)
        self.centre = (0, 0, 0)
        self._prompts = np.zeros((6, *truth.shape), np.float32)  # boxes, points, scribbles; in and out of each
        self._clicked: list[tuple[int, ...]] = []
        if rng.random() < 0.3:
            self.mask = spoilt(truth, rng)

    def click(self) -> bool:
        """Make the next click; False if nothing is wrong."""
        wrong = self.truth ^ self.mask
        if not wrong.any():
            return False
        if not self._clicked and not self.mask.any() and self._rng.random() < 0.25:
            self._draw()
            return True
        if self._rng.random() < 0.6:
            best = next_click(self.truth, self.mask, self._clicked)
            if best is None:
                return False
            at, positive = best
        else:
            inner = ndimage.binary_erosion(wrong)
            where = np.argwhere(inner if inner.any() else wrong)
            at = tuple(int(index) for index in where[self._rng.integers(len(where))])
            positive = bool(self.truth[at])
        self._clicked.append(at)
        self._prompts *= DECAY
        add_point(self._prompts[2 if positive else 3], at)
        self.centre = (at[0], at[1], at[2])
        return True

    def _draw(self) -> None:
        """Begin with a flat box around a large slice of the structure, or with a line through it."""
        axis = int(self._rng.integers(3))
        areas = self.truth.sum(axis=tuple({0, 1, 2} - {axis}))
        at = int(self._rng.choice(np.flatnonzero(areas >= areas.max() / 2)))
        drawn = np.zeros_like(self.truth)
        here = np.moveaxis(self.truth, axis, 0)[at]
        rows, columns = np.nonzero(here)
        boxed = self._rng.random() < 0.5
        if boxed:
            box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            np.moveaxis(drawn, axis, 0)[at][box] = True
        else:
            row = int(self._rng.choice(rows))
            np.moveaxis(drawn, axis, 0)[at, row] = here[row]
            drawn = ndimage.binary_dilation(drawn) & self.truth
        self._prompts[0 if boxed else 4][drawn] = 1.0
        z, y, x = (round(float(index)) for index in np.argwhere(drawn).mean(axis=0))
        self.centre = (z, y, x)

    def inputs(self, patch: int) -> Array:
        """The network's input around the last prompt, `(8, patch, patch, patch)`."""
        stack = np.zeros((_CHANNELS, patch, patch, patch), np.float32)
        stack[0] = crop(self.image, self.centre, patch)
        stack[1] = crop(self.mask.astype(np.float32), self.centre, patch)
        for channel, prompts in enumerate(self._prompts, 2):
            if prompts.any():
                stack[channel] = crop(prompts, self.centre, patch)
        return stack

    def answer(self, predicted: Mask) -> None:
        """Put a prediction in its place."""
        paste(self.mask, predicted, self.centre)


def add_point(channel: Array, at: tuple[int, ...]) -> None:
    """Draw a point as nnInteractive does: a ball whose value falls to its edge."""
    from nnInteractive.interaction.point import build_point

    ball = build_point((RADIUS,) * 3, True, False).numpy().astype(np.float32)
    low = [index - RADIUS for index in at]
    inside = tuple(slice(max(0, a), min(n, a + 2 * RADIUS + 1)) for a, n in zip(low, channel.shape, strict=True))
    part = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, low, strict=True))
    channel[inside] = np.maximum(channel[inside], ball[part])


def crop(volume: Array, centre: tuple[int, int, int], size: int) -> Array:
    """Cut a patch out; 0 beyond the volume."""
    low = [index - size // 2 for index in centre]
    inside = tuple(slice(max(0, a), min(n, a + size)) for a, n in zip(low, volume.shape, strict=True))
    patch = np.zeros((size,) * 3, np.float32)
    patch[tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, low, strict=True))] = volume[inside]
    return patch


def paste(volume: Mask, patch: Mask, centre: tuple[int, int, int]) -> None:
    """Put a patch back where `crop` took it."""
    size = patch.shape[0]
    low = [index - size // 2 for index in centre]
    inside = tuple(slice(max(0, a), min(n, a + size)) for a, n in zip(low, volume.shape, strict=True))
    volume[inside] = patch[tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, low, strict=True))]


def spoilt(truth: Mask, rng: np.random.Generator) -> Mask:
    """A mask to start from, wrong as masks are: shifted, too small, too large, cut in half, spilt over."""
    mask = truth.copy()
    match int(rng.integers(4)):
        case 0:
            mask = np.roll(mask, rng.integers(-5, 6, 3), (0, 1, 2))
        case 1:
            steps = int(rng.integers(1, 3))
            mask = (ndimage.binary_erosion if rng.random() < 0.5 else ndimage.binary_dilation)(mask, iterations=steps)
        case 2:
            axis = int(rng.integers(3))
            where = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
            np.moveaxis(mask, axis, 0)[: int(rng.choice(where))] = False
        case _:
            near = np.argwhere(ndimage.binary_dilation(mask, iterations=3) & ~mask)
            at = near[rng.integers(len(near))]
            far = sum(
                (axis - index) ** 2 for axis, index in zip(np.ogrid[[slice(n) for n in mask.shape]], at, strict=True)
            )
            mask = mask | (np.asarray(far) <= int(rng.integers(3, 8)) ** 2)
    return np.asarray(mask, np.bool_)


def train(folder: Path, stages: Sequence[tuple[int, int, float]] = _STAGES, seed: int = 0) -> None:
    """Train on one thread and write the folder, also every 250 iterations."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = build()
    _inherit(network)
    pool = examples()
    for patch, iterations, rate in stages:
        _fit(network, pool, patch, iterations, rate, rng, folder)


def _fit(
    network: torch.nn.Module,
    pool: list[Example],
    patch: int,
    iterations: int,
    rate: float,
    rng: np.random.Generator,
    folder: Path,
) -> None:
    import torch

    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(1e-3, (1 - step / iterations) ** 0.9))
    half = partial(torch.autocast, "cpu", dtype=torch.bfloat16)  # nine times as fast where the processor has it
    running = 0.0
    for step in range(1, iterations + 1):
        clicks = Clicks(*turned(pool[int(rng.integers(len(pool)))], rng), rng)
        for _ in range(int(rng.choice(_ROUNDS, p=(0.6, 0.22, 0.18))) - 1):
            if clicks.click():
                with torch.no_grad(), half():
                    answer = network(torch.from_numpy(clicks.inputs(patch))[None])[0].argmax(0)
                clicks.answer(answer.numpy() > 0)
        if not clicks.click():
            continue
        target = torch.from_numpy(crop(clicks.truth.astype(np.float32), clicks.centre, patch))
        with half():
            logits = network(torch.from_numpy(clicks.inputs(patch))[None])[0]
        logits = logits.float()
        share = logits.softmax(0)[1]
        overlap = (2 * (share * target).sum() + 1) / (share.sum() + target.sum() + 1)
        loss = torch.nn.functional.cross_entropy(logits[None], target[None].long()) - overlap
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 4.0)
        optimizer.step()
        schedule.step()
        running += (float(overlap.detach()) - running) / min(step, 100)
        if step % 250 == 0 or step == iterations:
            install(network, folder)
            log.info("patch %d: %d of %d iterations, Dice %.3f", patch, step, iterations, running)


def _inherit(network: torch.nn.Module) -> None:
    """Begin with what the demo's CT network knows: it tells the organs apart, so only prompting has to be learnt.

    Where it has more channels, the first ones are taken; inputs that it has not (prompts) begin near zero.
    """
    import torch

    file = MODELS / "Dataset901_Phantom_CT_Organs/nnUNetTrainer__nnUNetPlans__3d_fullres/fold_all/checkpoint_final.pth"
    known = torch.load(file, map_location="cpu", weights_only=True)["network_weights"]
    halves = {f"decoder.stages.{stage}.convs.0.conv.weight" for stage in range(3)}
    with torch.no_grad():
        for name, ours in network.named_parameters():
            if "seg_layers" in name or name not in known:
                continue
            theirs, part = known[name], [slice(0, n) for n in ours.shape]
            if name in halves:  # what comes from below and what comes from the side lie one after the other
                ours[:, : ours.shape[1] // 2] = theirs[part[0], : ours.shape[1] // 2]
                start = theirs.shape[1] // 2
                ours[:, ours.shape[1] // 2 :] = theirs[part[0], start : start + ours.shape[1] // 2]
            elif name.endswith("stages.0.0.convs.0.conv.weight"):
                ours.mul_(0.3)
                ours[:, :1] = theirs[part[0]]
            else:
                ours.copy_(theirs[tuple(part)])


def install(network: torch.nn.Module, folder: Path) -> None:
    """Write the folder as nnInteractive wants it; weights as 16-bit floats, half the size."""
    import torch

    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    files: dict[str, Any] = {
        "plans.json": plans(),
        "dataset.json": {
            "channel_names": {"0": "zscore"},
            "labels": {"background": 0, "object": 1},
            "file_ending": ".nii.gz",
        },
        "inference_info.json": {
            "inference_class": "nnInteractiveInferenceSession",
            "point_radius": RADIUS,
            "preferred_scribble_thickness": [1, 1, 1],
            "interaction_decay": DECAY,
            "pad_mode_image": "constant",
            "supported_interactions": {
                "points": True,
                "bbox2d": True,
                "bbox3d": False,
                "lasso": False,
                "scribble": True,
            },
            "supports_initial_label": True,
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    (folder / "LICENSE").write_text(
        "Apache-2.0\nTrained by medsegagent.prompting.train_phantom on synthetic patients.\n"
    )
    shared: dict[int, torch.Tensor] = {}  # a network of nnU-Net's names each tensor several times
    weights = network.state_dict()
    for tensor in weights.values():
        shared.setdefault(tensor.data_ptr(), tensor.half())
    kept = {
        "network_weights": {name: shared[tensor.data_ptr()] for name, tensor in weights.items()},
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": CONFIGURATION},
    }
    torch.save(kept, folder / "fold_0" / "checkpoint_final.pth")


def main() -> None:
    """Train and install."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PHANTOM, help="folder to write")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s")
    log.setLevel(logging.INFO)
    train(arguments.out)


if __name__ == "__main__":
    main()
