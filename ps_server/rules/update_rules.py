"""How whole values change: assign, add, subtract, count. Pure functions over NumPy arrays; ``row_rules`` has the rows.

Every rule has two halves. The first checks the operands against the variable's spec and does all the work that does
not need the value; it runs before any lock is taken. The second changes the value by one NumPy call, so that it cannot
fail half-way.

Arithmetic is that of TensorFlow's kernels: integers wrap around and divide toward zero, floats follow IEEE 754,
and neither warns.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, integer_limits, is_number
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, OutOfRangeError, ShapeMismatchError
from ps_protocol.operation_kinds import not_computable
from ps_protocol.operations import Array, Replace, UpdateRule, VariableSpec
from ps_server.rules.arithmetic import quiet
from ps_server.rules.operand_checks import refuse_operand

_ASSIGN: Final = UpdateRule.ASSIGN  # looking a member up takes as long as a call
_UPDATE_UFUNCS: dict[UpdateRule, np.ufunc] = {UpdateRule.ASSIGN_ADD: np.add, UpdateRule.ASSIGN_SUB: np.subtract}


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
    if operand.dtype != spec.dtype or (operand.shape != spec.shape and (operand.ndim or rule is _ASSIGN)):
        refuse_operand(spec, rule.name.lower(), operand, spec.shape)
    if rule is not _ASSIGN and not is_number(spec.dtype):
        raise not_computable(spec, rule.name.lower())


def apply_update(value: Array, rule: UpdateRule, operand: Array, out: Array | None = None) -> None:
    """Changes ``value`` by operands that ``check_update`` has passed: in place, or as it would be into ``out``."""
    result = value if out is None else out
    if rule is _ASSIGN:
        np.copyto(result, operand)
    else:
        quiet.run(_UPDATE_UFUNCS[rule], value, operand, result)


def replaced_spec(spec: VariableSpec, operation: Replace) -> VariableSpec:
    """Returns what a variable is like after a ``Replace``: itself if that does not change its layout.

    Raises:
        DTypeMismatchError: The value has another dtype; bytes may have another length.
        ShapeMismatchError: It has another shape, and the operation or the variable's place in a whole forbids that.
    """
    value = operation.value
    if value.dtype == spec.dtype and value.shape == spec.shape:
        return spec
    if value.dtype.kind == "S":  # of any length
        spec = replace(spec, dtype=value.dtype) if spec.dtype.kind == "S" else spec
    if value.dtype != spec.dtype or (value.shape != spec.shape and (operation.keeps_shape or spec.slice is not None)):
        refuse_operand(spec, "assign", value, spec.shape)
    return replace(spec, shape=value.shape)


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
