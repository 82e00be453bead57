"""One process of a replicated ps task: its parts, put together around its state."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import grpc

from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec
from ps_protocol.task_id import TaskId
from ps_server.coordination.store import CoordinationStore
from ps_server.log.commit_log import CommitLog
from ps_server.log.logged_state import LoggedState
from ps_server.replication.backup_link import BackupLink, OtherProcess
from ps_server.replication.follower import Follower
from ps_server.replication.kept_state import KeptState
from ps_server.replication.member import Member
from ps_server.replication.pair_settings import PairSettings
from ps_server.replication.register_store import RegisterStore
from ps_server.replication.replica import Replica
from ps_server.replication.replica_doors import Transitions
from ps_server.replication.servicer import Admit, ReplicationServicer

_LAST_RECORDS_S: Final = 1.0
"""Time for records that no client waits for, such as ``ClientLeft``."""

_SILENT_LEASES: Final = 3.0
"""Leases of silence after which a connection is given up; a primary sends several tokens in each lease."""

_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


@dataclass(frozen=True, slots=True)
class ReplicationSettings:
    """Which process of a pair this is.

    Attributes:
        cluster_spec: The cluster, with its backups.
        task_index: The ps task.
        is_second: Whether this is the process at the address of the backup.
        lease_s: Silence after which the other process counts as gone, in seconds.
        coordinator: Where it is decided which of the two is the primary.
        durability: As ``--durability`` names it; this and what follows is to be the same in both processes.
        cluster_name: Among those that share the coordinator.
        job_seed: Seed of all initial values.
        memory_limit_bytes: 0 for no limit.
        functions: Name of the module with the functions of the team; empty for none.
    """

    cluster_spec: ClusterSpec
    task_index: int
    is_second: bool
    lease_s: float
    coordinator: CoordinationStore
    durability: str = "none"
    cluster_name: str = "default"
    job_seed: int = 0
    memory_limit_bytes: int = 0
    functions: str = ""

    @property
    def in_common(self) -> PairSettings:
        """What the other process is to have as well."""
        return PairSettings(
            str(TaskId(BACKUP_JOB if self.is_second else PS_JOB, self.task_index)),
            self.other.name,
            self.lease_s,
            self.durability,
            self.cluster_name,
            0 if self.task_index else self.job_seed,  # that of ps task 0 counts
            self.memory_limit_bytes,
            self.functions,
        )

    @property
    def other(self) -> OtherProcess:
        """The other process of the task."""
        job = PS_JOB if self.is_second else BACKUP_JOB
        return OtherProcess(str(TaskId(job, self.task_index)), self.cluster_spec.task_address(job, self.task_index))


class ReplicatedTask:
    """A process of a replicated ps task. Started once, ended once.

    Args:
        state: Not started; empty, unless ``kept`` has brought it back.
        settings: Which process this is.
        announce: Tells the other tasks that this process is the primary, in an epoch; called by another thread.
        on_fatal: Called by another thread with an error after which nothing can be promised; must end the process.
        on_superseded: Called with the reason when the task goes on without this process; must end it.
        on_ready: Told whether this process may be relied on, when that has changed.
        kept: The state on disk; None if nothing is kept there. Owned.

    Attributes:
        replica: The role of this process, for the core.
    """

    def __init__(
        self,
        state: LoggedState,
        settings: ReplicationSettings,
        announce: Callable[[int], None],
        *,
        on_fatal: Callable[[BaseException], None],
        on_superseded: Callable[[str], None],
        on_ready: Callable[[bool], None] = lambda _is_ready: None,
        kept: KeptState | None = None,
    ):
        self._state = state
        self._kept = kept
        self._on_fatal = on_fatal
        self._log: CommitLog | None = None
        task = state.parts.task
        member = Member(uuid4()) if kept is None else kept.member
        process = member.process

        def broken(reason: str) -> None:
            self.replica.broken(reason)

        def wake() -> None:
            self.replica.wake()

        self.follower = Follower(
            kept or state,
            task=task,
            process=process,
            on_broken=broken,
            lease_s=settings.lease_s,
            on_news=wake,
            clock=lease_clock,
            settings=settings.in_common,
        )
        if kept is not None and kept.returns:
            self.follower.bring_back(state.store_incarnation)
        self._link = BackupLink(
            settings.other,
            task=task,
            process=process,
            take_image=state.take_image,
            lease_s=settings.lease_s,
            on_news=wake,
            clock=lease_clock,
            troubles=state.parts.troubles,
            settings=settings.in_common,
        )
        self.replica: Final = Replica(
            member,
            returns=kept is not None and kept.returns,
            task=task,
            is_second=settings.is_second,
            follower=self.follower,
            link=self._link,
            registers=RegisterStore(settings.coordinator, task=task),
            transitions=Transitions(self._begin, announce, self._hand_over, on_superseded, on_ready),
            lease_s=settings.lease_s,
            clock=lease_clock,
            notes=None if kept is None else kept.notes,
            troubles=state.parts.troubles,
        )
        self._silence_s = _SILENT_LEASES * settings.lease_s

    def add_to(self, server: grpc.Server, admit: Admit | None) -> None:
        """Adds the service ``Replication`` to a server.

        Args:
            server: Not started yet.
            admit: Admits a connection of a primary; None if there is no socket port.
        """
        ReplicationServicer(self.follower, silence_s=self._silence_s, admit=admit).add_to(server)

    def start(self) -> None:
        """Begins to decide what this process is; it must be reachable."""
        self.replica.start()

    def retire(self, timeout_s: float) -> None:
        """Has the other process go on without this one, which is about to end; see ``Replica.retire``."""
        self.replica.retire(timeout_s)

    def stop_following(self) -> None:
        """Stops following, so that the primary notices at once and need not wait for a lease."""
        if not self.replica.is_primary:
            self.replica.stop()
            self.follower.stop()

    def close(self, *, drained: bool) -> bool:
        """Ends; returns whether all that must be kept on disk is.

        Acknowledged records are on the backup, if there is one; others are waited for a moment only.

        Args:
            drained: Whether every batch that was accepted has been answered.
        """
        self.replica.stop()
        if self._kept is not None:
            self.follower.stop()
            is_kept = self._kept.close(drained=drained, timeout_s=_LAST_RECORDS_S)
            self._link.close()
            return is_kept
        if self._log is not None and not self._log.close(_LAST_RECORDS_S):
            self._link.close()
        return True

    def _hand_over(self, reason: str) -> None:
        if self._log is not None:
            self._log.abandon(reason)

    def _begin(self, store: UUID | None) -> UUID:
        if self._kept is not None:
            self._log = self._kept.serve([self._link], on_fatal=self._on_fatal, is_given_up=store is None)
        else:
            self._log = self._state.start([self._link], on_fatal=self._on_fatal, store_incarnation=store)
        return self._state.base_incarnation


def lease_clock() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one: leases run out then too."""
    return time.clock_gettime(_CLOCK) if _CLOCK is not None else time.monotonic()
