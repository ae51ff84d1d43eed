"""A first guess at an image's modality from its intensities alone, for files that carry no tags."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.volume import ModalityEvidence

_SAMPLES = 500_000


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
    flat = array.reshape(-1)
    values = flat[:: max(1, flat.size // _SAMPLES)].astype(np.float64)
    values = values[np.isfinite(values)]
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
