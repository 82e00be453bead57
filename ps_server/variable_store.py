"""The variables of one ps task: declared, initialised, read and updated, each operation atomic for its variable.

Locks, in the order in which they may be taken:

1. the gate of a name, while a variable is made or its initial value computed, so that neither is done twice at once;
2. the table lock, for a look into or a change of the table only, or one variable's lock, for one NumPy call on its
   value. These two are never held together, and two variables' locks are never held together.

What takes time is done outside the variable's lock: operands are checked and prepared before it is taken, and the
array that a value is read into is made, its pages included, beforehand. So whoever updates a variable waits for one
memcpy of each reader ahead of it, never for a network, an allocation or a page fault.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ps_protocol.errors import (
    AbortedError,
    FailedPreconditionError,
    InternalError,
    NotFoundError,
    ResourceExhaustedError,
)
from ps_protocol.initial_values import initial_value
from ps_protocol.initializer_spec import InitializerSpec
from ps_protocol.operations import (
    Array,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    Read,
    Result,
    Scatter,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.ps_service import VariableInfo
from ps_server.byte_budget import ByteBudget, readable_bytes
from ps_server.name_gates import NameGates
from ps_server.spec_checks import check_agreement, check_spec
from ps_server.update_rules import (
    apply_update,
    check_count,
    check_update,
    checked_rows,
    count_up_to,
    gather_into,
    in_rows,
    plan_scatter,
)

InitialValue = Callable[[VariableSpec, InitializerSpec], Array]

_PAGE_BYTES: Final = 4096
_SMALL_BYTES: Final = 32 * 1024
"""Up to here an array comes from memory that the allocator has at hand, and is copied faster than prepared."""


class _Variable:
    __slots__ = ("lock", "size_bytes", "spec", "value", "version")

    def __init__(self, spec: VariableSpec, value: Array | None):
        self.spec = spec
        self.size_bytes = spec.size_bytes
        # guards: version, value and its elements. Whether `value` is None may be asked without it: once it is not, it
        # stays so.
        self.lock = threading.Lock()
        self.value = value
        self.version = 0

    def result(self, *, with_spec: bool) -> Result:
        with self.lock:
            return Result(self.version, self.value is not None, None, self.spec if with_spec else None)


class VariableStore:
    """The variables of one ps task. Thread-safe.

    Arrays in operations stay the caller's: they are copied or used up before a method returns. Arrays in results are
    new and the caller's own.

    Args:
        memory_limit_bytes: The most that the values may take together; 0 for no limit. A value is counted from its
            declaration on, so that a variable that could be declared can be initialised.
        compute_initial_value: Makes initial values: a new array each time, of the spec's dtype and shape, in C order.
    """

    def __init__(self, *, memory_limit_bytes: int = 0, compute_initial_value: InitialValue = initial_value):
        self._memory = ByteBudget(memory_limit_bytes)
        self._compute_initial_value = compute_initial_value
        self._gates = NameGates()
        # guards: _variables. A single look-up is atomic and done without it; entries are never removed.
        self._table_lock = threading.Lock()
        self._variables: dict[str, _Variable] = {}

    # -- declaring and initialising -----------------------------------------------------------

    def declare(self, operation: Declare, timeout_s: float) -> Result:
        """Gets or creates a variable, and with an initializer makes sure that it has a value.

        Args:
            operation: What to declare.
            timeout_s: How long to wait for another client that is initialising it at this moment.

        Raises:
            ShapeMismatchError, DTypeMismatchError: It exists with another spec.
            InvalidArgumentError: The spec is impossible, or the initializer does not fit it.
            ResourceExhaustedError: The memory limit would be exceeded.
            AbortedError: Another client was still initialising it when time ran out.
        """
        spec = operation.spec
        variable = self._variables.get(spec.name)
        if variable is None:
            check_spec(spec)
            with self._gates.entered(spec.name, timeout_s) as entered:
                self._check_entered(entered, spec.name, timeout_s)
                variable = self._variables.get(spec.name)
                if variable is None:
                    return self._create(spec, operation.initializer).result(with_spec=True)
        check_agreement(variable.spec, spec)
        if operation.initializer is not None:
            self._initialize(variable, operation.initializer, timeout_s, overwrite=False)
        return variable.result(with_spec=True)

    def initialize(self, operation: Initialize, timeout_s: float) -> Result:
        """Gives a variable its initial value; one that has a value keeps it, unless it is to be overwritten.

        Raises:
            NotFoundError: There is no such variable.
            InvalidArgumentError: The initializer does not fit the variable.
            AbortedError: Another client was still initialising it when time ran out.
        """
        variable = self._find(operation.name)
        self._initialize(variable, operation.initializer, timeout_s, overwrite=operation.overwrite)
        return variable.result(with_spec=False)

    @property
    def is_initializing(self) -> bool:
        """Whether any variable is being made or initialised at this moment."""
        return self._gates.is_busy

    def wait_while_initializing(self, name: str, timeout_s: float) -> bool:
        """Waits while a client is making or initialising the variable; returns whether that ended in time."""
        with self._gates.entered(name, timeout_s) as entered:
            return entered

    def _create(self, spec: VariableSpec, initializer: InitializerSpec | None) -> _Variable:
        # Called with the gate held, and with the value made before the variable is shown: a declaration that fails
        # leaves nothing behind, and two that come at once are not counted twice.
        if not self._memory.try_take(spec.size_bytes):
            raise self._out_of_memory(spec)
        try:
            value = None if initializer is None else self._initial_value(spec, initializer)
        except BaseException:
            self._memory.give_back(spec.size_bytes)
            raise
        variable = _Variable(spec, value)
        with self._table_lock:
            self._variables[spec.name] = variable
        return variable

    def _initialize(
        self, variable: _Variable, initializer: InitializerSpec, timeout_s: float, *, overwrite: bool
    ) -> None:
        if variable.value is not None and not overwrite:
            return
        with self._gates.entered(variable.spec.name, timeout_s) as entered:
            self._check_entered(entered, variable.spec.name, timeout_s)
            if variable.value is not None and not overwrite:
                return
            value = self._initial_value(variable.spec, initializer)
            with variable.lock:
                if variable.value is None:
                    variable.value = value
                elif overwrite:
                    variable.value = value
                    variable.version += 1

    def _initial_value(self, spec: VariableSpec, initializer: InitializerSpec) -> Array:
        value = self._compute_initial_value(spec, initializer)
        if value.dtype != spec.dtype or value.shape != spec.shape:
            raise InternalError(
                f"the initial value of {spec} was made as {value.dtype.name}{list(value.shape)}", variable=spec.name
            )
        return value

    @staticmethod
    def _check_entered(entered: bool, name: str, timeout_s: float) -> None:
        if not entered:
            raise AbortedError(
                f"another client was still initialising variable {name} after {timeout_s:.1f} s; try again",
                variable=name,
            )

    # -- whole values -------------------------------------------------------------------------

    def read(self, operation: Read) -> Result:
        """The whole value, of one version; only the version, if that is still the one named in ``unless_version``.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised.
        """
        variable = self._find(operation.name)
        if operation.unless_version is not None:
            with variable.lock:
                if variable.version == operation.unless_version and variable.value is not None:
                    return Result(variable.version, True)
        if variable.size_bytes <= _SMALL_BYTES:
            with variable.lock:
                if variable.value is None:
                    raise _uninitialized(variable.spec)
                return Result(variable.version, True, variable.value.copy())
        if variable.value is None:
            raise _uninitialized(variable.spec)
        tensor = _prepared_array(variable.spec.shape, variable.spec.dtype)
        with variable.lock:
            np.copyto(tensor, variable.value)
            return Result(variable.version, True, tensor)

    def update(self, operation: Update) -> Result:
        """Assigns, adds or subtracts.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised, and the rule is not to assign.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: The operand does not fit; nothing changed.
        """
        variable, rule, operand = self._find(operation.name), operation.rule, operation.value
        check_update(variable.spec, rule, operand)
        first_value = _owned_copy(operand) if variable.value is None and rule is UpdateRule.ASSIGN else None
        with variable.lock:
            if variable.value is not None:
                apply_update(variable.value, rule, operand)
            elif first_value is not None:
                variable.value = first_value
            else:
                raise _uninitialized(variable.spec)
            variable.version += 1
            return Result(variable.version, True)

    # -- rows ---------------------------------------------------------------------------------

    def gather(self, operation: Gather) -> Result:
        """Rows of the value, of one version.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised.
            InvalidArgumentError: An index is out of range or not an integer.
        """
        variable, indices = self._find(operation.name), operation.indices
        spec = in_rows(variable.spec, operation.index_depth)
        rows = checked_rows(spec, indices)
        if variable.value is None:
            raise _uninitialized(variable.spec)
        row_shape = spec.shape[1:]
        tensor = _prepared_array((rows.size, *row_shape), spec.dtype)
        with variable.lock:
            gather_into(variable.value.reshape(spec.shape), rows, tensor)
            version = variable.version
        return Result(version, True, tensor.reshape(*indices.shape, *row_shape))

    def scatter(self, operation: Scatter) -> Result:
        """Updates rows.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: The operands do not fit; nothing changed.
        """
        variable = self._find(operation.name)
        if variable.value is None:
            raise _uninitialized(variable.spec)
        rows = in_rows(variable.spec, operation.index_depth)
        plan = plan_scatter(rows, operation.rule, operation.indices, operation.updates)
        with variable.lock:
            plan.apply(variable.value.reshape(rows.shape))  # a view: values are in C order
            variable.version += 1
            return Result(variable.version, True)

    # -- counting -----------------------------------------------------------------------------

    def count_up_to(self, operation: CountUpTo) -> Result:
        """Adds one to an integer that is less than a limit; the result holds the value before.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised.
            OutOfRangeError: It has reached the limit; nothing changed.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: It cannot count to that limit.
        """
        variable = self._find(operation.name)
        if variable.value is None:
            raise _uninitialized(variable.spec)
        check_count(variable.spec, operation.limit)
        with variable.lock:
            before = count_up_to(variable.spec, variable.value, operation.limit)
            variable.version += 1
            return Result(variable.version, True, before)

    # -- looking ------------------------------------------------------------------------------

    def describe(self, operation: Describe) -> Result:
        """Spec, version and state; NotFoundError if there is no such variable."""
        return self._find(operation.name).result(with_spec=True)

    def spec_of(self, name: str) -> VariableSpec | None:
        """What is recorded of a variable, or None if there is none."""
        variable = self._variables.get(name)
        return None if variable is None else variable.spec

    def list_variables(self) -> list[VariableInfo]:
        """All variables by name; each entry is consistent, the list as a whole is of no single moment."""
        with self._table_lock:
            variables = list(self._variables.values())
        infos = []
        for variable in sorted(variables, key=lambda each: each.spec.name):
            state = variable.result(with_spec=False)
            infos.append(VariableInfo(variable.spec, state.version, state.initialized, variable.size_bytes))
        return infos

    @property
    def num_variables(self) -> int:
        return len(self._variables)

    @property
    def variable_bytes(self) -> int:
        """Bytes counted for the variables declared."""
        return self._memory.used_bytes

    @property
    def memory_limit_bytes(self) -> int:
        return self._memory.limit_bytes

    def _find(self, name: str) -> _Variable:
        variable = self._variables.get(name)
        if variable is None:
            raise NotFoundError(
                f"variable {name} does not exist here; declare it first, or check its name and ps task", variable=name
            )
        return variable

    def _out_of_memory(self, spec: VariableSpec) -> ResourceExhaustedError:
        return ResourceExhaustedError(
            f"variable {spec} needs {readable_bytes(spec.size_bytes)}, but of the memory limit of "
            f"{readable_bytes(self._memory.limit_bytes)} {readable_bytes(self._memory.used_bytes)} are used; raise "
            f"--memory-limit, add ps tasks, or partition the variable over them",
            variable=spec.name,
            retryable=False,
        )


def _uninitialized(spec: VariableSpec) -> FailedPreconditionError:
    return FailedPreconditionError(
        f"variable {spec} has not been initialised; run its initializer or assign to it first", variable=spec.name
    )


def _owned_copy(array: Array) -> Array:
    return np.array(array, order="C", copy=True)


def _prepared_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A new array whose memory is there: the kernel gives large ones page by page when they are first written to."""
    array = np.empty(shape, dtype)
    if array.nbytes > _SMALL_BYTES:
        array.reshape(-1).view(np.uint8)[::_PAGE_BYTES] = 0
    return array
