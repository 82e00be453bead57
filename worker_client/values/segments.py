"""Sums of rows that follow each other and belong together."""

from __future__ import annotations

import numpy as np

from ps_protocol.operations import Array


def segment_sums(summands: Array, into: Array, shape: tuple[int, ...]) -> Array:
    """Returns the sums of rows, ``[last segment + 1, ...]``; zero where a segment has none.

    Args:
        summands: The rows, ``[number, ...]``.
        into: The segment of each, ascending from 0.
        shape: Of the result.
    """
    total = np.zeros(shape, summands.dtype)
    starts = np.flatnonzero(np.diff(into, prepend=-1))
    if len(starts):
        total[into[starts]] = np.add.reduceat(summands, starts, axis=0)
    return total


def beside_rows(values: Array, ndim: int) -> Array:
    """Returns values, one for each row, in the shape that is broadcast over rows of an array of ``ndim`` dimensions."""
    return values.reshape(-1, *[1] * (ndim - 1))
