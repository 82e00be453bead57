"""Sends what was queued for one ps task, in order, without waiting for each reply where the transport can do that.

The protocol is that of ``ps_service.Transport``: several batches are on their way at a time, and replies come
in the order of the batches. When one fails it is not known which of those behind it were applied; all are exchanged
again, each unchanged and in order, so that the ledger of the ps counts each once.

Small updates that were submitted one by one and are queued at the same time share a batch. Each has a reply of its own
there, and an error of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.interrupts import Turn
from ps_protocol.operations import Batch, Reply
from ps_protocol.ps_service import PendingExchange
from worker_client.connection.pending_queue import OutgoingBatch, PendingQueue
from worker_client.connection.retry import Deadline, RetryPolicy

_LOOK_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """How much may be on its way at a time.

    Attributes:
        max_batches: Batches whose reply has not been taken. Less than the answers that a ps remembers for each client,
            and than the batches of a client that it lets wait (``update_ledger.LedgerLimits``).
        max_bytes: Bytes of their tensors; a batch with more is exchanged alone.
        max_reply_bytes: Bytes of tensors in a reply; a batch with more, or with a reply of unknown size, is exchanged
            alone.
        max_merged: Updates that share a batch, of those that are queued when it leaves.
        max_merged_bytes: Bytes of their tensors.
    """

    max_batches: int = 16
    max_bytes: int = 64 * 1024**2
    max_reply_bytes: int = 64 * 1024
    max_merged: int = 32
    max_merged_bytes: int = 64 * 1024


class Attempt(Protocol):
    """Exchanges a batch, with retries; ``failure`` is how a first try of it that was made already has ended."""

    def __call__(self, batch: Batch, *, timeout_s: float, failure: ShardscopeError | None) -> tuple[Reply, ...]: ...


class Begin(Protocol):
    """``Transport.begin``."""

    def __call__(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    outgoing: OutgoingBatch
    batch: Batch
    exchange: PendingExchange


class BatchSender:
    """The work of one thread, which is the only one that takes from the queue.

    Args:
        queue: What to send. A batch is finished there before its future is done: a caller that has waited for the
            future finds the queue free.
        number: Makes the batch; one that mutates gets the next number. Called in its turn of ``order``.
        attempt: Exchanges a batch and waits for it.
        begin: Sends a batch without waiting.
        order: Taken while mutating batches are on their way.
        limits: Of what is on its way.
        retry: Says which failures are worth repeating.
        timeout_s: Bound on each batch from when its turn has come, in seconds.
    """

    def __init__(
        self,
        queue: PendingQueue,
        *,
        number: Callable[[OutgoingBatch], Batch],
        attempt: Attempt,
        begin: Begin,
        order: Turn,
        limits: WindowLimits,
        retry: RetryPolicy,
        timeout_s: float,
    ):
        self._queue = queue
        self._number = number
        self._attempt = attempt
        self._begin_exchange = begin
        self._order = order
        self._in_turn = threading.Lock()  # held while it has the turn
        self._limits = limits
        self._retry = retry
        self._timeout_s = timeout_s
        self._window: deque[_Begun] = deque()  # it has the turn while there are any
        self._window_bytes = 0
        self._turn = Deadline(timeout_s, retry.clock)  # of the oldest in the window

    def run(self) -> None:
        """Sends until the queue is closed and empty and all replies are in."""
        while True:
            if self._lets_others_join():
                self._finish_oldest()
                continue
            outgoing = self._queue.get(
                wait=not self._window,
                max_merged=self._limits.max_merged,
                max_merged_bytes=self._limits.max_merged_bytes,
            )
            if outgoing is not None:
                self._send(outgoing)
                del outgoing  # or the arrays of its replies would stay until the next one comes
            elif self._window:
                self._finish_oldest()
            else:
                return

    def _lets_others_join(self) -> bool:
        """Whether the next batch waits for a reply, so that more updates join it: two keep the ps busy."""
        return len(self._window) >= 2 and self._limits.max_merged > 1 and self._queue.next_is_mergeable

    def _send(self, outgoing: OutgoingBatch) -> None:
        pipelined = self._can_be_pipelined(outgoing)
        while self._window and not (pipelined and self._has_room_for(outgoing)):
            self._finish_oldest()
        if not self._window:
            self._begin_turn()
        try:
            batch = self._number(outgoing)
        except BaseException as error:  # noqa: BLE001 - the future carries it
            self._settle(outgoing, error, is_last=not self._window)
            return
        if not (pipelined and self._begin(outgoing, batch)):
            self._settle(outgoing, self._outcome(batch), is_last=True)

    def _begin_turn(self) -> None:
        self._in_turn.acquire()
        while not self._order.wait(self._in_turn, _LOOK_S):
            pass  # a direct exchange is on its way, which is bounded by the operation timeout

    def _can_be_pipelined(self, outgoing: OutgoingBatch) -> bool:
        return (
            outgoing.size_bytes <= self._limits.max_bytes
            and outgoing.expected_reply_bytes is not None
            and outgoing.expected_reply_bytes <= self._limits.max_reply_bytes
        )

    def _has_room_for(self, outgoing: OutgoingBatch) -> bool:
        return (
            len(self._window) < self._limits.max_batches
            and self._window_bytes + outgoing.size_bytes <= self._limits.max_bytes
        )

    # -- on its way ---------------------------------------------------------------------------

    def _begin(self, outgoing: OutgoingBatch, batch: Batch) -> bool:
        """Sends a batch; False if it has to be exchanged, for which the window then is empty and the turn its own."""
        if not self._window:
            self._turn = Deadline(self._timeout_s, self._retry.clock)
        try:
            timeout_s = min(self._timeout_s, self._retry.attempt_s(self._window_bytes + outgoing.size_bytes))
            exchange = self._begin_exchange(batch, timeout_s=timeout_s)
        except BaseException as error:  # noqa: BLE001 - the future carries it
            self._recover([*((each.outgoing, each.batch) for each in self._window), (outgoing, batch)], outgoing, error)
            return True
        if exchange is None:
            while self._window:
                self._finish_oldest(keeps_turn=True)
            return False
        self._window.append(_Begun(outgoing, batch, exchange))
        self._window_bytes += outgoing.size_bytes
        return True

    def _finish_oldest(self, *, keeps_turn: bool = False) -> None:
        oldest = self._window[0]
        try:
            replies = oldest.exchange.finish().replies
        except BaseException as error:  # noqa: BLE001 - the future carries it
            begun = [(each.outgoing, each.batch) for each in self._window]
            self._recover(begun, oldest.outgoing, error, keeps_turn=keeps_turn)
            return
        self._window.popleft()
        self._window_bytes -= oldest.outgoing.size_bytes
        self._turn = Deadline(self._timeout_s, self._retry.clock)
        self._settle(oldest.outgoing, replies, is_last=not (self._window or keeps_turn))

    def _recover(
        self,
        begun: list[tuple[OutgoingBatch, Batch]],
        failed: OutgoingBatch,
        error: BaseException,
        *,
        keeps_turn: bool = False,
    ) -> None:
        """Exchanges all batches of which it is not known whether they were applied, in order, but not one refused."""
        self._window.clear()
        self._window_bytes = 0
        for index, (outgoing, batch) in enumerate(begun):
            is_last = index == len(begun) - 1 and not keeps_turn
            timeout_s = self._timeout_s if index else self._turn.remaining_s()
            if outgoing is not failed:
                outcome = self._outcome(batch, timeout_s=timeout_s)
            elif isinstance(error, ShardscopeError) and self._retry.is_worth_repeating(error):
                outcome = self._outcome(batch, timeout_s=timeout_s, failure=error)
            else:
                outcome = error
            self._settle(outgoing, outcome, is_last=is_last)

    # -- outcomes -----------------------------------------------------------------------------

    def _outcome(
        self, batch: Batch, *, timeout_s: float | None = None, failure: ShardscopeError | None = None
    ) -> tuple[Reply, ...] | BaseException:
        try:
            return self._attempt(batch, timeout_s=self._timeout_s if timeout_s is None else timeout_s, failure=failure)
        except BaseException as error:  # noqa: BLE001 - the future carries it
            return error

    def _settle(self, outgoing: OutgoingBatch, outcome: tuple[Reply, ...] | BaseException, *, is_last: bool) -> None:
        """Gives a batch its outcome; ends the turn if it was the last on its way."""
        if is_last and len(outgoing.members) > 1 and isinstance(outcome, InvalidArgumentError):
            self._exchange_members(outgoing)
            return
        if is_last:
            self._in_turn.release()
        self._queue.finished(outgoing)
        start = 0
        for member in outgoing.members:
            if isinstance(outcome, BaseException):
                member.future.set_exception(outcome)
            else:
                end = start + len(member.operations)
                member.future.set_result(outcome[start:end])
                start = end

    def _exchange_members(self, outgoing: OutgoingBatch) -> None:
        """Sends each member of a refused batch in one of its own, since only one of them may be invalid.

        A batch that was refused as invalid has changed nothing, and none was numbered after it.
        """
        for member in outgoing.members:
            alone = OutgoingBatch([member])
            try:
                outcome: tuple[Reply, ...] | BaseException = self._outcome(self._number(alone))
            except BaseException as error:  # noqa: BLE001 - the future carries it
                outcome = error
            self._settle(alone, outcome, is_last=member is outgoing.members[-1])
