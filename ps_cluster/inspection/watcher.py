"""Asks the ps tasks of a running cluster, again and again, how it is doing."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from ps_cluster.inspection.queries import Connect, ps_processes
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec
from ps_protocol.errors import ShardscopeError
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import Member, ReplicaRole, Status
from ps_protocol.task_id import TaskId

POLL_INTERVAL_S: Final = 1.0

_CALL_TIMEOUT_S: Final = 2.0
_LAST_POLL_TIMEOUT_S: Final = 3.0
_RATE_SAMPLES: Final = 6


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """What the ps tasks last said.

    Attributes:
        statuses: By ps or backup, None for one that has not answered the last question.
        members: The workers that have joined, by name; also those that a new ps 0 does not know, as they were.
        steps_per_s: By worker, over the last few seconds, once it can be said.
        lost: Indices of replicated ps tasks whose state is in neither of their processes.
    """

    statuses: Mapping[TaskId, Status | None] = field(default_factory=dict)
    members: Mapping[str, Member] = field(default_factory=dict)
    steps_per_s: Mapping[str, float] = field(default_factory=dict)
    lost: frozenset[int] = frozenset()


class StepRates:
    """Steps per second of each worker, from the last few reports. Not thread-safe."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def add(self, task: str, step: int, now_s: float) -> float | None:
        """Takes a report and returns the rate; None as long as there is only one, or nothing has moved."""
        samples = self._samples.setdefault(task, deque(maxlen=_RATE_SAMPLES))
        if samples and step < samples[-1][1]:  # the worker has started again
            samples.clear()
        samples.append((now_s, step))
        first_s, first_step = samples[0]
        if step == first_step or now_s <= first_s:
            return None
        return (step - first_step) / (now_s - first_s)


class ClusterWatcher:
    """Polls in a thread of its own, from ``start`` to ``close``. Thread-safe.

    Args:
        cluster_spec: Where the ps tasks are.
        connect: Makes the client of one; closed at the end.
    """

    def __init__(self, cluster_spec: ClusterSpec, connect: Connect):
        self._services = {task: connect(address, task) for task, address in ps_processes(cluster_spec).items()}
        self._stateless: frozenset[int] = frozenset()  # as of the last poll
        self._lock = threading.Lock()  # guards: _snapshot, _ends
        self._snapshot = ClusterSnapshot()
        self._ends: dict[str, tuple[str, float]] = {}
        self._rates = StepRates()
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._poll_until_finished, name="cluster watcher", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.finish()

    @property
    def snapshot(self) -> ClusterSnapshot:
        """What the ps tasks last said."""
        with self._lock:
            return self._snapshot

    def report_end(self, task: TaskId, end: str) -> None:
        """Has the cluster told that a worker has not ended in good order, and how, as "signal SIGKILL"; never waits."""
        with self._lock:
            self._ends[str(task)] = (end, time.time())

    def finish(self) -> None:
        """Asks a last time and stops; returns when the answers are there, or after a few seconds."""
        self._finish.set()
        self._thread.join(_LAST_POLL_TIMEOUT_S)

    def _poll_until_finished(self) -> None:
        try:
            is_last = False
            while not is_last:
                is_last = self._finish.is_set()
                snapshot = self._poll()
                with self._lock:
                    self._snapshot = snapshot
                self._finish.wait(POLL_INTERVAL_S)
        finally:
            for service in self._services.values():
                service.close()

    def _poll(self) -> ClusterSnapshot:
        statuses = {task: _status_of(service) for task, service in self._services.items()}
        # Asked one after the other, one of a pair may have given its state to the other in between: so ask twice.
        stateless_before, self._stateless = self._stateless, _stateless_pairs(statuses)
        directory = self._services[_directory_task(statuses)]
        with self._lock:
            ends = dict(self._ends)
        members: dict[str, Member] = {}
        try:
            members |= {member.task: member for member in directory.list_members(timeout_s=_CALL_TIMEOUT_S)}
            self._tell_ends(ends, directory, members)
        except ShardscopeError:
            pass  # ps 0 has just been counted as one that does not answer
        now_s = time.monotonic()
        rates = {task: self._rates.add(task, member.step, now_s) for task, member in members.items()}
        return ClusterSnapshot(
            statuses,
            # A ps 0 that was started again does not know those that have ended, and the others only after a while.
            {**self.snapshot.members, **members},
            {task: rate for task, rate in rates.items() if rate is not None},
            lost=stateless_before & self._stateless,
        )

    def _tell_ends(
        self, ends: Mapping[str, tuple[str, float]], directory: ClusterService, members: Mapping[str, Member]
    ) -> None:
        """Tells how workers have ended; what fails is told at the next poll.

        One that never joined is no member, and who has joined since is another process of the same task.
        """
        for task, (end, ended_at_s) in ends.items():
            if task in members and members[task].joined_at_s <= ended_at_s:
                directory.leave(task, members[task].incarnation, end=end, timeout_s=_CALL_TIMEOUT_S)
            with self._lock:
                if self._ends.get(task) == (end, ended_at_s):
                    del self._ends[task]


def _directory_task(statuses: Mapping[TaskId, Status | None]) -> TaskId:
    """Which process keeps the members: ps 0, or its backup if that has taken over."""
    backup = statuses.get(TaskId(BACKUP_JOB, 0))
    return TaskId(BACKUP_JOB if backup is not None and backup.answers_clients else PS_JOB, 0)


def _stateless_pairs(statuses: Mapping[TaskId, Status | None]) -> frozenset[int]:
    """Replicated ps tasks that have begun, and both of whose processes say that they have no state."""
    pairs = [
        (task.index, (status, statuses.get(TaskId(PS_JOB, task.index))))
        for task, status in statuses.items()
        if task.job == BACKUP_JOB
    ]
    return frozenset(index for index, pair in pairs if all(map(_has_lost_state, pair)))


def _has_lost_state(status: Status | None) -> bool:
    replication = None if status is None else status.replication
    return replication is not None and replication.role is ReplicaRole.EMPTY and replication.epoch > 0


def _status_of(service: ClusterService) -> Status | None:
    try:
        return service.status(timeout_s=_CALL_TIMEOUT_S)
    except ShardscopeError:
        return None
