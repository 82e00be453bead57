"""Keeps the logged state of a task on disk: restored at the start, kept while the task serves, closed at the end.

A process of a replicated task may follow another one before it serves: what it is sent is kept likewise.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from ps_protocol.errors import ShardscopeError
from ps_protocol.service_types import DurabilityMode, DurabilityStatus
from ps_server.durability.recovery import Recovered, StateOnDisk
from ps_server.durability.snapshots.policies import AtIntervals, SnapshotPolicy, WhenJournalIsLong
from ps_server.durability.snapshots.snapshotter import Snapshotter
from ps_server.log.commit_log import CommitLog, RecordSink
from ps_server.log.logged_state import LoggedState
from ps_server.log.records import LoggedRecord, size_of
from ps_server.log.state_image import StateImage

_LOG = logging.getLogger(__name__)

_SNAPSHOT_TIMEOUT_S: Final = 60.0

_UNSAFE_BYTES: Final = 4 * 1024**2
"""Of records that were carried out and are not on disk; beyond it they are written before further ones come."""


@dataclass(frozen=True, slots=True)
class DurableSettings:
    """How a task's state is kept.

    Attributes:
        mode: Not ``NONE``.
        data_dir: Where; each task has a directory of its own in it.
        snapshot_interval_s: Seconds between two snapshots in the mode ``SNAPSHOT``.
    """

    mode: DurabilityMode
    data_dir: Path
    snapshot_interval_s: float


class DurableTask:
    """Keeps the state of a task on disk, from its start on.

    Made with an empty state, which it brings back from the disk. From ``serve`` on it is served. Before, it may follow
    another process: ``restore`` and ``replay`` what that one sends, and ``make_safe``.

    Args:
        state: Empty, with the incarnation of ``on_disk``.
        on_disk: Opened for this task. Owned from here on, also if this raises.
        settings: How to keep it.
        clock: Monotonic seconds.

    Attributes:
        state: For the core.
        on_disk: Where it is.

    Raises:
        CorruptSnapshotError, CorruptJournalError, ReplayError: The state is damaged.
        ResourceExhaustedError: The variables are beyond the memory limit.
        OSError: The disk fails.
    """

    def __init__(
        self,
        state: LoggedState,
        on_disk: StateOnDisk,
        settings: DurableSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.state: Final = state
        self.on_disk: Final = on_disk
        self._mode = settings.mode
        self._clock = clock
        # guards: the state until it is served, and both below; taken before the journal's lock
        self._following = threading.Lock()
        self._unsafe: list[LoggedRecord] = []  # carried out, and not on disk yet
        self._unsafe_bytes = 0
        self._log: CommitLog | None = None
        try:
            self.recovered: Final[Recovered] = on_disk.bring_back(state, clock)
        except BaseException:
            on_disk.close(ended_at=None)
            raise
        policy: SnapshotPolicy = AtIntervals(settings.snapshot_interval_s)
        if self._has_journal:
            policy = WhenJournalIsLong(on_disk.journal, lambda: state.parts.store.value_bytes)
        self.snapshotter: Final = Snapshotter(
            self._take_image,
            on_disk.files,
            self,
            policy,
            last=self.recovered.snapshot,
            journal=on_disk.journal,
            clock=clock,
            troubles=state.parts.troubles,
        )
        self.snapshotter.start()
        state.report(self.status)

    def serve(
        self,
        *,
        on_fatal: Callable[[BaseException], None],
        more_sinks: Sequence[RecordSink] = (),
        loss: str = "",
    ) -> Self:
        """Starts the log; the task may be served then.

        Args:
            on_fatal: Called by another thread with an error after which nothing can be promised; must end the process.
            more_sinks: Which must have each record too before it counts as safe.
            loss: If it is known otherwise that acknowledged updates are missing: what the state has, in words.

        Raises:
            SinkUnavailableError: What was followed cannot be written to the disk now.
        """
        self.make_safe()
        with self._following:
            self._log = self.state.start(
                # The journal first: a backup may be read, so what it has must not be lost with this process.
                [*([self.on_disk.journal] if self._has_journal else []), *more_sinks],
                on_fatal=on_fatal,
                store_incarnation=self.on_disk.store_incarnation,
                loss=loss or self.recovered.loss,
            )
        return self

    @property
    def log(self) -> CommitLog:
        """The log of a task that is served."""
        if self._log is None:
            raise RuntimeError("the task is not served yet")
        return self._log

    @property
    def last_position(self) -> int:
        """Position of the newest record in the state."""
        return self.state.replayed_position if self._log is None else self._log.last_position

    def wait_committed(self, position: int, timeout_s: float) -> None:
        """Returns when all records up to a position are safe; see ``CommitLog.wait_committed``."""
        if self._log is None:
            self.make_safe()
        else:
            self._log.wait_committed(position, timeout_s)

    def status(self) -> DurabilityStatus:
        """How much would survive at this moment."""
        last, log = self.snapshotter.last, self._log
        return DurabilityStatus(
            mode=self._mode,
            last_position=self.last_position,
            committed_position=self.on_disk.journal.last_position if log is None else log.committed_position,
            snapshot_position=last.position if last else 0,
            snapshot_bytes=last.size_bytes if last else 0,
            snapshot_taken_at_s=last.taken_at_s if last else 0.0,
            journal_bytes=self._journal_bytes() if self._has_journal else 0,
            obstacle=("" if log is None else log.obstacle) or self.snapshotter.obstacle,
        )

    @property
    def _has_journal(self) -> bool:
        return self._mode is DurabilityMode.JOURNAL

    def _journal_bytes(self) -> int:
        try:
            return self.on_disk.journal.size_bytes
        except OSError as error:  # no descriptor is left, say; who asks is to learn the rest
            _LOG.debug("the size of the journal is not known just now: %s", error)
            return 0

    # -- before it is served, with a journal --------------------------------------------------

    def restore(self, image: StateImage) -> None:
        """Restores an image, which another process has sent, when it is on disk; the state is empty before.

        Raises:
            OSError: It cannot be written; the state is still empty.
            ResourceExhaustedError: The variables are beyond the memory limit.
        """
        with self._following:
            self.on_disk.directory.place.check()
            self.snapshotter.write(image)
            self.on_disk.journal.begin_after(image.position)
            self.state.restore(image)

    def replay(self, record: LoggedRecord) -> None:
        """Carries out the next record, which another process has sent; ``make_safe`` has it on disk.

        Raises:
            ReplayError: It is not the next, or has another effect than the first time.
            SinkUnavailableError: Too much waits to be written to the disk.
        """
        with self._following:
            if self._unsafe_bytes > _UNSAFE_BYTES:
                self._write_unsafe()
            self.state.replay(record)
            self._unsafe.append(record)
            self._unsafe_bytes += size_of(record.record)

    def make_safe(self) -> int:
        """Returns when all that was replayed is on disk, with the position of the newest record.

        Raises:
            SinkUnavailableError: It cannot be written now, and may be later.
        """
        with self._following:
            self._write_unsafe()
            return self.last_position

    def _write_unsafe(self) -> None:
        if self._unsafe:
            self.on_disk.journal.write(self._unsafe)
            self._unsafe, self._unsafe_bytes = [], 0

    # -- the end ------------------------------------------------------------------------------

    def close(self, *, drained: bool, timeout_s: float) -> bool:
        """Closes the state, which does not change any more; returns whether all that was acknowledged is on disk.

        Args:
            drained: Whether every batch that was accepted has been answered, so that nothing will be added.
            timeout_s: Bound on waiting for records that are not written yet. The last snapshot is not bounded.
        """
        deadline_s = self._clock() + timeout_s
        has_stopped = self.snapshotter.stop(_SNAPSHOT_TIMEOUT_S)
        # A journal needs no snapshot.
        is_kept = self._has_journal or (has_stopped and self._takes_last_snapshot())
        if self._log is not None:
            is_kept = self._log.close(max(0.0, deadline_s - self._clock())) and is_kept
        try:
            self.on_disk.close(ended_at=self.last_position if drained and is_kept and has_stopped else None)
        except OSError as error:
            _LOG.error("that the task has ended in good order could not be noted: %s", error)
            return False
        return is_kept

    def _take_image(self, timeout_s: float) -> StateImage:
        self.on_disk.directory.place.check()  # or the snapshot would be written to another directory
        with self._following:
            if self._log is None:
                return self.state.image()
        return self.state.take_image(timeout_s)

    def _takes_last_snapshot(self) -> bool:
        try:
            self.snapshotter.snapshot()
        except (OSError, ShardscopeError) as error:
            _LOG.error("the last snapshot could not be taken, and updates since the one before are lost: %s", error)
            return False
        return True
