"""The order of everything that changes a ps task, and the wait until it is safe.

A thread that changes the state appends a record while it still holds the locks of what it changed, so positions are the
order of effects. Then, holding nothing, it waits until the record is committed: until every sink (the journal on disk,
the backup task) has it. One thread at a time *leads*: it hands the records to the sinks, all that have gathered at
once. So one fsync serves every client that waits (group commit; J. Gray and A. Reuter, "Transaction Processing", 1993,
9.4.7). If all sinks are quick, a thread that would only wait for its record leads itself: to wake another thread, and
to be woken by it, takes longer than to hand over a small record. The log's own thread leads for other sinks, while
records come from many threads at once, and when nobody waits.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, Self

from ps_protocol.errors import DeadlineExceededError, ResourceExhaustedError, UnavailableError
from ps_server.log.one_shot_event import OneShotEvent
from ps_server.log.records import LoggedRecord, Record

_LOG = logging.getLogger(__name__)
_RETRY_PAUSE_S: Final = 0.5
_LOOK_AGAIN_S: Final = 60.0
_LEADS_FROM_S: Final = 5.0
"""With less time a caller does not lead: a sink may keep the thread that leads for longer than that."""

_ANSWER_S: Final = 0.1
"""So much before a caller's time is over it is told what it has waited for in vain; later nobody would hear it."""


class SinkUnavailableError(Exception):
    """A sink cannot take records now and may later (the disk is full, the backup is away); the message says why."""


class RecordSink(Protocol):
    """A place where records are safe."""

    @property
    def name(self) -> str:
        """What it is, for messages: "the journal in DIR"."""
        ...

    @property
    def is_quick(self) -> bool:
        """Whether ``write`` takes about as long as it takes to wake a thread, and even in trouble a second or so."""
        ...

    def write(self, records: Sequence[LoggedRecord]) -> None:
        """Returns when all records are safe; they come in order, without gaps, never from two threads at once.

        Raises:
            SinkUnavailableError: None of them counts as safe; the same records will be offered again.
        """
        ...

    def close(self) -> None:
        """Gives back what it holds; no write follows."""
        ...


@dataclass(frozen=True, slots=True)
class CommitLimits:
    """What may wait to be committed.

    Attributes:
        queued_bytes: Bytes of records; a single larger one is let in when nothing else waits.
        group_bytes: Bytes that are handed to the sinks at a time, unless one record is larger.
        patience_s: Longest that a record waits for room. It is short, so that the client learns why it is refused, and
            when to try again, before its own call times out.
    """

    queued_bytes: int = 256 * 1024**2
    group_bytes: int = 32 * 1024**2
    patience_s: float = 1.0


class Reservation:
    """Room for one record, taken before anything is applied, so that what was applied can always be appended."""

    __slots__ = ("_is_awaited", "_is_used", "_log", "size_bytes")

    def __init__(self, log: CommitLog, size_bytes: int, *, is_awaited: bool):
        self._log = log
        self._is_awaited = is_awaited
        self._is_used = False
        self.size_bytes = size_bytes

    def append(self, record: Record) -> int:
        """Appends the record and returns its position. Quick; called while the locks of what changed are held."""
        if self._is_used:
            raise RuntimeError("this reservation has been used or given back")
        self._is_used = True
        return self._log._append(record, self.size_bytes, is_awaited=self._is_awaited)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        if not self._is_used:
            self._is_used = True
            self._log._give_back(self.size_bytes)
        elif kind is not None and self._is_awaited:
            self._log._have_committed()  # whoever meant to wait for it does not


class _Group:
    """Records that are handed to the sinks together.

    Attributes:
        records: In order.
        size_bytes: What was reserved for them.
        sinks: Those that do not have them yet.
    """

    __slots__ = ("records", "sinks", "size_bytes")

    def __init__(self, sinks: Sequence[RecordSink]):
        self.records: list[LoggedRecord] = []
        self.size_bytes = 0
        self.sinks = list(sinks)


class CommitLog:
    """Numbers records and has them committed. Thread-safe.

    Args:
        sinks: Where records must be before they count as committed; with none they are committed at once. Owned.
        last_position: Position of the newest record that is committed already.
        limits: What may wait.
        on_fatal: Called by the thread that leads, with an error after which no sink can be trusted; it must end the
            process. Nothing is committed after it.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        sinks: Sequence[RecordSink],
        *,
        last_position: int = 0,
        limits: CommitLimits | None = None,
        on_fatal: Callable[[BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._sinks = tuple(sinks)
        self._clock = clock
        self._callers_lead = all(sink.is_quick for sink in self._sinks)
        self._limits = CommitLimits() if limits is None else limits
        self._on_fatal = on_fatal
        # guards: all below; no other lock is taken under it. Locks of variables may be held when it is taken.
        self._lock = threading.Lock()
        self._roomy = threading.Condition(self._lock)
        self._leader: int | None = None  # ident of the thread that hands records to the sinks
        self._arrived: OneShotEvent | None = None  # wakes the log's own thread, while it waits for records
        self._waiting: list[tuple[int, OneShotEvent]] = []  # for which position; as many as there are callers
        self._queue: deque[LoggedRecord] = deque()
        self._unfinished: _Group | None = None  # which a sink did not take; comes before the queue
        self._reserved_bytes = 0  # of records queued, being written or still to come
        self._num_for_room = 0  # callers that wait for room
        self._last_position = last_position
        self._committed_position = last_position
        self._obstacle = ""  # why nothing is being committed, if so
        self._closing = False
        self._is_broken = False  # after an error that was fatal
        self._abandoned = ""  # why nothing is committed any more
        self._writer = threading.Thread(target=self._write_groups, name="commit", daemon=True)
        if self._sinks:
            self._writer.start()

    @property
    def last_position(self) -> int:
        """Position of the newest record appended."""
        return self._last_position

    @property
    def committed_position(self) -> int:
        """Position up to which everything is safe."""
        return self._committed_position

    @property
    def obstacle(self) -> str:
        """Why nothing is being committed just now; empty if it is."""
        return self._obstacle

    @property
    def num_waiting(self) -> int:
        """How many callers wait for a record to be safe."""
        return len(self._waiting)

    def reserve(self, size_bytes: int, timeout_s: float, *, is_awaited: bool = False) -> Reservation:
        """Waits for room for a record; called before anything is applied and with no lock held.

        Args:
            size_bytes: Of the record, about.
            timeout_s: Bound on the wait.
            is_awaited: Whether the caller waits for the record with ``wait_committed``, once it has left the context of
                the reservation without an error. Then no other thread is woken for it, if all sinks are quick.

        Raises:
            ResourceExhaustedError: There was none in time; retryable.
            UnavailableError: The task is ending.
        """
        with self._lock:
            if self._sinks:
                timeout_s = min(timeout_s, self._limits.patience_s)
                if not self._closing and not self._has_room(size_bytes):
                    self._await_room(size_bytes, timeout_s)
                if self._closing:
                    raise UnavailableError("the task is ending and takes no more updates; try again later")
            self._reserved_bytes += size_bytes
        return Reservation(self, size_bytes, is_awaited=is_awaited)

    def append(self, record: Record, size_bytes: int) -> int:
        """Appends a record that nothing was reserved for; otherwise as ``Reservation.append``.

        For records that follow from what has room already, such as the declarations of a batch.
        """
        with self._lock:
            self._reserved_bytes += size_bytes
        return self._append(record, size_bytes, is_awaited=False)

    def wait_committed(self, position: int, timeout_s: float) -> None:
        """Waits until everything up to a position is safe; called while no lock is held. The caller may have to lead.

        Raises:
            DeadlineExceededError: It was not safe in time. It may become safe later; what was applied stays applied.
            UnavailableError: The log was abandoned before it was known to be safe.
        """
        end_s = self._clock() + timeout_s
        remaining_s = timeout_s
        while self._committed_position < position:
            has_led = self._callers_lead and remaining_s >= _LEADS_FROM_S and self._lead()
            remaining_s = max(0.0, end_s - self._clock())
            if not has_led:
                break
        else:
            return
        with self._lock:
            if self._committed_position >= position:
                return
            if self._abandoned:
                raise UnavailableError(self._abandoned)
            committed = OneShotEvent()
            waiting = (position, committed)
            self._waiting.append(waiting)
            # A thread that leads has another one go on with what it leaves.
            arrived = self._taken_arrived() if self._leader is None else None
        if arrived is not None:
            arrived.set()
        committed.wait(remaining_s - min(_ANSWER_S, remaining_s / 4))
        if self._committed_position >= position:
            return
        with self._lock:
            if self._committed_position >= position:
                return
            if self._abandoned:
                raise UnavailableError(self._abandoned)
            self._waiting.remove(waiting)
        raise DeadlineExceededError(
            f"the update is applied, but after {timeout_s:.1f} s it is not yet on {self._sink_names()}"
            f"{': ' + self._obstacle if self._obstacle else ''}; ask again for the answer"
        )

    def abandon(self, reason: str) -> None:
        """Commits nothing any more, since another process goes on: whoever waits gets the reason, and asks there."""
        with self._lock:
            self._abandoned = reason
            self._closing = True
            self._queue.clear()
            arrived = self._taken_arrived()
            waiting, self._waiting = self._waiting, []
            self._roomy.notify_all()
        for event in [each for _, each in waiting] + ([arrived] if arrived is not None else []):
            event.set()

    def close(self, timeout_s: float) -> bool:
        """Commits what was appended and ends; returns whether all of it was committed in time."""
        with self._lock:
            self._closing = True
            arrived = self._taken_arrived()
            self._roomy.notify_all()
        if arrived is not None:
            arrived.set()
        if self._sinks:
            self._writer.join(timeout_s)
            if self._writer.is_alive():
                return False
        for sink in self._sinks:
            sink.close()
        return True

    # -- appending ----------------------------------------------------------------------------

    def _append(self, record: Record, size_bytes: int, *, is_awaited: bool) -> int:
        arrived = None
        with self._lock:
            self._last_position += 1
            position = self._last_position
            if self._sinks:
                self._queue.append(LoggedRecord(position, record, size_bytes))
                if not (is_awaited and self._callers_lead):
                    arrived = self._taken_arrived()
            else:
                self._committed_position = position
                self._reserved_bytes -= size_bytes
        if arrived is not None:
            arrived.set()
        return position

    def _have_committed(self) -> None:
        """Has the log's own thread commit what is queued."""
        with self._lock:
            arrived = self._taken_arrived()
        if arrived is not None:
            arrived.set()

    def _taken_arrived(self) -> OneShotEvent | None:
        """With the lock held: what wakes the log's own thread, if it sleeps. It is to be set without the lock."""
        arrived, self._arrived = self._arrived, None
        return arrived

    def _give_back(self, size_bytes: int) -> None:
        with self._lock:
            self._reserved_bytes -= size_bytes
            self._roomy.notify_all()

    def _await_room(self, size_bytes: int, timeout_s: float) -> None:
        """With the lock held: waits for room, or the end of the task; ResourceExhaustedError if there is neither."""
        self._num_for_room += 1
        try:
            if not self._roomy.wait_for(lambda: self._closing or self._has_room(size_bytes), timeout_s):
                raise self._no_room(timeout_s)
        finally:
            self._num_for_room -= 1

    def _has_room(self, size_bytes: int) -> bool:
        if self._obstacle:
            return False  # the update would be applied and could not be acknowledged
        return not self._reserved_bytes or self._reserved_bytes + size_bytes <= self._limits.queued_bytes

    def _no_room(self, timeout_s: float) -> ResourceExhaustedError:
        why = self._obstacle or "it is slower than the updates come"
        return ResourceExhaustedError(
            f"{self._reserved_bytes} bytes of updates wait to be written to {self._sink_names()}, and there was no "
            f"room for another in {timeout_s:.1f} s: {why}; nothing was applied",
            retry_after_s=0.25,
        )

    def _sink_names(self) -> str:
        return " and ".join(sink.name for sink in self._sinks)

    # -- committing ---------------------------------------------------------------------------

    def _write_groups(self) -> None:
        """The log's own thread."""
        try:
            while (group := self._next_group()) is not None:
                while not self._write(group):
                    with self._lock:
                        # Also while closing: callers that wait time out, and the process ends by its own deadline.
                        self._arrived = arrived = OneShotEvent()
                    arrived.wait(_RETRY_PAUSE_S)
                if not self._abandoned:
                    self._note_committed(group)
                with self._lock:
                    self._leader = None
        except BaseException as error:  # noqa: BLE001 - after any error nothing can be promised
            self._break(error)

    def _next_group(self) -> _Group | None:
        """Waits for records, and leads; None ends the thread."""
        while True:
            with self._lock:
                if self._leader is None:
                    group = self._begin_group()
                    if group is not None or self._closing:
                        return group
                if self._is_broken:
                    return None
                self._arrived = arrived = OneShotEvent()
            arrived.wait(_LOOK_AGAIN_S)

    def _lead(self) -> bool:
        """Commits a group of records, unless another thread leads; returns whether a group was committed."""
        try:
            with self._lock:
                if self._leader is not None or self._unfinished is not None or self._closing:
                    return False
                group = self._begin_group()
            if group is None:
                return False
            is_written = self._write(group) and not self._abandoned
            if is_written:
                self._note_committed(group)
            with self._lock:
                self._leader = None
                if not (is_written or self._abandoned):
                    self._unfinished = group
                # Whoever came meanwhile waits already.
                arrived = self._taken_arrived() if self._queue or self._unfinished or self._closing else None
            if arrived is not None:
                arrived.set()
        except BaseException as error:
            if self._leader == threading.get_ident():
                self._break(error)
            if not isinstance(error, Exception):
                raise
            return False
        return is_written

    def _break(self, error: BaseException) -> None:
        """Called by the thread that leads, and does so for good: after any error nothing can be promised."""
        self._is_broken = True
        self._have_committed()  # which ends the log's own thread
        self._on_fatal(error)

    def _begin_group(self) -> _Group | None:
        """With the lock held: leads with the next records; None if there are none."""
        group, self._unfinished = self._unfinished, None
        if group is None:
            if not self._queue:
                return None
            group = _Group(self._sinks)
            room = self._limits.group_bytes
            while self._queue and (not group.records or self._queue[0].size_bytes <= room):
                logged = self._queue.popleft()
                room -= logged.size_bytes
                group.size_bytes += logged.size_bytes
                group.records.append(logged)
        self._leader = threading.get_ident()
        return group

    def _note_committed(self, group: _Group) -> None:
        position = group.records[-1].position
        group.records.clear()  # frees their arrays before anybody goes on
        with self._lock:
            self._committed_position = position
            self._reserved_bytes -= group.size_bytes
            woken = [committed for upto, committed in self._waiting if upto <= position]
            if woken:
                self._waiting = [waiting for waiting in self._waiting if waiting[0] > position]
            if self._num_for_room:
                self._roomy.notify_all()
        for committed in woken:  # without the lock, which the woken threads would wait for
            committed.set()

    def _write(self, group: _Group) -> bool:
        """Hands a group to the sinks that lack it; False if one cannot take it now. Has no effect once abandoned."""
        while group.sinks and not self._abandoned:
            sink = group.sinks[0]
            try:
                sink.write(group.records)
            except SinkUnavailableError as error:
                self._report(f"{sink.name} takes no records: {error}")
                return False
            del group.sinks[0]
            if self._obstacle:
                _LOG.warning("%s takes records again", sink.name)
                self._obstacle = ""
        return True

    def _report(self, obstacle: str) -> None:
        if obstacle != self._obstacle:
            _LOG.error("%s; updates wait", obstacle)
            self._obstacle = obstacle
