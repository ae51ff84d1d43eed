"""Bounding boxes: an organ fills a few percent of a scan, and nothing need be counted outside it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]


def box_of(masks: Iterable[NDArray[np.bool_]]) -> Box:
    """Return the smallest box, z, y, x, that holds every mask; one voxel at the origin if all are empty."""
    boxes = [box for mask in masks if (box := _box(mask)) is not None]
    if not boxes:
        return slice(0, 1), slice(0, 1), slice(0, 1)
    z, y, x = (
        slice(min(part.start for part in parts), max(part.stop for part in parts)) for parts in zip(*boxes, strict=True)
    )
    return z, y, x


def _box(mask: NDArray[np.bool_]) -> Box | None:
    """Narrow one axis after the other, so that only the first reduction reads the whole mask."""
    z = _range(mask.any(axis=(1, 2)))
    if z is None:
        return None
    y = _range(mask[z].any(axis=(0, 2)))
    assert y is not None
    x = _range(mask[z, y].any(axis=(0, 1)))
    assert x is not None
    return z, y, x


def _range(held: NDArray[np.bool_] | np.bool_) -> slice | None:
    where = np.flatnonzero(held)
    return slice(int(where[0]), int(where[-1]) + 1) if where.size else None
