"""Batches on their way to one ps task behind each other: a queue with bounds, and a place for each one's outcome."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue

from ps_protocol.errors import CancelledError
from ps_protocol.forks import new_lock
from ps_protocol.interrupts import sheltered
from ps_protocol.operation_kinds import KINDS, tensor_bytes
from ps_protocol.operations import PsOperation, Reply
from worker_client.connection.futures import OperationFuture

_MERGEABLE = frozenset([kind for kind, row in KINDS.items() if row.may_merge])


@dataclass(slots=True, eq=False)
class Submission:
    """Operations that were submitted together.

    Attributes:
        operations: What to send.
        expected_reply_bytes: Size of the tensors in the reply, None if not known.
        caller: Of one that is waited for: held by the caller until it waits no longer. What is still queued then is
            not sent, since the caller may use its arrays again.
        future: Gets the replies, or the error of the whole batch. Cannot be cancelled.
        size_bytes: Size of the tensors to send.
    """

    operations: tuple[PsOperation, ...]
    expected_reply_bytes: int | None
    caller: threading.Lock | None = None
    future: OperationFuture[tuple[Reply, ...]] = field(default_factory=OperationFuture)
    size_bytes: int = 0

    def __post_init__(self) -> None:
        self.size_bytes = tensor_bytes(self.operations)
        self.future.names = [each.name for each in self.operations]

    @property
    def is_wanted(self) -> bool:
        """Whether it is still to be sent: nobody waits for it in particular, or the caller still does."""
        return self.caller is None or self.caller.locked()

    @property
    def is_mergeable(self) -> bool:
        """Whether it may share a batch with others: updates, which neither wait for anything nor have a large reply."""
        return self.expected_reply_bytes == 0 and _MERGEABLE.issuperset(map(type, self.operations))


class OutgoingBatch:
    """What was submitted one after the other and travels as one batch.

    Attributes:
        members: What it consists of, in order; at least one.
        operations: Those of all members.
        expected_reply_bytes: As of ``Submission``.
        size_bytes: Size of the tensors to send.
    """

    __slots__ = ("expected_reply_bytes", "members", "operations", "size_bytes")

    def __init__(self, members: Sequence[Submission]):
        first = members[0]
        self.members = members
        self.operations = first.operations
        if len(members) > 1:
            self.operations = tuple([operation for each in members for operation in each.operations])
        self.expected_reply_bytes = first.expected_reply_bytes  # of several members 0, or they would not be merged
        self.size_bytes = sum([each.size_bytes for each in members])


class PendingQueue:
    """First in, first out; any threads put, one takes. Thread-safe.

    What is bounded is what has no outcome yet, queued or on its way: its arrays are in memory until then.

    The main thread may be interrupted anywhere in ``put``, where there is room: what it puts is in the queue by one
    instruction, or not. All else is done by other threads.

    Args:
        max_batches: How many there may be.
        max_bytes: Bytes of tensors in all of them. One batch alone may be larger.

    Attributes:
        num_finished: Goes up with each batch that has its outcome.
        is_closed: Whether nothing can be put any more.
    """

    def __init__(self, max_batches: int, max_bytes: int):
        self._max_batches = max_batches
        self._max_bytes = max_bytes
        self._lock = new_lock()  # guards: all below
        self._room = threading.Condition(self._lock)
        self._queued: deque[Submission] = deque()
        self._taken: dict[Submission, None] = {}  # and not finished, in their order
        self._putting: deque[Submission] = deque()  # those that wait for room, in their order
        self._unfinished_bytes = 0  # or more, after an interrupt, until nothing is unfinished
        self._is_awaited = False  # by the one that takes
        self._arrivals: SimpleQueue[None] = SimpleQueue()  # wakes it
        self.num_finished = 0
        self.is_closed = False

    @property
    def num_unfinished(self) -> int:
        """Those put and not finished yet. May be read without a lock; a thread sees at least its own."""
        return len(self._queued) + len(self._taken)

    @property
    def num_waiting(self) -> int:
        """How many wait for room."""
        return len(self._putting)

    def put(self, pending: Submission, *, timeout_s: float) -> bool:
        """Appends, waiting for room behind those who wait already.

        Returns:
            False if there was no room in time or the queue is closed; then nothing was appended.
        """
        with self._lock:
            if self.is_closed:
                return False
            if not self._putting and self._has_room_for(pending):
                self._append(pending)
                return True
        return sheltered(self._put_when_there_is_room, pending, timeout_s)

    def _put_when_there_is_room(self, pending: Submission, timeout_s: float) -> bool:
        with self._lock:
            self._putting.append(pending)
            try:
                self._room.wait_for(lambda: self.is_closed or self._is_next(pending), timeout_s)
                if self.is_closed or not (self._is_next(pending) and pending.is_wanted):
                    return False
                self._append(pending)
                return True
            finally:
                self._putting.remove(pending)
                self._room.notify_all()

    def _append(self, pending: Submission) -> None:
        """With the lock held. What is interrupted before it is in leaves too many bytes counted, not too few."""
        self._unfinished_bytes += pending.size_bytes
        self._queued.append(pending)
        self._wake()

    def _wake(self) -> None:
        """With the lock held: wakes the one that takes."""
        if self._is_awaited:
            self._arrivals.put(None)

    @property
    def next_is_mergeable(self) -> bool:
        """Whether what is taken next may share its batch with what is queued by then. For the thread that takes."""
        with self._lock:
            return bool(self._queued) and self._queued[0].is_mergeable

    def get(self, *, wait: bool, max_merged: int = 1, max_merged_bytes: int = 0) -> OutgoingBatch | None:
        """Takes the next one, with those behind it that may share its batch; drops those whose caller has gone.

        Args:
            wait: Whether to wait until there is one, or the queue is closed.
            max_merged: How many may share a batch.
            max_merged_bytes: Size of the tensors in one that is shared.

        Returns:
            What to send; None if there is nothing.
        """
        while True:
            with self._lock:
                dropped = self._drop_unwanted()
                members = self._take(max_merged, max_merged_bytes)
                ends = not wait or self.is_closed
                self._is_awaited = not (members or dropped or ends)
            for each in dropped:
                each.future.set_exception(_interrupted(each))
            if members:
                return OutgoingBatch(members)
            if dropped:
                continue
            if ends:
                return None
            self._arrivals.get()  # for the next batch or for close(), as long as the client lives

    def _drop_unwanted(self) -> list[Submission]:
        """With the lock held."""
        dropped = []
        while self._queued and not self._queued[0].is_wanted:
            dropped.append(self._queued.popleft())
            self._count_finished(dropped[-1].size_bytes)
        return dropped

    def _take(self, max_merged: int, max_merged_bytes: int) -> list[Submission]:
        """With the lock held. What is taken is counted twice for a moment, so that it is never not counted."""
        members: list[Submission] = []
        size_bytes = 0
        while self._queued and len(members) < max_merged:
            following = self._queued[0]
            size_bytes += following.size_bytes
            if members and not (
                members[-1].is_mergeable
                and following.is_mergeable
                and following.is_wanted
                and size_bytes <= max_merged_bytes
            ):
                break
            self._taken[following] = None
            members.append(self._queued.popleft())
        return members

    def finished(self, outgoing: OutgoingBatch) -> None:
        """Makes room: what was taken has its outcome."""
        with self._lock:
            for member in outgoing.members:
                self._taken.pop(member, None)
            self._count_finished(outgoing.size_bytes)

    def _count_finished(self, size_bytes: int) -> None:
        """With the lock held."""
        self.num_finished += 1
        self._unfinished_bytes = self._unfinished_bytes - size_bytes if self.num_unfinished else 0
        if self._putting:
            self._room.notify_all()

    def close(self) -> bool:
        """Refuses what is put from now on; what is queued can still be taken. Returns whether it was open."""
        with self._lock:
            was_open, self.is_closed = not self.is_closed, True
            self._wake()
            self._room.notify_all()
            return was_open

    def unfinished(self) -> list[Submission]:
        """Returns what has no outcome yet, in order: what was taken, and what is still queued."""
        with self._lock:
            return [*self._taken, *self._queued]

    def abandon(self) -> list[Submission]:
        """Takes out all that is still queued."""
        with self._lock:
            abandoned = list(self._queued)
            self._queued.clear()
            self._count_finished(sum(each.size_bytes for each in abandoned))
            return abandoned

    def _is_next(self, pending: Submission) -> bool:
        return self._putting[0] is pending and self._has_room_for(pending)

    def _has_room_for(self, pending: Submission) -> bool:
        num_unfinished = self.num_unfinished
        if not num_unfinished:
            return True
        return num_unfinished < self._max_batches and self._unfinished_bytes + pending.size_bytes <= self._max_bytes


def _interrupted(pending: Submission) -> CancelledError:
    """The outcome of what was not sent since its caller waits no longer, for those who were told of it all the same."""
    return CancelledError(
        f"variable {pending.operations[0].name}: the call was interrupted before anything was sent; nothing of it was "
        f"applied",
        variable=pending.operations[0].name,
    )
