"""The base of reads and updates of a variable: its spec and its ps task."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol
from uuid import UUID

from ps_protocol.operations import Array, PsOperation, Result, VariableSpec, reply_bytes
from worker_client.connection.fanout import Routed


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

    def store(self, ps_task: int | None) -> UUID:
        """The incarnation of the store that a ps task named in its answer to hello."""
        ...

    def new_buffer(self, ps_task: int | None, size_bytes: int) -> Array | None:
        """Memory that is shared with a ps task, as a uint8 array, or None if there is none."""
        ...


class VariableBase:
    """A variable's spec, its ps task, and what carries out operations there.

    Attributes:
        spec: Name, shape and dtype.
        ps_task: Index of its ps task, None for this worker's own store.
    """

    def __init__(self, spec: VariableSpec, *, runner: OperationRunner, ps_task: int | None):
        self.spec = spec
        self.ps_task = ps_task
        self._runner = runner

    @property
    def runner(self) -> OperationRunner:
        """What carries out its operations."""
        return self._runner

    def is_run_by(self, runner: OperationRunner) -> bool:
        """Whether it is this runner that carries out its operations, so that it can do so together with others."""
        return self._runner is runner

    def run(self, operation: PsOperation) -> Result:
        """Carries out an operation on this variable and waits; raises its error."""
        expected_bytes = reply_bytes(operation, self.spec)
        return self._runner.run(self.ps_task, operation, expected_reply_bytes=expected_bytes)
