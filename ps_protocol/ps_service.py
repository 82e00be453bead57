"""What one ps task offers, as two interfaces: a ``Transport`` for batches, a ``ClusterService`` for all else.

``ps_server.core.parameter_server.ParameterServer`` does the work of both; a client's pair of them calls it from afar.
One contract suite runs on all. Every method may raise a ``ShardscopeError``; methods are safe to call from many threads
unless they say otherwise; ``timeout_s`` bounds how long a call may wait, in seconds.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Final, Protocol
from uuid import UUID

from ps_protocol.errors import ShardscopeError
from ps_protocol.operations import Array, Batch, BatchReply
from ps_protocol.service_types import Member, Placement, Proposal, PsAddress, Status, VariableInfo, Welcome

OLDEST_PROTOCOL_VERSION: Final = 1
PROTOCOL_VERSION: Final = 2
"""Versions of the contract that this side speaks: from the oldest up to this one.

From version 2 on, what names required features that are not known is refused.
"""

KNOWN_FEATURES: Final[frozenset[str]] = frozenset()
"""Names of fields that change what others mean (``required_features`` in ``batch.proto``)."""


class PendingExchange(Protocol):
    """A batch that was sent and whose reply has not been taken yet."""

    def finish(self) -> BatchReply:
        """Waits for the reply; called once, in the order in which the batches were sent."""


class Line(Protocol):
    """A way for one small batch that a caller has to itself, so that it can send to several ps tasks before it waits.

    Whatever comes out of either method but a reply, an interrupt included, the line is given up. It is not used again
    then, and the ps may or may not have carried the batch out.

    Attributes:
        waits_apart: Whether the main thread must not wait itself, so that another thread is to ``wait`` first.
    """

    @property
    def waits_apart(self) -> bool: ...

    def send(self, batch: Batch, *, timeout_s: float) -> None:
        """Sends it; called once. ``timeout_s`` also bounds the time until its reply. Errors as of ``exchange``."""

    def wait(self) -> None:
        """Waits for what ``receive`` then gives, be it an error; need not be called."""

    def receive(self) -> BatchReply:
        """Waits for the reply; called once, after ``send``. Errors as of ``exchange``."""

    def freed(self) -> None:
        """Called when the caller has freed its lock, so that others who wait for a line find this one."""


class Transport(Protocol):
    """Carries batches to one ps task. A transport derives from it, and overrides what it can do besides ``exchange``.

    ``exchange``, ``line`` and ``new_buffer`` are safe to call from many threads. One thread at a time uses ``begin``
    and ``finish``. Several batches of one client may be on their way so; they are carried out in order. After an error
    of either, every batch that was begun and not finished may or may not have been applied, and none can be finished
    any more: the caller exchanges each again, unchanged and in order.
    """

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        """Carries out a batch. An error of one operation is in its reply; an error of the whole batch is raised."""

    def begin(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None:  # noqa: ARG002 - overridden
        """Sends a batch; None if it cannot be pipelined and nothing was sent: finish those begun, then exchange it.

        Args:
            batch: Its ``expected_reply_bytes`` must be known and small, or None is returned.
            timeout_s: Bound on sending it and, counted from now, on its reply.
        """
        return None

    def line(self, caller: threading.Lock, *, timeout_s: float) -> Line | None:  # noqa: ARG002 - overridden
        """Returns a line that is free, for a batch with little to send and to receive; None if there is none.

        Args:
            caller: Held by the caller. The line is its own as long as that lock is.
            timeout_s: What its batch will be given.
        """
        return None

    def new_buffer(self, size_bytes: int, *, timeout_s: float) -> Array | None:  # noqa: ARG002 - overridden
        """Returns a uint8 array whose memory the ps shares, so that tensors in it need not be copied to be sent.

        It is given back when neither the array nor a view of it is left. None if there is no such memory now.
        """
        return None

    def close(self) -> None:
        """Gives back what this end holds; batches that are on their way may still end."""


class ClusterService(Protocol):
    """All that a ps task offers besides batches."""

    def hello(
        self, client: UUID, task: str, *, num_ps_tasks: int = 0, for_reads: bool = False, timeout_s: float
    ) -> Welcome:
        """Opens a conversation.

        Args:
            client: Incarnation of the client.
            task: Its task, as "worker:1".
            num_ps_tasks: How many ps tasks its cluster spec has; 0 not to ask what the ps knows of its own cluster.
            for_reads: Whether it only reads here, so that a backup may answer; the primary has answered it before.
            timeout_s: Bound on the call.
        """

    def goodbye(self, client: UUID, *, timeout_s: float) -> None:
        """Ends the conversation; the ps forgets the client's sequence numbers."""

    def place(
        self, proposals: Sequence[Proposal], *, store: UUID | None = None, timeout_s: float
    ) -> list[Placement | ShardscopeError]:
        """Records the first proposal for each name and returns what is recorded (ps task 0 only).

        ``store`` is the incarnation in ``Welcome``: StateLostError if the directory has been lost since then.
        """

    def list_placements(self, *, timeout_s: float) -> list[Placement]:
        """All that is recorded, by name (ps task 0 only)."""

    def join(
        self,
        task: str,
        incarnation: UUID,
        host: str,
        pid: int,
        *,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        if_free: bool = False,
        job_sizes: Mapping[str, int] | None = None,
        timeout_s: float,
    ) -> str | None:
        """Announces a task (ps task 0 only).

        Args:
            task: As "worker:1".
            incarnation: Of its process or connection.
            host: Where it runs.
            pid: Of its process.
            lease_s: How long it may be silent before it counts as dead, in seconds; 0 for ever.
            age_s: Seconds since it began to take part, if it joins again.
            if_free: Whether to leave a living process alone that is this task already. Else this one takes its place.
            job_sizes: How many tasks each job has by the cluster spec of this process.
            timeout_s: Bound on the call.

        Returns:
            Which other task was started with another cluster, and what differs, in words; None if none is known.

        Raises:
            AbortedError: With ``if_free``: it is not known yet whether the process that is this task lives; retryable.
            AlreadyExistsError: It does live.
        """

    def heartbeat(self, task: str, incarnation: UUID, step: int | None = None, *, timeout_s: float) -> str | None:
        """Renews the lease of a task, and reports its training steps if given (ps task 0 only).

        Returns:
            As ``join``, of a task that has joined since the last heartbeat.

        Raises:
            FailedPreconditionError: This ps does not know that the task has joined: it must join again.
            AbortedError: A newer incarnation of the task has joined; not retryable.
        """

    def announce(
        self, address: PsAddress, host: str, pid: int, *, lease_s: float = 0.0, age_s: float = 0.0, timeout_s: float
    ) -> list[PsAddress]:
        """Says where a ps task is; ps task 0 takes it as join and heartbeat too. Returns ``list_addresses``.

        Raises:
            AbortedError: Another process has announced itself as this ps task since, or for a newer epoch; not
                retryable.
        """

    def list_addresses(self, *, timeout_s: float) -> list[PsAddress]:
        """Where ps tasks have last announced themselves, by name."""

    def leave(self, task: str, incarnation: UUID, *, end: str = "", timeout_s: float) -> None:
        """Says that a task has ended: in good order, or how, as "signal SIGKILL" (ps task 0 only)."""

    def report_progress(self, task: str, incarnation: UUID, step: int, *, timeout_s: float) -> None:
        """Says how many training steps a task has done (ps task 0 only)."""

    def list_members(self, *, timeout_s: float) -> list[Member]:
        """The tasks that have joined, by name (ps task 0 only)."""

    def list_variables(self, *, timeout_s: float) -> list[VariableInfo]:
        """The variables held here, by name."""

    def status(self, *, timeout_s: float) -> Status:
        """Counters and state of the task."""

    def drain(self, reason: str, *, timeout_s: float) -> None:
        """Finishes what was accepted and refuses new batches; raises DeadlineExceededError if time runs out."""

    def shutdown(self, reason: str, *, timeout_s: float) -> None:
        """Drains, then ends the process."""

    def promote(self, *, accept_loss: bool = False, timeout_s: float) -> None:
        """Has the process that answers become the primary of its replicated task; returns before it is.

        Args:
            accept_loss: Whether a process without state may begin, so that what the task had is given up.
            timeout_s: How long it may take.

        Raises:
            FailedPreconditionError: The task has one process, or this one does not have its state.
        """

    def close(self) -> None:
        """Gives back what this end of the conversation holds; the ps is left alone."""
