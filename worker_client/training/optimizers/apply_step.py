"""The operation that changes a variable by a gradient: its ps carries out the rule, beside the variable's slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ps_protocol.errors import ShapeMismatchError
from ps_protocol.operations import Array
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.computation import VariableAccess
from worker_client.graph.operation import Operation, OutputSpec, Tensor


@dataclass(frozen=True, slots=True)
class Apply:
    """Asks a ps for one step of a rule.

    Attributes:
        name: Full name of the variable.
        function: The rule.
        slots: Full names of the variables that are its slots, in the rule's order.
        state: Name of state of the rule's own; "" for none.
        operands: The gradient; or the rows that it is for, each once, and the gradients of those.
        numbers: Of the rule's settings in their order, float64; NaN for what follows from the count of steps.
    """

    name: str
    function: str
    slots: tuple[str, ...]
    state: str
    operands: tuple[Array, ...]
    numbers: Array


SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "gradient_descent": ("learning_rate",),
    "momentum": ("learning_rate", "momentum", "use_nesterov"),
    "adagrad": ("learning_rate", "initial_accumulator_value"),
    "adagrad_da": (
        "learning_rate",
        "global_step",
        "initial_gradient_squared_accumulator_value",
        "l1_regularization_strength",
        "l2_regularization_strength",
    ),
    "adadelta": ("learning_rate", "rho", "epsilon"),
    "adam": ("learning_rate", "beta1", "beta2", "epsilon", "beta1_power", "beta2_power", "amsgrad"),
    "rmsprop": ("learning_rate", "decay", "momentum", "epsilon", "centered"),
    "ftrl": (
        "learning_rate",
        "learning_rate_power",
        "initial_accumulator_value",
        "l1_regularization_strength",
        "l2_regularization_strength",
        "l2_shrinkage_regularization_strength",
        "beta",
    ),
    "proximal_gradient_descent": ("learning_rate", "l1_regularization_strength", "l2_regularization_strength"),
    "proximal_adagrad": (
        "learning_rate",
        "initial_accumulator_value",
        "l1_regularization_strength",
        "l2_regularization_strength",
    ),
}
"""The settings of each rule in the order in which they travel."""


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
    order = SETTINGS[rule]
    tensors = {name: each for name, each in settings.items() if isinstance(each, Tensor)}
    fixed = [np.nan if name in tensors else float(settings[name]) for name in order]  # type: ignore[arg-type]
    places = [order.index(name) for name in tensors]
    name, names, shape = variable.spec.name, tuple(each.spec.name for each in slots), variable.spec.shape

    def request(_: int, *values: Array) -> Any:
        numbers = np.array(fixed, np.float64)
        for place, value in zip(places, values, strict=False):
            numbers[place] = value
        operands = values[len(places) :]
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
