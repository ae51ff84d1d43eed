"""How near a segmentation is to a reference: Dice, surface Dice (NSD), HD95, volume."""
# mypy: allow-untyped-calls

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError, UsageError
from medsegagent.export.convert import on_grid
from medsegagent.export.segment import Coding, Segment, Segments, bounding_box
from medsegagent.images.geometry import differences, same_grid
from medsegagent.wording import some


@dataclass(frozen=True)
class Score:
    """One target of one case.

    Attributes:
        case: Name of the case.
        target: The reference's name for it.
        dice: Volumetric Dice, in [0, 1]; NaN if both masks are empty.
        nsd: Surface Dice at the tolerance, in [0, 1]; NaN if both are empty, 0 if one is.
        hd95_mm: 95th percentile of the distances between the surfaces, the larger of the two directions; NaN if both
            are empty, infinite if one is.
        volume_ml: Of the prediction.
        reference_ml: Of the reference.
    """

    case: str
    target: str
    dice: float
    nsd: float
    hd95_mm: float
    volume_ml: float
    reference_ml: float

    @property
    def difference_ml(self) -> float:
        """Prediction minus reference."""
        return self.volume_ml - self.reference_ml

    @property
    def difference_percent(self) -> float:
        """The same as a share of the reference; infinite if only the reference is empty, NaN if both are."""
        if self.reference_ml:
            return 100.0 * self.difference_ml / self.reference_ml
        return math.inf if self.volume_ml else math.nan


@dataclass(frozen=True)
class Pair:
    """A prediction and its reference for one target, on the reference's grid."""

    target: str
    prediction: NDArray[np.bool_]
    reference: NDArray[np.bool_]


def score(case: str, pair: Pair, spacing: tuple[float, float, float], tolerance_mm: float) -> Score:
    """Measure one pair of masks.

    Args:
        case: Name of the case.
        pair: Masks, `(Z, Y, X)`.
        spacing: mm along x, y, z.
        tolerance_mm: Distance within which surfaces count as matching.

    Source:
        Surface Dice: Nikolov et al., JMIR 23(7):e26151, 2021, by its authors' library `surface-distance`, which weighs
        surface elements by their area; HD95 by the same library.
    """
    counts = [int(np.count_nonzero(mask)) for mask in (pair.prediction, pair.reference)]
    voxel_ml = float(np.prod(spacing)) / 1000.0
    both = int(np.count_nonzero(pair.prediction & pair.reference))
    dice = 2 * both / sum(counts) if sum(counts) else math.nan
    if not sum(counts):
        nsd, hd95 = math.nan, math.nan
    elif not all(counts):
        nsd, hd95 = 0.0, math.inf
    else:
        nsd, hd95 = _surfaces(pair, spacing, tolerance_mm)
    return Score(case, pair.target, dice, nsd, hd95, counts[0] * voxel_ml, counts[1] * voxel_ml)


def pair_up(
    prediction: Segments, reference: Segments, mapping: Mapping[str, str]
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Find for each target of the reference what the prediction has for it.

    By the mapping where it names the target; else by equal names, else by equal meaning (SNOMED code and side); else,
    where neither side has names, by equal values. A side without any label at all is an empty mask for each target of
    the other.

    Args:
        prediction: Put on the reference's grid, nearest voxel, if it is on another.
        reference: The truth.
        mapping: Prediction's name or value -> reference's name or value.

    Returns:
        The pairs, in the reference's order, none where both sides are empty; and warnings: the grid changed, or a
        target that only one side has. A target that the prediction lacks is left out, not scored 0: it may not have
        been asked for.

    Raises:
        UsageError: If the mapping names what is not there.
        ImageError: If no target is found in both, or the two have no place in common.
    """
    notes = [*prediction.warnings, *reference.warnings]
    if not same_grid(prediction.grid, reference.grid):
        differ = differences(prediction.grid, reference.grid)
        notes.append(f"prediction put on the reference's grid, nearest voxel ({differ})")
        prediction = on_grid(prediction, reference.grid)
    if not prediction.items or not reference.items:
        return _with_none(prediction, reference, mapping), (*notes, *_empty(prediction, reference))
    chosen = {_named(right, reference).id: _named(left, prediction) for left, right in mapping.items()}
    pairs, missing, used = [], [], set()
    for item in reference.items:
        found = chosen.get(item.id) or _counterpart(item, prediction.items)
        if found is None:
            missing.append(item.name)
        else:
            used.add(found.id)
            pairs.append(Pair(item.name, found.mask, item.mask))
    if not pairs:
        raise ImageError(
            f"no target in common: {_names(prediction.items)} against {_names(reference.items)}",
            "Say which is which: --map PREDICTED=REFERENCE, names or values.",
        )
    if missing:
        notes.append(f"only in the reference: {', '.join(missing)}")
    if alone := [item.name for item in prediction.items if item.id not in used]:
        notes.append(f"only in the prediction: {some(alone)}")
    return tuple(pairs), tuple(notes)


def _with_none(prediction: Segments, reference: Segments, mapping: Mapping[str, str]) -> tuple[Pair, ...]:
    """Each target of the one side against nothing, under the reference's name where the mapping gives it."""
    nothing = np.zeros(reference.grid.shape, dtype=bool)
    found = [Pair(item.name, nothing, item.mask) for item in reference.items]
    for item in prediction.items:
        target = next((right for left, right in mapping.items() if _is_named(item, left)), item.name)
        found.append(Pair(target, item.mask, nothing))
    return tuple(found)


def _empty(prediction: Segments, reference: Segments) -> tuple[str, ...]:
    which = [name for name, side in (("prediction", prediction), ("reference", reference)) if not side.items]
    return (f"{' and '.join(which)} {'are' if len(which) == 2 else 'is'} empty: no label at all",)


def _surfaces(pair: Pair, spacing: tuple[float, float, float], tolerance_mm: float) -> tuple[float, float]:
    import surface_distance

    box = bounding_box(pair.prediction | pair.reference)  # whole scans would take the library minutes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it calls scipy.ndimage by its old names
        distances = surface_distance.compute_surface_distances(pair.reference[box], pair.prediction[box], spacing[::-1])
    nsd = surface_distance.compute_surface_dice_at_tolerance(distances, tolerance_mm)
    return float(nsd), float(surface_distance.compute_robust_hausdorff(distances, 95))


def _counterpart(item: Segment, others: Sequence[Segment]) -> Segment | None:
    same_name = [other for other in others if other.id == item.id]  # "label_5" too, where neither side has names
    if same_name:
        return same_name[0]
    meaning = _meaning(item.coding)
    same_meaning = [other for other in others if meaning and _meaning(other.coding) == meaning]
    return same_meaning[0] if len(same_meaning) == 1 else None


def _meaning(coding: Coding | None) -> tuple[str, str] | None:
    return (coding.code, coding.side) if coding and coding.code else None


def _named(wanted: str, segments: Segments) -> Segment:
    for item in segments.items:
        if _is_named(item, wanted):
            return item
    raise UsageError(f"no target {wanted!r}", f"There are {_names(segments.items)}.", "mapping")


def _is_named(item: Segment, wanted: str) -> bool:
    return wanted.strip().casefold() in (item.name.casefold(), item.id, str(item.value))


def _names(items: Sequence[Segment]) -> str:
    return ", ".join(f"{item.name} ({item.value})" for item in items[:12]) + (", ..." if len(items) > 12 else "")
