"""Calls of named functions on the variables of a store: a variable and its slots change in one atomic step."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Apply, Array, Reduce, Result, VariableSpec, Verdict, names_of
from ps_protocol.optimizer_spec import OptimizerSpec
from ps_server.memory.lent_arrays import LendableArray
from ps_server.memory.spare_arrays import SMALL_BYTES, SpareArrays
from ps_server.rules.functions import FunctionCall, Functions
from ps_server.store.stored_variable import StoredVariable, uninitialized
from ps_server.store.stored_variables import StoredVariables

_COUNTER: Final = np.dtype(np.int64)
_MOST_STEPS: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StepCounts:
    """How many steps of optimizers changed nothing, since their gradients were not finite.

    Attributes:
        skipped: Of optimizers that were declared to skip them.
        refused: Of those that refuse them.
    """

    skipped: int = 0
    refused: int = 0

    def and_skipped(self) -> StepCounts:
        """With one more."""
        return replace(self, skipped=self.skipped + 1)

    def and_refused(self) -> StepCounts:
        """With one more."""
        return replace(self, refused=self.refused + 1)


class FunctionCalls:
    """Carries out ``Apply`` and ``Reduce``. Thread-safe.

    Args:
        variables: Those of the store.
        spares: Where replaced values go.
        functions: Those that can be called.
    """

    def __init__(self, variables: StoredVariables, spares: SpareArrays, functions: Functions):
        self._variables: Final = variables
        self._spares: Final = spares
        self._functions: Final = functions
        self._counts_lock = threading.Lock()  # guards: _counts
        self._counts = StepCounts()

    @property
    def counts(self) -> StepCounts:
        """Steps that were not carried out, since the start or the last ``forget_counts``."""
        return self._counts

    def forget_counts(self) -> None:
        """Counts from 0 again: those so far were carried out again from the log."""
        self._counts = StepCounts()

    def knows(self, function: str) -> bool:
        """Whether there is a function of that name that changes variables."""
        return self._functions.knows(function)

    def apply(self, operation: Apply) -> Result:
        """Computes a variable and its slots anew; other clients see all of that or nothing.

        Raises:
            NotFoundError: The variable, a slot or the function does not exist here.
            FailedPreconditionError: One of them has not been initialised, or the optimizer was not declared, or what
                should be its count of steps is none.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: The operands, the slots or the numbers do not
                fit; nothing changed.
        """
        function = self._functions.find(operation.function, operation.name)
        variable, *others = self._variables.find_all(operation)
        slots = others[: len(operation.slots)]
        state = others[-1] if operation.state else None
        specs = [each.spec for each in (variable, *slots)]
        optimizer = None if state is None else _optimizer_of(operation, state.spec)
        _check_distinct(operation)
        _check_numbers(operation)
        plan = function(FunctionCall(specs[0], specs[1:], operation.operands, operation.numbers, optimizer))
        if plan.refusal is not None:
            with self._counts_lock:
                self._counts = self._counts.and_refused()
            raise plan.refusal
        replaced: list[LendableArray] = []
        with self._variables.locked(names_of((operation,))):
            for each, spec in zip((variable, *slots), specs, strict=True):
                if each.value is None:
                    raise uninitialized(each.spec)
                if each.spec is not spec:
                    return self.apply(operation)
            if plan.verdict is not Verdict.APPLIED:
                with self._counts_lock:
                    self._counts = self._counts.and_skipped()
                return Result(variable.version, True, verdict=plan.verdict)
            step = 0 if state is None else _next_step(operation, state)
            changed = (variable, *slots[: plan.num_written])
            values = [self._value_to_change(each) for each in changed]
            read = [each.initialized_value() for each in slots[plan.num_written :]]
            plan.apply(values[0], [*values[1:], *read], step)
            for each, value in zip(changed, values, strict=True):
                if value is not each.value:
                    replaced.append(each.replace(value))
                each.version += 1
            if state is not None:
                self._count(state, step, replaced)
            result = Result(variable.version, True)
        for lent in replaced:
            self._spares.keep(lent)
        return result

    def reduce(self, operation: Reduce) -> Result:
        """Computes something small from the value, of one version.

        Raises:
            NotFoundError: There is no such variable or function.
            FailedPreconditionError: The variable has not been initialised.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: The operands or the numbers do not fit.
        """
        reduction = self._functions.find_reduction(operation.function, operation.name)
        _check_numbers(operation)
        variable = self._variables.find(operation.name)
        if variable.value is None:
            raise uninitialized(variable.spec)
        with variable.lock:
            spec, version = variable.spec, variable.version
            value = variable.initialized_value().copy() if variable.size_bytes <= SMALL_BYTES else variable.lend()
        # Computed beside the lock: an update that comes meanwhile goes to another array.
        return Result(version, True, reduction(spec, value, operation.operands, operation.numbers.tolist()))

    def _value_to_change(self, variable: StoredVariable) -> Array:
        """With the lock held: the value, or a copy of one that is lent."""
        value = variable.initialized_value()
        if not variable.is_lent:
            return value
        copy = self._spares.take(variable.spec)
        np.copyto(copy, value)
        return copy

    @staticmethod
    def _count(state: StoredVariable, step: int, replaced: list[LendableArray]) -> None:
        if state.is_lent:
            replaced.append(state.replace(np.array(step, _COUNTER)))
        else:
            state.initialized_value()[...] = step
        state.version += 1


def _next_step(operation: Apply, state: StoredVariable) -> int:
    step = int(state.initialized_value()) + 1
    if not 1 <= step <= _MOST_STEPS:
        raise FailedPreconditionError(
            f"variable {operation.name}: {state.spec.name} counts {step - 1} steps, after which there can be no other; "
            f"nothing was changed: assign the number of steps so far to it",
            variable=operation.name,
        )
    return step


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


def _check_numbers(operation: Apply | Reduce) -> None:
    numbers = operation.numbers
    if numbers.dtype != np.float64 or numbers.ndim != 1:
        raise InvalidArgumentError(
            f"variable {operation.name}: the numbers for {operation.function} are {numbers.dtype.name}"
            f"{list(numbers.shape)}; they should be float64 of one dimension",
            variable=operation.name,
        )


def _optimizer_of(operation: Apply, state: VariableSpec) -> OptimizerSpec:
    optimizer = state.optimizer
    if optimizer is None or state.slot_of != operation.name or state.dtype != _COUNTER or state.shape:
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
