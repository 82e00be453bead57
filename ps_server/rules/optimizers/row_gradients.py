"""Gradients for some rows: which rows there are, and the sum of what each gets, in the order of occurrence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ps_protocol.operations import Array, ScatterRule
from ps_server.memory.spare_arrays import prepared_array
from ps_server.rules import row_kernels
from ps_server.rules.row_schedule import Rows, sorted_with_positions


@dataclass(frozen=True, slots=True)
class RowGradients:
    """Gradients by row.

    Attributes:
        rows: Each once, ascending, ``[u]``.
        starts: Where the positions of each row begin, ``[u + 1]``.
        positions: Of the gradients, those of a row in their order, ``[n]``.
        gradient: As given, in the dtype of the computation, ``[n, width]``.
    """

    rows: Rows
    starts: Rows
    positions: Rows
    gradient: Array

    def sums(self) -> Array:
        """Returns a new array ``[u, width]`` with the sum of each row's gradients."""
        firsts = self.positions[self.starts[:-1]]
        sums = prepared_array((self.rows.size, self.gradient.shape[1]), self.gradient.dtype)
        np.take(self.gradient, firsts, axis=0, out=sums, mode="clip")
        if firsts.size == self.positions.size:
            return sums
        group_of = np.empty(self.positions.size, np.intp)
        group_of[self.positions] = np.repeat(np.arange(self.rows.size), np.diff(self.starts))
        is_further = np.ones(self.positions.size, np.bool_)
        is_further[firsts] = False
        further = np.flatnonzero(is_further)
        updates = self.gradient[further]
        row_kernels.plan(ScatterRule.ADD, group_of[further], updates, *sums.shape).apply(sums)
        return sums


def row_gradients(rows: Rows, gradient: Array, num_rows: int) -> RowGradients:
    """Returns gradients by row.

    Args:
        rows: In ``[0, num_rows)``, ``[n]``.
        gradient: ``[n, width]``, aligned and in C order. Kept.
        num_rows: Rows of the variable.
    """
    if not rows.size:
        return RowGradients(rows, np.zeros(1, np.intp), rows, gradient)
    ordered, positions = sorted_with_positions(rows, num_rows)
    is_first = np.ones(rows.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    return RowGradients(ordered[starts], np.append(starts, rows.size), positions, gradient)
