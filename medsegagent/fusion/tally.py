"""Counting votes, exactly: weights become whole numbers first, so a tie is a tie whatever the order of adding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Votes:
    """The votes on one target, counted.

    Attributes:
        masks: At least one, of one shape, best rank first.
        yes: Per voxel, the yes-weight in whole numbers.
        total: All the weight there is.
    """

    masks: Sequence[NDArray[np.bool_]]
    yes: NDArray[np.unsignedinteger]
    total: int

    @property
    def agreement(self) -> NDArray[np.uint8]:
        """The percentage of yes-weight. Rounding never makes a partial agreement 0 or 100."""
        agreement = np.zeros(self.yes.shape, dtype=np.uint8)
        some = self.yes > 0
        counts = self.yes[some]
        percent = np.clip(np.rint(counts * (100.0 / self.total)), 1, 99).astype(np.uint8)
        percent[counts == self.total] = 100
        agreement[some] = percent
        return agreement


def count(masks: Sequence[NDArray[np.bool_]], weights: Sequence[float]) -> Votes:
    """Add up the votes on one target.

    Args:
        masks: At least one, of one shape, best rank first.
        weights: One per mask, positive.

    Raises:
        ValueError: If a weight is not positive.
    """
    whole = whole_weights(weights)
    total = sum(whole)
    yes = np.zeros(masks[0].shape, dtype=np.min_scalar_type(total))
    for mask, weight in zip(masks, whole, strict=True):
        np.add(yes, yes.dtype.type(weight), out=yes, where=mask)
    return Votes(masks, yes, total)
