"""A volume: voxels and where they are in the patient."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Grid:
    """The voxel grid in patient space, in SimpleITK's terms.

    Attributes:
        size: Voxels along x, y, z (index axes, not patient axes). Arrays on this grid have shape `size[::-1]`.
        spacing: mm along each index axis.
        origin: Centre of voxel (0, 0, 0), mm, LPS.
        direction: 3x3 row-major direction cosines, LPS: column j is the direction of index axis j.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Array shape, Z, Y, X."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in mL."""
        return float(np.prod(self.spacing)) / 1000.0

    def points(self, indices: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
        """Map voxel indices `(N, 3)` in x, y, z order to patient points `(N, 3)`, mm, LPS."""
        matrix = np.array(self.direction, dtype=np.float64).reshape(3, 3) * np.array(self.spacing)
        points: NDArray[np.float64] = np.asarray(indices, dtype=np.float64) @ matrix.T + np.array(self.origin)
        return points


@dataclass(frozen=True)
class ModalityEvidence:
    """What an image says about its own modality.

    `family` is "CT", "MR" or "PET", or None if undecided; `confidence` is in [0, 1], 1 for a tag; `reason` is one
    short sentence.
    """

    family: str | None
    confidence: float
    reason: str


@dataclass(frozen=True)
class Volume:
    """One image, read once.

    `array` is float32, `(Z, Y, X)`, in the file's own index order (never reoriented), intensities as stored with
    slope and intercept applied (HU for CT).
    """

    array: NDArray[np.float32]
    grid: Grid
    channel: str
    """Name given by the user (`-i FLAIR=...`), else ""."""
    path: Path
    sha256: str
    evidence: ModalityEvidence
    warnings: tuple[str, ...] = field(default=())
    unit: str = ""
    """Of the intensities where tags give it: "HU", "SUVbw"; else ""."""
    series: str = ""
    """Of DICOM, the key of the series at `path` that was read."""
    space: str = field(default="", repr=False)
    """Of DICOM, the frame of reference's UID: to compare, never to show."""
