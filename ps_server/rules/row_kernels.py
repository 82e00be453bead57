"""The scatter rules in NumPy: plans that change rows, repeated or not, in a handful of NumPy calls.

New rows are computed beside the value and stored by one call. Where one call of a ufunc does everything, the value is
changed in place. The caller has checked the rows and does not change them any more.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, is_ml_dtype
from ps_protocol.operations import Array, ScatterRule
from ps_server.rules.arithmetic import divide_toward_zero, quiet
from ps_server.rules.computed_rows import RowsAsGiven, RowsInRounds, put_rows
from ps_server.rules.row_schedule import OrderGiven, Rows, order_of_updates

UFUNCS: Final[dict[ScatterRule, np.ufunc]] = {
    ScatterRule.ADD: np.add,
    ScatterRule.SUB: np.subtract,
    ScatterRule.MUL: np.multiply,
    ScatterRule.DIV: np.true_divide,
    ScatterRule.MIN: np.minimum,
    ScatterRule.MAX: np.maximum,
}


def plan(rule: ScatterRule, rows: Rows, updates: Array, num_rows: int, width: int) -> Plan:
    """Prepares a scatter.

    Args:
        rule: What to do; computable in the dtype of ``updates``.
        rows: In ``[0, num_rows)``, ``[n]``; they do not change any more.
        updates: ``[n, width]`` or 0-d. Kept until the plan has been applied.
        num_rows: Rows of the variable.
        width: Elements of a row.
    """
    if not rows.size or not width:
        return NoRows()
    ascending = bool((rows[1:] > rows[:-1]).all())
    first = int(rows[0]) if ascending and int(rows[-1]) - int(rows[0]) == rows.size - 1 else None
    if rule is ScatterRule.UPDATE:
        if first is not None:
            return SliceUpdate(first, rows.size, None, updates, width)
        return Replacement(rows, np.ascontiguousarray(updates) if updates.ndim else updates, width)
    divides_integers = rule is ScatterRule.DIV and dtype_category(updates.dtype) is DTypeCategory.INTEGER
    ufunc = UFUNCS[rule]
    if not divides_integers:
        if first is not None:
            return SliceUpdate(first, rows.size, ufunc, updates, width)
        if width == 1:
            return ElementUpdate(ufunc, rows, updates.reshape(-1) if updates.ndim else updates)
    compute = divide_toward_zero if divides_integers else ufunc
    allow_hot_rows = not divides_integers and _reduces(updates.dtype)
    order = OrderGiven(rows) if ascending else order_of_updates(rows, num_rows, allow_hot_rows=allow_hot_rows)
    if isinstance(order, OrderGiven):
        return RowsAsGiven(compute, order, updates, width)
    return RowsInRounds(compute, order, updates, width)


@dataclass(frozen=True, slots=True)
class NoRows:
    """No rows, or rows without elements."""

    def apply(self, value: Array) -> None:
        """Leaves the value as it is."""


@dataclass(frozen=True, slots=True)
class SliceUpdate:
    """Rows that follow on each other: one call on a part of the value. ``ufunc`` is None to replace them."""

    first: int
    length: int
    ufunc: np.ufunc | None
    updates: Array
    width: int

    def apply(self, value: Array) -> None:
        """Changes the rows of ``value`` in place."""
        part = value.reshape(-1, self.width)[self.first : self.first + self.length]
        if self.ufunc is None:
            np.copyto(part, self.updates)
        else:
            quiet.run(functools.partial(self.ufunc, part, self.updates, out=part))


@dataclass(frozen=True, slots=True)
class ElementUpdate:
    """Rows of one element each. ``ufunc.at`` takes the updates in their order; it is fast for one dimension only."""

    ufunc: np.ufunc
    rows: Rows
    updates: Array

    def apply(self, value: Array) -> None:
        """Changes the elements of ``value`` in place; the call allocates before it changes any."""
        quiet.run(self.ufunc.at, value.reshape(-1), self.rows, self.updates)


@dataclass(frozen=True, slots=True)
class Replacement:
    """Rows that get new values; of a row that repeats, the last one stays."""

    rows: Rows
    updates: Array
    width: int

    def apply(self, value: Array) -> None:
        """Replaces the rows of ``value``."""
        put_rows(value.reshape(-1, self.width), self.rows, self.updates)


@functools.cache
def _reduces(dtype: np.dtype[Any]) -> bool:
    """Whether all ufuncs have a loop of this dtype; ml-dtypes computes its narrow integers in wider ones."""
    return not (is_ml_dtype(dtype) and dtype_category(dtype) is DTypeCategory.INTEGER)


Plan = NoRows | SliceUpdate | ElementUpdate | Replacement | RowsAsGiven | RowsInRounds
