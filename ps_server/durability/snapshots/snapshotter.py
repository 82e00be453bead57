"""Takes snapshots of a ps task while it works, and drops the records that they cover."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from ps_protocol.errors import ShardscopeError
from ps_protocol.fault_points import fault_point
from ps_server.background.loops import BackgroundLoop, Troubles
from ps_server.durability.snapshots.files import SnapshotAbandonedError, SnapshotFiles, SnapshotInfo
from ps_server.durability.snapshots.policies import SinceLast, SnapshotPolicy
from ps_server.log.state_image import StateImage

_LOG = logging.getLogger(__name__)

_CUT_TIMEOUT_S: Final = 30.0
_COMMIT_TIMEOUT_S: Final = 60.0


class SnapshottedLog(Protocol):
    """What the snapshotter needs of ``CommitLog``."""

    @property
    def last_position(self) -> int:
        """Position of the newest record."""
        ...

    def wait_committed(self, position: int, timeout_s: float) -> None:
        """Waits until all records up to it are safe; DeadlineExceededError if they are not in time."""
        ...


class TrimmedJournal(Protocol):
    """What the snapshotter needs of ``Journal``. Called by another thread than the one that writes records."""

    def start_new_file(self, position: int) -> None:
        """Has the records after a position written to another file, so that those before can be dropped."""
        ...

    def drop_before(self, position: int) -> None:
        """Drops files that hold no record after ``position``."""
        ...


class Snapshotter:
    """Takes snapshots on a thread of its own. Thread-safe.

    A snapshot that fails (the disk is full, say) changes nothing: the failure is in the log and in ``obstacle``, the
    snapshot before stays, and another is tried later.

    Args:
        take_image: Returns the state as of now, waiting so many seconds at most.
        files: Where snapshots are.
        log: Numbers the records.
        policy: When one is due.
        last: The snapshot that the task was started from; None if there was none.
        journal: Where the records are; None if there is no journal.
        poll_s: Seconds between two looks at whether one is due.
        retry_s: Seconds after a failure until the next try.
        clock: Monotonic seconds.
        troubles: Where it is noted that the thread fails.

    Attributes:
        last: The newest snapshot on disk.
        obstacle: Why the last try failed; empty if it did not.
    """

    def __init__(
        self,
        take_image: Callable[[float], StateImage],
        files: SnapshotFiles,
        log: SnapshottedLog,
        policy: SnapshotPolicy,
        *,
        last: SnapshotInfo | None = None,
        journal: TrimmedJournal | None = None,
        poll_s: float = 0.5,
        retry_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        troubles: Troubles | None = None,
    ):
        self._take_image = take_image
        self._files = files
        self._log = log
        self._policy = policy
        self._journal = journal
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._clock = clock
        self._taking = threading.Lock()  # guards: the files; held while one snapshot is taken
        self.last = last
        self._last_try_s = clock()
        self._took_s = 0.0
        self.obstacle = ""
        self._loop = BackgroundLoop(
            "snapshots", self._look, troubles or Troubles(), first_retry_s=retry_s, most_retry_s=retry_s
        )

    def start(self) -> None:
        """Begins to take snapshots when they are due."""
        self._loop.start()

    def stop(self, timeout_s: float) -> bool:
        """Takes no more snapshots, and gives up one that is being written; returns whether that ended in time."""
        return self._loop.stop(timeout_s)

    def snapshot(self, is_wanted: Callable[[], bool] = lambda: True) -> SnapshotInfo | None:
        """Takes a snapshot now; returns it, or the last one if nothing has changed since (None if there is none).

        Args:
            is_wanted: Asked now and then; False gives the snapshot up.

        Raises:
            OSError: It could not be written.
            DeadlineExceededError: Changes that had begun did not end in time, or their records are not yet safe.
            SnapshotAbandonedError: It was not wanted any more.
        """
        with self._taking:
            try:
                self._take(is_wanted)
            except Exception as error:
                self.obstacle = f"no snapshot could be taken: {error}"
                raise
            finally:
                self._last_try_s = self._clock()
            self.obstacle = ""
            return self.last

    def write(self, image: StateImage) -> None:
        """Writes a snapshot of an image that was not taken here, before any other snapshot.

        Raises:
            OSError: It could not be written.
        """
        with self._taking:
            self.last = self._files.write(image)

    def _take(self, is_wanted: Callable[[], bool]) -> None:
        if not self._records_since():
            return
        began_s = self._clock()
        # Not through a variable: it would hold the lent values until all are written.
        info = self._files.write(self._cut(), before_rename=self._wait_committed, is_wanted=is_wanted)
        self.last, self._took_s = info, self._clock() - began_s
        _LOG.info("took a snapshot of record %d: %d bytes in %.2f s", info.position, info.size_bytes, self._took_s)
        fault_point("snapshot.before_drop")
        self._files.drop_before(info.position)
        if self._journal is not None:
            self._journal.drop_before(info.position)

    def _records_since(self) -> int:
        return self._log.last_position - (self.last.position if self.last else 0)

    def _cut(self) -> StateImage:
        image = self._take_image(_CUT_TIMEOUT_S)
        if self._journal is not None:
            self._journal.start_new_file(image.position)
        return image

    def _wait_committed(self, position: int) -> None:
        # A snapshot must have no update that the journal or the backup may yet lose.
        self._log.wait_committed(position, _COMMIT_TIMEOUT_S)

    def _look(self) -> float:
        """Takes a snapshot if one is due; returns the seconds until the next look."""
        since = SinceLast(self._clock() - self._last_try_s, self._records_since(), self._took_s)
        return self._poll_s if not self._policy.is_due(since) or self._succeeds() else self._retry_s

    def _succeeds(self) -> bool:
        before = self.obstacle
        try:
            self.snapshot(lambda: not self._loop.is_stopping)
        except SnapshotAbandonedError:
            return False
        except (OSError, ShardscopeError):
            if self.obstacle != before:
                _LOG.warning("%s; updates go on, it is tried again every %.0f s", self.obstacle, self._retry_s)
            return False
        if before:
            _LOG.warning("snapshots can be taken again")
        return True
