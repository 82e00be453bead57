"""A ps task in this process, with its journal and snapshots on disk, that can crash.

A crash is a copy of the task's files as they are at one instant, from which the task is then brought back; what the old
one does after it leaves no trace. The copy is made between two operations, or at a fault point by the thread that is
about to go on there, while no other one writes: so it holds what the system keeps of a process that is killed there.
"""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

from ps_protocol import fault_points
from ps_protocol.cluster_spec import ClusterSpec, TaskId
from ps_protocol.fault_points import FaultAction, FaultPlan
from ps_protocol.service_types import DurabilityMode
from ps_server.batches.update_ledger import LedgerLimits
from ps_server.core.parameter_server import ParameterServer
from ps_server.durability.recovery import StateOnDisk
from ps_server.durability.snapshots.files import SnapshotInfo
from ps_server.durability.task import DurableSettings, DurableTask
from ps_server.log.logged_state import LoggedState
from ps_server.log.state_parts import StateParts
from tests.property.durability.durable_model import REMEMBERED

TIMEOUT_S: Final = 30.0
_NEVER_S: Final = 1e9

SEND_PLACES: Final = (
    "batch.before_log",
    "journal.new_file",
    "journal.file_made",
    "journal.file_named",
    "journal.before_commit",
    "journal.after_commit",
    "batch.before_reply",
)
SNAPSHOT_PLACES: Final = ("snapshot.before_rename", "snapshot.after_rename", "snapshot.before_drop", "journal.drop")


class CrashingTask:
    """One life of ps:0.

    Args:
        root: Its data directory.
        mode: How it keeps its state.

    Attributes:
        core: What serves.
    """

    def __init__(self, root: Path, mode: DurabilityMode):
        self._root = root
        self._mode = mode
        on_disk = StateOnDisk.open(root, task=TaskId("ps", 0), num_ps=1, mode=mode)
        cluster_spec = ClusterSpec({"ps": ["localhost:1"]})
        parts = StateParts(cluster_spec, 0, ledger_limits=LedgerLimits(answers_per_client=REMEMBERED))
        self.state = LoggedState(parts, on_disk.store_incarnation)
        self._copy: _Copy | None = None
        self._fatal: list[BaseException] = []
        settings = DurableSettings(mode, root, snapshot_interval_s=_NEVER_S)
        self._kept = DurableTask(self.state, on_disk, settings).serve(on_fatal=self._fatal.append)
        self.core = ParameterServer(cluster_spec=cluster_spec, task_index=0, state=self.state)

    @property
    def store(self) -> UUID:
        """Incarnation of the state."""
        return self.core.store_incarnation

    @property
    def position(self) -> int:
        """Of the newest record."""
        return self._kept.log.last_position

    def snapshot(self) -> SnapshotInfo | None:
        """Takes a snapshot now."""
        return self._kept.snapshotter.snapshot()

    def close(self) -> None:
        """Ends in good order."""
        assert self._kept.close(drained=True, timeout_s=TIMEOUT_S)
        assert not self._fatal

    def restart(self) -> CrashingTask:
        """Ends in good order; returns the next life."""
        self.close()
        return CrashingTask(self._root, self._mode)

    @property
    def has_crashed(self) -> bool:
        """Whether what happens from now on will leave no trace."""
        return self._copy is not None and self._copy.root is not None

    def crash(self) -> CrashingTask:
        """Ends as by SIGKILL, now; returns the next life."""
        return self._next_life(_copied(self._root))

    def crash_while(self, place: str, act: Callable[[], object]) -> CrashingTask | None:
        """Ends as by SIGKILL when it first comes by a fault point while it acts; None if it does not come by there."""
        copy = self._copy = _Copy(place, self._root, self._settle)
        with fault_points.installed(copy):
            act()
        self._copy = None
        return None if copy.root is None else self._next_life(copy.root)

    def _settle(self) -> None:
        """Waits until the journal rests."""
        self._kept.log.wait_committed(self.position, TIMEOUT_S)

    def _next_life(self, root: Path) -> CrashingTask:
        self.close()
        shutil.rmtree(self._root)
        return CrashingTask(root, self._mode)


class _Copy(FaultPlan):
    """Copies a directory when a place is first passed.

    Args:
        place: Which.
        root: The directory.
        settle: Waits until no other thread writes to it.
    """

    def __init__(self, place: str, root: Path, settle: Callable[[], None]):
        super().__init__(())
        self._place = place
        self._source = root
        self._settle = settle
        self._once = threading.Lock()
        self.root: Path | None = None

    def reached(self, place: str) -> FaultAction | None:
        if place == self._place and self._once.acquire(blocking=False):
            if not place.startswith("journal."):  # which the thread passes that writes
                self._settle()
            self.root = _copied(self._source)
        return None


_lives = itertools.count()


def _copied(root: Path) -> Path:
    target = root.with_name(f"life-{next(_lives)}")
    shutil.copytree(root, target)
    return target


def fast_directory() -> str | None:
    """A directory in memory for many small files that are synced; None for the usual one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
