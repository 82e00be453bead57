"""Histograms as TensorBoard shows them: buckets that grow by a tenth, from 1e-12 to 1e20, on both sides of zero."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np

from ps_protocol.operations import Array

_SMALLEST: Final = 1e-12
_LARGEST: Final = 1e20
_GROWTH: Final = 1.1
_MOST: Final = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Histogram:
    """How numbers are distributed.

    Attributes:
        minimum: The smallest; the largest number that there is, if there are none.
        maximum: The largest; the negative of that.
        number: How many.
        total: Their sum.
        squares: The sum of their squares.
        counts: How many are in each bucket of ``limits()``.
    """

    minimum: float
    maximum: float
    number: int
    total: float
    squares: float
    counts: Array

    @classmethod
    def of(cls, values: Array) -> Self:
        """Returns the histogram of numbers, which are finite."""
        numbers = np.ravel(values).astype(np.float64)
        places = np.searchsorted(limits(), numbers, side="right")
        counts = np.bincount(places, minlength=len(limits()))
        if not numbers.size:
            return cls(_MOST, -_MOST, 0, 0.0, 0.0, counts)
        # One after the other, as TensorFlow adds.
        total, squares = float(np.cumsum(numbers)[-1]), float(np.cumsum(numbers * numbers)[-1])
        return cls(float(numbers.min()), float(numbers.max()), numbers.size, total, squares, counts)

    def fields(self) -> dict[str, Any]:
        """Returns the fields of a ``HistogramProto``, with one bucket for each run of empty ones."""
        is_full = self.counts > 0
        is_kept = is_full | np.append(is_full[1:], True)  # the last of a run, too
        return {
            "min": self.minimum,
            "max": self.maximum,
            "num": self.number,
            "sum": self.total,
            "sum_squares": self.squares,
            "bucket_limit": limits()[is_kept].tolist(),
            "bucket": self.counts[is_kept].astype(np.float64).tolist(),
        }


@functools.cache
def limits() -> Array:
    """Returns the upper limit of each bucket, which does not belong to it; read-only."""
    positive = [_SMALLEST]
    while positive[-1] * _GROWTH < _LARGEST:
        positive.append(positive[-1] * _GROWTH)
    positive.append(_MOST)
    found = np.array([*(-each for each in reversed(positive)), 0.0, *positive])
    found.flags.writeable = False
    return found
