"""In what form the tensors of a variable travel."""

from __future__ import annotations

from ps_protocol.operations import Update, UpdateRule, VariableSpec, WireDType
from worker_client.values.wire_names import WireDTypeName, name_of, wire_dtype_of
from worker_client.variables.base import OperationRunner, VariableBase
from worker_client.variables.error_feedback import ErrorFeedback, PreparedUpdate


class VariableWire(VariableBase):
    """The forms chosen for a variable, and what its lossy pushes still owe. Thread-safe.

    A variable of this worker's own store does not travel: whatever is chosen, it is read and updated exactly.
    """

    def __init__(self, spec: VariableSpec, *, runner: OperationRunner, ps_task: int | None):
        super().__init__(spec, runner=runner, ps_task=ps_task)
        self._push_wire = WireDType.EXACT
        self._pull_wire = WireDType.EXACT
        self._feedback = ErrorFeedback()

    @property
    def push_dtype(self) -> WireDTypeName:
        """The form in which updates travel where a call names none: "exact", "bfloat16", "float16" or "int8".

        Set by this worker for itself. Setting it raises InvalidArgumentError if there is no such form, or the
        variable's dtype is neither float32 nor float64.
        """
        return name_of(self._push_wire)

    @push_dtype.setter
    def push_dtype(self, name: WireDTypeName | None) -> None:
        self._push_wire = wire_dtype_of(name, self.spec)

    @property
    def pull_dtype(self) -> WireDTypeName:
        """The form in which what is read travels; otherwise as ``push_dtype``."""
        return name_of(self._pull_wire)

    @pull_dtype.setter
    def pull_dtype(self, name: WireDTypeName | None) -> None:
        self._pull_wire = wire_dtype_of(name, self.spec)

    def push_wire(self, name: WireDTypeName | None) -> WireDType:
        """Returns the form of one update: that of ``name``, or without it ``push_dtype``."""
        return self._push_wire if name is None else wire_dtype_of(name, self.spec)

    def pull_wire(self, name: WireDTypeName | None) -> WireDType:
        """Returns the form of what one call reads: that of ``name``, or without it ``pull_dtype``."""
        return self._pull_wire if name is None else wire_dtype_of(name, self.spec)

    def push(self, update: Update) -> PreparedUpdate:
        """Returns what to send for an update of the whole value: with what earlier pushes owe, if it is lossy."""
        if update.rule is UpdateRule.ASSIGN:
            self._feedback.forget()
        elif update.wire is not WireDType.EXACT and self.ps_task is not None:
            return self._feedback.push(update)
        return PreparedUpdate(update, _nothing)


def _nothing() -> None:
    """Takes nothing back: the update left no trace here."""
