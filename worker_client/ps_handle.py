"""One ps task as a client sees it: in order, exactly once, with bounded waits.

The handle stamps each mutating batch with (client incarnation, sequence), so that a batch whose reply was lost is
sent again, unchanged, without counting twice. Mutating batches leave one at a time and in the order in which they
were submitted; batches that only read may overlap with each other but never overtake an update submitted before.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

from ps_protocol.cluster_spec import TaskId
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    ResourceExhaustedError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.operations import Batch, Operation, Reply, tensors_of
from ps_protocol.ps_service import PsService, Welcome
from worker_client.retry import Deadline, RetryPolicy

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_HELLO_ATTEMPT_S = 2.0
_REPORT_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How long a client waits.

    Attributes:
        operation_timeout_s: Bound on one operation, retries included.
        connect_timeout_s: Bound on waiting for a ps that has not started yet.
        retry: Pauses between tries.
        max_pending_batches: Batches that may wait to be sent to one ps task; submitting more waits for room.
    """

    operation_timeout_s: float = 60.0
    connect_timeout_s: float = 60.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_pending_batches: int = 1024


@dataclass(slots=True)
class _Pending:
    operations: tuple[Operation, ...]
    expected_reply_bytes: int | None
    future: Future[tuple[Reply, ...]]


class PsHandle:
    """Sends batches to one ps task. Thread-safe.

    Args:
        service: The way to the ps; owned: ``close`` closes it.
        task: Which ps task.
        address: Where it is, for what is shown and for errors.
        client: Incarnation of the client.
        client_task: The client's own task, as "worker:1".
        settings: Bounds on waiting.
    """

    def __init__(
        self,
        service: PsService,
        *,
        task: TaskId,
        address: str,
        client: UUID,
        client_task: str,
        settings: Settings,
    ):
        self.service = service
        self.task = task
        self.address = address
        self._client = client
        self._client_task = client_task
        self._settings = settings
        self._welcome: Welcome | None = None
        # guards: the order of mutating batches on their way, _sequence. Held while one is exchanged, which is its
        # purpose; no other lock is taken under it but _queue_lock, which is never held over I/O.
        self._order_lock = threading.Lock()
        self._sequence = 0
        # guards: _pending_count, _sender, _closed
        self._queue_lock = threading.Lock()
        self._queue: queue.Queue[_Pending | None] = queue.Queue(settings.max_pending_batches)
        self._pending_count = 0
        self._sender: threading.Thread | None = None
        self._closed = False

    # -- conversation -------------------------------------------------------------------------

    def connect(self, deadline: Deadline) -> Welcome:
        """Says hello, waiting for a ps that is not there yet, with a log line every few seconds.

        Raises:
            UnavailableError: The ps did not answer in time.
            ShardscopeError: It answered that it will not talk to this client.
        """
        last_report_s = 0.0

        def waiting(error: ShardscopeError, so_far: Deadline) -> None:
            nonlocal last_report_s
            elapsed_s = so_far.elapsed_s()
            if elapsed_s - last_report_s >= _REPORT_EVERY_S:
                last_report_s = elapsed_s
                _LOG.warning(
                    "waiting for ps %d at %s, %.0f s (%s)", self.task.index, self.address, elapsed_s, error.message
                )

        timeout_s = deadline.remaining_s()
        try:
            self._welcome = self._settings.retry.call(
                lambda attempt_s: self.service.hello(
                    self._client, self._client_task, timeout_s=min(attempt_s, _HELLO_ATTEMPT_S)
                ),
                timeout_s=timeout_s,
                what=f"{self.task} at {self.address} to answer",
                on_failure=waiting,
            )
        except DeadlineExceededError as error:
            raise UnavailableError(
                f"no ps answers at {self.address} after {timeout_s:.0f} s; start it with `python -m ps_server "
                f"--task-index {self.task.index}` or correct its address in the cluster spec ({error.message})",
                task=str(self.task),
                retryable=False,
            ) from error
        if self._welcome.task != str(self.task):
            raise FailedPreconditionError(
                f"the process at {self.address} is {self._welcome.task}, not {self.task}; the cluster spec given here "
                f"and the one it was started with differ",
                task=str(self.task),
            )
        return self._welcome

    @property
    def welcome(self) -> Welcome:
        """What the ps answered to hello."""
        if self._welcome is None:
            raise FailedPreconditionError(
                f"not connected to {self.task} yet; call connect() first", task=str(self.task)
            )
        return self._welcome

    # -- batches ------------------------------------------------------------------------------

    def exchange(
        self, operations: Sequence[Operation], *, expected_reply_bytes: int | None = None
    ) -> tuple[Reply, ...]:
        """Has operations carried out and waits for the replies; an operation's error is a reply.

        Raises:
            DeadlineExceededError: No answer within the operation timeout; updates may or may not have been applied.
            StateLostError: The ps has been started anew without its variables.
            ShardscopeError: The batch was refused as a whole; nothing was applied.
        """
        with self._queue_lock:
            self._check_open()
            overtakes = self._pending_count > 0
        if overtakes:
            return self.submit(operations, expected_reply_bytes=expected_reply_bytes).result()
        return self._exchange_now(tuple(operations), expected_reply_bytes)

    def submit(
        self, operations: Sequence[Operation], *, expected_reply_bytes: int | None = None
    ) -> Future[tuple[Reply, ...]]:
        """Queues operations behind those submitted before; the future gives what ``exchange`` would.

        The arrays in the operations must stay unchanged until the future is done. Waits while too many batches are
        queued.

        Raises:
            ResourceExhaustedError: The queue stayed full for the operation timeout.
        """
        pending = _Pending(tuple(operations), expected_reply_bytes, Future())
        with self._queue_lock:
            self._check_open()
            self._pending_count += 1
            if self._sender is None:
                self._sender = threading.Thread(target=self._send_queued, name=f"shardscope-{self.task}", daemon=True)
                self._sender.start()
        try:
            self._queue.put(pending, timeout=self._settings.operation_timeout_s)
        except queue.Full:
            with self._queue_lock:
                self._pending_count -= 1
            raise ResourceExhaustedError(
                f"{self._settings.max_pending_batches} batches have been waiting for {self.task} at {self.address} for "
                f"{self._settings.operation_timeout_s:.0f} s; it is too slow for their rate",
                task=str(self.task),
            ) from None
        return pending.future

    def _send_queued(self) -> None:
        while (pending := self._queue.get()) is not None:
            try:
                outcome: tuple[Reply, ...] | BaseException = self._exchange_now(
                    pending.operations, pending.expected_reply_bytes
                )
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                outcome = error
            # Counted off before the future is done: whoever has waited for it may send directly again.
            with self._queue_lock:
                self._pending_count -= 1
            if isinstance(outcome, BaseException):
                pending.future.set_exception(outcome)
            else:
                pending.future.set_result(outcome)

    def _exchange_now(self, operations: tuple[Operation, ...], expected_reply_bytes: int | None) -> tuple[Reply, ...]:
        batch = Batch(self._client, self.welcome.store, 0, operations, expected_reply_bytes)
        if not batch.mutates:
            return self._attempt(batch)
        with self._order_lock:
            self._sequence += 1
            return self._attempt(
                Batch(self._client, self.welcome.store, self._sequence, operations, expected_reply_bytes)
            )

    def _attempt(self, batch: Batch) -> tuple[Reply, ...]:
        sent_bytes = sum(tensor.nbytes for operation in batch.operations for tensor in tensors_of(operation))
        return self._settings.retry.call(
            lambda attempt_s: self.service.exchange(batch, timeout_s=attempt_s).replies,
            timeout_s=self._settings.operation_timeout_s,
            what=f"{self.task} at {self.address} to answer a batch of {len(batch.operations)} operations",
            size_bytes=sent_bytes + (batch.expected_reply_bytes or 0),
        )

    # -- everything else ----------------------------------------------------------------------

    def call(self, method: Callable[[PsService, float], _T], *, what: str) -> _T:
        """Calls a method of the service that is safe to repeat, with the same bounds as an operation.

        Args:
            method: Is given the service and the seconds it may take.
            what: What is being waited for, in words.
        """
        return self._settings.retry.call(
            lambda attempt_s: method(self.service, attempt_s),
            timeout_s=self._settings.operation_timeout_s,
            what=f"{self.task} at {self.address} {what}",
        )

    def close(self) -> None:
        """Sends what is queued, says goodbye and closes the service. A ps that is gone is no error."""
        with self._queue_lock:
            if self._closed:
                return
            self._closed = True
            sender = self._sender
        if sender is not None:
            self._end_sender(sender)
        if self._welcome is not None:
            try:
                self.service.goodbye(self._client, timeout_s=_HELLO_ATTEMPT_S)
            except ShardscopeError as error:
                _LOG.debug("no goodbye to %s at %s: %s", self.task, self.address, error)
        self.service.close()

    def _end_sender(self, sender: threading.Thread) -> None:
        timeout_s = self._settings.operation_timeout_s
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            _LOG.warning(
                "%s at %s took none of the updates queued for it in %.0f s", self.task, self.address, timeout_s
            )
            return
        sender.join(timeout_s)
        if sender.is_alive():
            _LOG.warning("updates for %s at %s are still on their way after %.0f s", self.task, self.address, timeout_s)

    def _check_open(self) -> None:
        if self._closed:
            raise FailedPreconditionError(
                f"the connection to {self.task} is closed; connect again", task=str(self.task)
            )
