"""Sums of gradients for some rows, as TensorFlow's sparse accumulators make them: lists that are merged by their heads.

Of two lists of rows the smaller head is taken, and both heads if they are equal, which are added up. So rows come in
order if each list was in order; if not, or if a list has a row twice, a row may be in the result more than once. The
source is ``AddToAccumGradFunction`` in TensorFlow's ``sparse_conditional_accumulator.h``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ps_protocol.shared_objects import Array, Computed


@dataclass(frozen=True, slots=True)
class Merge:
    """Where the rows of two lists go.

    Attributes:
        rows: The merged list, int64 ``[n]``.
        first: For each row of the first list its place in that.
        second: For each row of the second one.
    """

    rows: Array
    first: Array
    second: Array

    def counts(self, first: Array) -> Array:
        """How many gradients each row has: those that it had in the first list, and one for the second."""
        counts = np.zeros(len(self.rows), np.int32)
        counts[self.first] = first
        counts[self.second] += 1
        return counts

    def sums(self, first: Array, second: Array) -> Computed:
        """The values of both lists, added where they are for the same row."""
        shape = (len(self.rows), *first.shape[1:])
        is_in_first = np.zeros(len(self.rows), np.bool_)
        is_in_first[self.first] = True
        adds = is_in_first[self.second]

        def fill(out: Array) -> None:
            out[self.first] = first
            out[self.second[~adds]] = second[~adds]
            with np.errstate(all="ignore"):
                out[self.second[adds]] += second[adds]

        return Computed(first.dtype, shape, fill)


def merged(first: Array, second: Array) -> Merge:
    """Merges two lists of rows, int64 ``[n]`` each."""
    if _is_ascending(first) and _is_ascending(second):
        return _merged_ascending(first, second)
    return merged_by_heads(first.tolist(), second.tolist())


def _merged_ascending(first: Array, second: Array) -> Merge:
    before = np.searchsorted(first, second)  # how many of the first list are before each of the second
    is_new = np.ones(len(second), np.bool_)
    inside = before < len(first)
    is_new[inside] = first[before[inside]] != second[inside]
    new = second[is_new]
    of_second = before + np.cumsum(is_new) - is_new
    of_first = np.arange(len(first)) + np.searchsorted(new, first)
    rows = np.empty(len(first) + len(new), np.int64)
    rows[of_first] = first
    rows[of_second[is_new]] = new
    return Merge(rows, of_first, of_second)


def merged_by_heads(first: list[int], second: list[int]) -> Merge:
    """Does the same one row after the other, for lists in any order."""
    rows: list[int] = []
    of_first: list[int] = []
    of_second: list[int] = []
    while len(of_first) < len(first) or len(of_second) < len(second):
        left = first[len(of_first)] if len(of_first) < len(first) else None
        right = second[len(of_second)] if len(of_second) < len(second) else None
        place = len(rows)
        if right is None or (left is not None and left <= right):
            assert left is not None
            rows.append(left)
            of_first.append(place)
        if left is None or (right is not None and right <= left):
            assert right is not None
            if left != right:
                rows.append(right)
            of_second.append(place)
    arrays: list[Any] = [np.array(each, np.int64) for each in (rows, of_first, of_second)]
    return Merge(*arrays)


def _is_ascending(rows: Array) -> bool:
    return bool((rows[1:] > rows[:-1]).all())
