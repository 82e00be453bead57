"""What one ps task offers, as an interface that both sides implement.

``ps_server.parameter_server.ParameterServer`` is the thing itself; a client's transport is the same
thing from afar. One contract suite runs on both. Every method may raise a ``ShardscopeError``; methods
are safe to call from many threads; ``timeout_s`` bounds how long a call may wait, in seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from uuid import UUID

from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Array, Batch, BatchReply, VariableSpec

PROTOCOL_VERSION = 1


class FastPathKind(enum.IntEnum):
    """Numbers of ``FastPath.Kind``."""

    TCP = 1
    UNIX = 2


@dataclass(frozen=True, slots=True)
class FastPath:
    """A way to exchange batches with a ps that is faster than its gRPC service; ``FastPath`` in ``data.proto``.

    Attributes:
        kind: TCP, or a Unix socket in Linux's abstract namespace.
        address: "host:port", where an empty host is that of the gRPC address; or the name of the Unix socket.
        shared_memory: Whether tensors may travel in shared memory.
    """

    kind: FastPathKind
    address: str
    shared_memory: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    """A ps's answer to hello.

    Attributes:
        task: The ps's own name, as "ps:0".
        store: Incarnation of its store, to be sent with every batch.
        job_seed: Seed from which initial values follow; that of ps task 0 counts.
        fast_paths: Other ways to exchange batches, best first.
        ticket: Admits one connection on one of them, soon; empty if there are none.
    """

    task: str
    store: UUID
    job_seed: int
    fast_paths: tuple[FastPath, ...] = ()
    ticket: bytes = b""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Where a client would put a variable."""

    spec: VariableSpec
    ps_task: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the directory has put it."""

    spec: VariableSpec
    ps_task: int


class MemberState(enum.IntEnum):
    """Numbers of ``Member.State``."""

    ACTIVE = 1
    LEFT = 2
    DEAD = 3
    """Its lease has run out."""
    LATE = 4
    """Its lease still runs, but a heartbeat is missing."""


@dataclass(frozen=True, slots=True)
class Member:
    """A task that has joined the cluster; times are seconds since the epoch.

    ``lease_s`` is how long it may be silent before it counts as dead, 0 for ever.
    """

    task: str
    incarnation: UUID
    host: str
    pid: int
    state: MemberState
    joined_at_s: float
    last_seen_s: float
    step: int
    lease_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PsAddress:
    """Where one ps task is; ``PsAddress`` in ``membership.proto``.

    Attributes:
        task: As "ps:1".
        address: "host:port" of its gRPC service.
        incarnation: Of the process.
        epoch: Of the ps task's role; an address of a higher one takes the place of a lower one's.
    """

    task: str
    address: str
    incarnation: UUID
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class VariableInfo:
    """A variable as inspection shows it."""

    spec: VariableSpec
    version: int
    initialized: bool
    size_bytes: int


class ServingState(enum.IntEnum):
    """Numbers of ``GetStatusReply.State``."""

    SERVING = 1
    DRAINING = 2
    STOPPED = 3


class DurabilityMode(enum.IntEnum):
    """What of a task's state survives its process; numbers of ``DurabilityStatus.Mode``."""

    NONE = 0
    SNAPSHOT = 1
    JOURNAL = 2


@dataclass(frozen=True, slots=True)
class DurabilityStatus:
    """How much of a task's state would survive its process; ``DurabilityStatus`` in ``inspection.proto``."""

    mode: DurabilityMode
    last_position: int
    committed_position: int
    snapshot_position: int = 0
    snapshot_bytes: int = 0
    snapshot_taken_at_s: float = 0.0
    journal_bytes: int = 0
    obstacle: str = ""


class ReplicaRole(enum.IntEnum):
    """What a process of a replicated task is; numbers of ``ReplicationStatus.Role``."""

    PRIMARY = 1
    BACKUP = 2
    """It has every update that was acknowledged."""
    CATCHING_UP = 3
    EMPTY = 4


@dataclass(frozen=True, slots=True)
class ReplicationStatus:
    """One of the two processes of a replicated task; ``ReplicationStatus`` in ``inspection.proto``.

    Attributes:
        role: What it is.
        epoch: Newest one that it knows of; 0 for none.
        has_backup: Of a primary: whether what is acknowledged is on another process too.
        obstacle: For a person: why nothing is answered just now, or why there is no backup.
    """

    role: ReplicaRole
    epoch: int
    has_backup: bool = False
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """A ps task as inspection shows it; counters run since the start of the process."""

    task: str
    state: ServingState
    store: UUID
    uptime_s: float
    num_variables: int
    variable_bytes: int
    memory_limit_bytes: int
    num_clients: int
    batches: int
    operations: int
    duplicate_batches: int
    bytes_received: int
    bytes_sent: int
    durability: DurabilityStatus | None = None
    replication: ReplicationStatus | None = None

    @property
    def answers_clients(self) -> bool:
        """Whether the process is the one that stands for its task: the only one, or the primary."""
        return self.replication is None or self.replication.role is ReplicaRole.PRIMARY


class Transport(Protocol):
    """Carries batches to one ps task: the part of ``PsService`` that has several implementations."""

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        """Has a batch carried out; an error of one operation is a reply, one of the whole batch is raised."""
        ...


class PendingExchange(Protocol):
    """A batch that was sent and whose reply has not been taken yet."""

    def finish(self) -> BatchReply:
        """Waits for the reply; called once, in the order in which the batches were sent."""
        ...


class PipelinedTransport(Transport, Protocol):
    """A transport that can have several batches of one client on their way, which are carried out in order.

    One thread at a time uses ``begin`` and ``finish``. After an error of either, every batch that was begun and not
    finished may or may not have been applied, and none can be finished any more: the caller exchanges each again,
    unchanged and in order.
    """

    def begin(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None:
        """Sends a batch; None if it cannot be pipelined and nothing was sent: finish those begun, then exchange it.

        Args:
            batch: Its ``expected_reply_bytes`` must be known and small, or None is returned.
            timeout_s: Bound on sending it and, counted from now, on its reply.
        """
        ...


@runtime_checkable
class BufferSource(Protocol):
    """A transport that has memory which it need not copy tensors from to send them."""

    def new_buffer(self, size_bytes: int, *, timeout_s: float) -> Array | None:
        """Returns a uint8 array to write tensors to, or None if there is no such memory now.

        It is given back when neither the array nor a view of it is left.
        """
        ...


class PsService(Transport, Protocol):
    """All that one ps task offers."""

    def hello(self, client: UUID, task: str, *, timeout_s: float) -> Welcome:
        """Opens a conversation of the client ``task`` (as "worker:1")."""
        ...

    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        """Ends it; the ps forgets the client's sequence numbers."""
        ...

    def place(
        self, proposals: Sequence[Proposal], *, store: UUID | None = None, timeout_s: float
    ) -> list[Placement | ShardscopeError]:
        """Records the first proposal for each name and returns what is recorded (ps task 0 only).

        With ``store``, the incarnation that was told in ``Welcome``, a directory that was lost since is recognised:
        StateLostError.
        """
        ...

    def list_placements(self, *, timeout_s: float) -> list[Placement]:
        """All that is recorded, by name (ps task 0 only)."""
        ...

    def join(
        self,
        task: str,
        incarnation: UUID,
        host: str,
        pid: int,
        *,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        timeout_s: float,
    ) -> None:
        """Announces a task (ps task 0 only).

        Args:
            task: As "worker:1".
            incarnation: Of its process or connection.
            host: Where it runs.
            pid: Of its process.
            lease_s: How long it may be silent before it counts as dead, in seconds; 0 for ever.
            age_s: Seconds since it began to take part, if it joins again.
            timeout_s: Bound on the call.
        """
        ...

    def heartbeat(self, task: str, incarnation: UUID, step: int | None = None, *, timeout_s: float) -> None:
        """Renews the lease of a task, and reports its training steps if given (ps task 0 only).

        Raises:
            FailedPreconditionError: The task has not joined, as far as this ps knows: it is to join again.
            AbortedError: A newer incarnation of the task has joined; not retryable.
        """
        ...

    def announce(
        self, address: PsAddress, host: str, pid: int, *, lease_s: float = 0.0, age_s: float = 0.0, timeout_s: float
    ) -> list[PsAddress]:
        """Says where a ps task is, which to ps task 0 is its join and its heartbeat too; returns ``list_addresses``.

        Raises:
            AbortedError: Another process has announced itself as this ps task since, or for a newer epoch; not
                retryable.
        """
        ...

    def list_addresses(self, *, timeout_s: float) -> list[PsAddress]:
        """Where ps tasks have last announced themselves, by name."""
        ...

    def leave(self, task: str, incarnation: UUID, *, timeout_s: float) -> None:
        """Says that a task has ended in good order (ps task 0 only)."""
        ...

    def report_progress(self, task: str, incarnation: UUID, step: int, *, timeout_s: float) -> None:
        """Says how many training steps a task has done (ps task 0 only)."""
        ...

    def list_members(self, *, timeout_s: float) -> list[Member]:
        """The tasks that have joined, by name (ps task 0 only)."""
        ...

    def list_variables(self, *, timeout_s: float) -> list[VariableInfo]:
        """The variables held here, by name."""
        ...

    def status(self, *, timeout_s: float) -> Status:
        """Counters and state of the task."""
        ...

    def drain(self, reason: str, *, timeout_s: float) -> None:
        """Finishes what was accepted and refuses new batches; raises DeadlineExceededError if time runs out."""
        ...

    def shutdown(self, reason: str, *, timeout_s: float) -> None:
        """Drains, then ends the process."""
        ...

    def close(self) -> None:
        """Gives back what this end of the conversation holds; the ps is left alone."""
        ...
