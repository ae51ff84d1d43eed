"""Frames of one series -> the volumes they make: by size, spacing and direction, then by what tells repeats apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medsegagent.images.dicom_frames import Frame

_NOT_SHOWN = (
    *("AcquisitionTime", "ContentTime", "SeriesTime", "TriggerTime", "StackID"),
    *("SeriesDescription", "ProtocolName"),
)

Place = tuple[float, ...]


def stacks(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one size, spacing and direction (within half a degree)."""
    found: list[list[Frame]] = []
    for frame in frames:
        for stack in found:
            if _alike(stack[0], frame):
                stack.append(frame)
                break
        else:
            found.append([frame])
    return found


def _alike(a: Frame, b: Frame) -> bool:
    if (a.index is None) != (b.index is None):  # no tag tells frames of the two kinds apart
        return False
    if a.shape != b.shape or (a.spacing is None) != (b.spacing is None) or (a.row is None) != (b.row is None):
        return False
    if a.spacing and b.spacing and not np.allclose(a.spacing, b.spacing, rtol=1e-3):
        return False
    turned = [(a.row, b.row), (a.column, b.column)]
    return all(float(np.dot(u, v)) > 0.99996 for u, v in turned if u is not None and v is not None)


def split(frames: list[Frame]) -> list[tuple[str, list[Frame]]]:
    """Split a stack in which images repeat at the same places by the first tag that tells the repeats apart.

    That is one whose values each cover all places; else, for a part that was scanned twice, one with no more values
    than there are repeats and no place twice under any of them.
    """
    places = Counter(_place(frame) for frame in frames)
    if len(places) == len(frames):
        return [("", frames)]
    sorted_by = {trait: _parts(frames, trait) for trait in frames[0].traits}
    for fits in (_covers, _tells_apart):
        for trait, parts in sorted_by.items():
            if len(parts) > 1 and fits(parts, places):
                found = []
                for number, (value, part) in enumerate(sorted(parts.items(), key=by_value), 1):
                    label = f"[{number} of {len(parts)}]" if trait in _NOT_SHOWN else f"[{trait} {value}]"
                    found += [(f"{label} {deeper}".strip(), deepest) for deeper, deepest in split(part)]
                return found
    return [("", frames)]


def _parts(frames: Sequence[Frame], trait: str) -> dict[str, list[Frame]]:
    parts: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        parts[frame.traits[trait]].append(frame)
    return parts


def _covers(parts: Mapping[str, Sequence[Frame]], places: Counter[Place]) -> bool:
    return min(len({_place(frame) for frame in part}) for part in parts.values()) >= 0.8 * len(places)


def _tells_apart(parts: Mapping[str, Sequence[Frame]], places: Counter[Place]) -> bool:
    distinct = all(len({_place(frame) for frame in part}) == len(part) for part in parts.values())
    return distinct and len(parts) <= max(places.values())


def _place(frame: Frame) -> Place:
    return tuple(round(value, 2) for value in frame.position or ())


def by_value(item: tuple[str, Any]) -> tuple[float, str]:
    """Sort by a tag's value: numbers first, by size."""
    try:
        return float(item[0]), ""
    except ValueError:
        return float("inf"), item[0]
