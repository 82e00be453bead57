"""How rows change: gather and the scatter rules. Pure functions over NumPy arrays.

A scatter means the loop over its indices: each row sees its updates in the order in which they were given, each
rounded to the variable's dtype, as in TensorFlow's kernels on a CPU. Rules have two halves, as those for whole values
(``update_rules``): ``plan_scatter`` checks and prepares before any lock is taken; the plan changes the value and
cannot fail half-way. The indices are copied and then checked, so that they cannot change afterwards.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np

from ps_protocol.dtype_traits import NUMBERS, DTypeCategory, dtype_category
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operation_kinds import not_computable
from ps_protocol.operations import Array, ScatterRule, VariableSpec
from ps_server.rules import compiled_row_kernels, row_kernels
from ps_server.rules.operand_checks import ORDERED, dtype_label, refuse_operand
from ps_server.rules.row_schedule import Rows

_INDEX_TYPES = (np.dtype(np.int32), np.dtype(np.int64))


class ScatterPlan(Protocol):
    """A scatter whose operands are checked and prepared."""

    def apply(self, value: Array) -> None:
        """Changes rows of ``value``, in C order, in place; if it raises (out of memory), nothing has been changed."""
        ...


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


def checked_rows(spec: VariableSpec, indices: Array, *, reading: bool = False) -> Rows:
    """Returns the row numbers as a new, flat ``[indices.size]`` array; ``reading`` says what an error need not say.

    Raises:
        DTypeMismatchError: The indices are neither int32 nor int64.
        InvalidArgumentError: The variable is a scalar, or an index is outside ``[0, rows)``.
    """
    if indices.dtype not in _INDEX_TYPES:
        raise DTypeMismatchError(
            f"the indices for variable {spec} are {dtype_label(indices.dtype)}; they must be int32 or int64",
            variable=spec.name,
        )
    if not spec.shape:
        raise InvalidArgumentError(
            f"variable {spec} is a scalar and has no rows to gather or scatter; read or assign it whole",
            variable=spec.name,
        )
    # Always a copy: another process may write to the caller's memory.
    rows: Rows = indices.reshape(-1).astype(np.intp, order="C", copy=True)
    if rows.size and (rows.min() < 0 or rows.max() >= spec.shape[0]):
        position = int(np.flatnonzero((rows < 0) | (rows >= spec.shape[0]))[0])
        place = [str(each) for each in np.unravel_index(position, indices.shape)]
        of_many = f" (indices[{', '.join(place)}])" if place else ""
        raise InvalidArgumentError(
            f"row {rows[position]}{of_many} is outside [0, {spec.shape[0]}) of variable {spec}"
            f"{'' if reading else '; nothing was changed'}",
            variable=spec.name,
        )
    return rows


def gather_into(value: Array, rows: Rows, out: Array) -> None:
    """Copies rows that ``checked_rows`` has passed into ``out``, shape ``[rows.size, *value.shape[1:]]``."""
    # Not "raise": that goes through a buffer, to keep `out` unchanged if an index is out of range.
    np.take(value, rows, axis=0, out=out, mode="clip")


def plan_scatter(spec: VariableSpec, rule: ScatterRule, indices: Array, updates: Array) -> ScatterPlan:
    """Checks a scatter and prepares it.

    Args:
        spec: Of the variable.
        rule: What to do with each row and its update.
        indices: int32 or int64, any shape; rows may repeat.
        updates: The variable's dtype, shape ``[*indices.shape, *spec.shape[1:]]``, or 0-d. May be kept until the plan
            has been applied.

    Raises:
        DTypeMismatchError: ``updates`` or ``indices`` have the wrong dtype.
        ShapeMismatchError: ``updates`` have the wrong shape.
        InvalidArgumentError: An index is out of range, the rule cannot be computed in this dtype, or it would divide
            integers by zero.
    """
    rows = checked_rows(spec, indices)
    operation = f"scatter_{rule.name.lower()}"
    expected = (*indices.shape, *spec.shape[1:])
    if updates.dtype != spec.dtype or (updates.ndim and updates.shape != expected):
        refuse_operand(spec, operation, updates, expected)
    category = dtype_category(spec.dtype)
    _check_computable(spec, rule, category)
    if rule is ScatterRule.DIV and category is DTypeCategory.INTEGER:
        _check_divisors(spec, rows, updates)
    width = math.prod(spec.shape[1:])
    if updates.ndim or not expected:
        updates = updates.reshape(rows.size, width)
    compiled = compiled_row_kernels.plan(rule, rows, updates)
    return compiled or row_kernels.plan(rule, rows, updates, spec.shape[0], width)


def _check_computable(spec: VariableSpec, rule: ScatterRule, category: DTypeCategory) -> None:
    if rule is ScatterRule.UPDATE:
        return
    computable = ORDERED if rule in (ScatterRule.MIN, ScatterRule.MAX) else NUMBERS
    if category not in computable:
        raise not_computable(spec, f"scatter_{rule.name.lower()}")


def _check_divisors(spec: VariableSpec, rows: Rows, updates: Array) -> None:
    zero = updates == np.zeros((), updates.dtype)
    if not rows.size or not zero.any():
        return
    position = int(np.flatnonzero(zero.reshape(rows.size, -1).any(axis=1))[0]) if updates.ndim else 0
    raise InvalidArgumentError(
        f"scatter_div would divide row {rows[position]} of variable {spec} by zero; nothing was changed",
        variable=spec.name,
    )
