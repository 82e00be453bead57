"""How values change: assign, add, subtract, and the scatter rules on rows. Pure functions over NumPy arrays.

Every rule has two halves. The first checks the operands against the variable's spec and does all the work that does
not need the value; it runs before any lock is taken. The second changes the value and is made so that nothing in it
can fail half-way: new rows are computed beside the value and stored by one assignment, or one ufunc call does all.

Arithmetic is that of TensorFlow's kernels: integers wrap around and divide toward zero, floats follow IEEE 754,
and neither warns.
"""

from __future__ import annotations

import contextvars
import functools
import math
import threading
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, integer_limits
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, OutOfRangeError, ShapeMismatchError
from ps_protocol.operations import Array, ScatterRule, UpdateRule, VariableSpec
from ps_server.integer_division import divide_rows

_Rows = npt.NDArray[np.intp]

_INDEX_TYPES = (np.dtype(np.int32), np.dtype(np.int64))

_NUMBERS = frozenset({DTypeCategory.INTEGER, DTypeCategory.FLOAT, DTypeCategory.COMPLEX})
_ORDERED = frozenset({DTypeCategory.INTEGER, DTypeCategory.FLOAT})
_PLURALS = {
    DTypeCategory.BOOL: "truth values",
    DTypeCategory.INTEGER: "integers",
    DTypeCategory.FLOAT: "floats",
    DTypeCategory.COMPLEX: "complex numbers",
    DTypeCategory.BYTES: "bytes",
}

_UPDATE_UFUNCS: dict[UpdateRule, np.ufunc] = {UpdateRule.ASSIGN_ADD: np.add, UpdateRule.ASSIGN_SUB: np.subtract}
_SCATTER_UFUNCS: dict[ScatterRule, np.ufunc] = {
    ScatterRule.ADD: np.add,
    ScatterRule.SUB: np.subtract,
    ScatterRule.MUL: np.multiply,
    ScatterRule.DIV: np.true_divide,
    ScatterRule.MIN: np.minimum,
    ScatterRule.MAX: np.maximum,
}


class _Quiet(threading.local):
    """Runs NumPy functions without floating-point warnings, at a fraction of the cost of ``np.errstate``.

    NumPy keeps its error state in a context variable, so that a context in which the warnings were once turned off
    does for every call. A context cannot be entered by two threads at a time: each has its own.
    """

    def __init__(self) -> None:
        context = contextvars.Context()
        context.run(np.seterr, all="ignore")
        self.run = context.run


_quiet = _Quiet()


# -- whole values -------------------------------------------------------------------------------


def check_update(spec: VariableSpec, rule: UpdateRule, operand: Array) -> None:
    """Makes sure that ``apply_update`` can do its work.

    Args:
        spec: Of the variable.
        rule: Assign, add or subtract.
        operand: The variable's dtype and shape; to add or subtract, possibly 0-d instead.

    Raises:
        DTypeMismatchError: The operand has another dtype.
        ShapeMismatchError: It has another shape.
        InvalidArgumentError: Values of this dtype cannot be added.
    """
    if operand.dtype != spec.dtype or (operand.shape != spec.shape and (operand.ndim or rule is UpdateRule.ASSIGN)):
        _refuse_operand(spec, rule.name.lower(), operand, spec.shape)
    if rule is not UpdateRule.ASSIGN and not _is_number(spec.dtype):
        raise _not_computable(spec, rule.name.lower())


def apply_update(value: Array, rule: UpdateRule, operand: Array) -> None:
    """Changes ``value`` in place by operands that ``check_update`` has passed."""
    if rule is UpdateRule.ASSIGN:
        np.copyto(value, operand)
    else:
        _quiet.run(_UPDATE_UFUNCS[rule], value, operand, value)


# -- counting -----------------------------------------------------------------------------------


def check_count(spec: VariableSpec, limit: int) -> None:
    """Makes sure that ``count_up_to`` can do its work.

    Raises:
        DTypeMismatchError: The variable does not hold integers.
        ShapeMismatchError: It is not a scalar.
        InvalidArgumentError: It cannot hold the limit, and so would wrap around before.
    """
    if dtype_category(spec.dtype) is not DTypeCategory.INTEGER:
        raise DTypeMismatchError(f"variable {spec} cannot count: it holds no integers", variable=spec.name)
    if spec.shape:
        raise ShapeMismatchError(f"variable {spec} cannot count: it is not a scalar", variable=spec.name)
    least, greatest = integer_limits(spec.dtype)
    if not least <= limit <= greatest:
        raise InvalidArgumentError(
            f"variable {spec} cannot count up to {limit}; give a limit in [{least}, {greatest}]", variable=spec.name
        )


def count_up_to(spec: VariableSpec, value: Array, limit: int) -> Array:
    """Adds one to ``value``, of shape ``[]``, in place; returns a new array with the value before.

    Raises:
        OutOfRangeError: The value has reached the limit.
    """
    before = value.copy()
    if int(before) >= limit:
        raise OutOfRangeError(
            f"variable {spec} is {int(before)} and has reached the limit {limit} of count_up_to; nothing was changed",
            variable=spec.name,
        )
    value[...] = int(before) + 1
    return before


# -- rows ---------------------------------------------------------------------------------------


def in_rows(spec: VariableSpec, index_depth: int) -> VariableSpec:
    """Returns the spec of a variable as it looks with its first ``index_depth`` dimensions taken as one.

    Raises:
        InvalidArgumentError: It has fewer dimensions.
    """
    if index_depth == 1:
        return spec
    if not 1 <= index_depth <= len(spec.shape):
        raise InvalidArgumentError(
            f"variable {spec} has {len(spec.shape)} dimensions; rows cannot be counted through {index_depth} of them",
            variable=spec.name,
        )
    shape = (math.prod(spec.shape[:index_depth]), *spec.shape[index_depth:])
    return replace(spec, shape=shape, slice=None)


def checked_rows(spec: VariableSpec, indices: Array) -> _Rows:
    """Returns the row numbers as a flat ``[indices.size]`` array.

    Raises:
        DTypeMismatchError: The indices are neither int32 nor int64.
        InvalidArgumentError: The variable is a scalar, or an index is outside ``[0, rows)``.
    """
    if indices.dtype not in _INDEX_TYPES:
        raise DTypeMismatchError(
            f"the indices for variable {spec} are {_label(indices.dtype)}; they must be int32 or int64",
            variable=spec.name,
        )
    if not spec.shape:
        raise InvalidArgumentError(
            f"variable {spec} is a scalar and has no rows to gather or scatter; read or assign it whole",
            variable=spec.name,
        )
    rows: _Rows = indices.reshape(-1).astype(np.intp, copy=False)
    if rows.size and (rows.min() < 0 or rows.max() >= spec.shape[0]):
        position = int(np.flatnonzero((rows < 0) | (rows >= spec.shape[0]))[0])
        place = ", ".join(str(each) for each in np.unravel_index(position, indices.shape))
        raise InvalidArgumentError(
            f"row {rows[position]} (indices[{place}]) is outside [0, {spec.shape[0]}) of variable {spec}; "
            f"nothing was changed",
            variable=spec.name,
        )
    return rows


def gather_into(value: Array, rows: _Rows, out: Array) -> None:
    """Copies rows that ``checked_rows`` has passed into ``out``, shape ``[rows.size, *value.shape[1:]]``."""
    # "clip" since "raise" would go through a buffer, to leave `out` as it is if an index is out of range.
    np.take(value, rows, axis=0, out=out, mode="clip")


@dataclass(frozen=True, slots=True)
class ScatterPlan:
    """A scatter whose operands are checked and whose repeated rows are told apart.

    The first occurrences of all rows are handled at once, without repeats; the others follow in their order, so
    that each row sees its updates in the order in which they were given, as in a loop over the indices.

    Attributes:
        rule: What is done.
        category: What the variable holds.
        rows: Rows to change, ``[n]``; without repeats, unless the rule is ``UPDATE``.
        updates: Operand of the first occurrence of each, ``[n, *row]`` or 0-d.
        result: Room for the new rows, ``[n, *row]``; None for ``UPDATE``, which needs none.
        repeats: Positions in ``rows`` of the further occurrences, ``[m]``.
        repeat_updates: Their operands, ``[m, *row]`` or 0-d.
    """

    rule: ScatterRule
    category: DTypeCategory
    rows: _Rows
    updates: Array
    result: Array | None
    repeats: _Rows
    repeat_updates: Array

    def apply(self, value: Array) -> None:
        """Changes the rows of ``value`` in place; if it raises (out of memory), nothing has been changed."""
        if self.result is None:
            value[self.rows] = self.updates
            return
        gather_into(value, self.rows, self.result)
        _quiet.run(self._compute, self.result)
        value[self.rows] = self.result

    def _compute(self, result: Array) -> None:
        if self.rule is ScatterRule.DIV and self.category is DTypeCategory.INTEGER:
            divide_rows(result, self.updates, self.repeats, self.repeat_updates)
            return
        ufunc = _SCATTER_UFUNCS[self.rule]
        ufunc(result, self.updates, out=result)
        if self.repeats.size:
            ufunc.at(result, self.repeats, self.repeat_updates)


def plan_scatter(spec: VariableSpec, rule: ScatterRule, indices: Array, updates: Array) -> ScatterPlan:
    """Checks a scatter and prepares it.

    Args:
        spec: Of the variable.
        rule: What to do with each row and its update.
        indices: int32 or int64, any shape; rows may repeat.
        updates: The variable's dtype, shape ``[*indices.shape, *spec.shape[1:]]``, or 0-d.

    Raises:
        DTypeMismatchError: ``updates`` or ``indices`` have the wrong dtype.
        ShapeMismatchError: ``updates`` have the wrong shape.
        InvalidArgumentError: An index is out of range, the rule cannot be computed in this dtype, or it would divide
            integers by zero.
    """
    rows = checked_rows(spec, indices)
    operation = f"scatter_{rule.name.lower()}"
    row_shape = spec.shape[1:]
    expected = (*indices.shape, *row_shape)
    if updates.dtype != spec.dtype or (updates.ndim and updates.shape != expected):
        _refuse_operand(spec, operation, updates, expected)
    category = dtype_category(spec.dtype)
    _check_computable(spec, rule, category)
    if rule is ScatterRule.DIV and category is DTypeCategory.INTEGER:
        _check_divisors(spec, rows, updates)
    if updates.ndim or not expected:
        updates = updates.reshape(rows.size, *row_shape)
    if rule is ScatterRule.UPDATE:
        return ScatterPlan(rule, category, rows, updates, None, rows[:0], updates[:0] if updates.ndim else updates)
    return _without_repeats(rule, category, rows, updates, row_shape)


def _without_repeats(
    rule: ScatterRule, category: DTypeCategory, rows: _Rows, updates: Array, row_shape: tuple[int, ...]
) -> ScatterPlan:
    ordered = np.sort(rows)
    if not (ordered[1:] == ordered[:-1]).any():
        result = np.empty((rows.size, *row_shape), updates.dtype)
        return ScatterPlan(rule, category, rows, updates, result, rows[:0], updates[:0] if updates.ndim else updates)
    unique, firsts, positions = np.unique(rows, return_index=True, return_inverse=True)
    further = np.ones(rows.size, bool)
    further[firsts] = False
    result = np.empty((unique.size, *row_shape), updates.dtype)
    first_updates, further_updates = (updates[firsts], updates[further]) if updates.ndim else (updates, updates)
    return ScatterPlan(rule, category, unique, first_updates, result, positions[further], further_updates)


# -- checks and messages ------------------------------------------------------------------------


@functools.cache
def _is_number(dtype: np.dtype[Any]) -> bool:
    return dtype_category(dtype) in _NUMBERS


def _check_computable(spec: VariableSpec, rule: ScatterRule, category: DTypeCategory) -> None:
    if rule is ScatterRule.UPDATE:
        return
    computable = _ORDERED if rule in (ScatterRule.MIN, ScatterRule.MAX) else _NUMBERS
    if category not in computable:
        raise _not_computable(spec, f"scatter_{rule.name.lower()}")


def _check_divisors(spec: VariableSpec, rows: _Rows, updates: Array) -> None:
    zero = updates == np.zeros((), updates.dtype)
    if not rows.size or not zero.any():
        return
    position = int(np.flatnonzero(zero.reshape(rows.size, -1).any(axis=1))[0]) if updates.ndim else 0
    raise InvalidArgumentError(
        f"scatter_div would divide row {rows[position]} of variable {spec} by zero; nothing was changed",
        variable=spec.name,
    )


def _not_computable(spec: VariableSpec, operation: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"variable {spec} holds {_PLURALS[dtype_category(spec.dtype)]}, for which there is no {operation}; "
        f"use assign or scatter_update",
        variable=spec.name,
    )


def _refuse_operand(spec: VariableSpec, operation: str, operand: Array, expected: tuple[int, ...]) -> NoReturn:
    if operand.dtype != spec.dtype:
        raise DTypeMismatchError(
            f"variable {spec} is {_label(spec.dtype)}, the value to {operation} is {_label(operand.dtype)}; "
            f"convert it first, e.g. with astype",
            variable=spec.name,
        )
    raise ShapeMismatchError(
        f"the value to {operation} has the shape {list(operand.shape)}; variable {spec} needs {list(expected)}",
        variable=spec.name,
    )


def _label(dtype: np.dtype[Any]) -> str:
    return dtype.name if dtype.isnative else f"{dtype.name} in foreign byte order"
