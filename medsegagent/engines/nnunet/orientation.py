"""Axis flips and permutations to RAS+ index order and exactly back: no voxel is interpolated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.volume import Grid


@dataclass(frozen=True)
class Reorientation:
    """How a grid's index axes map to the nearest patient axes.

    Attributes:
        axes: RAS+ array axis (Z, Y, X order) -> the grid's own array axis.
        flips: Own array axes that run against RAS+.
    """

    axes: tuple[int, int, int]
    flips: tuple[int, ...]

    def apply(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring `(Z, Y, X)` on the own grid to RAS+ order; a view."""
        return np.flip(array, self.flips).transpose(self.axes)

    def undo(self, labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
        """Bring `(Z, Y, X)` in RAS+ order back to the own grid; a view."""
        return np.flip(labels.transpose(np.argsort(self.axes)), self.flips)

    def spacing(self, own: tuple[float, ...]) -> tuple[float, ...]:
        """Reorder a spacing given along the own array axes, Z, Y, X."""
        return tuple(own[axis] for axis in self.axes)


AS_STORED = Reorientation((0, 1, 2), ())


def to_ras(grid: Grid) -> Reorientation:
    """The flips and permutation that bring arrays on `grid` closest to RAS+ (right, anterior, superior)."""
    from nibabel.orientations import io_orientation

    affine = np.eye(4)
    lps = np.array(grid.direction).reshape(3, 3) * np.array(grid.spacing)
    affine[:3, :3] = np.diag([-1.0, -1.0, 1.0]) @ lps
    # Row i: the patient axis that index axis i runs along, and in which sense.
    patient_axis, sense = io_orientation(affine).T
    index_axis = np.argsort(patient_axis)
    z, y, x = (2 - int(axis) for axis in index_axis[::-1])
    return Reorientation((z, y, x), tuple(2 - axis for axis in range(3) if sense[axis] < 0))
