"""The variables of one ps task: declared, initialised, read and updated, each operation atomic for its variable.

Locks, in the order in which they may be taken:

1. the gate of a name, while a variable is made or its initial value computed, so that neither is done twice at once;
2. the table lock, for a look into or a change of the table only, or one variable's lock, for one NumPy call on its
   value. These two are never held together, and two variables' locks only by ``StoredVariables.locked``.

What takes time is done outside the variable's lock: operands are checked and prepared before it is taken, and the
array that a value is read into is made, its pages included, beforehand. (Where another client has given the variable
another layout in between, that is done again, with the lock held.) So an update waits for one memcpy of each
reader ahead of it, never for a network, an allocation or a page fault.

A large value may also be lent: the reader gets a view of it at once. While that view is held, an update is computed
into another array, which then takes the place of the value. A value that is not lent is updated in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Final

import numpy as np

from ps_protocol.errors import AbortedError, InternalError
from ps_protocol.initial_values.compute import check_initializer, initial_value
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import (
    Array,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    Read,
    Replace,
    Result,
    Scatter,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.out_arrays import check_out
from ps_protocol.service_types import VariableInfo
from ps_server.memory.operand_ownership import can_become_value
from ps_server.memory.second_values import SecondValues
from ps_server.memory.spare_arrays import SMALL_BYTES, SpareArrays, prepared_array
from ps_server.rules.operand_checks import refuse_operand
from ps_server.rules.row_rules import checked_rows, gather_into, in_rows, plan_scatter
from ps_server.rules.update_rules import apply_update, check_count, check_update, count_up_to, replaced_spec
from ps_server.store.name_gates import NameGates
from ps_server.store.spec_checks import check_agreement, check_spec
from ps_server.store.stored_variable import StoredVariable, uninitialized
from ps_server.store.stored_variables import StoredVariables

ComputeInitialValue = Callable[[VariableSpec, InitializerSpec], Array]
NoteDeclaration = Callable[[Declare | Initialize], int]

DEFAULT_SPARE_LIMIT_BYTES: Final = 128 * 1024**2

_ASSIGN: Final = UpdateRule.ASSIGN  # to look a member up takes as long as a call


class VariableStore:
    """The variables of one ps task. Thread-safe.

    The caller may change the arrays in its operations again when a method returns, unless it passed ``take``. Arrays in
    results are new, or the one that the operation names as ``out``, unless the caller passed ``lend``.

    Args:
        memory_limit_bytes: The most that the values may take together; 0 for no limit. A value is counted from its
            declaration on, so that a variable that could be declared can be initialised. Memory that only borrowers
            keep alive is not counted.
        spare_limit_bytes: The most that replaced values may take that are kept to be used again.
        second_limit_bytes: The most that second values take beside a save; None for a part of the values.
        compute_initial_value: Makes initial values: a new array each time, of the spec's dtype and shape, in C order.
        note: Called with what has created a variable, before others see it, or given it its first value, with its lock
            held; returns the position of the record about it.

    Attributes:
        variables: By name.
        spares: Replaced values that are kept to be used again.
        second_values: Room for those of variables that a save has yet to write.
    """

    def __init__(
        self,
        *,
        memory_limit_bytes: int = 0,
        spare_limit_bytes: int = DEFAULT_SPARE_LIMIT_BYTES,
        second_limit_bytes: int | None = None,
        compute_initial_value: ComputeInitialValue = initial_value,
        note: NoteDeclaration = lambda _operation: 0,
    ):
        self.variables: Final = StoredVariables(memory_limit_bytes)
        self._find: Final = self.variables.find
        self.spares: Final = SpareArrays(spare_limit_bytes)
        self.second_values: Final = SecondValues(second_limit_bytes)
        self._compute_initial_value = compute_initial_value
        self._note = note
        self._gates = NameGates()

    # -- declaring and initialising -----------------------------------------------------------

    def declare(self, operation: Declare, timeout_s: float, *, take: bool = False) -> Result:
        """Gets or creates a variable, and with an initializer makes sure that it has a value.

        Args:
            operation: What to declare.
            timeout_s: How long to wait for another client that is initialising it at this moment.
            take: Whether the store may keep an array that is the initial value: the caller does not use it any more.

        Raises:
            ShapeMismatchError, DTypeMismatchError: It exists with another spec.
            InvalidArgumentError: The spec is impossible, or the initializer does not fit it.
            ResourceExhaustedError: The memory limit would be exceeded.
            AbortedError: Another client was still initialising it when time ran out.
        """
        spec = operation.spec
        variable = self.variables.get(spec.name)
        if variable is None:
            check_spec(spec)
            with self._gates.entered(spec.name, timeout_s) as entered:
                self._check_entered(entered, spec.name, timeout_s)
                variable = self.variables.get(spec.name)
                if variable is None:
                    return self._create(spec, operation.initializer, take=take).result(with_spec=True)
        check_agreement(variable.declared, spec)
        if operation.initializer is not None:
            self._initialize(variable, operation.initializer, timeout_s, overwrite=False, take=take)
        return variable.result(with_spec=True)

    def initialize(self, operation: Initialize, timeout_s: float, *, take: bool = False) -> Result:
        """Gives a variable its initial value; one that has a value keeps it, unless it is to be overwritten.

        Arguments are those of ``declare``.

        Raises:
            NotFoundError: There is no such variable.
            InvalidArgumentError: The initializer does not fit the variable.
            AbortedError: Another client was still initialising it when time ran out.
        """
        variable = self._find(operation.name)
        self._initialize(variable, operation.initializer, timeout_s, overwrite=operation.overwrite, take=take)
        return variable.result(with_spec=False)

    def first_value(self, operation: Initialize) -> Array:
        """Returns a new array with the initial value of a variable, and leaves the variable alone.

        Raises:
            NotFoundError: There is no such variable.
            InvalidArgumentError: The initializer does not fit it.
        """
        return self._initial_value(self._find(operation.name).declared, operation.initializer, take=False)

    @property
    def is_initializing(self) -> bool:
        """Whether any variable is being made or initialised at this moment."""
        return self._gates.is_busy

    def wait_while_initializing(self, name: str, timeout_s: float) -> bool:
        """Waits while a client is making or initialising the variable; returns whether that ended in time."""
        with self._gates.entered(name, timeout_s) as entered:
            return entered

    def _create(self, spec: VariableSpec, initializer: InitializerSpec | None, *, take: bool) -> StoredVariable:
        # With the gate held. The value is made before the variable is added: a declaration that fails leaves nothing
        # behind, and two at the same time are not counted twice.
        self.variables.take_memory(spec)
        try:
            value = None if initializer is None else self._initial_value(spec, initializer, take=take)
        except BaseException:
            self.variables.memory.give_back(spec.size_bytes)
            raise
        variable = StoredVariable(spec, value)
        variable.position = self._note(Declare(spec, initializer))
        self.variables.add(variable)
        return variable

    def _initialize(
        self, variable: StoredVariable, initializer: InitializerSpec, timeout_s: float, *, overwrite: bool, take: bool
    ) -> None:
        if variable.value is not None and not overwrite:
            return
        with self._gates.entered(variable.spec.name, timeout_s) as entered:
            self._check_entered(entered, variable.spec.name, timeout_s)
            if variable.value is not None and not overwrite:
                return
            value = self._initial_value(variable.declared, initializer, take=take)
            replaced = None  # freed after the lock is released: to give memory back to the system takes time
            with variable.lock:
                if variable.value is None:
                    variable.value = value
                    variable.position = self._note(Initialize(variable.spec.name, initializer))
                elif overwrite:
                    replaced = self.variables.relayout(variable, variable.declared, value)
                    variable.version += 1
            del replaced

    def _initial_value(self, spec: VariableSpec, initializer: InitializerSpec, *, take: bool) -> Array:
        kind = initializer.kind
        if take and spec.size_bytes > SMALL_BYTES and isinstance(kind, ValueKind) and kind.array.dtype == spec.dtype:
            check_initializer(spec, initializer)
            if can_become_value(kind.array):
                return kind.array
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

    def read(self, operation: Read, *, lend: bool = False) -> Result:
        """The whole value, of one version; only the version, if that is still the one named in ``unless_version``.

        Args:
            operation: What to read, and perhaps where to put it.
            lend: Whether the tensor may be a read-only view of the value itself, if that is large. It never changes;
                but while it is held, updates of the variable need memory for a second value.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised.
            DTypeMismatchError, ShapeMismatchError, InvalidArgumentError: The tensor cannot be put into ``out``.
        """
        variable, out = self._find(operation.name), operation.out
        if operation.unless_version is not None:
            with variable.lock:
                if variable.version == operation.unless_version and variable.value is not None:
                    return Result(variable.version, True)
        spec = variable.spec
        if out is not None:
            check_out(out, spec, in_order=True)
        elif variable.size_bytes <= SMALL_BYTES:
            with variable.lock:
                return Result(variable.version, True, variable.initialized_value().copy())
        elif lend:
            with variable.lock:
                return Result(variable.version, True, variable.lend())
        if variable.value is None:
            raise uninitialized(variable.spec)
        tensor = prepared_array(spec.shape, spec.dtype) if out is None else out
        with variable.lock:
            if variable.spec is not spec:
                return self.read(operation, lend=lend)
            np.copyto(tensor, variable.value)
            return Result(variable.version, True, tensor)

    def update(self, operation: Update, *, take: bool = False) -> Result:
        """Assigns, adds or subtracts.

        Args:
            operation: What to do.
            take: Whether the store may keep the operand as the value: the caller does not use it any more, and no
                other operation has the same memory.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised, and the rule is not to assign.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: The operand does not fit; nothing changed.
        """
        variable, rule, operand = self._find(operation.name), operation.rule, operation.value
        spec = variable.spec
        check_update(spec, rule, operand)
        if rule is _ASSIGN:
            if take and variable.size_bytes > SMALL_BYTES and can_become_value(operand):
                return self._put(variable, spec, operation, operand)
            if variable.value is None:
                return self._put(variable, spec, operation, np.array(operand, order="C"))
        with variable.lock:
            value = variable.value
            if value is None:
                raise uninitialized(spec)
            if variable.spec is not spec:
                return self.update(operation)
            if not variable.is_lent:
                apply_update(value, rule, operand)
                return variable.updated()
        return self._update_beside(variable, spec, operation)

    def check(self, operation: Update | Scatter) -> None:
        """Makes sure that an update can be carried out, as things are; errors as of ``update`` and ``scatter``."""
        variable = self._find(operation.name)
        spec = variable.spec
        if isinstance(operation, Update):
            check_update(spec, operation.rule, operation.value)
        if variable.value is None and not (isinstance(operation, Update) and operation.rule is _ASSIGN):
            raise uninitialized(spec)
        if isinstance(operation, Scatter):
            rows = in_rows(spec, operation.index_depth)
            plan_scatter(rows, operation.rule, operation.indices, operation.updates)

    def _put(self, variable: StoredVariable, spec: VariableSpec, operation: Update, value: Array) -> Result:
        replaced = None  # freed after the lock is released: to give memory back to the system takes time
        with variable.lock:
            if variable.spec is not spec:
                return self.update(operation)
            if variable.value is None:
                variable.value = value
            else:
                replaced = variable.replace(value)
            result = variable.updated()
        del replaced
        return result

    def _update_beside(self, variable: StoredVariable, spec: VariableSpec, operation: Update) -> Result:
        """Updates a variable whose value is lent: computes a new array, so that the borrowers' one does not change."""
        rule, operand = operation.rule, operation.value
        result = self.spares.take(spec)
        if rule is _ASSIGN:
            np.copyto(result, operand)
        with variable.lock:
            if variable.spec is not spec:
                return self.update(operation)
            if rule is not _ASSIGN:
                apply_update(variable.initialized_value(), rule, operand, out=result)
            replaced = variable.replace(result)
            reply = variable.updated()
        self.spares.keep(replaced)
        return reply

    def replace(self, operation: Replace, *, take: bool = False) -> Result:
        """Replaces the value by one that may have another layout, and gives the variable that layout.

        Arguments are those of ``update``.

        Raises:
            NotFoundError: There is no such variable.
            ShapeMismatchError, DTypeMismatchError: The variable cannot have such a value; nothing changed.
            ResourceExhaustedError: The memory limit would be exceeded; nothing changed.
        """
        variable, value = self._find(operation.name), operation.value
        value = value if take and can_become_value(value) else np.array(value, order="C")
        replaced = None  # freed after the lock is released: to give memory back to the system takes time
        with variable.lock:
            spec = replaced_spec(variable.spec, operation)
            replaced = self.variables.relayout(variable, spec, value)
            result = variable.updated()
        del replaced
        return result

    # -- rows ---------------------------------------------------------------------------------

    def gather(self, operation: Gather) -> Result:
        """Rows of the value, of one version.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised.
            InvalidArgumentError: An index is out of range or not an integer.
            DTypeMismatchError, ShapeMismatchError, InvalidArgumentError: The rows cannot be put into ``out``.
        """
        variable, indices = self._find(operation.name), operation.indices
        whole = variable.spec
        spec = in_rows(whole, operation.index_depth)
        rows = checked_rows(spec, indices, reading=True)
        if variable.value is None:
            raise uninitialized(variable.spec)
        shape, out = (*indices.shape, *spec.shape[1:]), operation.out
        if out is None:
            out = prepared_array(shape, spec.dtype)
        else:
            check_out(out, whole, shape, in_order=True)
        with variable.lock:
            if variable.spec is not whole:
                return self.gather(operation)
            gather_into(variable.value.reshape(spec.shape), rows, out.reshape(rows.size, *spec.shape[1:]))
            return Result(variable.version, True, out)

    def scatter(self, operation: Scatter) -> Result:
        """Updates rows.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been initialised.
            ShapeMismatchError, DTypeMismatchError, InvalidArgumentError: The operands do not fit; nothing changed.
        """
        variable = self._find(operation.name)
        if variable.value is None:
            raise uninitialized(variable.spec)
        if operation.updates.dtype.kind == "S" and operation.updates.dtype != variable.spec.dtype:
            return self._scatter_bytes(variable, operation)
        spec = variable.spec
        rows = in_rows(spec, operation.index_depth)
        plan = plan_scatter(rows, operation.rule, operation.indices, operation.updates)
        with variable.lock:
            if variable.spec is not spec:
                return self.scatter(operation)
            if not variable.is_lent:
                plan.apply(variable.value.reshape(rows.shape))  # a view: values are in C order
                return variable.updated()
        result = self.spares.take(spec)
        with variable.lock:
            if variable.spec is not spec:
                return self.scatter(operation)
            np.copyto(result, variable.value)
            plan.apply(result.reshape(rows.shape))
            replaced = variable.replace(result)
            reply = variable.updated()
        self.spares.keep(replaced)
        return reply

    def _scatter_bytes(self, variable: StoredVariable, operation: Scatter) -> Result:
        """Updates rows with bytes of another length; the variable has the greater length from then on."""
        updates = operation.updates
        with variable.lock:
            before, value = variable.spec, variable.initialized_value()
            if before.dtype.kind != "S":
                refuse_operand(before, operation.rule.name.lower(), updates, updates.shape)
            spec = before
            if updates.dtype.itemsize > before.dtype.itemsize:
                spec = dataclasses.replace(before, dtype=updates.dtype)
            rows = in_rows(spec, operation.index_depth)
            plan = plan_scatter(rows, operation.rule, operation.indices, updates.astype(spec.dtype))
            longer = value.astype(spec.dtype)
            plan.apply(longer.reshape(rows.shape))
            replaced = self.variables.relayout(variable, spec, longer)
            result = variable.updated()
        del replaced
        return result

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
            raise uninitialized(variable.spec)
        spec = variable.spec
        check_count(spec, operation.limit)
        with variable.lock:
            if variable.spec is not spec:
                return self.count_up_to(operation)
            before = count_up_to(spec, variable.value, operation.limit)
            variable.version += 1
            return Result(variable.version, True, before)

    # -- looking ------------------------------------------------------------------------------

    def describe(self, operation: Describe) -> Result:
        """Spec, version and state; NotFoundError if there is no such variable."""
        return self._find(operation.name).result(with_spec=True)

    def spec_of(self, name: str) -> VariableSpec | None:
        """What is recorded of a variable, or None if there is none."""
        variable = self.variables.get(name)
        return None if variable is None else variable.spec

    def list_variables(self) -> list[VariableInfo]:
        """All variables by name; each entry is consistent, the list as a whole is of no single moment."""
        infos = []
        for variable in self.variables.by_name():
            state = variable.result(with_spec=False)
            infos.append(VariableInfo(variable.spec, state.version, state.initialized, variable.size_bytes))
        return infos

    @property
    def num_variables(self) -> int:
        return len(self.variables)

    @property
    def variable_bytes(self) -> int:
        """Bytes counted for the variables declared."""
        return self.variables.memory.used_bytes

    @property
    def value_bytes(self) -> int:
        """Bytes of the variables that have a value."""
        return sum([each.size_bytes for each in self.variables.by_name() if each.value is not None])

    @property
    def spare_bytes(self) -> int:
        """Bytes of replaced values that are kept to be used again."""
        return self.spares.used_bytes

    @property
    def memory_limit_bytes(self) -> int:
        return self.variables.memory.limit_bytes
