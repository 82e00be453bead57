"""Batches on their way to one ps task behind each other: a queue with bounds, and a place for each one's outcome."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ps_protocol.forks import new_lock
from ps_protocol.operations import KINDS, PsOperation, Reply, tensor_bytes
from worker_client.connection.futures import OperationFuture

_MERGEABLE = frozenset([kind for kind, row in KINDS.items() if row.may_merge])


@dataclass(slots=True, eq=False)
class Submission:
    """Operations that were submitted together.

    Attributes:
        operations: What to send.
        expected_reply_bytes: Size of the tensors in the reply, None if not known.
        future: Gets the replies, or the error of the whole batch. Cannot be cancelled.
        size_bytes: Size of the tensors to send.
    """

    operations: tuple[PsOperation, ...]
    expected_reply_bytes: int | None
    future: OperationFuture[tuple[Reply, ...]] = field(default_factory=OperationFuture)
    size_bytes: int = 0

    def __post_init__(self) -> None:
        self.size_bytes = tensor_bytes(self.operations)
        self.future.names = [each.name for each in self.operations]

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

    Args:
        max_batches: How many there may be.
        max_bytes: Bytes of tensors in all of them. One batch alone may be larger.

    Attributes:
        num_unfinished: Those put and not finished yet. May be read without a lock; a thread sees at least its own.
        is_closed: Whether nothing can be put any more.
    """

    def __init__(self, max_batches: int, max_bytes: int):
        self._max_batches = max_batches
        self._max_bytes = max_bytes
        self._lock = new_lock()  # guards: all below
        self._arrived = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._queued: deque[Submission] = deque()
        self._taken: dict[Submission, None] = {}  # and not finished, in their order
        self._putting: deque[Submission] = deque()  # those that wait for room, in their order
        self._unfinished_bytes = 0
        self.num_unfinished = 0
        self.is_closed = False

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
            if self._putting or not self._has_room_for(pending):
                self._putting.append(pending)
                try:
                    self._room.wait_for(lambda: self.is_closed or self._is_next(pending), timeout_s)
                    has_room = self._is_next(pending)
                finally:
                    self._putting.remove(pending)
                    self._room.notify_all()
            else:
                has_room = True
            if self.is_closed or not has_room:
                return False
            self._queued.append(pending)
            self.num_unfinished += 1
            self._unfinished_bytes += pending.size_bytes
            self._arrived.notify()
            return True

    @property
    def next_is_mergeable(self) -> bool:
        """Whether what is taken next may share its batch with what is queued by then. For the thread that takes."""
        with self._lock:
            return bool(self._queued) and self._queued[0].is_mergeable

    def get(self, *, wait: bool, max_merged: int = 1, max_merged_bytes: int = 0) -> OutgoingBatch | None:
        """Takes the next one, with those behind it that may share its batch.

        Args:
            wait: Whether to wait until there is one, or the queue is closed.
            max_merged: How many may share a batch.
            max_merged_bytes: Size of the tensors in one that is shared.

        Returns:
            What to send; None if there is nothing.
        """
        with self._lock:
            while wait and not self._queued and not self.is_closed:
                self._arrived.wait()  # for the next batch or for close(), as long as the client lives
            if not self._queued:
                return None
            members = [self._queued.popleft()]
            size_bytes = members[0].size_bytes
            while len(members) < max_merged and self._queued and members[-1].is_mergeable:
                following = self._queued[0]
                size_bytes += following.size_bytes
                if size_bytes > max_merged_bytes or not following.is_mergeable:
                    break
                members.append(self._queued.popleft())
            self._taken.update(dict.fromkeys(members))
            return OutgoingBatch(members)

    def finished(self, outgoing: OutgoingBatch) -> None:
        """Makes room: what was taken has its outcome."""
        with self._lock:
            for member in outgoing.members:
                self._taken.pop(member, None)
            self.num_unfinished -= len(outgoing.members)
            self._unfinished_bytes -= outgoing.size_bytes
            if self._putting:
                self._room.notify_all()

    def close(self) -> bool:
        """Refuses what is put from now on; what is queued can still be taken. Returns whether it was open."""
        with self._lock:
            was_open, self.is_closed = not self.is_closed, True
            self._arrived.notify_all()
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
            self.num_unfinished -= len(abandoned)
            self._unfinished_bytes -= sum(each.size_bytes for each in abandoned)
            return abandoned

    def _is_next(self, pending: Submission) -> bool:
        return self._putting[0] is pending and self._has_room_for(pending)

    def _has_room_for(self, pending: Submission) -> bool:
        if not self.num_unfinished:
            return True
        return (
            self.num_unfinished < self._max_batches and self._unfinished_bytes + pending.size_bytes <= self._max_bytes
        )
