"""Counting votes, exactly: weights become whole numbers first, so a tie is a tie whatever the order of adding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_PER_UNIT = 10**9


def whole_weights(weights: Sequence[float]) -> list[int]:
    """Scale weights to the smallest whole numbers in the same ratio (to nine decimals).

    Raises:
        ValueError: If a weight is not a positive number below a billion.
    """
    if not all(0 < weight < _PER_UNIT for weight in weights):
        raise ValueError(f"weights must be positive and below {_PER_UNIT:,}, got {list(weights)}")
    scaled = [max(1, round(weight * _PER_UNIT)) for weight in weights]
    divisor = math.gcd(*scaled)
    return [weight // divisor for weight in scaled]


def vote(masks: Sequence[NDArray[np.bool_]], weights: Sequence[float]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Vote on one target.

    Globally weighted majority voting (Artaechevarria et al., IEEE TMI 28(8):1266-1277, 2009), with ties settled.

    Args:
        masks: At least one, `(Z, Y, X)` each, best rank first.
        weights: One per mask, positive.

    Returns:
        The mask, in where the yes-weight exceeds half, and at exactly half where the best-ranked voter says so; and
        the agreement, uint8, percentage of yes-weight. Rounding never makes a partial agreement 0 or 100.
    """
    whole = whole_weights(weights)
    total = sum(whole)
    yes = np.zeros(masks[0].shape, dtype=np.min_scalar_type(total))
    for mask, weight in zip(masks, whole, strict=True):
        np.add(yes, yes.dtype.type(weight), out=yes, where=mask)
    fused = yes > total // 2
    if total % 2 == 0:
        fused |= (yes == total // 2) & masks[0]
    agreement = np.zeros(yes.shape, dtype=np.uint8)
    some = yes > 0
    counts = yes[some]
    percent = np.clip(np.rint(counts * (100.0 / total)), 1, 99).astype(np.uint8)
    percent[counts == total] = 100
    agreement[some] = percent
    return fused, agreement
