"""What the core of a ps task is made with: its state, and its role in the task."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol
from uuid import UUID, uuid4

from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.operations import Batch, BatchReply, PsOperation
from ps_protocol.service_types import DurabilityStatus, Placement, Proposal, ReplicationStatus
from ps_server.cluster.directory import Directory
from ps_server.log.restore_mark import RestoreMark, incarnation_after
from ps_server.log.state_parts import StateParts
from ps_server.store.stored_variable import VariableImage


class State(Protocol):
    """The state of a task. Thread-safe.

    When a method returns, what it has changed and what it has seen is as safe as this state ever is: at once in memory,
    or on all sinks of the log.
    """

    @property
    def parts(self) -> StateParts: ...

    @property
    def store_incarnation(self) -> UUID:
        """Its identity: another one means that updates may be missing."""
        ...

    @property
    def loss(self) -> str:
        """If updates that were acknowledged before a restart are missing: what the state has, in words. Else empty."""
        ...

    @property
    def keeps_operands(self) -> bool:
        """Whether arrays of a mutating batch may still be needed after ``apply`` has raised an error."""
        ...

    def hello(self, client: UUID, task: str, timeout_s: float) -> None:
        """Makes a client known; ``UpdateLedger.hello``."""
        ...

    def goodbye(self, client: UUID, timeout_s: float) -> None: ...

    def read(self, operations: Sequence[PsOperation], deadline_s: float, lend_values: bool) -> BatchReply:
        """Carries out a batch that changes nothing; arguments and errors are those of ``BatchRunner.read``."""
        ...

    def apply(
        self, batch: Batch, deadline_s: float, now_s: float, lend_values: bool, take_operands: bool
    ) -> BatchReply:
        """Carries out a batch that changes something, once. What has begun is carried out to its end.

        Raises:
            DeadlineExceededError: It was not safe in time; the client gets the answer if it sends the batch again.
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

    def switch(
        self,
        images: Sequence[VariableImage],
        mark: RestoreMark,
        placements: Sequence[Placement],
        timeout_s: float,
    ) -> None:
        """Puts what a restore has staged in the place of what is there, all or nothing; no batch changes it meanwhile.

        Args:
            images: The variables, whose memory has been counted; their arrays become values of the store.
            mark: Of the restore; the identity of the state is another one from then on.
            placements: What the directory has besides.
            timeout_s: How long it may take.

        Raises:
            DeadlineExceededError, ResourceExhaustedError: It could not be made safe in time.
        """
        ...

    def finish_restore(self, mark: RestoreMark, timeout_s: float) -> None:
        """Notes that a restore is complete."""
        ...

    @property
    def position(self) -> int:
        """Position of the newest record; 0 if there are none."""
        ...

    def durability(self) -> DurabilityStatus | None:
        """How much of it would survive its process; None if nothing would."""
        ...


class MemoryState:
    """A state that ends with its process.

    Args:
        parts: Empty.
        store_incarnation: Its identity; None to draw one.
    """

    keeps_operands: Final = False
    position: Final = 0
    loss: Final = ""

    def __init__(self, parts: StateParts, store_incarnation: UUID | None = None):
        self.parts: Final = parts
        self._base: Final = uuid4() if store_incarnation is None else store_incarnation
        self.store_incarnation = self._base
        self.read: Final = parts.runner.read
        self._run = parts.runner.run
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
            partial(self._run, batch.operations, deadline_s, lend_values, take_operands),
            timeout_s=deadline_s - self._clock(),
            now_s=now_s,
            checksum=batch.checksum,
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

    def switch(
        self,
        images: Sequence[VariableImage],
        mark: RestoreMark,
        placements: Sequence[Placement],
        timeout_s: float,  # noqa: ARG002 - nothing is waited for
    ) -> None:
        self.parts.restored = mark  # first, so that nobody reads by the new identity what was there before
        self.store_incarnation = incarnation_after(self._base, mark.restore)
        self.parts.switch(images, mark, placements, 0)

    def finish_restore(self, mark: RestoreMark, timeout_s: float) -> None:  # noqa: ARG002 - nothing is waited for
        self.parts.restored = mark

    def durability(self) -> None:
        """Nothing would survive."""


class TaskRole(Protocol):
    """Whether this process may answer for its task; a replicated task has two processes. Thread-safe."""

    @property
    def is_primary(self) -> bool:
        """Whether the state that this process has is the task's."""
        ...

    def check_may_answer(self) -> None:
        """Called before a client's call is carried out, and again before it is answered.

        Raises:
            UnavailableError: This process must not answer now; the client tries again, here or at the other process.
        """
        ...

    def check_may_read(self) -> None:
        """As ``check_may_answer``, for a batch that changes nothing, which a backup may answer too."""
        ...

    def status(self) -> ReplicationStatus | None:
        """Which of the two this process is; None if the task has one."""
        ...

    def promote(self, *, accept_loss: bool) -> None:
        """See ``ClusterService.promote``."""
        ...


class SingleRole:
    """The role of a task's only process."""

    is_primary: Final = True

    def check_may_answer(self) -> None:
        """There is no other process that could answer."""

    def check_may_read(self) -> None:
        """Likewise."""

    def status(self) -> None:
        """There is nothing to tell."""

    def promote(self, *, accept_loss: bool) -> None:  # noqa: ARG002 - there is nothing to lose
        """Nobody else could be the primary."""
        raise FailedPreconditionError("the task has one process, which is its primary; only backups can be promoted")
