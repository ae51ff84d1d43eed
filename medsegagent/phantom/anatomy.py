"""The phantom's anatomy: organs as jittered ellipsoids in a warped torso.

Coordinates are patient mm about the middle of the torso: x to the patient's left, y to the back, z to the head (LPS).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

Points = NDArray[np.float32]
"""`(N, 3)`, mm."""
Inside = NDArray[np.bool_]
"""`(N,)`."""


class Tissue(IntEnum):
    """Every material in the phantom; the first ones are structures with a truth, the others surroundings."""

    LUNG_LEFT = 1
    LUNG_RIGHT = 2
    LIVER = 3
    LIVER_LESION = 4
    SPLEEN = 5
    KIDNEY_LEFT = 6
    KIDNEY_RIGHT = 7
    STOMACH = 8
    AORTA = 9
    BLADDER = 10
    VERTEBRAE = 11
    AIR = 12
    FAT = 13
    MUSCLE = 14
    BOWEL = 15
    HEART = 16
    BONE = 17
    STOMACH_GAS = 18


@dataclass(frozen=True)
class Blob:
    """An ellipsoid: centre and half-axes in mm, and the angle in degrees by which it leans about the y axis."""

    centre: tuple[float, float, float]
    half_axes: tuple[float, float, float]
    lean: float = 0.0


ORGANS: dict[Tissue, tuple[Blob, ...]] = {
    Tissue.HEART: (Blob((22, -32, 88), (50, 42, 46), 20),),
    Tissue.LUNG_LEFT: (Blob((72, 4, 92), (50, 80, 96)),),
    Tissue.LUNG_RIGHT: (Blob((-70, 4, 92), (54, 82, 98)),),
    Tissue.LIVER: (Blob((-68, -2, 10), (72, 76, 62), -12), Blob((0, -42, 26), (66, 34, 28), 12)),
    Tissue.SPLEEN: (Blob((100, 40, 14), (27, 42, 46), -14),),
    Tissue.STOMACH: (Blob((62, -26, 20), (33, 38, 46), -12), Blob((26, -46, -26), (44, 24, 22), -24)),
    Tissue.KIDNEY_RIGHT: (Blob((-60, 48, -48), (27, 25, 50), 10),),
    Tissue.KIDNEY_LEFT: (Blob((62, 48, -34), (27, 25, 52), -10),),
    Tissue.BLADDER: (Blob((0, -34, -138), (42, 34, 27)),),
}
"""In painting order: a later organ takes the voxels it shares with an earlier one."""

_HALF_WIDTH, _HALF_DEPTH = 158.0, 108.0
_VERTEBRA_PITCH, _DISC = 33.0, 8.0
_SPINE_Y = 58.0
_AORTA_END = -78.0
_LESION_RADIUS = (13.0, 19.0)


def tissues(points: Points, shape: tuple[int, int, int], spacing: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw one patient.

    Args:
        points: Patient coordinates of every voxel, `(Z*Y*X, 3)`, mm, LPS about the torso's middle.
        shape: Z, Y, X.
        spacing: Mean voxel size in mm, to keep the lesion clear of the liver's surface.
        rng: The only source of chance.

    Returns:
        `Tissue` values, `(Z, Y, X)`.
    """
    body = _warp(_pose(points, rng), rng)
    drawn = np.full(len(points), Tissue.AIR, np.uint8)

    def paint(tissue: Tissue, where: Inside) -> None:
        drawn[where] = tissue

    _paint_trunk(paint, body, rng)
    for tissue, blobs in ORGANS.items():
        paint(tissue, _any_inside(body, [_jittered(blob, rng) for blob in blobs]) & (drawn != Tissue.AIR))
    stomach = drawn == Tissue.STOMACH
    level = np.quantile(body[stomach, 1], rng.uniform(0.08, 0.3))  # gas rises to the front of a patient lying supine
    paint(Tissue.STOMACH_GAS, stomach & (body[:, 1] < level))
    _paint_spine_and_aorta(paint, body, rng)
    volume = drawn.reshape(shape)
    _add_lesions(volume, points.reshape(*shape, 3), spacing, rng)
    return volume


def _pose(points: Points, rng: np.random.Generator) -> Points:
    """Undo the patient's own position, rotation (up to a few degrees) and size."""
    turn = Rotation.from_euler("xyz", rng.normal(0.0, 2.5, 3), degrees=True).as_matrix()
    scale = rng.uniform(0.92, 1.06) * rng.uniform(0.95, 1.05, 3)
    moved = points - rng.normal(0.0, 4.0, 3)
    return np.asarray(moved @ turn / scale, np.float32)


def _warp(points: Points, rng: np.random.Generator) -> Points:
    """Bend space with a few long waves, a few mm each."""
    warped = points.copy()
    for _ in range(4):
        direction = rng.normal(size=3)
        wave = direction / np.linalg.norm(direction) * (2 * np.pi / rng.uniform(90.0, 240.0))
        phase = np.sin(points @ wave.astype(np.float32) + rng.uniform(0, 2 * np.pi))
        warped += phase[:, None] * rng.normal(0.0, 2.2, 3).astype(np.float32)
    return warped


def _jittered(blob: Blob, rng: np.random.Generator) -> Blob:
    centre = np.array(blob.centre) + rng.normal(0.0, 3.0, 3)
    half_axes = np.array(blob.half_axes) * rng.uniform(0.9, 1.1, 3)
    return Blob(tuple(centre), tuple(half_axes), blob.lean + rng.normal(0.0, 5.0))


def _any_inside(points: Points, blobs: list[Blob]) -> Inside:
    inside = np.zeros(len(points), bool)
    for blob in blobs:
        turn = Rotation.from_euler("y", blob.lean, degrees=True).as_matrix().astype(np.float32)
        local = (points - np.asarray(blob.centre, np.float32)) @ turn / np.asarray(blob.half_axes, np.float32)
        inside |= np.einsum("ij,ij->i", local, local) < 1
    return inside


def _ring(points: Points, shrink: float) -> Inside:
    """Inside the trunk's cross-section, `shrink` mm below the skin; a rounded box rather than an ellipse."""
    across = np.abs(points[:, 0]) / (_HALF_WIDTH - shrink)
    deep = np.abs(points[:, 1]) / (_HALF_DEPTH - shrink)
    return np.asarray(across**2.4 + deep**2.4 < 1)


def _paint_trunk(paint: Callable[[Tissue, Inside], None], points: Points, rng: np.random.Generator) -> None:
    """Skin to cavity: fat, muscle, ribs and pelvis, then fat with bowel loops."""
    fat, wall = rng.uniform(8.0, 22.0), rng.uniform(9.0, 14.0)
    x, y, z = points.T
    paint(Tissue.FAT, _ring(points, 0.0))
    muscle = _ring(points, fat)
    cavity = _ring(points, fat + wall)
    paint(Tissue.MUSCLE, muscle)
    slope = z + 0.35 * y  # ribs fall towards the front
    ribs = muscle & ~_ring(points, fat + 8.0) & (np.mod(slope + rng.uniform(0, 30), 30.0) < 11.0) & (z > -30)
    paint(Tissue.BONE, ribs)
    diaphragm = 50.0 - 0.003 * x**2 - 0.005 * y**2
    paint(Tissue.MUSCLE, cavity & (z > diaphragm))  # mediastinum, whatever lungs and heart leave free
    paint(Tissue.FAT, cavity & (z <= diaphragm))
    loops = sum(
        np.sin(points @ (rng.normal(size=3) * 0.075).astype(np.float32) + rng.uniform(0, 6.28)) for _ in range(6)
    )
    paint(Tissue.BOWEL, cavity & (z < -10) & (y < 20) & (np.asarray(loops) > 0.4))
    pelvis = [Blob((side * 98.0, 28.0, -128.0), (16.0, 46.0, 44.0), side * 24.0) for side in (-1.0, 1.0)]
    paint(Tissue.BONE, _any_inside(points, pelvis) & muscle)
    psoas = [Blob((side * 38.0, 52.0, -85.0), (18.0, 18.0, 75.0), side * 6.0) for side in (-1.0, 1.0)]
    paint(Tissue.MUSCLE, _any_inside(points, psoas) & cavity)


def _paint_spine_and_aorta(paint: Callable[[Tissue, Inside], None], points: Points, rng: np.random.Generator) -> None:
    x, y, z = points.T
    curve = rng.normal(0.0, 4.0) * np.sin(z / 80.0 + rng.uniform(0, 6.28))
    sway = rng.normal(0.0, 5.0) * np.sin(z / 95.0 + rng.uniform(0, 6.28))
    across, behind = x - curve, y - _SPINE_Y - sway
    body = np.hypot(across, behind) < rng.uniform(19.0, 22.5)
    in_disc = np.mod(z + rng.uniform(0, _VERTEBRA_PITCH), _VERTEBRA_PITCH) < _DISC
    arch = (np.abs(across) < 9) & (behind > 16) & (behind < 42)
    wings = (np.abs(across) < 34) & (np.abs(behind - 26) < 6)
    canal = np.hypot(across, behind - 27) < 7.5
    paint(Tissue.MUSCLE, body)
    paint(Tissue.VERTEBRAE, (body | arch | wings) & ~in_disc)
    paint(Tissue.MUSCLE, canal)
    tube = np.hypot(across - 13 - rng.normal(0.0, 2.5), behind + 34 + rng.normal(0.0, 2.0))
    paint(Tissue.AORTA, (tube < rng.uniform(10.5, 13.5)) & (z > _AORTA_END + rng.normal(0.0, 8.0)))


def _add_lesions(volume: NDArray[np.uint8], points: Points, spacing: float, rng: np.random.Generator) -> None:
    """Put one lesion into the liver, in every third patient two."""
    for _ in range(1 + int(rng.random() < 1 / 3)):
        radius = rng.uniform(*_LESION_RADIUS)
        depth = ndimage.distance_transform_edt(volume == Tissue.LIVER) * spacing
        candidates = np.argwhere(depth >= min(radius, float(depth.max())))
        centre = points[tuple(candidates[rng.integers(len(candidates))])]
        half_axes = radius * rng.uniform(0.9, 1.1, 3)
        lesion = (((points - centre) / half_axes.astype(np.float32)) ** 2).sum(axis=-1) < 1
        volume[lesion & (volume == Tissue.LIVER)] = Tissue.LIVER_LESION
