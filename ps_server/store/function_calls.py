"""Calls of named functions on the variables of a store: a variable and its slots change in one atomic step."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Apply, Array, Reduce, Result, Verdict
from ps_server.memory.lent_arrays import LendableArray
from ps_server.memory.spare_arrays import SMALL_BYTES, SpareArrays
from ps_server.rules.functions import FunctionPlan, Functions
from ps_server.store.prepared_calls import COUNTER, PreparedCall
from ps_server.store.stored_variable import HeldLocks, StoredVariable, uninitialized
from ps_server.store.stored_variables import StoredVariables

_APPLIED: Final = Verdict.APPLIED  # looking a member up takes as long as a call
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


class PlannedCall(NamedTuple):
    """A call for which all is ready but little memory, with the locks of its variables held."""

    operation: Apply
    call: PreparedCall
    plan: FunctionPlan


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
        # By the names of the variable and of its count of steps. A look into it, and a change of it, are atomic.
        self._prepared: Final[dict[tuple[str, str], PreparedCall]] = {}
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

    def check(self, operation: Apply) -> None:
        """Makes sure that a call can be carried out, as things are; errors as of ``apply``."""
        _check_numbers(operation)
        call = self._prepared_call(operation)
        for each in call.in_order:
            if each.value is None:
                raise uninitialized(each.spec)
        if call.state is not None:
            _next_step(operation, call.state)
        plan = call.plan(operation.operands, operation.numbers)
        if plan.refusal is not None:
            raise plan.refusal

    def planned(self, operation: Apply) -> PlannedCall:
        """With the locks of its variables held: makes a call ready, so that it needs little memory later.

        Args:
            operation: What to compute; it was checked.

        Raises:
            MemoryError: There is none; nothing has changed.
        """
        call = self._prepared_call(operation)
        for each in call.targets:
            if each.is_lent:
                each.replace(self._copy(each))
        return PlannedCall(operation, call, call.plan(operation.operands, operation.numbers))

    def carry_out(self, planned: PlannedCall) -> None:
        """With the locks still held: makes a call that is ready; a gradient that is not finite is skipped.

        Raises:
            MemoryError: There is none for its blocks; nothing has changed.
        """
        self._applied(*planned)

    def apply(self, operation: Apply) -> Result:
        """Computes a variable and its slots anew; other clients see all of that or nothing.

        Raises:
            NotFoundError: The variable, a slot or the function does not exist here.
            FailedPreconditionError: One of them has not been initialised, or the optimizer was not declared, or what
                should be its count of steps is none.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: The operands, the slots or the numbers do not
                fit; nothing changed.
        """
        _check_numbers(operation)
        while True:
            call = self._prepared_call(operation)
            plan = call.plan(operation.operands, operation.numbers)
            if plan.refusal is not None:
                with self._counts_lock:
                    self._counts = self._counts.and_refused()
                raise plan.refusal
            result = self._applied(operation, call, plan)
            if result is not None:
                return result

    def _applied(self, operation: Apply, call: PreparedCall, plan: FunctionPlan) -> Result | None:
        """Carries out a prepared call; None if one of its variables has another layout by now, and nothing changed."""
        variable, state = call.variable, call.state
        changed = call.targets[: len(call.targets) - plan.num_read]
        arrays: list[Array] = []
        replaced: list[LendableArray] = []
        with HeldLocks(call.in_order):
            for each in call.targets:
                if each.value is None:
                    raise uninitialized(each.spec)
                arrays.append(each.value)
            if not call.is_current():
                return None
            if plan.verdict is not _APPLIED or plan.refusal is not None:
                with self._counts_lock:
                    self._counts = self._counts.and_skipped()
                return Result(variable.version, True, verdict=Verdict.SKIPPED)
            step = 0 if state is None else _next_step(operation, state)
            for number, each in enumerate(changed):
                if each.is_lent:
                    arrays[number] = self._copy(each)
            plan.apply(arrays[0], arrays[1:], step)
            for each, array in zip(changed, arrays, strict=False):
                if array is not each.value:
                    replaced.append(each.replace(array))
                each.version += 1
            if state is not None:
                self._count(state, step, replaced)
            result = Result(variable.version, True)
        for lent in replaced:
            self._spares.keep(lent)
        return result

    def _prepared_call(self, operation: Apply) -> PreparedCall:
        key = (operation.name, operation.state)
        call = self._prepared.get(key)
        if call is None or not call.is_for(operation) or not call.is_current():
            call = self._prepared[key] = PreparedCall(operation, self._variables, self._functions)
        return call

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

    def _copy(self, variable: StoredVariable) -> Array:
        """With the lock held: a copy of a value that is lent, to be changed in its place."""
        copy = self._spares.take(variable.spec)
        np.copyto(copy, variable.initialized_value())
        return copy

    @staticmethod
    def _count(state: StoredVariable, step: int, replaced: list[LendableArray]) -> None:
        if state.is_lent:
            replaced.append(state.replace(np.array(step, COUNTER)))
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


def _check_numbers(operation: Apply | Reduce) -> None:
    numbers = operation.numbers
    if numbers.dtype != np.float64 or numbers.ndim != 1:
        raise InvalidArgumentError(
            f"variable {operation.name}: the numbers for {operation.function} are {numbers.dtype.name}"
            f"{list(numbers.shape)}; they should be float64 of one dimension",
            variable=operation.name,
        )
