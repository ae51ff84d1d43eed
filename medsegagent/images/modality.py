"""A first guess at an image's modality from its intensities alone, for files that carry no tags."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.volume import ModalityEvidence

_SAMPLES = 500_000
_LUNG = -200.0
"""HU; below it lie lung, air and a scan's surroundings, which a CT in HU holds somewhere."""
_MUSCLE = 300.0
_SOME = 0.002
_PADDING = -1500.0
_NEARLY_0 = -150.0
_WITHOUT_INTERCEPT = 500.0
_MOST_LABELS = 1000
_ONE_PIECE = 0.6
"""The share of equal neighbours: real label maps have 0.8, real images 0.02 to 0.36."""


def estimate_modality(array: NDArray[np.floating] | NDArray[np.integer]) -> ModalityEvidence:
    """Guess CT, MR or PET from voxel values `(Z, Y, X)`, stored slope and intercept applied.

    The rules, first match wins, on an evenly strided sample of about half a million voxels:

    1. CT is the one modality with an absolute scale. Air lies at -1000 HU and soft tissue between -200 and 250 HU.
       At least 2 % of voxels within -1100..-900 (or at a scanner's padding value below that) and 2 % within
       -200..250: CT, sure (0.97; 0.92 if values are not whole numbers, as after resampling).
    2. Otherwise deeply negative values (1st percentile below -150) are only seen in CT, cropped to the body or clipped
       to a window: CT, 0.75.
    3. Mostly non-negative, unit-free values are MR or PET. A PET is dark nearly everywhere with a few hot spots: over
       the voxels above the background (1 % of the 99.9th percentile) the 99.9th percentile is at least 12 times the
       median. PET, 0.6, only for values that are not whole numbers or exceed 10,000 (SUV, Bq/mL).
    4. Else MR, 0.8; 0.5 if a tenth of the values or more are negative (z-scored or filtered) or if none exceeds 1
       (rescaled: any modality could look so).
    5. Nothing at all can be said of a constant image.

    Returns:
        The family and a confidence that is never 1: only a tag is sure.
    """
    values = _sample(array)
    if values.size == 0 or values.min() == values.max():
        return ModalityEvidence(None, 0.0, "every voxel has the same value")
    whole = bool(np.all(values == np.rint(values)))
    air = float(np.mean(values <= -900))
    soft = float(np.mean((values > -200) & (values < 250)))
    if air >= 0.02 and soft >= 0.02 and values.min() >= -32768:
        return ModalityEvidence("CT", 0.97 if whole else 0.92, f"{air:.0%} of the voxels are air at -1000 HU")
    low = float(np.percentile(values, 1))
    if low < -150:
        return ModalityEvidence("CT", 0.75, f"deeply negative values (1st percentile {low:.0f}) look like HU")
    return _unitless(values, whole)


def _unitless(values: NDArray[np.float64], whole: bool) -> ModalityEvidence:
    """Rules 3 and 4."""
    top = float(np.percentile(values, 99.9))
    signal = values[values > 0.01 * top]
    hot = top / float(np.median(signal)) if top > 0 and signal.size else 0.0
    if hot >= 12 and (not whole or top > 10_000):
        return ModalityEvidence("PET", 0.6, f"few hot spots on a dark background (peak {hot:.0f} times the median)")
    negative = float(np.mean(values < 0))
    if negative >= 0.1:
        return ModalityEvidence("MR", 0.5, f"no Hounsfield scale, but {negative:.0%} negative values")
    if values.max() <= 1:
        return ModalityEvidence("MR", 0.5, "values rescaled to at most 1, which any modality could be")
    return ModalityEvidence("MR", 0.8, "non-negative values without a Hounsfield scale")


def about_guess(evidence: ModalityEvidence, array: NDArray[np.float32], family: str | None) -> tuple[str, ...]:
    """Warn of what was only guessed: the modality of a file that does not say it, or that a CT is in HU.

    Args:
        evidence: Of the voxels.
        array: The voxels, `(Z, Y, X)`.
        family: CT, MR or PET where the request says so.
    """
    if family is not None:
        return not_hounsfield(array) if family == "CT" else ()
    if evidence.family is None:
        return ("the file does not say its modality, and its intensities do not either; say CT, MR or PET",)
    found = (
        f"the file does not say its modality: taken for {evidence.family} by its intensities ({evidence.reason}; "
        f"{evidence.confidence:.0%} sure); if it is another, say CT, MR or PET in the instruction"
    )
    if evidence.family == "CT":
        return found, *not_hounsfield(array)
    return (f"{found}; if it is a CT, its values are not in Hounsfield units, and models will fail on them",)


def not_hounsfield(array: NDArray[np.float32]) -> tuple[str, ...]:
    """Warn of a CT whose values cannot be Hounsfield units, and say what to add; nothing where they can be."""
    values = _sample(array)
    if not values.size:
        return ()
    values = values[values > _PADDING] if (values > _PADDING).any() else values
    low, high = float(values.min()), float(values.max())
    dark = float(np.percentile(values, 1)) < _LUNG
    if dark and float(np.mean((values > _LUNG) & (values < _MUSCLE))) > _SOME:
        return ()
    held = f"its values, {low:.4g} to {high:.4g}, do not look like Hounsfield units (air -1000, water 0)"
    if dark:
        return (f"{held}: nothing in it is as dense as soft tissue; check how it was rescaled",)
    if low >= -1.5 and high <= 1.5:
        return (f"{held}: they were rescaled to at most 1, and CT models will fail; give the original values in HU",)
    if low >= 0 and high <= 255:
        return (f"{held}: they were rescaled to 8 bits, and CT models will fail; give the original values in HU",)
    if low >= _NEARLY_0 and float(np.median(values[values >= 0.1 * high])) > _WITHOUT_INTERCEPT:
        return (
            f"{held}: the rescale intercept seems not to be applied, and CT models will fail; "
            "add it to every voxel (usually -1024: subtract 1024), or export it again in HU",
        )
    return (f"{held}: nothing in it is as dark as air or lung; unless it was cropped or windowed, give it in HU",)


def looks_like_labels(array: NDArray[np.float32]) -> tuple[str, ...]:
    """Warn of an image that is a label map: few whole values, each in one piece."""
    sample = _sample(array)
    if (
        sample.min() < 0
        or not np.array_equal(sample, np.rint(sample))
        or len(values := np.unique(sample)) > _MOST_LABELS
    ):
        return ()
    middle = array[len(array) // 4 :: max(1, len(array) // 8)]
    left, right = middle[..., :-1], middle[..., 1:]
    inside = (left != 0) | (right != 0)
    if not inside.any() or float(np.mean(left[inside] == right[inside])) < _ONE_PIECE:
        return ()
    what = f"{len(values)} whole values from {values[0]:g} to {values[-1]:g}, each in one piece"
    return (f"it looks like a mask or label map ({what}), not an image; check that it is the right file",)


def _sample(array: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.float64]:
    """About half a million finite values, evenly strided."""
    flat = array.reshape(-1)
    values = flat[:: max(1, flat.size // _SAMPLES)].astype(np.float64)
    found: NDArray[np.float64] = values[np.isfinite(values)]
    return found
