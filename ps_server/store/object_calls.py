"""What happens to the shared objects of a store, and what they are asked."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, cast

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.operations import Array, Reply, Result, VariableSpec, Verdict
from ps_protocol.shared_objects import MAX_OBJECT_BYTES, Act, Bytes, Json, Look, decode_json, encode_json
from ps_server.memory.spare_arrays import SMALL_BYTES, SpareArrays
from ps_server.objects.array_kind import ArrayObjectKind
from ps_server.objects.array_transitions import ArrayOutcome, answered_with, carried_out_with
from ps_server.objects.kinds import OBJECT_KINDS, AnyKind
from ps_server.objects.object_kind import ObjectKind
from ps_server.objects.transitions import Content, Outcome, answered, carried_out, content_of
from ps_server.store.spec_checks import describe_spec
from ps_server.store.stored_variable import StoredVariable, uninitialized
from ps_server.store.stored_variables import StoredVariables

_NO_QUESTION: Final = encode_json({})
_MOST_BYTES_READ: Final = 64 * 1024
"""Of an object that is remembered in another form than the one that is stored."""


class Kept(NamedTuple):
    """What an object was."""

    variable: StoredVariable
    spec: VariableSpec
    value: Array
    version: int
    reading: tuple[int, Any] | None


class ObjectCalls:
    """Carries out ``Act`` and ``Look``. Thread-safe.

    Args:
        variables: Those of the store.
        spares: Where replaced states with tensors go.
        kinds: The kinds of objects, by name.
    """

    def __init__(
        self,
        variables: StoredVariables,
        spares: SpareArrays,
        kinds: Mapping[str, AnyKind] = OBJECT_KINDS,
    ):
        self._variables: Final = variables
        self._spares: Final = spares
        self._kinds: Final = kinds

    def act(self, operation: Act) -> Result:
        """Has something happen to an object; other clients see its state before or after that.

        Raises:
            NotFoundError: There is no such variable.
            InvalidArgumentError: It is no object of that kind, this ps knows no such kind, or the event is malformed.
            ResourceExhaustedError: The state or the answer would be too large, or the memory limit exceeded.
            ShardscopeError: The object has refused it; nothing changed.
        """
        variable, kind = self._found(operation)
        replaced = None  # freed after the lock is released: to give memory back to the system takes time
        try:
            event = _json(operation.event, "the event")
            with variable.lock:
                before = _stored(variable)
                outcome = self._carried_out(kind, variable, before, event, operation.tensors)
                if outcome.state is None:
                    verdict = Verdict.NOT_YET if outcome.answer is None else Verdict.APPLIED
                    return Result(variable.version, before is not None, outcome.answer, verdict=verdict)
                value = _value_of(outcome.state)
                wakes = self._wakes(kind, variable, outcome)
                spec = replace(variable.spec, dtype=value.dtype)
                replaced = self._variables.relayout(variable, spec, value, wakes=wakes)
                variable.version += 1
                if isinstance(outcome, Outcome):
                    _remember(variable, outcome.content)
                result = Result(variable.version, True, outcome.answer)
        except ShardscopeError as error:
            raise _naming(operation, error) from error
        if replaced is not None and replaced.array.nbytes > SMALL_BYTES:
            self._spares.keep(replaced)
        return result

    def _carried_out(
        self,
        kind: AnyKind,
        variable: StoredVariable,
        before: Bytes | None,
        event: Json,
        tensors: Sequence[Array],
    ) -> Outcome | ArrayOutcome:
        """Carries out an event; what it makes of the object is not the value itself, which may be lent."""
        if isinstance(kind, ArrayObjectKind):
            return carried_out_with(kind, before, event, tensors, self._memory)
        if tensors:
            raise InvalidArgumentError(f"the event comes with {len(tensors)} tensors; objects of this kind take none")
        return carried_out(kind, None if before is None else self._content(kind, variable, before), event)

    def _content(self, kind: ObjectKind, variable: StoredVariable, stored: Bytes) -> bytes | Content:
        """With its lock held, what is stored of an object: read, if its kind remembers that."""
        if kind.read is None:
            return stored.tobytes()
        there = variable.reading
        if there is not None and there[0] == variable.version:
            return cast(Content, there[1])
        content = content_of(kind, stored.tobytes())
        _remember(variable, content)
        return content

    @staticmethod
    def _wakes(kind: AnyKind, variable: StoredVariable, outcome: Outcome | ArrayOutcome) -> bool:
        """With its lock held, whether those who wait for an answer may have one by what an event makes of an object."""
        if isinstance(kind, ArrayObjectKind) or kind.wakes is None or not isinstance(outcome, Outcome):
            return True
        before, after = variable.reading, outcome.content
        if before is None or before[0] != variable.version or after is None:
            return True
        return kind.wakes(before[1].state, after.state)

    def state_of(self, name: str, kind: str) -> Any:
        """What an object is, in the form of its kind; its lock is held, as long as that is used.

        Raises:
            NotFoundError, InvalidArgumentError, FailedPreconditionError: As of ``look``.
        """
        variable, found = self._found(Look(name, kind, _NO_QUESTION))
        stored = _stored(variable)
        if stored is None:
            raise uninitialized(variable.spec)
        assert isinstance(found, ObjectKind)
        content = self._content(found, variable, stored)
        return (content_of(found, content) if isinstance(content, bytes) else content).state

    def _memory(self, number: int) -> Bytes:
        """Memory for the bytes of a state: that of an earlier one, if there is one as long as that."""
        if number <= SMALL_BYTES:
            return np.empty(number, np.uint8)
        return _bytes_of(self._spares.take(VariableSpec("", np.dtype(f"S{number}"), ())))

    def look(self, operation: Look) -> Result:
        """Asks an object something; does not wait for an answer.

        Raises:
            NotFoundError: There is no such variable.
            FailedPreconditionError: It has not been opened.
            InvalidArgumentError: It is no object of that kind, this ps knows no such kind, or the question is
                malformed.
        """
        variable, kind = self._found(operation)
        try:
            with variable.lock:
                version, stored = variable.version, _stored(variable)
                if stored is None:
                    raise uninitialized(variable.spec)
                content = self._content(kind, variable, stored) if isinstance(kind, ObjectKind) else None
            question = _json(operation.question, "the question")
            if isinstance(kind, ArrayObjectKind):
                answer = answered_with(kind, stored, question)
            else:
                assert content is not None
                answer = answered(kind, content, question)
        except ShardscopeError as error:
            raise _naming(operation, error) from error
        return Result(version, True, answer, verdict=Verdict.NOT_YET if answer is None else Verdict.APPLIED)

    def guards(self, operation: Act) -> bool:
        """Whether an event is of an object that guards its batch."""
        kind = self._kinds.get(operation.kind)
        return isinstance(kind, ObjectKind) and kind.passes is not None

    def checks_first(self, operation: Act) -> bool:
        """Whether such an event does not happen if one of the updates behind it would be refused."""
        kind = self._kinds[operation.kind]
        return isinstance(kind, ObjectKind) and kind.checks_first

    def passes(self, operation: Act, reply: Result) -> bool:
        """Whether the updates behind such an event are carried out, after it was answered so."""
        kind = self._kinds[operation.kind]
        assert isinstance(kind, ObjectKind)
        if kind.passes is None or reply.tensor is None:
            return False
        return kind.passes(decode_json(reply.tensor, "the answer"))

    def stands_behind_guards(self, operation: Act) -> bool:
        """Whether an event is of an object that may stand behind another one's guard."""
        kind = self._kinds.get(operation.kind)
        return isinstance(kind, ObjectKind) and kind.takes is not None

    def takes(self, operation: Act, reply: Reply) -> bool:
        """Whether an object that stands behind another one's guard has taken what an event brings, by its answer."""
        kind = self._kinds[operation.kind]
        if not isinstance(kind, ObjectKind) or kind.takes is None or isinstance(reply, ShardscopeError):
            return False
        return reply.tensor is not None and kind.takes(decode_json(reply.tensor, "the answer"))

    def kept(self, operation: Act) -> Kept | None:
        """With the lock of an object held: keeps what it is, to be put back; None if there is nothing to be kept."""
        variable = self._variables.get(operation.name)
        if variable is None or variable.value is None:
            return None
        return Kept(variable, replace(variable.spec), variable.value.copy(), variable.version, variable.reading)

    def put_back(self, kept: Kept | None) -> bool:
        """With the lock still held: makes an object what it was, without new memory; returns whether it had changed.

        If it has become smaller meanwhile, others may have been given what it needs to the limit: that does not count.
        """
        if kept is None or kept.variable.version == kept.version:
            return False
        variable = kept.variable
        self._variables.memory.give_back(variable.size_bytes - kept.spec.size_bytes)  # less than nothing if it had more
        variable.relaid(kept.spec, kept.value)
        variable.version, variable.reading = kept.version, kept.reading
        return True

    def wait_for_change(self, name: str, version: int, timeout_s: float) -> None:
        """Waits until an object has another version than that, no longer than ``timeout_s``."""
        variable = self._variables.find(name)
        with variable.lock:
            if variable.version == version:
                if variable.relaid_condition is None:
                    variable.relaid_condition = threading.Condition(variable.lock)
                variable.relaid_condition.wait(timeout_s)

    def _found(self, operation: Act | Look) -> tuple[StoredVariable, AnyKind]:
        variable, kind = self._variables.find(operation.name), self._kinds.get(operation.kind)
        if variable.declared.object_kind != operation.kind:
            what = variable.declared.object_kind or describe_spec(variable.spec)
            raise InvalidArgumentError(
                f"variable {operation.name} is no {operation.kind}, but {what}; give the {operation.kind} another name",
                variable=operation.name,
            )
        if kind is None:
            raise InvalidArgumentError(
                f"{operation.name} is a {operation.kind}, which this ps does not know (it knows "
                f"{', '.join(sorted(self._kinds))}); update the ps",
                variable=operation.name,
            )
        return variable, kind


def _remember(variable: StoredVariable, content: Content | None) -> None:
    """With its lock held, remembers what it says; nothing, if that is much or not known."""
    is_small = variable.size_bytes <= _MOST_BYTES_READ
    variable.reading = (variable.version, content) if content is not None and is_small else None


def _value_of(state: bytes | Bytes) -> Array:
    """Returns the value of an object that has a state."""
    return np.array(state) if isinstance(state, bytes) else state.view(f"S{state.size}").reshape(())


def _bytes_of(value: Array) -> Bytes:
    return value.reshape(1).view(np.uint8)


def _stored(variable: StoredVariable) -> Bytes | None:
    """With its lock held, the state as it is stored; None if it was not opened, or not since a restore."""
    if variable.value is None or not variable.value.itemsize:
        return None
    stored = _bytes_of(variable.value)
    return stored if stored[:8].any() else None  # a state begins with JSON, or with the length of its JSON


def _json(data: Bytes, what: str) -> Json:
    if data.nbytes > MAX_OBJECT_BYTES:
        raise InvalidArgumentError(f"{what} has {data.nbytes:,} bytes, of which it may have {MAX_OBJECT_BYTES:,}")
    return decode_json(data.tobytes(), what)


def _naming(operation: Act | Look, error: ShardscopeError) -> ShardscopeError:
    """Returns an error of an object with the object's name, if it does not have that yet."""
    if error.variable:
        return error
    error.variable = operation.name
    error.message = f"{operation.kind} {operation.name}: {error.message}"
    return error
