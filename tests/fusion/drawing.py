"""Votes drawn as text: one character per voxel of a 1x1xN volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsegagent.engines.base import Prediction
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.fusion.vote import fuse
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.language.request import Target

HOLDS = {("kidney", "tumor.kidney"), ("liver", "tumor.liver"), ("tumor.liver", "necrosis")}


def contains(outer: str, inner: str) -> bool:
    """A toy anatomy."""
    return outer == inner or (outer, inner) in HOLDS


def line_grid(width: int) -> Grid:
    """A row of voxels."""
    return Grid((width, 1, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))


def drawn(text: str) -> NDArray[np.uint8]:
    """`X` and `L` are 1, `R` is 2, all else 0."""
    return np.array([{"X": 1, "L": 1, "R": 2}.get(char, 0) for char in text], np.uint8).reshape(1, 1, -1)


def voter(rank: int, weight: float = 1.0, **votes: str) -> Prediction:
    """A model's votes, target id -> drawing; one with L or R in it tells the sides."""
    return Prediction(
        model=f"model{rank}",
        card=f"card{rank}",
        weight=weight,
        rank=rank,
        masks={target: Boxed.of(drawn(text) > 0) for target, text in votes.items()},
        sides={target: Boxed.of(drawn(text)) for target, text in votes.items() if "L" in text or "R" in text},
        seconds=0.0,
    )


def target(name: str, *concepts: str) -> Target:
    """A target of that concept, or of those."""
    return Target(id=name, name=name, concepts=concepts or (name,))


def fused(*voters: Prediction, targets: tuple[Target, ...] = ()) -> Segmentation:
    """Fuse drawn votes; targets default to all that are voted on, in order."""
    first = next(iter(voters[0].masks.values()))
    names = dict.fromkeys(name for item in voters for name in item.masks)
    wanted = targets or tuple(target(name) for name in names)
    return fuse(voters, wanted, line_grid(first.shape[2]), contains)


def picture(*voters: Prediction, targets: tuple[Target, ...] = ()) -> dict[str, str]:
    """Fuse and draw the masks, structure id -> drawing."""
    return {
        item.id: "".join("X" if yes else "." for yes in item.mask.ravel())
        for item in fused(*voters, targets=targets).structures
    }
