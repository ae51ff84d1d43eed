"""Voting of three models on 118 structures at 512x512x250: seconds and memory, from label maps to fused structures.

    python benchmarks/fusion.py

The label maps are made up: ellipsoids of organs' sizes, each model's shifted a little. Compared with what the masks
alone would take as whole volumes. Prints a table and a last line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])]

from inference import OUT, Watch, own_memory  # noqa: E402

from medsegagent.engines.base import Prediction  # noqa: E402
from medsegagent.engines.nnunet.masks import LabelledPart, mask_of  # noqa: E402
from medsegagent.fusion.rules import RULES  # noqa: E402
from medsegagent.fusion.vote import fuse  # noqa: E402
from medsegagent.images.volume import Grid  # noqa: E402
from medsegagent.language.request import Target  # noqa: E402
from medsegagent.planning.plan import PartValues  # noqa: E402

GRID = Grid((512, 512, 250), (0.8, 0.8, 1.5), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
STRUCTURES, SHIFTS = 118, (0, 2, -1)
LARGE = 5
"""So many are as large as a lung or a liver."""


def label_map(shift: int) -> NDArray[np.uint8]:
    """Ellipsoids, `(Z, Y, X)`, one value each, moved by a few voxels along every axis."""
    labels = np.zeros(GRID.shape, np.uint8)
    draw = np.random.default_rng(1)
    for value in range(1, STRUCTURES + 1):
        radius = np.array(GRID.shape) * (
            np.array([0.13, 0.16, 0.16]) if value <= LARGE else draw.uniform(0.02, 0.07, 3)
        )
        centre = np.array(GRID.shape) * draw.uniform(0.15, 0.85, 3) + shift
        low, high = np.maximum(0, centre - radius).astype(int), np.minimum(GRID.shape, centre + radius).astype(int)
        place = tuple(slice(*ends) for ends in zip(low, high, strict=True))
        axes = np.ogrid[place]
        inside = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radius, strict=True)) < 1
        labels[place][inside & (labels[place] == 0)] = value
    return labels


def main() -> None:
    """Print the table."""
    names = [f"structure_{value}" for value in range(1, STRUCTURES + 1)]
    targets = [Target(id=name, name=name, concepts=(name,)) for name in names]
    maps = [label_map(shift) for shift in SHIFTS]
    with Watch(own_memory) as watch:
        predictions = []
        for number, labels in enumerate(maps):
            part = {0: LabelledPart(labels)}
            uses = {name: (PartValues(part=0, values=(value,)),) for value, name in enumerate(names, 1)}
            masks = {name: mask_of(part, use) for name, use in uses.items()}
            predictions.append(Prediction(f"model{number}", "card", 1.0, number, masks, {}, 0.0))
    whole = len(maps) * STRUCTURES * maps[0].size / 2**20
    table = Table("step", "seconds", "MB", title=f"{len(maps)} models, {STRUCTURES} structures, 512x512x250")
    table.add_row("masks as whole volumes, for comparison", "", f"{whole:.0f}")
    table.add_row("label maps -> masks", f"{watch.measured.seconds:.2f}", f"{watch.measured.megabytes:.0f}")
    figures = {"masks_seconds": watch.measured.seconds, "masks_mb": watch.measured.megabytes, "whole_mb": whole}
    for rule in RULES:
        with Watch(own_memory) as watch:
            fuse(predictions, targets, GRID, lambda _, __: False, rule=rule)
        table.add_row(f"vote, {rule}", f"{watch.measured.seconds:.2f}", f"{watch.measured.megabytes:.0f}")
        figures |= {f"{rule}_seconds": watch.measured.seconds, f"{rule}_mb": watch.measured.megabytes}
    OUT.print(table)
    print(json.dumps({name: round(figure, 2) for name, figure in figures.items()}))


if __name__ == "__main__":
    main()
