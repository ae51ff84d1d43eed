"""Label maps -> masks, without ever spreading one over the whole volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from medsegagent.images.boxed import NOWHERE, Box, Boxed, hull
from medsegagent.planning.plan import PartValues


class LabelledPart:
    """One network's label map `(Z, Y, X)`, and where in it each value lies, looked up once for all of them."""

    def __init__(self, labels: NDArray[np.unsignedinteger]) -> None:
        self.labels = labels
        self._boxes: list[Box | None] = find_objects(labels)

    def box(self, value: int) -> Box:
        """The bounding box of a value, z, y, x."""
        found = self._boxes[value - 1] if value <= len(self._boxes) else None
        return NOWHERE if found is None else found

    def holds(self, values: Sequence[int], box: Box) -> NDArray[np.bool_]:
        """Tell, within a box, where one of the values is."""
        largest = np.iinfo(self.labels.dtype).max
        wanted = np.zeros(largest + 1, dtype=np.bool_)
        wanted[[value for value in values if value <= largest]] = True
        held: NDArray[np.bool_] = wanted[self.labels[box]]
        return held


def mask_of(parts: Mapping[int, LabelledPart], uses: Sequence[PartValues]) -> Boxed[np.bool_]:
    """Return the union over the parts of the voxels that hold one of the values."""
    shape = next(iter(parts.values())).labels.shape
    box = hull(parts[use.part].box(value) for use in uses for value in use.values)
    inside = np.zeros([axis.stop - axis.start for axis in box], dtype=np.bool_)
    for use in uses:
        inside |= parts[use.part].holds(use.values, box)
    return Boxed((shape[0], shape[1], shape[2]), box, inside)


def sides_of(left: Boxed[np.bool_], right: Boxed[np.bool_]) -> Boxed[np.uint8]:
    """Return 1 where the left mask is, 2 where the right one is."""
    box = hull((left.box, right.box))
    sides = left.at(box).astype(np.uint8)
    sides[right.at(box)] = 2
    return Boxed(left.shape, box, sides)
