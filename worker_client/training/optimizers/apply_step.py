"""The operation that changes a variable by a gradient: its ps carries out the rule, beside the variable's slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Apply, Array
from ps_protocol.optimizer_rules import RULES
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.computation import VariableAccess
from worker_client.graph.operation import Operation, OutputSpec, Tensor


def apply_op(
    variable: DeferredVariable,
    rule: str,
    op_type: str,
    slots: Sequence[DeferredVariable],
    settings: Mapping[str, Tensor | float],
    gradient: Tensor,
    indices: Tensor | None = None,
    *,
    use_locking: bool = False,
) -> Operation:
    """Adds an operation that changes a variable by a gradient each time that a session runs it.

    Args:
        variable: The variable.
        rule: Name of the rule.
        op_type: Type of the operation, which is its name inside the name scope as well.
        slots: In the rule's order.
        settings: Of the rule, by name: numbers, or tensors that each run computes, which become inputs in this order.
        gradient: Of the variable's dtype; of its shape, or ``[rows, ...]``.
        indices: Row of each of those, each once; None for a gradient of the whole.
        use_locking: Only noted; every step is atomic.

    Raises:
        ValueError: The shapes do not fit.
        TypeError: The gradient has another dtype than the variable.
    """
    _check(variable, gradient, indices)
    order = [each.name for each in RULES[rule].settings]
    tensors = {name: each for name, each in settings.items() if isinstance(each, Tensor)}
    for name, each in tensors.items():
        if each.shape.ndims:
            raise _no_scalar(name, variable, each.shape.as_list())
    fixed = [np.nan if name in tensors else float(settings[name]) for name in order]  # type: ignore[arg-type]
    places = [order.index(name) for name in tensors]
    name, names, shape = variable.spec.name, tuple(each.spec.name for each in slots), variable.spec.shape

    def request(_: int, *values: Array) -> Any:
        numbers = np.array(fixed, np.float64)
        for place, value in zip(places, values, strict=False):
            if value.ndim:
                raise _no_scalar(order[place], variable, list(value.shape))
            numbers[place] = value
        operands = values[len(places) :]
        if len(operands) > 1:
            _check_rows(operands[0], variable)
        wanted = shape if len(operands) == 1 else (len(operands[0]), *shape[1:])
        if operands[-1].shape != wanted:
            raise ShapeMismatchError(
                f"the gradient of variable {name} has the shape {list(operands[-1].shape)}, needed is {list(wanted)}",
                variable=name,
            )
        return Apply(name, rule, names, "", operands, numbers)

    access = VariableAccess(variable, request, mutates=True, beside=tuple(slots))
    with variable.graph.colocate_with(variable.op):
        return variable.graph.create_op(
            op_type,
            [*tensors.values(), *([] if indices is None else [indices]), gradient],
            [OutputSpec(variable.dtype.dtype, variable.shape)],
            attributes={"T": variable.dtype, "use_locking": use_locking},
            computation=access,
            references=[variable.op.outputs[0], *(each.op.outputs[0] for each in slots)],
        )


def _no_scalar(setting: str, variable: DeferredVariable, shape: Sequence[int | None]) -> ShapeMismatchError:
    return ShapeMismatchError(
        f"{setting} of the step of variable {variable.spec.name} has the shape {shape}; it should be a scalar",
        variable=variable.spec.name,
    )


def _check_rows(rows: Array, variable: DeferredVariable) -> None:
    """Finds rows that there are not before anything of the run is sent, where the number of rows is known."""
    number = variable.shape.size(0)
    if number is not None and rows.size and (rows.min() < 0 or rows.max() >= number):
        outside = rows[(rows < 0) | (rows >= number)]
        raise InvalidArgumentError(
            f"row {outside[0]} in the gradient of variable {variable.spec} is outside of [0, {number}); nothing was "
            f"changed",
            variable=variable.spec.name,
        )


def _check(variable: DeferredVariable, gradient: Tensor, indices: Tensor | None) -> None:
    if gradient.dtype != variable.dtype:
        raise TypeError(
            f"the gradient {gradient.name} is {gradient.dtype.name}, its variable {variable.name} is "
            f"{variable.dtype.name}; cast the gradient"
        )
    fits = gradient.shape.is_compatible_with(variable.shape)
    if indices is not None and variable.shape.ndims is not None:
        fits = gradient.shape.ndims is None or gradient.shape[1:].is_compatible_with(variable.shape[1:])
    if not fits:
        raise ValueError(
            f"the gradient {gradient.name} of the shape {gradient.shape} does not fit its variable {variable.name} of "
            f"the shape {variable.shape}"
        )
