"""Calls of functions that come again: their variables looked up and their functions prepared once."""

from __future__ import annotations

from typing import Final

import numpy as np

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Apply, VariableSpec
from ps_protocol.optimizer_spec import OptimizerSpec
from ps_server.rules.functions import Functions, FunctionSubject
from ps_server.store.stored_variables import StoredVariables

COUNTER: Final = np.dtype(np.int64)
"""Of variables that count steps."""


class PreparedCall:
    """All of a call but its operands and numbers. Immutable; no longer of use when a variable has another layout.

    Args:
        operation: Such a call.
        variables: Those of the store.
        functions: Those that can be called.

    Attributes:
        variable: What the call is about.
        targets: The variable and its slots.
        state: Counts the steps; None if nothing does.
        in_order: All of them, in the order of their names.
        plan: Checks operands and numbers.

    Raises:
        NotFoundError: The variable, a slot or the function does not exist here.
        FailedPreconditionError: The optimizer was not declared, or what should be its count of steps is none, or the
            slots are others.
        ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: Variable and slots do not fit the function.
    """

    __slots__ = ("_function", "_slot_names", "_specs", "in_order", "plan", "state", "targets", "variable")

    def __init__(self, operation: Apply, variables: StoredVariables, functions: Functions):
        function = functions.find(operation.function, operation.name)
        self.variable, *others = variables.find_all(operation)
        self.targets: Final = (self.variable, *others[: len(operation.slots)])
        self.state: Final = others[-1] if operation.state else None
        self._function, self._slot_names = operation.function, operation.slots
        self._specs = tuple([(each, each.spec) for each in (self.variable, *others)])
        spec, *specs = [each for _, each in self._specs]
        optimizer = _optimizer_of(operation, specs.pop()) if operation.state else None
        _check_distinct(operation)
        self.in_order: Final = sorted((self.variable, *others), key=lambda each: each.declared.name)
        self.plan: Final = function(FunctionSubject(spec, tuple(specs), optimizer))

    def is_for(self, operation: Apply) -> bool:
        """Whether it is another call of the same function; of the same variable and count they are."""
        return operation.function == self._function and operation.slots == self._slot_names

    def is_current(self) -> bool:
        """Whether all of them still are as they were."""
        for variable, spec in self._specs:  # noqa: SIM110 - a generator would take as long as all else
            if variable.spec is not spec:
                return False
        return True


def _check_distinct(operation: Apply) -> None:
    """A variable that is there twice would be changed twice, in place or in two copies: with different results."""
    names = (operation.name, *operation.slots, operation.state)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgumentError(
            f"variable {operation.name}: {operation.function} was told to compute with {twice} twice; name the "
            f"variable and each of its slots once",
            variable=operation.name,
        )


def _optimizer_of(operation: Apply, state: VariableSpec) -> OptimizerSpec:
    optimizer = state.optimizer
    if optimizer is None or state.slot_of != operation.name or state.dtype != COUNTER or state.shape:
        raise FailedPreconditionError(
            f"variable {operation.name}: {state.name} does not count the steps of an optimizer of it; declare the "
            f"optimizer for the variable first",
            variable=operation.name,
        )
    if optimizer.function != operation.function:
        raise FailedPreconditionError(
            f"variable {operation.name}: {state.name} was declared for {optimizer.function}, not for "
            f"{operation.function}; give the other optimizer a name of its own",
            variable=operation.name,
        )
    return optimizer
