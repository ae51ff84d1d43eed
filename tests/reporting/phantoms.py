"""A box of a patient: two organs and a lesion, voted on by two models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.base import Prediction
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.fusion.vote import fuse
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid, ModalityEvidence, Volume
from medsegagent.language.request import Target

GRID = Grid((20, 16, 12), (1.0, 2.0, 5.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
TARGETS = (
    Target(id="liver", name="liver", concepts=("liver",)),
    Target(id="tumor.liver", name="liver tumour", concepts=("tumor.liver",)),
    Target(id="kidney", name="kidneys", concepts=("kidney",)),
)


def box(*ranges: tuple[int, int]) -> NDArray[np.bool_]:
    """Voxels within z, y, x ranges."""
    mask = np.zeros(GRID.shape, dtype=bool)
    mask[tuple(slice(*part) for part in ranges)] = True
    return mask


LIVER = box((2, 8), (2, 8), (2, 9))
TUMOR = box((3, 5), (3, 5), (3, 5))
LEFT, RIGHT = box((0, 4), (10, 14), (12, 16)), box((0, 4), (10, 14), (2, 6))


def predictions() -> list[Prediction]:
    """The second model says less of the liver and nothing of the tumour, and does not tell the sides."""
    sides = LEFT.astype(np.uint8) + 2 * RIGHT.astype(np.uint8)
    kidneys = LEFT | RIGHT
    first = {"liver": Boxed.of(LIVER), "tumor.liver": Boxed.of(TUMOR), "kidney": Boxed.of(kidneys)}
    less = LIVER & box((2, 8), (2, 8), (2, 7)), kidneys & box((0, 3), (0, 16), (0, 20))
    second = {"liver": Boxed.of(less[0]), "kidney": Boxed.of(less[1])}
    return [
        Prediction("org/first", "A", 1.0, 1, first, {"kidney": Boxed.of(sides)}, 1.0),
        Prediction("org/second", "B", 1.0, 2, second, {}, 1.0),
    ]


def segmentation() -> Segmentation:
    """What the two agree on."""
    return fuse(predictions(), TARGETS, GRID, lambda outer, inner: outer == inner or inner == f"tumor.{outer}")


def volume(channel: str = "", grid: Grid = GRID) -> Volume:
    """Liver at 60 HU, tumour at 20, else fat in air."""
    array = np.full(grid.shape, -1000, np.float32)
    array[:, 1:-1, 1:-1] = -100
    if grid.shape == GRID.shape:
        array[LIVER], array[TUMOR] = 60, 20
    evidence = ModalityEvidence("CT", 0.97, "air")
    return Volume(array, grid, channel, Path("scan.nii.gz"), "0" * 64, evidence)
