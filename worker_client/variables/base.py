"""The base of reads and updates of a variable: its spec, its ps task, and in what form its tensors travel."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol
from uuid import UUID

from ps_protocol.not_copied import NotCopied
from ps_protocol.operation_kinds import reply_bytes
from ps_protocol.operations import Array, PsOperation, Reply, Result, Update, UpdateRule, VariableSpec, WireDType
from worker_client.connection.fanout import Routed, Settle
from worker_client.values.wire_names import WireDTypeName, name_of, wire_dtype_of
from worker_client.variables.error_feedback import ErrorFeedback, PreparedUpdate


class OperationRunner(Protocol):
    """What a variable needs of the client that made it."""

    def run(self, ps_task: int | None, operation: PsOperation, *, expected_reply_bytes: int) -> Result:
        """Carries out one operation on the ps task (None: this worker's own store) and waits; raises its error."""
        ...

    def run_later(self, ps_task: int | None, operation: PsOperation) -> Future[Result]:
        """Queues one operation behind those before it."""
        ...

    def run_all(self, routed: Sequence[Routed]) -> list[Result]:
        """Carries out operations on any tasks, with one exchange for each; raises the first error."""
        ...

    def run_all_later(self, routed: Sequence[Routed]) -> Future[list[Result]]:
        """Queues operations on any tasks, with one exchange for each, behind those before them."""
        ...

    def exchange_all(self, routed: Sequence[Routed], settle: Settle | None = None) -> list[Reply]:
        """Does what ``run_all`` does; an error of one operation is a reply."""
        ...

    def exchange_all_later(self, routed: Sequence[Routed], settle: Settle | None = None) -> Future[list[Reply]]:
        """Does what ``run_all_later`` does; an error of one operation is a reply."""
        ...

    def store(self, ps_task: int | None) -> UUID:
        """The incarnation of the store that a ps task named in its answer to hello."""
        ...

    def new_buffer(self, ps_task: int | None, size_bytes: int) -> Array | None:
        """Memory that is shared with a ps task, as a uint8 array, or None if there is none."""
        ...


class VariableBase(
    NotCopied,
    bound_to="a connection of this process",
    instead="connect in the other process and get it by its name there, or pass on its value: numpy()",
):
    """A variable's spec, its ps task, the forms in which its tensors travel, and what lossy pushes still owe.

    Thread-safe. A variable of this worker's own store does not travel: it is read and updated exactly.

    Attributes:
        spec: Name, shape and dtype.
        ps_task: Index of its ps task, None for this worker's own store.
        runner: Carries out its operations.
    """

    def __init__(self, spec: VariableSpec, *, runner: OperationRunner, ps_task: int | None):
        self.spec = spec
        self.ps_task = ps_task
        self.runner = runner
        self._push_wire = WireDType.EXACT
        self._pull_wire = WireDType.EXACT
        self._feedback = ErrorFeedback()

    def run(self, operation: PsOperation) -> Result:
        """Carries out an operation on this variable and waits; raises its error."""
        expected_bytes = reply_bytes(operation, self.spec)
        return self.runner.run(self.ps_task, operation, expected_reply_bytes=expected_bytes)

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
