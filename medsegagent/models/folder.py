"""One trained model's folder, as nnU-Net leaves it: dataset.json, plans.json, fold_N/checkpoint."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsegagent.cards.card import Fold
from medsegagent.errors import ModelError
from medsegagent.untrusted import read_json_object, reason

JSON_LIMIT = 16 * 2**20
"""Bytes of dataset.json or plans.json; the largest public ones have some hundred KB."""

_LARGEST_VALUE = 65535
_NARROWEST, _WIDEST = 1e-3, 1e4
"""Of a training grid, mm."""


@dataclass(frozen=True)
class TrainedFolder:
    """What the JSON files of a trained model say.

    Attributes:
        labels: The network's own label names -> its output values; neither background nor the ignore label.
        channels: Channel names in the network's order.
        spacing_mm: Training grid, x, y, z; None for 2D configurations, whose slices keep their distance.
    """

    labels: dict[str, tuple[int, ...]]
    channels: tuple[str, ...]
    spacing_mm: tuple[float, float, float] | None


def read_trained_folder(folder: Path) -> TrainedFolder:
    """Read what a model's own files say of it. Nothing named in them is imported.

    Raises:
        ModelError: If dataset.json or plans.json is missing or damaged, or the configuration is a cascade's stage.
    """
    dataset = read_json(folder / "dataset.json")
    plans = read_json(folder / "plans.json")
    try:
        configuration = resolve_configuration(plans, folder.name.split("__")[2])
        if configuration.get("previous_stage"):
            raise ModelError("a cascade's second stage, which is not supported", "Use 3d_fullres.", str(folder))
        return TrainedFolder(
            labels=_labels(dataset["labels"]),
            channels=_channels(dataset),
            spacing_mm=_spacing(configuration["spacing"], plans["transpose_backward"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        what = f"dataset.json or plans.json is not nnU-Net v2's ({type(error).__name__}: {error})"
        raise ModelError(what, "Install the model again.", str(folder)) from error


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ModelError: If there is none.
    """
    try:
        return read_json_object(file, JSON_LIMIT)
    except FileNotFoundError as error:
        raise ModelError(f"{file.name} is missing", "Install the model again.", str(file.parent)) from error
    except (OSError, ValueError) as error:
        what = f"{file.name} is not readable JSON ({reason(error)})"
        raise ModelError(what, "Install the model again.", str(file.parent)) from error


def resolve_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One configuration of a plans.json with what it inherits.

    Raises:
        KeyError: If it, or one that it inherits from, does not exist.
        ValueError: If the inheritance is circular.
    """
    chain: list[Mapping[str, Any]] = []
    parent: str | None = name
    while parent is not None:
        if len(chain) > len(plans["configurations"]):
            raise ValueError(f"configuration {name} inherits from itself")
        chain.append(plans["configurations"][parent])
        parent = chain[-1].get("inherits_from")
    return {key: value for configuration in reversed(chain) for key, value in configuration.items()}


def installed_folds(folder: Path, checkpoint: str) -> tuple[Fold, ...]:
    """Folds that hold the checkpoint, numbered ones first choice: like nnU-Net, `all` only where it is alone."""
    names = (re.fullmatch(r"fold_([0-9]{1,3})", path.parent.name) for path in folder.glob(f"fold_*/{checkpoint}"))
    numbered = tuple(sorted(int(match[1]) for match in names if match))
    if numbered:
        return numbered
    return ("all",) if os.path.isfile(folder / "fold_all" / checkpoint) else ()


def match_names(wanted: Iterable[str], offered: Iterable[str]) -> dict[str, str]:
    """Pair names: exact, else ignoring case, spaces and punctuation where that is unambiguous."""
    exact = set(offered)
    loose: dict[str, list[str]] = {}
    for name in exact:
        loose.setdefault(squashed(name), []).append(name)
    pairs = {}
    for name in wanted:
        candidates = [name] if name in exact else loose.get(squashed(name), [])
        if len(candidates) == 1:
            pairs[name] = candidates[0]
    return pairs


def squashed(name: str) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _labels(labels: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    values = {name: tuple(map(_value, v)) if isinstance(v, list) else (_value(v),) for name, v in labels.items()}
    return {name: v for name, v in values.items() if name not in ("background", "ignore") and v != (0,)}


def _value(raw: Any) -> int:
    value = int(raw) if isinstance(raw, int) or re.fullmatch(r"[0-9]{1,5}", str(raw)) else -1
    if not 0 <= value <= _LARGEST_VALUE:
        raise ValueError(f"a label has the value {raw!r:.40}")
    return value


def _channels(dataset: Mapping[str, Any]) -> tuple[str, ...]:
    names = dataset["channel_names"] if "channel_names" in dataset else dataset["modality"]
    if strange := [key for key in names if not re.fullmatch(r"[0-9]{1,3}", key)]:
        raise ValueError(f"a channel has the number {strange[0]!r:.40}")
    return tuple(str(names[key]) for key in sorted(names, key=int))


def _spacing(spacing: list[float], transpose_backward: list[int]) -> tuple[float, float, float] | None:
    if not all(_NARROWEST <= float(edge) <= _WIDEST for edge in spacing):
        raise ValueError(f"the spacing is {spacing!r:.80}")
    if len(spacing) != 3:
        return None
    if sorted(transpose_backward) != [0, 1, 2]:
        raise ValueError(f"transpose_backward is {transpose_backward!r:.80}")
    z, y, x = (float(spacing[axis]) for axis in transpose_backward)
    return x, y, z
