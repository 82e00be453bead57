"""One ps task as a client sees it: in order, exactly once, with bounded waits.

The handle stamps each mutating batch with (client incarnation, sequence), so that a batch whose reply was lost is
sent again, unchanged, without counting twice. Mutating batches leave one after the other, in the order in which they
were submitted; batches that only read may overlap with each other but never overtake an update submitted before. Those
that were queued are sent without waiting for each reply, as far as the transport can do that (``pipeline``).

A ps that goes away is waited for (``availability``). What was on its way is then sent again, unchanged and in order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from ps_protocol.checkpoints.service import PsService
from ps_protocol.cluster_spec import TaskId
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    PermissionDeniedError,
    ResourceExhaustedError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.forks import new_lock, tell_in_child
from ps_protocol.interrupts import Turn, is_interrupt, sheltered
from ps_protocol.operation_kinds import tensor_bytes
from ps_protocol.operations import Array, Batch, PsOperation, Reply, mutates
from ps_protocol.ps_service import PendingExchange
from ps_protocol.service_types import Welcome
from worker_client.connection.availability import Availability, OperationTime
from worker_client.connection.backup_reads import BackupReads
from worker_client.connection.copied import Refusal, parents_connection
from worker_client.connection.direct import MAX_DIRECT_BYTES, Question
from worker_client.connection.ending import Ending, closed_connection, given_up, tell_what_is_lost
from worker_client.connection.futures import OperationFuture, linger
from worker_client.connection.pending_queue import PendingQueue, Submission
from worker_client.connection.pipeline import BatchSender
from worker_client.connection.retry import Deadline, Reports, no_hello
from worker_client.connection.route import HELLO_TIMEOUT_S, Locate, Reconnect, Route
from worker_client.connection.settings import Settings
from worker_client.transport.endpoint import PsEndpoint

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_MARGIN_S: Final = 10.0
"""What a batch may take besides the times that are set: to find out whether the ps is away, and to be woken up."""


class PsHandle:
    """Sends batches to one ps task. Thread-safe.

    Args:
        endpoint: Where the ps is known to be; owned: ``close`` closes it.
        task: Which ps task.
        client: Incarnation of the client.
        client_task: The client's own task, as "worker:1".
        settings: Bounds on waiting.
        num_ps_tasks: How many ps tasks its cluster spec has; 0 not to ask what the ps knows of its own cluster.
        may_update: Whether batches that change something are sent; else they are refused here.
        locate: Finds other addresses of the ps; None if it is to stay where it is.
        reconnect: Makes the endpoint of one of them.
        backup: Where it may be read as well, if the client asks for that; owned.

    Attributes:
        num_changes: How many batches that change something were numbered so far.
    """

    def __init__(
        self,
        endpoint: PsEndpoint,
        *,
        task: TaskId,
        client: UUID,
        client_task: str,
        settings: Settings,
        num_ps_tasks: int = 0,
        may_update: bool = True,
        locate: Locate | None = None,
        reconnect: Reconnect | None = None,
        backup: BackupReads | None = None,
    ):
        self.task = task
        self._backup = backup
        self._client = client
        self._settings = settings
        self._may_update = may_update
        self._route = Route(
            endpoint,
            task=task,
            client=client,
            client_task=client_task,
            num_ps_tasks=num_ps_tasks,
            locate=locate,
            reconnect=reconnect,
        )
        self._availability = Availability(
            task=str(task),
            where=lambda: self.address,
            patience_s=max(settings.operation_timeout_s, settings.ps_grace_s),
            say_hello=self._route.hello_again,
            probe=self._route.probe,
            clock=settings.retry.clock,
        )
        self._welcome: Welcome | None = None
        # Whose turn it is to have mutating batches on their way, and to draw numbers from num_changes. Only the sender
        # waits for it, for at most one direct exchange; a caller that finds it taken puts its batch into the queue. No
        # lock is taken in it but the queue's, which is never held over I/O.
        self._order = Turn()
        self.num_changes = 0
        self._queue = PendingQueue(settings.max_pending_batches, settings.max_pending_bytes)
        self._sender_lock = new_lock()  # guards: the start of _sender
        self._sender: threading.Thread | None = None
        self._has_given_up = self._is_copy = False
        self._haste: Ending | None = None
        self._ended_sender: threading.Thread | None = None  # the one that a close waits for
        tell_in_child(self)

    # -- conversation -------------------------------------------------------------------------

    def connect(self, deadline: Deadline) -> Welcome:
        """Says hello, waiting for a ps that is not there yet, with a log line now and then.

        Raises:
            UnavailableError: The ps did not answer in time.
            ShardscopeError: It answered that it will not talk to this client.
        """
        reports = Reports()

        def waiting(error: ShardscopeError, so_far: Deadline) -> None:
            elapsed_s = so_far.elapsed_s()
            if reports.is_due(elapsed_s):
                _LOG.warning("%s", reports.line(self.task, self.address, elapsed_s, timeout_s, error))

        timeout_s = deadline.remaining_s()
        try:
            self._welcome = self._settings.retry.call(
                lambda attempt_s: sheltered(self._route.hello, attempt_s),
                timeout_s=timeout_s,
                what=f"{self.task} at {self.address} to answer",
                on_failure=waiting,
            )
        except DeadlineExceededError as error:
            if is_interrupt(error):
                raise
            message = no_hello(self.task, self.address, timeout_s, error.last_failure)
            raise UnavailableError(message, task=str(self.task), retryable=False) from None
        if self._welcome.task != str(self.task):
            raise FailedPreconditionError(
                f"the process at {self.address} is {self._welcome.task}, not {self.task}; the cluster spec given here "
                f"and the one it was started with differ: give the ps tasks in the same order everywhere",
                task=str(self.task),
            )
        if self._backup is not None:
            sheltered(self._backup.start, lambda: self.address)
        return self._welcome

    def look(self) -> None:
        """Finds out whether the ps is where it was, and if not goes where it is; does not wait for one that is away."""
        if self._welcome is not None:
            self._availability.look()

    @property
    def endpoint(self) -> PsEndpoint:
        """Where the ps is called now."""
        return self._route.endpoint

    @property
    def service(self) -> PsService:
        """What is called there, besides batches."""
        self.check_not_copy()
        return self._route.endpoint.service

    @property
    def address(self) -> str:
        """Where it is, as "host:port"."""
        return self._route.endpoint.address

    @property
    def state(self) -> str:
        """Whether it answers, as far as is known without asking."""
        if self._queue.is_closed:
            return "closed"
        return f"away for {self._availability.away_s:.0f} s" if self._availability.is_away else "connected"

    @property
    def welcome(self) -> Welcome:
        """What the ps answered to hello."""
        if self._welcome is None:
            self.check_not_copy()
            raise FailedPreconditionError(
                f"not connected to {self.task} yet; call connect() first", task=str(self.task)
            )
        return self._welcome

    # -- batches ------------------------------------------------------------------------------

    def exchange(
        self, operations: Sequence[PsOperation], *, expected_reply_bytes: int | None = None
    ) -> tuple[Reply, ...]:
        """Has operations carried out and waits for the replies; an operation's error is a reply.

        Raises:
            DeadlineExceededError: No answer within the operation timeout, or the ps was away for longer than its grace;
                updates may or may not have been applied.
            StateLostError: The ps was restarted without its variables.
            PermissionDeniedError: It changes something, and this client only looks on; nothing was sent.
            ShardscopeError: The batch was refused as a whole; nothing was applied.
        """
        if self._queue.is_closed:
            raise self._closed(operations)
        operations = tuple(operations)
        self.check_may_update(operations)
        if not self._queue.num_unfinished:  # nothing is overtaken
            if not mutates(operations):
                return self._read(self._batch(operations, expected_reply_bytes, sequence=0))
            in_turn = threading.Lock()
            with in_turn:  # and nothing else ends the turn, so that an interrupt does as well
                if self._order.take(in_turn):
                    return self._attempt(self._numbered(operations, expected_reply_bytes))
        if threading.current_thread() is self._sender:
            raise FailedPreconditionError(
                "a callback of a future runs on the thread that sends, and may not wait for it; use wait=False there",
                task=str(self.task),
            )
        caller, future = threading.Lock(), None
        try:
            with caller:  # what is still queued when this is left, by an interrupt say, is not sent
                future = self.submit(operations, expected_reply_bytes=expected_reply_bytes, caller=caller)
                self.wait_for(future)
                return future.result(0)
        except BaseException as error:
            linger(error, future)
            raise

    def ask(self, *questions: PsOperation, expected_reply_bytes: int = 0) -> tuple[Reply, ...]:
        """Asks what changes nothing, beside what is queued, and never a backup; errors as of ``exchange``."""
        if not self._queue.is_closed:
            return self._attempt(self._batch(questions, expected_reply_bytes, sequence=0))
        raise self._closed(questions)

    def reserve(
        self, operations: tuple[PsOperation, ...], caller: threading.Lock, *, expected_reply_bytes: int
    ) -> Question | None:
        """Takes what a small batch needs to be sent at once, for as long as the caller holds that lock.

        Returns:
            None if it would overtake what is queued, is too large, or if no line to the ps is free.

        Raises:
            PermissionDeniedError: The operations change something, and this client only looks on.
        """
        self.check_may_update(operations)
        size_bytes = tensor_bytes(operations) + expected_reply_bytes
        if size_bytes > MAX_DIRECT_BYTES or self._queue.is_closed or self._queue.num_unfinished:
            return None
        if self._availability.is_away or (mutates(operations) and not self._order.take(caller)):
            return None
        retry, repeat, backup = self._settings.retry, self._repeat, None
        timeout_s = min(self._settings.operation_timeout_s, retry.attempt_s(size_bytes))
        if self._backup is not None and not mutates(operations):
            backup = self._backup.turn(expected_reply_bytes, is_needed=False)
            if backup is not None:
                timeout_s = self._backup.timeout_s(expected_reply_bytes, timeout_s)
                repeat = partial(self._read_after, partial(self._backup.failed, backup))
        line = (backup or self._route.endpoint).transport.line(caller, timeout_s=timeout_s)
        if line is None:
            return None
        return Question(
            line,
            lambda: self._numbered(operations, expected_reply_bytes),
            timeout_s=timeout_s,
            repeat=repeat,
            end_turn=lambda: self._order.end(caller),
            clock=retry.clock,
        )

    def _repeat(self, batch: Batch, failure: ShardscopeError, *, after_s: float) -> tuple[Reply, ...]:
        if not self._settings.retry.is_worth_repeating(failure):
            raise failure
        return self._attempt(batch, timeout_s=max(0.0, self._settings.operation_timeout_s - after_s), failure=failure)

    def _read(self, batch: Batch, timeout_s: float | None = None) -> tuple[Reply, ...]:
        """Exchanges a batch that only reads: with the backup if that is asked for and its turn, else with the ps."""
        if self._backup is not None:
            deadline = Deadline(timeout_s or self._settings.operation_timeout_s, self._settings.retry.clock)
            replies = self._backup.answer(batch, timeout_s=deadline.timeout_s, is_needed=self._availability.is_away)
            if replies is not None:
                return replies
            timeout_s = deadline.remaining_s()
        return self._attempt(batch, timeout_s=timeout_s)

    def _read_after(
        self, note: Callable[[ShardscopeError], None], batch: Batch, failure: ShardscopeError, *, after_s: float
    ) -> tuple[Reply, ...]:
        note(failure)
        return self._attempt(batch, timeout_s=max(0.0, self._settings.operation_timeout_s - after_s))

    def submit(
        self,
        operations: Sequence[PsOperation],
        *,
        expected_reply_bytes: int | None = None,
        caller: threading.Lock | None = None,
    ) -> OperationFuture[tuple[Reply, ...]]:
        """Queues operations behind those submitted before; the future gives what ``exchange`` would.

        The arrays in the operations must stay unchanged until the future is done. Waits while too many batches, or too
        many bytes, are queued.

        Args:
            operations: What to send.
            expected_reply_bytes: Size of the tensors in the reply, None if not known.
            caller: Held by a caller that waits for the future, and freed when it waits no longer: what is still queued
                then is not sent.

        Raises:
            PermissionDeniedError: The operations change something, and this client only looks on.
            ResourceExhaustedError: The queue stayed full for the operation timeout.
        """
        self.check_may_update(operations)
        pending = Submission(tuple(operations), expected_reply_bytes, caller)
        self._ensure_sender()
        waited = Deadline(0.0, self._settings.retry.clock)
        is_in = self._queue.put(pending, timeout_s=self._settings.operation_timeout_s)
        if not is_in and self._availability.is_away:
            is_in = self._queue.put(pending, timeout_s=self._availability.remaining_s)
        if is_in:
            return pending.future
        if self._queue.is_closed:
            raise self._closed(pending.operations)
        raise ResourceExhaustedError(
            f"{self._queue.num_unfinished} batches have been waiting for {self.task} at {self.address} for "
            f"{waited.elapsed_s():.0f} s, which leaves no room for {pending.size_bytes} bytes more; the "
            f"ps is too slow for them: wait for some of the futures, or send less",
            task=str(self.task),
        )

    def wait_for(self, future: OperationFuture[Any]) -> None:
        """Waits until what ``submit`` returned is settled.

        What is queued before it may take any time, but one batch takes no longer than the operation timeout and the
        grace together.

        Raises:
            DeadlineExceededError: In that time no batch was settled.
        """
        longest_s = self._settings.operation_timeout_s + self._availability.patience_s + _MARGIN_S
        num_finished = -1
        while not future.wait(longest_s):
            before, num_finished = num_finished, self._queue.num_finished
            if num_finished == before:
                raise DeadlineExceededError(
                    f"nothing that is queued for {self.task} at {self.address} was answered in {longest_s:.0f} s; "
                    f"updates may or may not have been applied: connect again",
                    task=str(self.task),
                )

    def check_may_update(self, operations: Sequence[PsOperation]) -> None:
        """Raises PermissionDeniedError if any operation changes something, and this client only looks on."""
        if self._may_update:
            return
        for each in operations:
            if mutates((each,)):
                raise PermissionDeniedError(
                    f"variable {each.name} was not changed: this connection is an observer, which only reads; connect "
                    f'with observer="update" to change variables, or as a worker',
                    variable=each.name,
                    task=str(self.task),
                )

    def _ensure_sender(self) -> None:
        if self._sender is None:
            sheltered(self._start_sender)

    def _start_sender(self) -> None:
        with self._sender_lock:
            if self._sender is None and not self._queue.is_closed:
                sender = threading.Thread(target=self._new_sender().run, name=f"shardscope-{self.task}", daemon=True)
                sender.start()
                self._sender = sender

    def _new_sender(self) -> BatchSender:
        return BatchSender(
            self._queue,
            number=lambda parcel: self._numbered(parcel.operations, parcel.expected_reply_bytes),
            attempt=self._attempt_queued,
            begin=self._begin,
            order=self._order,
            limits=self._settings.window,
            retry=self._settings.retry,
            timeout_s=self._settings.operation_timeout_s,
        )

    def _begin(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None:
        try:
            self._availability.require()
            return self._route.endpoint.transport.begin(batch, timeout_s=timeout_s)
        except Exception:
            self._check_not_given_up()
            raise

    def _attempt_queued(self, batch: Batch, *, timeout_s: float, failure: ShardscopeError | None) -> tuple[Reply, ...]:
        try:
            if failure is None and not batch.sequence:  # whose turn it is with none before it on its way
                return self._read(batch, timeout_s)
            return self._attempt(batch, timeout_s=timeout_s, failure=failure)
        except Exception:
            self._check_not_given_up()
            raise

    def _check_not_given_up(self) -> None:
        """Raises CancelledError if a batch on its way has failed because ``close`` has given it up."""
        if self._has_given_up:
            raise given_up(str(self.task), self.address) from None

    def _numbered(self, operations: tuple[PsOperation, ...], expected_reply_bytes: int | None) -> Batch:
        """Makes a batch, with the next number if it mutates; it is the caller's turn for that."""
        changes = mutates(operations)
        self.num_changes += changes
        return self._batch(operations, expected_reply_bytes, sequence=self.num_changes if changes else 0)

    def _batch(self, operations: tuple[PsOperation, ...], expected_reply_bytes: int | None, *, sequence: int) -> Batch:
        return Batch(self._client, self.welcome.store, sequence, operations, expected_reply_bytes)

    def _attempt(
        self, batch: Batch, *, timeout_s: float | None = None, failure: ShardscopeError | None = None
    ) -> tuple[Reply, ...]:
        """Exchanges a batch, with retries; ``failure`` is how a first try that was made already has ended."""
        retry, route = self._settings.retry, self._route
        timeout_s = self._settings.operation_timeout_s if timeout_s is None else timeout_s
        size_bytes = tensor_bytes(batch.operations) + (batch.expected_reply_bytes or 0)
        if failure is None and not self._availability.is_away:  # what nearly always is all there is to do
            started_s = retry.clock()
            try:
                attempt_s = min(timeout_s, retry.attempt_s(size_bytes))
                return route.endpoint.transport.exchange(batch, timeout_s=attempt_s).replies
            except ShardscopeError as error:
                if not retry.is_worth_repeating(error):
                    raise
                failure = error
                timeout_s = max(0.0, timeout_s - (retry.clock() - started_s))
        return self._persist(
            lambda attempt_s: route.endpoint.transport.exchange(batch, timeout_s=attempt_s).replies,
            timeout_s=timeout_s,
            what=lambda: f"{self.task} at {self.address} to answer a batch of {len(batch.operations)} operations",
            size_bytes=size_bytes,
            failure=failure,
        )

    def _persist(
        self,
        attempt: Callable[[float], _T],
        *,
        timeout_s: float,
        what: Callable[[], str],
        size_bytes: int = 0,
        failure: ShardscopeError | None = None,
    ) -> _T:
        """Tries with retries, and waits for a ps that is away: ``RetryPolicy.call``."""
        retry = self._settings.retry

        def attempt_there(attempt_s: float) -> _T:
            self._availability.require()
            return attempt(attempt_s)

        try:
            return retry.call(
                attempt_there,
                timeout_s=timeout_s,
                what=what,
                size_bytes=size_bytes,
                failure=failure,
                extend=OperationTime(self._availability, self._settings.operation_timeout_s).extend,
            )
        except DeadlineExceededError as error:
            if not self._availability.is_away or is_interrupt(error):
                raise
            raise self._availability.waited_in_vain(error) from None

    # -- everything else ----------------------------------------------------------------------

    def new_buffer(self, size_bytes: int) -> Array | None:
        """Memory that is shared with the ps, as a uint8 array, or None if there is none; ``Transport.new_buffer``."""
        return self._route.endpoint.transport.new_buffer(size_bytes, timeout_s=self._settings.operation_timeout_s)

    def call(self, method: Callable[[PsService, float], _T], *, what: str, size_bytes: int = 0) -> _T:
        """Calls a method of the service that is safe to repeat, with the same bounds as an operation.

        Args:
            method: Is given the service and the seconds it may take.
            what: What is being waited for, in words.
            size_bytes: Bytes that the ps has to move for it, for which it gets more time.

        Raises:
            FailedPreconditionError: The connection is closed.
        """
        self.check_not_copy()
        if self._queue.is_closed:
            raise self._closed()
        return self._persist(
            lambda attempt_s: method(self.service, attempt_s),
            timeout_s=self._settings.operation_timeout_s + size_bytes / self._settings.retry.bytes_per_s,
            size_bytes=size_bytes,
            what=lambda: f"{self.task} at {self.address} {what}",
        )

    def close(self, ending: Ending | None = None) -> None:
        """Sends what is queued, says goodbye and closes the endpoint. A ps that is gone is no error.

        An interrupt ends only the wait for that; a daemon thread does the rest.

        Args:
            ending: How long that may take; without it, what is queued is waited for as long as an operation is.
        """
        sheltered(self._close, ending)

    def hurry(self, ending: Ending | None) -> None:
        """Has a ``close`` that was interrupted end in the time that ``ending`` has; closes what was not yet."""
        self._haste = ending
        sheltered(self._end_soon, ending)

    def _end_soon(self, ending: Ending | None) -> None:
        self._close(ending)
        sender = self._ended_sender
        if sender is not None:
            self._end(sender, ending)

    def _close(self, ending: Ending | None) -> None:
        if not self._queue.close():
            return
        with self._sender_lock:
            sender, self._sender = self._sender, None  # a thread has finalizers, which are not for the main thread
            self._ended_sender = sender
        if sender is not None:
            self._end(sender, self._haste or ending)
        self._ended_sender = None
        del sender
        if self._backup is not None:
            self._backup.close()
        if self._welcome is not None:
            timeout_s = HELLO_TIMEOUT_S if ending is None else ending.at_most(HELLO_TIMEOUT_S)
            try:
                self._route.endpoint.goodbye(self._client, timeout_s=timeout_s)
            except ShardscopeError as error:
                _LOG.debug("no goodbye to %s at %s: %s", self.task, self.address, error)
        self._route.close()

    def _end(self, sender: threading.Thread, ending: Ending | None) -> None:
        """Waits until all that is queued has been sent: for the operation timeout, or as long as the ps is away."""
        waited = Deadline(0.0, self._settings.retry.clock)
        try:
            if ending is not None:
                ending.join(sender, is_away=lambda: self._availability.is_away)
            else:
                sender.join(self._settings.operation_timeout_s)
                if sender.is_alive() and self._availability.is_away:
                    sender.join(self._availability.remaining_s)
        finally:
            # After Ctrl-C in join() the thread may call itself ended, although it is not (Python 3.11).
            if self._queue.num_unfinished:
                self._give_up(waited)

    def _give_up(self, waited: Deadline) -> None:
        """Says what is not waited for any longer, and has the thread that sends it end soon."""
        if self._has_given_up:
            return
        abandoned = self._queue.abandon()
        on_their_way = self._queue.unfinished()
        self._has_given_up = True
        self._availability.give_up()
        tell_what_is_lost(abandoned, on_their_way, str(self.task), self.address, waited.elapsed_s())

    def check_not_copy(self) -> None:
        """Raises FailedPreconditionError in a child that was forked after this was made."""
        if self._is_copy:
            raise parents_connection(str(self.task))

    def become_copy(self) -> None:
        """In a forked child: refuses all from now on, and leaves to the parent what is the parent's."""
        self._is_copy = True
        self._welcome = None
        self._sender = None
        self._queue.close()
        for each in [*self._queue.unfinished(), *self._queue.abandon()]:
            each.future.become_copy(self._closed(each.operations))
        if self._backup is not None:
            self._backup.become_copy()
        refusal: Any = Refusal(self._closed)
        self._route.become_copy(PsEndpoint(refusal, refusal, address=self.address))

    def _closed(self, operations: Sequence[PsOperation] = ()) -> FailedPreconditionError:
        variable = operations[0].name if operations else ""
        return (parents_connection if self._is_copy else closed_connection)(str(self.task), variable=variable)
