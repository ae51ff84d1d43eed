"""Volumes that are 0 almost everywhere: an organ fills a few percent of a scan, so only its bounding box is kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Kind = TypeVar("Kind", bound=np.generic)
Box = tuple[slice, slice, slice]
Shape = tuple[int, int, int]

NOWHERE: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


@dataclass(frozen=True)
class Boxed(Generic[Kind]):
    """A volume that is 0 outside its bounding box.

    A hundred masks of a whole-body scan take about twice the memory of one, since their boxes add up to about that.

    Attributes:
        shape: Of the whole volume, `(Z, Y, X)`.
        box: The smallest box, z, y, x, outside which all is 0; `NOWHERE` if nothing is inside.
        inside: What the box holds.
    """

    shape: Shape
    box: Box
    inside: NDArray[Kind]

    @classmethod
    def of(cls, array: NDArray[Kind]) -> Boxed[Kind]:
        """Keep what is not 0 of a volume `(Z, Y, X)`."""
        depth, height, width = array.shape
        whole = slice(0, depth), slice(0, height), slice(0, width)
        return cls.within((depth, height, width), whole, array)

    @classmethod
    def within(cls, shape: Shape, box: Box, values: NDArray[Kind]) -> Boxed[Kind]:
        """Keep what is not 0 of a part of a volume: `values` lie at `box`, all else is 0."""
        tight = bounding_box(values)
        if tight is None:
            return cls(shape, NOWHERE, np.zeros((0, 0, 0), dtype=values.dtype))
        z, y, x = (slice(outer.start + t.start, outer.start + t.stop) for outer, t in zip(box, tight, strict=True))
        inside = values[tight]
        return cls(shape, (z, y, x), inside if inside.size == values.size else inside.copy())  # let go of the rest

    @property
    def count(self) -> int:
        """Voxels that are not 0."""
        return int(np.count_nonzero(self.inside))

    def any(self) -> bool:
        """Tell whether any voxel is not 0."""
        return self.inside.size > 0

    def at(self, box: Box) -> NDArray[Kind]:
        """Return the values in any box of the volume, as an array of its own."""
        values = np.zeros([part.stop - part.start for part in box], dtype=self.inside.dtype)
        if (common := intersection(self.box, box)) is not None:
            values[relative(common, box)] = self.inside[relative(common, self.box)]
        return values

    def cropped(self, box: Box) -> Boxed[Kind]:
        """Return a part of the volume as a volume of its own."""
        depth, height, width = (part.stop - part.start for part in box)
        shape = depth, height, width
        if (common := intersection(self.box, box)) is None:
            return Boxed.within(shape, NOWHERE, self.inside[:0])
        return Boxed.within(shape, relative(common, box), self.inside[relative(common, self.box)])

    def dense(self) -> NDArray[Kind]:
        """Return the whole volume `(Z, Y, X)`, made anew at each call."""
        values = np.zeros(self.shape, dtype=self.inside.dtype)
        values[self.box] = self.inside
        return values

    def __array__(self, dtype: np.dtype[Kind] | None = None, copy: bool | None = None) -> NDArray[Kind]:
        """Let NumPy's functions take it for the whole volume."""
        return self.dense() if dtype is None else self.dense().astype(dtype)


def shared(first: Boxed[np.bool_], second: Boxed[np.bool_]) -> int:
    """Count the voxels that are in both masks."""
    if (common := intersection(first.box, second.box)) is None:
        return 0
    return int(
        np.count_nonzero(first.inside[relative(common, first.box)] & second.inside[relative(common, second.box)])
    )


def intersection(first: Box, second: Box) -> Box | None:
    """Return where two boxes meet; None if they do not."""
    z, y, x = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return (z, y, x) if all(part.start < part.stop for part in (z, y, x)) else None


def hull(boxes: Iterable[Box]) -> Box:
    """Return the smallest box that holds all of them; `NOWHERE` if they are."""
    filled = [box for box in boxes if all(part.start < part.stop for part in box)]
    if not filled:
        return NOWHERE
    z, y, x = (
        slice(min(part.start for part in parts), max(part.stop for part in parts))
        for parts in zip(*filled, strict=True)
    )
    return z, y, x


def relative(part: Box, box: Box) -> Box:
    """Return where a part of the volume lies in an array that holds `box`."""
    z, y, x = (slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
    return z, y, x


def bounding_box(values: NDArray[Kind]) -> Box | None:
    """The smallest box, z, y, x, of what is not 0; None if all is.

    One axis is narrowed after the other, so that only the first reduction reads the whole array.
    """
    if (z := _range(values.any(axis=(1, 2)))) is None:
        return None
    y = _range(values[z].any(axis=(0, 2)))
    assert y is not None
    x = _range(values[z, y].any(axis=(0, 1)))
    assert x is not None
    return z, y, x


def _range(held: NDArray[np.bool_] | np.bool_) -> slice | None:
    where = np.flatnonzero(held)
    return slice(int(where[0]), int(where[-1]) + 1) if where.size else None
