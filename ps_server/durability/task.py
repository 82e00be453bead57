"""Keeps the logged state of a task on disk: restored at the start, kept while the task serves, closed at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ps_protocol.errors import ShardscopeError
from ps_protocol.service_types import DurabilityMode, DurabilityStatus
from ps_server.durability.recovery import Recovered, StateOnDisk
from ps_server.durability.snapshots.policies import AtIntervals, SnapshotPolicy, WhenJournalIsLong
from ps_server.durability.snapshots.snapshotter import Snapshotter
from ps_server.log.commit_log import CommitLog
from ps_server.log.logged_state import LoggedState
from ps_server.log.state_image import StateImage

_LOG = logging.getLogger(__name__)

_SNAPSHOT_TIMEOUT_S: Final = 60.0


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
    """Keeps the state of a task on disk while it serves.

    Made with an empty state, which it brings back from the disk and keeps there.

    Args:
        state: Empty, with the incarnation of ``on_disk``.
        on_disk: Opened for this task. Owned from here on, also if this raises.
        settings: How to keep it.
        on_fatal: Called by another thread with an error after which nothing can be promised; must end the process.
        clock: Monotonic seconds.

    Attributes:
        state: For the core.

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
        on_fatal: Callable[[BaseException], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.state: Final = state
        self._on_disk = on_disk
        self._mode = settings.mode
        self._clock = clock
        try:
            self.recovered: Final[Recovered] = on_disk.bring_back(state, clock)
        except BaseException:
            on_disk.close(ended_at=None)
            raise
        has_journal = settings.mode is DurabilityMode.JOURNAL
        self.log: Final[CommitLog] = state.start(
            [on_disk.journal] if has_journal else [],
            on_fatal=on_fatal,
            loss=self.recovered.loss,
            status=self.status,
        )
        policy: SnapshotPolicy = AtIntervals(settings.snapshot_interval_s)
        if has_journal:
            policy = WhenJournalIsLong(on_disk.journal, lambda: state.parts.store.value_bytes)
        self.snapshotter: Final = Snapshotter(
            self._take_image,
            on_disk.files,
            self.log,
            policy,
            last=self.recovered.snapshot,
            journal=on_disk.journal,
            clock=clock,
            troubles=state.parts.troubles,
        )
        self.snapshotter.start()

    def status(self) -> DurabilityStatus:
        """How much would survive at this moment."""
        last = self.snapshotter.last
        return DurabilityStatus(
            mode=self._mode,
            last_position=self.log.last_position,
            committed_position=self.log.committed_position,
            snapshot_position=last.position if last else 0,
            snapshot_bytes=last.size_bytes if last else 0,
            snapshot_taken_at_s=last.taken_at_s if last else 0.0,
            journal_bytes=self._journal_bytes() if self._mode is DurabilityMode.JOURNAL else 0,
            obstacle=self.log.obstacle or self.snapshotter.obstacle,
        )

    def _journal_bytes(self) -> int:
        try:
            return self._on_disk.journal.size_bytes
        except OSError as error:  # no descriptor is left, say; who asks is to learn the rest
            _LOG.debug("the size of the journal is not known just now: %s", error)
            return 0

    def close(self, *, drained: bool, timeout_s: float) -> bool:
        """Closes the state, which does not change any more; returns whether all that was acknowledged is on disk.

        Args:
            drained: Whether every batch that was accepted has been answered, so that nothing will be added.
            timeout_s: Bound on waiting for records that are not written yet. The last snapshot is not bounded.
        """
        deadline_s = self._clock() + timeout_s
        has_stopped = self.snapshotter.stop(_SNAPSHOT_TIMEOUT_S)
        # A journal needs no snapshot.
        is_kept = self._mode is DurabilityMode.JOURNAL or (has_stopped and self._takes_last_snapshot())
        is_kept = self.log.close(max(0.0, deadline_s - self._clock())) and is_kept
        try:
            self._on_disk.close(ended_at=self.log.last_position if drained and is_kept and has_stopped else None)
        except OSError as error:
            _LOG.error("that the task has ended in good order could not be noted: %s", error)
            return False
        return is_kept

    def _take_image(self, timeout_s: float) -> StateImage:
        self._on_disk.directory.place.check()  # or the snapshot would be written to another directory
        return self.state.take_image(timeout_s)

    def _takes_last_snapshot(self) -> bool:
        try:
            self.snapshotter.snapshot()
        except (OSError, ShardscopeError) as error:
            _LOG.error("the last snapshot could not be taken, and updates since the one before are lost: %s", error)
            return False
        return True
