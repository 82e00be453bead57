"""Requests and replies of a ps task's services, besides batches."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ps_protocol.operations import VariableSpec


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
        version: Newest version of the socket protocol that is spoken there.
        checks_tensors: Whether frames are to carry a checksum of their tensors.
    """

    kind: FastPathKind
    address: str
    shared_memory: bool = False
    version: int = 1
    checks_tensors: bool = False


@dataclass(frozen=True, slots=True)
class KnownCluster:
    """What a ps task knows of its own cluster; ``Cluster`` in ``data.proto``.

    Attributes:
        num_ps_tasks: By its own cluster spec.
        incarnation: Identity of the cluster, which is that of the store of ps task 0; None if the task has not met it.
        first_ps: Where ps task 0 is by its own cluster spec, as "host:port".
    """

    num_ps_tasks: int
    incarnation: UUID | None
    first_ps: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """A ps's answer to hello.

    Attributes:
        task: The ps's own name, as "ps:0".
        store: Incarnation of its store, to be sent with every batch.
        job_seed: Seed from which initial values follow; that of ps task 0 counts.
        fast_paths: Other ways to exchange batches, best first.
        ticket: Admits one connection on one of them, soon; empty if there are none.
        cluster: Of which cluster it is; None if that was not asked for, or the ps is too old to know.
        max_message_bytes: Most bytes of one message over gRPC, of a ps that takes larger headers in parts; 0 if it is
            too old to know.
    """

    task: str
    store: UUID
    job_seed: int
    fast_paths: tuple[FastPath, ...] = ()
    ticket: bytes = b""
    cluster: KnownCluster | None = None
    max_message_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Proposal:
    """Where a client would put a variable."""

    spec: VariableSpec
    ps_task: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the directory has put a variable."""

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

    ``incarnation`` is, in a listing, not the one under which the task numbers its updates (``membership.proto``).
    ``lease_s`` is how long it may be silent before it counts as dead, 0 for ever. ``end`` is how it has ended, in
    words, if that is known and was not in good order.
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
    end: str = ""


def listed_incarnation(incarnation: UUID) -> UUID:
    """Returns what is shown of an incarnation: always the same, but the incarnation does not follow from it.

    A process numbers its updates under its incarnation: whoever knew that could make updates in its name, or have the
    ledger take its own for repeated ones.
    """
    return UUID(bytes=hashlib.blake2b(incarnation.bytes, digest_size=16, person=b"listed member").digest())


@dataclass(frozen=True, slots=True)
class PsAddress:
    """Where one ps task is; ``PsAddress`` in ``membership.proto``.

    Attributes:
        task: As "ps:1".
        address: "host:port" of its gRPC service.
        incarnation: Of the process.
        epoch: Of the ps task's role; an address of a higher epoch replaces one of a lower epoch.
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


DURABILITY_MODES: Final = {mode.name.lower(): mode for mode in DurabilityMode}
"""By the names that are given on command lines."""


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
    """A ps task as inspection shows it; counters run since the start of the process.

    Attributes:
        steps_skipped: Steps of optimizers that changed nothing since their gradients were not finite; of optimizers
            that were declared to skip them.
        steps_refused: Those of optimizers that refuse them.
        troubles: Work in the background that fails just now and is tried again, as "snapshots: OSError: ...".
    """

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
    steps_skipped: int = 0
    steps_refused: int = 0
    troubles: tuple[str, ...] = ()

    @property
    def answers_clients(self) -> bool:
        """Whether the process is the one that stands for its task: the only one, or the primary."""
        return self.replication is None or self.replication.role is ReplicaRole.PRIMARY
