"""A logged state: each change is a record, and the log gives the records to its sinks, the disk or a backup."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID, uuid4

import numpy as np

from ps_protocol.errors import ResourceExhaustedError, ShardscopeError
from ps_protocol.fault_points import fault_point
from ps_protocol.operation_kinds import map_tensors
from ps_protocol.operations import Batch, BatchReply, PsOperation
from ps_protocol.service_types import DurabilityStatus, Placement, Proposal
from ps_server.batches.update_ledger import GOODBYE
from ps_server.cluster.directory import Directory
from ps_server.log.commit_log import CommitLimits, CommitLog, RecordSink, Reservation
from ps_server.log.image_gate import ImageGate
from ps_server.log.logged_batches import LoggedBatches
from ps_server.log.records import (
    ClientJoined,
    ClientLeft,
    Declared,
    LoggedRecord,
    Record,
    Restored,
    Staged,
    size_of,
)
from ps_server.log.replay import Replay
from ps_server.log.restore_mark import RestoreMark, incarnation_after
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts
from ps_server.store.stored_variable import VariableImage


class LoggedState:
    """A ``core.state.State`` whose changes are records. Thread-safe once it has been started.

    First it is brought back: ``restore`` once, ``replay`` for each record after it, ``start``. Then the task serves.

    Args:
        parts: Empty.
        store_incarnation: Its identity; None to draw one, for a state that starts empty.
    """

    keeps_operands: Final = True
    is_on_disk: Final = False

    def __init__(self, parts: StateParts, store_incarnation: UUID | None = None):
        self.parts: Final = parts
        self.loss = ""
        self._store_incarnation = uuid4() if store_incarnation is None else store_incarnation
        self._clock = parts.clock
        self._ledger = parts.ledger
        self._gate = ImageGate()
        self._replay = Replay(parts)
        self._status: Callable[[], DurabilityStatus | None] = lambda: None
        self._batches: LoggedBatches | None = None

    # -- before the task serves ---------------------------------------------------------------

    def restore(self, image: StateImage) -> None:
        """Restores an image; its arrays become values of the store.

        Raises:
            ResourceExhaustedError: The variables are beyond the memory limit.
        """
        self.parts.restore(image)
        self._replay.position = image.position

    def replay(self, record: LoggedRecord) -> None:
        """Carries out the next record; ReplayError if it is not the next, or has another effect than the first time."""
        self._replay.apply(record)

    def adopt(self, store: UUID) -> None:
        """Takes the identity of a state that will be restored, and brought up to date by ``replay``."""
        self._store_incarnation = store

    def make_safe(self) -> int:
        """Returns the position up to which all is as safe as this state alone makes it: up to the newest record."""
        return self._replay.position

    def image(self) -> StateImage:
        """Returns the whole state as of the newest record that was brought back; called while none is."""
        return self.parts.image(self._replay.position)

    def report(self, status: Callable[[], DurabilityStatus | None]) -> None:
        """From here on says by a function how much would survive the process."""
        self._status = status

    @property
    def replayed_position(self) -> int:
        """Position of the newest record that was brought back."""
        return self._replay.position

    def start(
        self,
        sinks: Sequence[RecordSink],
        *,
        on_fatal: Callable[[BaseException], None],
        limits: CommitLimits | None = None,
        store_incarnation: UUID | None = None,
        loss: str = "",
    ) -> CommitLog:
        """Starts the log: changes from here on are records that are committed to the sinks.

        Args:
            sinks: All must have a record before an answer that depends on it leaves; with none, answers do not wait.
            on_fatal: Called by another thread with an error after which nothing can be promised; must end the process.
            limits: What may wait to be committed.
            store_incarnation: Identity of the state that was brought back, if that is known only now.
            loss: If acknowledged updates are missing: what the state has, in words. Else empty.

        Returns:
            The log, which the caller closes.
        """
        log = CommitLog(sinks, last_position=self.replayed_position, limits=limits, on_fatal=on_fatal)
        self._store_incarnation = store_incarnation or self._store_incarnation
        self.loss = loss
        self.parts.runner.calls.forget_counts()
        self._ledger.restart_idle_times(self._clock())
        self.parts.keep_records(lambda record: log.append(_with_own_arrays(record), size_of(record)))
        self._batches = LoggedBatches(self.parts, log)
        return log

    # -- while it serves ----------------------------------------------------------------------

    @property
    def base_incarnation(self) -> UUID:
        """Its identity but for restores of checkpoints, which each give it another one."""
        return self._store_incarnation

    @property
    def store_incarnation(self) -> UUID:
        restored = self.parts.restored
        base = self._store_incarnation
        return base if restored is None else incarnation_after(base, restored.restore)

    @property
    def _started(self) -> LoggedBatches:
        if self._batches is None:
            raise RuntimeError("the task's state is still being brought back")
        return self._batches

    def read(self, operations: Sequence[PsOperation], deadline_s: float, lend_values: bool) -> BatchReply:
        if self._batches is None:
            return self._replay.read(operations, deadline_s, lend_values=lend_values)
        return self._batches.read(operations, deadline_s, lend_values=lend_values)

    def apply(
        self,
        batch: Batch,
        deadline_s: float,
        now_s: float,
        lend_values: bool,  # noqa: ARG002 - the record's reply is a copy
        take_operands: bool,  # noqa: ARG002 - the record needs them too
    ) -> BatchReply:
        batches, operations = self._started, batch.operations
        position = 0

        def apply() -> BatchReply:
            nonlocal position
            reply, position = batches.apply(batch, deadline_s, room)
            return reply

        with batches.reserve(operations, deadline_s) as room, self._gate.change(self._remaining_s(deadline_s)):
            reply = self._ledger.apply_once(
                batch.client,
                batch.sequence,
                apply,
                timeout_s=self._remaining_s(deadline_s),
                now_s=now_s,
                checksum=batch.checksum,
            )
        log = batches.log
        # A repeated answer belongs to one of the records so far; which one is not known.
        log.wait_committed(position or log.last_position, self._remaining_s(deadline_s))
        fault_point("batch.before_reply")
        return reply

    def place(
        self, directory: Directory, proposals: Sequence[Proposal], timeout_s: float
    ) -> list[Placement | ShardscopeError]:
        deadline_s = self._clock() + timeout_s
        with self._gate.change(timeout_s):
            placements = directory.place(proposals)
        self.wait_for_all(self._remaining_s(deadline_s))
        return placements

    def hello(self, client: UUID, task: str, timeout_s: float) -> None:
        deadline_s = self._clock() + timeout_s
        with self._gate.change(timeout_s):
            if self._ledger.hello(client, task, self._clock()):
                self._append(ClientJoined(client, task))
        self.wait_for_all(self._remaining_s(deadline_s))

    def goodbye(self, client: UUID, timeout_s: float) -> None:
        with self._gate.change(timeout_s):
            if self._ledger.goodbye(client):
                self._append(ClientLeft(client, GOODBYE))  # not waited for: if a crash loses it, no harm is done

    def wait_for_all(self, timeout_s: float) -> None:
        log = self._started.log
        log.wait_committed(log.last_position, timeout_s)

    def take_image(self, timeout_s: float) -> StateImage:
        """Returns the whole state as of one position; changes wait while all values are lent.

        Raises:
            DeadlineExceededError: Changes that had begun did not end in time.
        """
        with self._gate.image(timeout_s):
            return self.parts.image(self._started.log.last_position)

    def switch(
        self,
        images: Sequence[VariableImage],
        mark: RestoreMark,
        placements: Sequence[Placement],
        timeout_s: float,
    ) -> None:
        deadline_s = self._clock() + timeout_s
        log = self._started.log
        with self._gate.image(timeout_s):
            for image in images:
                staged = Staged(mark.restore, image)
                with self._reserved(log, size_of(staged), deadline_s) as room:
                    room.append(staged)
            # All are written before any becomes a value, which updates change in place. If they are not in time, they
            # are in the log for nothing.
            log.wait_committed(log.last_position, self._remaining_s(deadline_s))
            fault_point("restore.staged_in_log")
            record = Restored(mark, tuple(placements))
            position = log.append(record, size_of(record))
            self.parts.switch(images, mark, placements, position)
        log.wait_committed(position, self._remaining_s(deadline_s))

    def finish_restore(self, mark: RestoreMark, timeout_s: float) -> None:
        deadline_s = self._clock() + timeout_s
        with self._gate.change(timeout_s):
            self._append(Restored(mark))
            self.parts.restored = mark
        self.wait_for_all(self._remaining_s(deadline_s))

    def _reserved(self, log: CommitLog, size_bytes: int, deadline_s: float) -> Reservation:
        while True:
            try:
                return log.reserve(size_bytes, self._remaining_s(deadline_s))
            except ResourceExhaustedError:
                if self._remaining_s(deadline_s) <= 0:
                    raise

    @property
    def position(self) -> int:
        return self._started.log.last_position

    def durability(self) -> DurabilityStatus | None:
        return self._status()

    def _append(self, record: Record) -> None:
        self._started.log.append(record, size_of(record))

    def _remaining_s(self, deadline_s: float) -> float:
        return deadline_s - self._clock()


def _with_own_arrays(record: Record) -> Record:
    """Returns a record whose arrays the caller cannot change."""
    return Declared(map_tensors(record.operation, np.ndarray.copy)) if isinstance(record, Declared) else record
