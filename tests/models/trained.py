"""Folders and archives that look like trained models to everything but a network."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

INNER = "nnUNetTrainer__nnUNetPlans__3d_fullres"
LABELS = {"background": 0, "liver": 1, "spleen": 2}
WEIGHTS = b"weights " * 1000


def model_files(
    dataset: str = "Dataset900_Toy",
    inner: str = INNER,
    labels: Mapping[str, Any] = LABELS,
    *,
    channels: Sequence[str] = ("CT",),
    spacing: Sequence[float] = (1.5, 1.5, 1.5),
    folds: Sequence[str] = ("0",),
    checkpoint: str = "checkpoint_final.pth",
    weights: bytes = WEIGHTS,
) -> dict[str, bytes]:
    """Path -> content, as nnU-Net and its export lay a model out; `dataset` and `inner` may be empty."""
    plans = {
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": {"spacing": list(spacing)}},
    }
    names = {str(index): name for index, name in enumerate(channels)}
    files = {
        "dataset.json": json.dumps({"channel_names": names, "labels": dict(labels)}).encode(),
        "plans.json": json.dumps(plans).encode(),
    }
    files |= {f"fold_{fold}/{checkpoint}": weights for fold in folds}
    top = "/".join(name for name in (dataset, inner) if name)
    return {f"{top}/{path}" if top else path: content for path, content in files.items()}


def write_zip(file: Path, files: Mapping[str, bytes]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in files.items():
            info = zipfile.ZipInfo(path)  # of 1980: made anew a second later, it is the same archive
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return file


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder
