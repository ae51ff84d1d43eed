"""Read 3D Slicer's `.seg.nrrd`, of any version, and what other programs write under that name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.export.segment import MOST_LABELS, NOT_A_SEGMENTATION, Found, present
from medsegagent.images import nrrd
from medsegagent.images.stored import check_shape, read_exact
from medsegagent.images.volume import Grid


def read_seg_nrrd(path: Path) -> tuple[Grid, list[Found], tuple[str, ...]]:
    """Read the segments: by layer and value where the header gives them.

    Without a layer, the Nth segment of several layers is the Nth layer; without a value, it is all of a layer of its
    own, or the Nth value of a shared one. Values that no segment names become segments too.

    Returns:
        The grid, the segments, and what is in doubt.

    Raises:
        ImageError: If it cannot be read, or a segment names a layer that is not there.
    """
    where = str(path)
    header = nrrd.read_header(path)
    spatial = list(header.spatial)
    while len(spatial) > 3 and header.sizes[spatial[-1]] == 1:
        spatial.pop()
    if len(spatial) == len(header.sizes) == 4:  # no word on which axis lists the layers; Slicer's is the first
        spatial = spatial[1:]
    check_shape(tuple(header.sizes[axis] for axis in spatial), where)
    header = replace(header, spatial=tuple(spatial))
    grid, warnings = nrrd.lay_out(header, where)
    data = read_exact(header.stored)
    data = np.moveaxis(data, [data.ndim - 1 - axis for axis in reversed(spatial)], [-3, -2, -1])
    layers = data.reshape(-1, *data.shape[-3:])
    if layers.dtype.kind == "f":
        if not np.array_equal(layers, np.rint(layers)):
            raise ImageError("its values are no whole numbers, so it is an image", NOT_A_SEGMENTATION, where)
        layers = layers.astype(np.int64)
    found, more = _found(header.pairs, layers, where)
    return grid, found, warnings + more


def _found(pairs: Mapping[str, str], layers: NDArray[Any], where: str) -> tuple[list[Found], tuple[str, ...]]:
    keys = (re.match(r"Segment(\d{1,6})_", key) for key in pairs)
    numbers = sorted({int(key[1]) for key in keys if key})
    values = [[value for value in present(layer) if value != 0] for layer in layers]
    count = max(len(numbers), sum(map(len, values)))
    if count > MOST_LABELS or any(own[0] < 0 for own in values if own):
        raise ImageError(f"{count} different values: this is an image", NOT_A_SEGMENTATION, where)
    places = [_place(pairs, number, order, numbers, values, where) for order, number in enumerate(numbers)]
    claimed: set[tuple[int, int]] = set()
    found: list[Found] = []
    shown = [value for _, value in places]
    distinct = None not in shown and len(set(shown)) == len(shown) and min((v for v in shown if v), default=1) > 0
    for number, (layer, value) in zip(numbers, places, strict=True):
        mask = layers[layer] != 0 if value is None else layers[layer] == value
        claimed |= {(layer, other) for other in values[layer] if value is None or other == value}
        own = value if distinct and value else number + 1
        found.append(Found(own, pairs.get(f"Segment{number}_Name", f"label {number + 1}"), np.ascontiguousarray(mask)))
    rest = [(layer, value) for layer, own in enumerate(values) for value in own if (layer, value) not in claimed]
    taken = {item.value for item in found}
    for layer, value in rest:
        own = value if value not in taken else max(taken) + 1
        taken.add(own)
        found.append(Found(own, f"label {own}", np.ascontiguousarray(layers[layer] == value)))
    if rest and numbers:
        return found, (f"values that no segment's header names were kept as labels: {len(rest)}",)
    return found, ()


def _place(
    pairs: Mapping[str, str],
    number: int,
    order: int,
    numbers: Sequence[int],
    values: Sequence[Sequence[int]],
    where: str,
) -> tuple[int, int | None]:
    """A segment's layer, and its value there; None: all of the layer."""
    try:
        layer_text, value_text = pairs.get(f"Segment{number}_Layer"), pairs.get(f"Segment{number}_LabelValue")
        layer = int(layer_text) if layer_text else (order if len(values) > 1 else 0)
        value = int(value_text) if value_text else None
    except ValueError:
        layer, value = -1, None
    if not 0 <= layer < len(values):
        what = f"segment {number} is in a layer that the file does not have, or its value is no number"
        raise ImageError(what, "Save it again.", where)
    if value is not None:
        return layer, value
    alone = len(values) > 1 or len(numbers) == 1
    if alone:
        return layer, None
    counted = max(values[0], default=0) <= max(numbers) + 1
    if counted or len(values[0]) != len(numbers):
        return layer, number + 1
    return layer, values[0][order]
