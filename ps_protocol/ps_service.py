"""What one ps task offers, as an interface that both sides implement.

``ps_server.parameter_server.ParameterServer`` is the thing itself; a client's transport is the same
thing from afar. One contract suite runs on both. Every method may raise a ``ShardscopeError``; methods
are safe to call from many threads; ``timeout_s`` bounds how long a call may wait, in seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Batch, BatchReply, VariableSpec

PROTOCOL_VERSION = 1


@dataclass(frozen=True, slots=True)
class Welcome:
    """A ps's answer to hello.

    Attributes:
        task: The ps's own name, as "ps:0".
        store: Incarnation of its store, to be sent with every batch.
        job_seed: Seed from which initial values follow; that of ps task 0 counts.
    """

    task: str
    store: UUID
    job_seed: int


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


@dataclass(frozen=True, slots=True)
class Member:
    """A task that has joined the cluster; times are seconds since the epoch."""

    task: str
    incarnation: UUID
    host: str
    pid: int
    state: MemberState
    joined_at_s: float
    last_seen_s: float
    step: int


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


class Transport(Protocol):
    """Carries batches to one ps task: the part of ``PsService`` that has several implementations."""

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        """Has a batch carried out; an error of one operation is a reply, one of the whole batch is raised."""
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

    def join(self, task: str, incarnation: UUID, host: str, pid: int, *, timeout_s: float) -> None:
        """Announces a task (ps task 0 only)."""
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
