"""What the core of a ps task is given: its state, and its role in the task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol
from uuid import UUID, uuid4

from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Batch, BatchReply, PsOperation
from ps_protocol.service_types import DurabilityStatus, Placement, Proposal, ReplicationStatus
from ps_server.cluster.directory import Directory
from ps_server.log.state_parts import StateParts


class State(Protocol):
    """The state of a task, and what an answer that depends on it must wait for. Thread-safe.

    What a method has changed, and what it has seen, is safe when it returns, as far as this state is kept safe at all.
    """

    @property
    def parts(self) -> StateParts: ...

    @property
    def store_incarnation(self) -> UUID:
        """Its identity: another one means that updates may be missing."""
        ...

    @property
    def loss(self) -> str:
        """If it lacks updates that were acknowledged before a restart, what there is; else empty."""
        ...

    @property
    def keeps_operands(self) -> bool:
        """Whether arrays of a mutating batch are still needed when ``apply`` has returned, with an error at least."""
        ...

    def hello(self, client: UUID, task: str, timeout_s: float) -> None:
        """Makes a client known; ``UpdateLedger.hello``."""
        ...

    def goodbye(self, client: UUID, timeout_s: float) -> None: ...

    def read(self, operations: Sequence[PsOperation], deadline_s: float, lend_values: bool) -> BatchReply:
        """Carries out a batch that changes nothing; arguments are those of ``BatchRunner.run``."""
        ...

    def apply(
        self, batch: Batch, deadline_s: float, now_s: float, lend_values: bool, take_operands: bool
    ) -> BatchReply:
        """Carries out a batch that changes something, once.

        Raises:
            DeadlineExceededError: It was not safe in time; asked again, the ledger gives the answer.
            ResourceExhaustedError: Too much waits to be made safe; nothing was applied.
            ShardscopeError: As ``UpdateLedger.apply_once`` raises.
        """
        ...

    def place(
        self, directory: Directory, proposals: Sequence[Proposal], timeout_s: float
    ) -> list[Placement | ShardscopeError]: ...

    def wait_for_all(self, timeout_s: float) -> None:
        """Waits until all that was changed so far is safe; DeadlineExceededError if it is not in time."""
        ...

    def durability(self) -> DurabilityStatus | None:
        """How much of it would survive its process; None if nothing would."""
        ...


class MemoryState:
    """A state that ends with its process.

    Args:
        parts: Empty.
        store_incarnation: Its identity; None draws one.
    """

    keeps_operands: Final = False
    loss: Final = ""

    def __init__(self, parts: StateParts, store_incarnation: UUID | None = None):
        self.parts: Final = parts
        self.store_incarnation: Final = uuid4() if store_incarnation is None else store_incarnation
        self.read: Final = parts.runner.run
        self._apply_once = parts.ledger.apply_once
        self._clock = parts.clock

    def hello(self, client: UUID, task: str, timeout_s: float) -> None:  # noqa: ARG002 - nothing is waited for
        self.parts.ledger.hello(client, task, self.parts.clock())

    def goodbye(self, client: UUID, timeout_s: float) -> None:  # noqa: ARG002 - nothing is waited for
        self.parts.ledger.goodbye(client)

    def apply(
        self, batch: Batch, deadline_s: float, now_s: float, lend_values: bool, take_operands: bool
    ) -> BatchReply:
        return self._apply_once(
            batch.client,
            batch.sequence,
            partial(self.read, batch.operations, deadline_s, lend_values, take_operands),
            timeout_s=deadline_s - self._clock(),
            now_s=now_s,
        )

    def place(
        self,
        directory: Directory,
        proposals: Sequence[Proposal],
        timeout_s: float,  # noqa: ARG002 - nothing is waited for
    ) -> list[Placement | ShardscopeError]:
        return directory.place(proposals)

    def wait_for_all(self, timeout_s: float) -> None:
        """There is nothing to wait for."""

    def durability(self) -> None:
        """Nothing would survive."""


class TaskRole(Protocol):
    """Whether this process answers for its task, which another one may do as well. Thread-safe."""

    def check_may_answer(self) -> None:
        """Called before a client's call is looked at, and again before it is answered.

        Raises:
            UnavailableError: This process must not answer now; retryable, here or at the other process.
        """
        ...

    def status(self) -> ReplicationStatus | None:
        """Which of the two this process is; None if there is one only."""
        ...


class SingleRole:
    """Of a process that is the only one of its task."""

    def check_may_answer(self) -> None:
        """There is no other process that could answer."""

    def status(self) -> None:
        """There is nothing to tell."""
