"""Brings the state of a ps task back from its data directory: the newest snapshot, then the records after it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from uuid import UUID

from ps_protocol.service_types import DurabilityMode
from ps_protocol.task_id import TaskId
from ps_server.durability.disk.data_directory import DataDirectory
from ps_server.durability.disk.last_run import LastRun, read_last_run, write_last_run
from ps_server.durability.journal.journal import Journal
from ps_server.durability.snapshots.files import SnapshotFiles, SnapshotInfo
from ps_server.log.logged_state import LoggedState
from ps_server.log.replay import ReplayError

_LOG = logging.getLogger(__name__)

_SNAPSHOTS: Final = "snapshots"
_SHOW_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was brought back.

    Attributes:
        position: Of the newest record in the state.
        snapshot: The one that the state was restored from; None if there was none.
        num_replayed: Records carried out again.
        duration_s: How long it all took.
        loss: If acknowledged updates are missing: what the state has, in words. Else empty.
    """

    position: int
    snapshot: SnapshotInfo | None
    num_replayed: int
    duration_s: float
    loss: str


class StateOnDisk:
    """The state of one task on disk, opened but not yet restored. Owns the directory and the journal.

    Made by ``open``. One thread.

    Attributes:
        directory: Held until ``close``.
        files: The snapshots.
        journal: Ends with the newest record there is, of a snapshot or its own.
        is_complete: Whether the state has every update that was acknowledged, so that its clients can go on.
    """

    def __init__(
        self,
        directory: DataDirectory,
        files: SnapshotFiles,
        journal: Journal,
        *,
        mode: DurabilityMode,
        snapshot_position: int,
        is_complete: bool,
    ):
        self.directory = directory
        self.files = files
        self.journal = journal
        self.is_complete = is_complete
        self._mode = mode
        self._snapshot_position = snapshot_position

    @classmethod
    def open(cls, root: Path, *, task: TaskId, num_ps: int, mode: DurabilityMode) -> StateOnDisk:
        """Locks the task's directory, and decides whether the state in it is complete.

        A state that may lack acknowledged updates gets a new incarnation before it is served, so that clients that know
        of those updates get StateLostError.

        Args:
            root: The data directory, as given to ``--data-dir``.
            task: Whose state to bring back.
            num_ps: Number of ps tasks in the cluster.
            mode: How the state is to be kept from here on.

        Raises:
            DataDirectoryError: The directory cannot be used, or another process does.
            CorruptJournalError: Records are missing.
            OSError: The disk fails, or is full.
        """
        return cls.of(DataDirectory.open(root, task=task, num_ps=num_ps), mode=mode)

    @classmethod
    def of(cls, directory: DataDirectory, *, mode: DurabilityMode, renews: bool = True) -> StateOnDisk:
        """As ``open``, for a directory that is open already; owned from here on, also if this raises.

        Args:
            directory: The task's.
            mode: How the state is to be kept from here on.
            renews: Whether a state that may lack acknowledged updates gets a new incarnation.
        """
        with ExitStack() as opened:
            opened.enter_context(directory)
            files = SnapshotFiles(directory.path / _SNAPSHOTS)
            files.remove_incomplete()
            snapshot_position = max(files.positions(), default=0)
            journal = Journal.open(directory.path, after=snapshot_position, place=directory.place)
            opened.callback(journal.close)
            is_complete = _is_complete(directory, journal)
            if renews and not is_complete:
                directory.renew_store_incarnation()
            opened.pop_all()
        return cls(directory, files, journal, mode=mode, snapshot_position=snapshot_position, is_complete=is_complete)

    @property
    def store_incarnation(self) -> UUID:
        """Of the state."""
        return self.directory.store_incarnation

    def bring_back(self, state: LoggedState, clock: Callable[[], float] = time.monotonic) -> Recovered:
        """Restores the state, which is empty before and may be served after.

        Raises:
            CorruptSnapshotError, CorruptJournalError, ReplayError: It is damaged, and must not be served.
            ResourceExhaustedError: The variables are beyond the memory limit.
            OSError: The disk fails.
        """
        began_s = shown_s = clock()
        info = None
        if self._snapshot_position:
            image, info = self.files.read(self._snapshot_position)
            state.restore(image)
            del image  # the store owns its arrays now
        num_replayed = 0
        for record in self.journal.replay(self._snapshot_position):
            state.replay(record)
            num_replayed += 1
            if clock() - shown_s > _SHOW_EVERY_S:
                shown_s = clock()
                _LOG.info("carrying out records again: at %d of %d", record.position, self.journal.last_position)
        if state.replayed_position != self.journal.last_position:
            raise ReplayError(
                f"{self.journal.name} ends with record {self.journal.last_position}, but only those up to "
                f"{state.replayed_position} could be read"
            )
        self.files.drop_before(self._snapshot_position)
        # Last, so that a start that fails does not overwrite how the last run ended.
        write_last_run(self.directory.path, LastRun(self._mode))
        position = self.journal.last_position
        loss = "" if self.is_complete else _origin(position, info)
        return Recovered(position, info, num_replayed, clock() - began_s, loss)

    def close(self, *, ended_at: int | None) -> None:
        """Closes the journal and releases the directory.

        Args:
            ended_at: Position of the last record if all of the state is on disk and nothing will be added; else None.

        Raises:
            OSError: The note of the good end could not be written; the run counts as cut off.
        """
        try:
            self.journal.close()
            if ended_at is not None:
                self.directory.place.check()
                write_last_run(self.directory.path, LastRun(self._mode, ended_at))
        finally:
            self.directory.close()


def _is_complete(directory: DataDirectory, journal: Journal) -> bool:
    """Whether the state on disk has every update that was acknowledged."""
    if directory.is_new:
        return True
    run = read_last_run(directory.path)
    if run is None:
        return False
    if journal.was_absent:  # never there, or moved out of the way because it was damaged
        return run.ended_at == journal.last_position
    return run.has_all_up_to(journal.last_position)


def _origin(recovered_position: int, snapshot: SnapshotInfo | None) -> str:
    if recovered_position > (snapshot.position if snapshot else 0):
        return f"it has its state up to record {recovered_position}, and what came after is lost"
    if snapshot is None:
        return "it had no snapshot yet, and all is lost"
    taken_at = datetime.fromtimestamp(snapshot.taken_at_s, UTC)
    return f"it has the state of its snapshot of {taken_at:%Y-%m-%d %H:%M:%S} UTC, and what came after is lost"
