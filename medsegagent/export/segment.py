"""What every writer here takes: named, coloured, coded masks on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.volume import Grid
from medsegagent.images.write import Label

MOST_LABELS = 1000
_NARROW = 2**20
NOT_A_SEGMENTATION = "Give a label map (NIfTI, NRRD, MHA), a .seg.nrrd, a DICOM SEG or the folder of a run."


@dataclass(frozen=True)
class Coding:
    """What a segment is, in SNOMED CT.

    Attributes:
        code: Concept identifier; empty if the vocabulary has none.
        meaning: In words, for people.
        side: The patient's side, for one of a pair.
        lesion: A morphologically abnormal structure, not an anatomical one.
    """

    code: str
    meaning: str
    side: Literal["left", "right", ""] = ""
    lesion: bool = False


@dataclass(frozen=True)
class Segment:
    """One mask.

    Attributes:
        id: Safe as a file name and unique.
        name: For people.
        mask: bool, `(Z, Y, X)`.
        value: In label maps, from 1.
        colour: Red, green, blue, 0 to 255.
        coding: None if nothing is known but the name.
    """

    id: str
    name: str
    mask: NDArray[np.bool_]
    value: int
    colour: tuple[int, int, int]
    coding: Coding | None = None

    @property
    def label(self) -> Label:
        """Its entry in a label map."""
        return Label(self.value, self.id, self.name, self.colour)


@dataclass(frozen=True)
class Segments:
    """Segments on one grid, containing before contained: where a format has one value per voxel, the later wins."""

    grid: Grid
    items: tuple[Segment, ...]
    warnings: tuple[str, ...] = ()
    """What was in doubt when they were read."""


@dataclass(frozen=True)
class Found:
    """What a reader finds of a segment: its value, name and mask `(Z, Y, X)`, and its code where the format has one."""

    value: int
    name: str
    mask: NDArray[np.bool_]
    coding: Coding | None = None


def segments_of(
    segmentation: Segmentation, colours: Mapping[str, tuple[int, int, int]], codings: Mapping[str, Coding]
) -> Segments:
    """Take a fused segmentation's structures.

    Args:
        segmentation: The fused structures.
        colours: By structure id.
        codings: By structure id; a structure that is absent is known by its name alone.
    """
    ordered = sorted(segmentation.structures, key=lambda item: (item.layer, -item.where.count))
    items = [
        Segment(item.id, item.name, item.mask, item.value, colours[item.id], codings.get(item.id)) for item in ordered
    ]
    return Segments(segmentation.grid, tuple(items))


def bounding_box(mask: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The smallest box that holds all of a mask that is not empty, one slice per axis."""
    box = []
    for axis in range(mask.ndim):
        held = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(held[0]), int(held[-1]) + 1))
    return tuple(box)


def label_map(segments: Sequence[Segment], shape: tuple[int, int, int]) -> NDArray[np.unsignedinteger]:
    """Paint segments in order, `(Z, Y, X)`, 0 where there is none; of the smallest type that holds their values."""
    array = np.zeros(shape, dtype=np.min_scalar_type(max((item.value for item in segments), default=0)))
    for segment in segments:
        array[segment.mask] = segment.value
    return array


def layers(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Spread segments over as few layers as needed so that none overlaps another in its layer (first fit)."""
    found: list[tuple[NDArray[np.bool_], list[Segment]]] = []
    for segment in segments:
        for taken, layer in found:
            if not np.any(taken & segment.mask):
                taken |= segment.mask
                layer.append(segment)
                break
        else:
            found.append((segment.mask.copy(), [segment]))
    return [layer for _, layer in found]


def present(array: NDArray[Any]) -> list[int]:
    """Return the values that occur, sorted; without sorting the voxels where their range allows."""
    low, high = int(array.min()), int(array.max())
    if high - low < _NARROW:
        seen = np.zeros(high - low + 1, dtype=bool)
        for part in array:
            seen[part.astype(np.int64) - low] = True
        return [int(value) + low for value in np.flatnonzero(seen)]
    found: set[int] = set()
    for part in array:
        found.update(np.unique(part).tolist())
    return sorted(found)
