"""Remembers which mutating batches were applied, and their answers, so that one sent twice counts once.

Each client (one incarnation of a process) numbers its mutating batches 1, 2, 3, ...; the ledger lets them through one
at a time, in the order of their numbers, and never twice:

- a number above all before it is new: it is applied when those that came before it are done;
- one that is being applied or remembered is a duplicate: it gets the first one's answer, when there is one;
- one below the newest that was not seen has been overtaken (the client gave it up and went on): it is refused;
- one from before the window of remembered answers is refused too. Neither is ever applied.

There are bounds on answers per client, bytes of tensors in answers over all clients, clients, and incarnations of
clients that have gone. The answer to a client's newest batch is kept longest. Giving up an answer never makes a batch
apply twice.

Locks, in the order in which they may be taken: the table lock, then one client's lock.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
)
from ps_protocol.operations import BatchReply
from ps_server.batches.remembered_answers import (
    FORGOTTEN,
    Answer,
    ClientImage,
    Forgotten,
    independent_copy,
    kept_answer,
    tensor_bytes,
    without_frames,
)

GOODBYE = "has said goodbye"
"""The reason kept for a client that has ended in good order."""

UNUSED = "has sent no batch, and made room for another client"
"""The reason of a client that was forgotten before its first batch. It is known again when that comes: nothing of it
has been applied, so its numbers start from nothing."""


@dataclass(frozen=True, slots=True)
class LedgerLimits:
    """What the ledger may remember.

    Attributes:
        answers_per_client: Newest answers kept for each client.
        tensor_bytes: Bytes of tensors in remembered answers, over all clients; the newest answer that has tensors is
            kept even if it alone is larger.
        clients: Clients known at a time.
        idle_after_s: Seconds without a batch after which a client may be forgotten to make room for another.
        reader_idle_after_s: The same of a client that has changed nothing, if that is less.
        unused_after_s: Seconds after which a client is forgotten first that has sent no batch at all.
        departed: Incarnations of clients that have gone; they are remembered so that they cannot come back.
        waiting_per_client: Batches of one client that may wait for their turn.
    """

    answers_per_client: int = 128
    tensor_bytes: int = 256 * 1024**2
    clients: int = 10_000
    idle_after_s: float = 900.0
    reader_idle_after_s: float = 60.0
    unused_after_s: float = 5.0
    departed: int = 65_536
    waiting_per_client: int = 32


class _Client:
    """What is known of one client."""

    __slots__ = (
        "answers",
        "changed",
        "checksums",
        "executing",
        "forgotten_up_to",
        "gone",
        "has_sent",
        "last_active_s",
        "lock",
        "newest",
        "recalling",
        "task",
        "tensor_bytes",
        "waiting",
    )

    def __init__(self, task: str, now_s: float):
        self.task = task
        self.last_active_s = now_s  # a plain number: written without the lock
        self.has_sent = False  # whether a batch has come; changed under the ledger's table lock
        # guards: all below
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.answers: OrderedDict[int, Answer] = OrderedDict()  # by sequence, ascending
        self.checksums: dict[int, int] = {}  # of the batches answered or being applied, by sequence, as far as known
        self.newest = 0  # highest sequence that has been let through
        self.executing = 0  # the sequence being applied, 0 if none
        self.waiting: list[int] = []  # sequences whose turn has not come; few
        self.recalling = 0  # callers of recall that wait
        self.forgotten_up_to = 0  # answers up to here have left the window
        self.tensor_bytes = 0  # of the answers
        self.gone = False

    @property
    def is_busy(self) -> bool:
        return bool(self.executing or self.waiting)


class UpdateLedger:
    """Applies each mutating batch once. Thread-safe.

    Args:
        limits: What may be remembered.
        note_gone: Called with each client that is forgotten to make room for another, and why. The table lock is held
            then, as for the next one.
        note_back: Called with each client, and its task, that comes back since it had been forgotten unused.
    """

    def __init__(
        self,
        limits: LedgerLimits | None = None,
        note_gone: Callable[[UUID, str], object] = lambda _client, _reason: None,
        note_back: Callable[[UUID, str], object] = lambda _client, _task: None,
    ):
        self._limits = LedgerLimits() if limits is None else limits
        self._note_gone = note_gone
        self._note_back = note_back
        # guards: all below. A single look-up of a client is atomic and done without it.
        self._table_lock = threading.Lock()
        self._clients: dict[UUID, _Client] = {}
        self._unused: OrderedDict[UUID, None] = OrderedDict()  # those that have sent no batch, in the order of hello
        self._forgotten: OrderedDict[UUID, str] = OrderedDict()  # those forgotten unused, and their tasks
        self._departed: OrderedDict[UUID, str] = OrderedDict()
        self._tensor_bytes = 0
        self._num_duplicates = 0

    # -- clients ------------------------------------------------------------------------------

    def hello(self, client: UUID, task: str, now_s: float) -> bool:
        """Makes a client known; one that is known already keeps its numbers and answers. Returns whether it is new.

        Raises:
            FailedPreconditionError: This incarnation has said goodbye or was forgotten: its numbers are not known any
                more, so that it cannot be taken up again safely.
            ResourceExhaustedError: Too many clients are active.
        """
        with self._table_lock:
            known = self._clients.get(client)
            if known is not None:
                known.task, known.last_active_s = task, now_s
                if client in self._unused:
                    self._unused.move_to_end(client)
                return False
            if client in self._departed:
                raise self._unknown(client)
            while len(self._clients) >= self._limits.clients:
                self._make_room(now_s)
            self._forgotten.pop(client, None)
            self._clients[client] = _Client(task, now_s)
            self._unused[client] = None
            return True

    def goodbye(self, client: UUID) -> bool:
        """Forgets a client for good; batches of it that wait for their turn are refused. Safe to repeat.

        Returns:
            Whether it was known.
        """
        with self._table_lock:
            if client not in self._clients:
                self._forgotten.pop(client, None)
                return False
            self._remove(client, GOODBYE)
            return True

    def check_known(self, client: UUID, now_s: float) -> None:
        """Makes sure that a client has said hello, and notes that it is active; FailedPreconditionError if not."""
        self._used(client, now_s).last_active_s = now_s

    def check_joined(self, client: UUID) -> None:
        """Makes sure that a client has said hello, and notes nothing, as ``check_known`` otherwise."""
        self._find(client)

    def restart_idle_times(self, now_s: float) -> None:
        """Counts all clients as active now: what they did before the task was started is not known."""
        for record in list(self._clients.values()):
            record.last_active_s = now_s

    @property
    def num_clients(self) -> int:
        return len(self._clients)

    @property
    def num_duplicates(self) -> int:
        """How many batches were answered from memory."""
        return self._num_duplicates

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the tensors in the answers remembered."""
        return self._tensor_bytes

    # -- batches ------------------------------------------------------------------------------

    def apply_once(
        self,
        client: UUID,
        sequence: int,
        apply: Callable[[], BatchReply],
        *,
        timeout_s: float,
        now_s: float,
        checksum: int = 0,
    ) -> BatchReply:
        """Returns what ``apply`` returned for this number, now or the first time.

        Args:
            client: Who numbered the batch.
            sequence: Its number, from 1.
            apply: Applies the batch. What it raises is remembered as the answer, since part may have been applied.
            timeout_s: How long to wait for the batches before this one, or for the first of its kind.
            now_s: The time, on the clock of ``hello``.
            checksum: Of the batch, 0 if it has none.

        Raises:
            FailedPreconditionError: The client is unknown, or the number was overtaken or forgotten; not applied now.
            ResourceExhaustedError: Too many batches of the client wait for their turn; not applied.
            DeadlineExceededError: Time ran out waiting; not applied by this call.
            InvalidArgumentError: The number is not positive, or is that of another batch.
        """
        if sequence < 1:
            raise InvalidArgumentError(f"a batch that changes variables has the sequence {sequence}; number from 1")
        record = self._used(client, now_s)
        record.last_active_s = now_s
        with record.lock:
            if record.executing or record.waiting or record.gone or sequence <= record.newest:
                answer = self._await_turn(client, record, sequence, timeout_s)
            else:
                answer = None
                record.executing = record.newest = sequence
            if answer is not None:
                _check_same(record, sequence, checksum)
            elif checksum:
                record.checksums[sequence] = checksum
        if answer is not None:
            return self._answer_again(answer, client, sequence)
        return self._apply(record, sequence, apply)

    def recall(self, client: UUID, sequence: int, *, timeout_s: float, checksum: int = 0) -> BatchReply | None:
        """Returns the answer to a batch that was let through before, waiting for it if need be; None for a new one.

        Raises:
            FailedPreconditionError: The client is unknown, or the answer was forgotten.
            DeadlineExceededError: Time ran out waiting.
            InvalidArgumentError: The number is that of another batch.
        """
        record = self._find(client)
        with record.lock:
            record.recalling += 1
            try:
                in_time = record.changed.wait_for(lambda: record.executing != sequence, timeout_s)
            finally:
                record.recalling -= 1
            answer = record.answers.get(sequence)
            if answer is not None:
                _check_same(record, sequence, checksum)
        if not in_time:
            raise _still_applying(sequence, timeout_s)
        return None if answer is None else self._answer_again(answer, client, sequence)

    def _await_turn(self, client: UUID, record: _Client, sequence: int, timeout_s: float) -> Answer | None:
        """With the client's lock held: waits until a number is answered, or may be applied (None)."""
        if sequence not in record.answers and len(record.waiting) >= self._limits.waiting_per_client:
            raise ResourceExhaustedError(
                f"{len(record.waiting)} batches of this client ({record.task}) wait for their turn already; send fewer "
                f"at a time",
                retry_after_s=0.1,
            )
        record.waiting.append(sequence)
        try:
            in_time = record.changed.wait_for(lambda: record.gone or _is_decided(record, sequence), timeout_s)
            if not in_time:
                raise _still_applying(record.executing or min(record.waiting), timeout_s)
            answer = record.answers.get(sequence)
            if answer is None:
                self._check_new(client, record, sequence)
                record.executing = record.newest = sequence
            return answer
        finally:
            record.waiting.remove(sequence)
            if record.waiting:
                record.changed.notify_all()

    def _check_new(self, client: UUID, record: _Client, sequence: int) -> None:
        if record.gone:
            raise self._unknown(client)
        if sequence <= record.forgotten_up_to:
            raise FailedPreconditionError(
                f"batch {sequence} of this client ({record.task}) is older than the last "
                f"{self._limits.answers_per_client} answers that are remembered; it was answered long ago or given up, "
                f"and is not applied now"
            )
        if sequence <= record.newest:
            raise FailedPreconditionError(
                f"batch {sequence} of this client ({record.task}) was overtaken by batch {record.newest}; it was not "
                f"applied and will not be: send its operations in a new batch if they are still meant"
            )

    def _apply(self, record: _Client, sequence: int, apply: Callable[[], BatchReply]) -> BatchReply:
        answer: Answer | None = None
        try:
            reply = apply()
            answer = kept_answer(reply)
        except ShardscopeError as error:
            answer = without_frames(error)
            raise
        finally:
            self._remember(record, sequence, _interrupted(sequence) if answer is None else answer)
        return reply

    def _remember(self, record: _Client, sequence: int, answer: Answer) -> None:
        with record.lock:
            bytes_before = record.tensor_bytes
            record.answers[sequence] = answer
            record.tensor_bytes += tensor_bytes(answer)
            if len(record.answers) > self._limits.answers_per_client:
                record.forgotten_up_to, dropped = record.answers.popitem(last=False)
                record.checksums.pop(record.forgotten_up_to, None)
                if record.tensor_bytes:
                    record.tensor_bytes -= tensor_bytes(dropped)
            record.executing = 0
            # The bytes of a client that is gone were subtracted already.
            added_bytes = 0 if record.gone else record.tensor_bytes - bytes_before
            if record.waiting or record.recalling:
                record.changed.notify_all()
        if added_bytes:
            with self._table_lock:
                self._tensor_bytes += added_bytes
                self._shed_tensors(record)

    def _shed_tensors(self, newest: _Client) -> None:
        """With the table lock held: gives up answers with tensors, of the clients idle longest first."""
        for record in sorted(self._clients.values(), key=lambda each: each.last_active_s):
            if self._tensor_bytes <= self._limits.tensor_bytes:
                return
            if record.tensor_bytes:
                with record.lock:
                    self._tensor_bytes -= _give_up_tensors(record, keep_newest=record is newest)

    def _answer_again(self, answer: Answer, client: UUID, sequence: int) -> BatchReply:
        if isinstance(answer, Forgotten):
            raise FailedPreconditionError(
                f"batch {sequence} of the client {client} was applied, but the tensors of its answer are no longer "
                f"remembered; read the variables again"
            )
        with self._table_lock:
            self._num_duplicates += 1
        if isinstance(answer, ShardscopeError):
            raise without_frames(answer)
        return independent_copy(answer)

    # -- images -------------------------------------------------------------------------------

    def images(self) -> tuple[ClientImage, ...]:
        """What is remembered of each client; called while no batch is being applied."""
        with self._table_lock:
            return tuple(
                ClientImage(
                    client,
                    record.task,
                    record.newest,
                    record.forgotten_up_to,
                    tuple(record.answers.items()),
                    dict(record.checksums),
                )
                for client, record in self._clients.items()
            )

    def departures(self) -> tuple[tuple[UUID, str], ...]:
        """The clients that have gone and why, oldest first."""
        with self._table_lock:
            return tuple(self._departed.items())

    def restore_client(self, image: ClientImage, now_s: float) -> None:
        """Makes a client known from an image. This and the other ``restore_*`` come before the ledger is used."""
        record = self._clients[image.client] = _Client(image.task, now_s)
        record.newest, record.forgotten_up_to = image.newest, image.forgotten_up_to
        if image.newest:
            record.has_sent = True
        else:
            self._unused[image.client] = None
        record.answers.update(image.answers)
        record.checksums.update(image.checksums)
        record.tensor_bytes = sum(tensor_bytes(answer) for _, answer in image.answers)
        self._tensor_bytes += record.tensor_bytes

    def restore_answer(self, client: UUID, sequence: int, reply: BatchReply, checksum: int = 0) -> None:
        """Remembers the answer to a batch that was applied before a restart, and its checksum if it has one.

        Raises:
            FailedPreconditionError: The client is not known.
        """
        record = self._find(client)
        with self._table_lock:
            record.has_sent = True
            self._unused.pop(client, None)
        record.newest = max(record.newest, sequence)
        if checksum:
            record.checksums[sequence] = checksum
        self._remember(record, sequence, kept_answer(reply))

    def restore_departure(self, client: UUID, reason: str) -> None:
        """Forgets a client, known or not, for good."""
        with self._table_lock:
            if client in self._clients:
                self._remove(client, reason)
            elif reason != UNUSED:
                self._departed[client] = reason

    # -- comings and goings -------------------------------------------------------------------

    def _find(self, client: UUID) -> _Client:
        record = self._clients.get(client)
        if record is None:
            raise self._unknown(client)
        return record

    def _unknown(self, client: UUID) -> FailedPreconditionError:
        reason = self._departed.get(client)
        if reason is None:
            return FailedPreconditionError(
                f"the client {client} has not said hello here; connect again before sending batches"
            )
        return FailedPreconditionError(
            f"the client {client} {reason} and is not known any more; connect again, as a new client"
        )

    def _used(self, client: UUID, now_s: float) -> _Client:
        """Returns what is known of a client, from which a batch has come."""
        record = self._clients.get(client)
        if record is None or not record.has_sent:
            with self._table_lock:
                record = self._clients.get(client) or self._taken_back(client, now_s)
                record.has_sent = True
                self._unused.pop(client, None)
        return record

    def _taken_back(self, client: UUID, now_s: float) -> _Client:
        """With the table lock held: makes a client known again that was forgotten before its first batch."""
        if client not in self._forgotten:
            raise self._unknown(client)
        while len(self._clients) >= self._limits.clients:
            self._make_room(now_s)
        record = self._clients[client] = _Client(self._forgotten.pop(client), now_s)
        self._note_back(client, record.task)
        return record

    def _make_room(self, now_s: float) -> None:
        """With the table lock held: forgets a client, of those that have sent no batch the one that came first."""
        first = next(iter(self._unused), None)
        if first is not None and now_s - self._clients[first].last_active_s >= self._limits.unused_after_s:
            self._forget(first, UNUSED)
            return
        readers_s = min(self._limits.idle_after_s, self._limits.reader_idle_after_s)
        for client, record in sorted(self._clients.items(), key=lambda item: item[1].last_active_s):
            idle_s = now_s - record.last_active_s
            if idle_s < readers_s:
                break
            if not record.is_busy and idle_s >= (self._limits.idle_after_s if record.newest else readers_s):
                self._forget(client, f"was idle for {idle_s:.0f} s")
                return
        raise ResourceExhaustedError(
            f"{len(self._clients)} clients are connected, as many as may be, and none has been idle for "
            f"{self._limits.idle_after_s:.0f} s; end some, or try again later",
            retry_after_s=1.0,
        )

    def _forget(self, client: UUID, reason: str) -> None:
        """With the table lock held."""
        self._remove(client, reason)
        self._note_gone(client, reason)

    def _remove(self, client: UUID, reason: str) -> None:
        """With the table lock held."""
        record = self._clients.pop(client)
        self._unused.pop(client, None)
        with record.lock:
            record.gone = True
            self._tensor_bytes -= record.tensor_bytes
            record.changed.notify_all()
        # Each has a table of its own, so that a flood of the one kind does not push the other out.
        gone, what = (self._forgotten, record.task) if reason == UNUSED else (self._departed, reason)
        gone[client] = what
        if len(gone) > self._limits.departed:
            gone.popitem(last=False)


def _is_decided(record: _Client, sequence: int) -> bool:
    """Whether a number is answered, or to be refused, or next in turn."""
    if sequence <= record.newest:
        return sequence != record.executing
    return not record.executing and sequence == min(record.waiting)


def _check_same(record: _Client, sequence: int, checksum: int) -> None:
    """With the client's lock held: makes sure that a batch is the one that its number was used for."""
    known = record.checksums.get(sequence, 0)
    if known and checksum and known != checksum:
        raise InvalidArgumentError(
            f"the sequence {sequence} of this client ({record.task}) was used before, for another batch; a batch is "
            f"sent again unchanged, and a new one has a new number. Nothing was applied now; do two processes use one "
            f"incarnation?"
        )


def _interrupted(sequence: int) -> FailedPreconditionError:
    """The answer to a batch that ended without one, by KeyboardInterrupt say: a part of it may have been applied."""
    return FailedPreconditionError(
        f"batch {sequence} was interrupted while it was applied; read the variables to see what it changed"
    )


def _still_applying(sequence: int, timeout_s: float) -> DeadlineExceededError:
    return DeadlineExceededError(
        f"batch {sequence} of the same client was still being applied after {timeout_s:.1f} s; send this one again"
    )


def _give_up_tensors(record: _Client, *, keep_newest: bool) -> int:
    """Returns the bytes given up."""
    given_up = 0
    for sequence, answer in record.answers.items():
        if size_bytes := tensor_bytes(answer):
            if keep_newest and sequence == next(reversed(record.answers)):
                break
            record.answers[sequence] = FORGOTTEN
            given_up += size_bytes
    record.tensor_bytes -= given_up
    return given_up
