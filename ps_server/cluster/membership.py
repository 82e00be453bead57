"""The tasks that take part in the cluster, their progress and their leases. Kept by ps task 0."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from ps_protocol.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from ps_protocol.service_types import Member, MemberState, listed_incarnation
from ps_protocol.task_id import TaskId
from ps_server.cluster.leases import LeaseState, check_lease, lease_state

MAX_HOST_LENGTH: Final = 255
MAX_END_LENGTH: Final = 255

_MAX_JOBS: Final = 64
_MAX_JOB_LENGTH: Final = 255
_MAX_OLDER: Final = 16
_CLAIM_AGAIN_S: Final = 0.25
"""After how long a process that would be a task asks again."""

_STATES: Final = {
    LeaseState.ALIVE: MemberState.ACTIVE,
    LeaseState.LATE: MemberState.LATE,
    LeaseState.DEAD: MemberState.DEAD,
}


@dataclass(frozen=True, slots=True)
class Change:
    """A member that has died, or has come back.

    Attributes:
        member: Who; its state says which of both.
        silent_s: Seconds for which it had not been heard of.
    """

    member: Member
    silent_s: float


@dataclass(frozen=True, slots=True)
class _Claim:
    """A process that would be a task, and when it first said so on the clock of the leases."""

    incarnation: UUID
    since_s: float


@dataclass(slots=True)
class _Entry:
    """One task. ``member.state`` is ACTIVE, LEFT, or DEAD if its end is known; else that follows from the lease.

    Attributes:
        member: Its newest incarnation.
        heard_s: When it was last heard of, on the clock of the leases.
        reported_dead: Whether ``changes`` has reported its death.
        job_sizes: How many tasks each job has by its cluster spec.
        disagreement: How the cluster spec of a later task differs, in words; None if none does.
        is_disconnected: Whether its last connection has ended since it was last heard of.
        claim: Another process that would be this task, and waits until it is known whether this one lives.
        older: The incarnations before it that are connections of the same process, as many as are remembered.
        was_heard: Whether it was heard of after it had joined.
    """

    member: Member
    heard_s: float
    reported_dead: bool = False
    job_sizes: Mapping[str, int] = field(default_factory=dict)
    disagreement: str | None = None
    is_disconnected: bool = False
    claim: _Claim | None = None
    older: tuple[UUID, ...] = ()
    was_heard: bool = False

    def shown(self, clock_s: float) -> Member:
        if self.member.state is not MemberState.ACTIVE:
            return self.member
        return replace(self.member, state=_STATES[lease_state(clock_s, self.heard_s, self.member.lease_s)])


class Membership:
    """The tasks that have joined, each with its newest incarnation. Thread-safe.

    Methods are given the time twice: ``now_s`` in seconds since the epoch, which is what is shown, and ``clock_s`` on a
    clock that never goes back, by which leases are judged. Without the latter, ``now_s`` is taken for both.

    Args:
        max_members: The most tasks remembered. A new one then replaces the one that has left or is dead for longest, or
            else the one that has joined first of those that were never heard of since.
    """

    def __init__(self, max_members: int = 10_000):
        self._max_members = max_members
        # guards: _entries; no other lock is taken under it
        self._lock = threading.Lock()
        self._entries: dict[TaskId, _Entry] = {}

    def join(
        self,
        task: str,
        incarnation: UUID,
        host: str,
        pid: int,
        now_s: float,
        *,
        clock_s: float | None = None,
        lease_s: float = 0.0,
        age_s: float = 0.0,
        if_free: bool = False,
        job_sizes: Mapping[str, int] | None = None,
    ) -> str | None:
        """Records a task; a new incarnation takes the place of the old, the same one again changes only its host.

        Returns:
            Which member was started with another cluster, and what differs, in words; None if none is known.

        Raises:
            InvalidArgumentError: The task is not written as "worker:1", the host's name is too long, the lease is
                not possible, or there are too many jobs.
            AbortedError: With ``if_free``: whether the process that is this task lives is not known yet; retryable.
            AlreadyExistsError: It does live.
            ResourceExhaustedError: There are too many members, and none has left.
        """
        task_id = _parse(task)
        clock_s = now_s if clock_s is None else clock_s
        if len(host) > MAX_HOST_LENGTH:
            raise InvalidArgumentError(
                f"the host's name of {task} has {len(host)} characters; at most 255 are possible"
            )
        check_lease(lease_s)
        sizes = dict(job_sizes or {})
        if len(sizes) > _MAX_JOBS or any(len(job) > _MAX_JOB_LENGTH for job in sizes):
            raise InvalidArgumentError(f"the cluster spec of {task} has {len(sizes)} jobs, or one with a long name")
        with self._lock:
            entry = self._entries.get(task_id)
            if entry is not None and entry.member.incarnation == incarnation:
                entry.member = replace(
                    entry.member,
                    host=host,
                    pid=pid,
                    state=MemberState.ACTIVE,
                    last_seen_s=now_s,
                    lease_s=lease_s,
                    end="",
                )
                entry.heard_s = clock_s
                entry.was_heard = True
                return entry.disagreement
            joined_at_s = now_s - max(0.0, age_s)
            if entry is not None and if_free and (host, pid) != (entry.member.host, entry.member.pid):
                is_successor = age_s > 0 and joined_at_s > entry.member.joined_at_s  # both join again after a restart
                if not is_successor:
                    _check_free(entry, incarnation, clock_s)
            if entry is None and len(self._entries) >= self._max_members:
                self._make_room(clock_s)
            member = Member(task, incarnation, host, pid, MemberState.ACTIVE, joined_at_s, now_s, 0, lease_s)
            joined = _Entry(member, clock_s, entry is not None and entry.reported_dead, sizes)
            if entry is not None and (host, pid) == (entry.member.host, entry.member.pid):
                joined.older = (*entry.older, entry.member.incarnation)[-_MAX_OLDER:]
            self._entries[task_id] = joined
            self._compare_clusters(joined, clock_s)
            return joined.disagreement

    def leave(self, task: str, incarnation: UUID, now_s: float, *, end: str = "") -> None:
        """Records that a task has ended; ignored for an incarnation that is not the newest.

        Args:
            task: Which.
            incarnation: Of its process or connection, or as it is listed, for one that has started the process.
            now_s: The time.
            end: How it has ended, in words, if not in good order: then it is dead, whatever it has said itself. Whoever
                says so has told it, so that it is no change.
        """
        with self._lock:
            entry = self._entries.get(_parse(task))
            known = None if entry is None else entry.member.incarnation
            if entry is not None and known is not None and incarnation in (known, listed_incarnation(known)):
                state = MemberState.DEAD if end else MemberState.LEFT
                seen_s = entry.member.last_seen_s if end else now_s
                entry.member = replace(entry.member, state=state, last_seen_s=seen_s, end=end[:MAX_END_LENGTH])
                entry.reported_dead = bool(end)

    def heartbeat(
        self, task: str, incarnation: UUID, now_s: float, *, clock_s: float | None = None, step: int | None = None
    ) -> str | None:
        """Renews a task's lease; a late heartbeat of a task that has left is ignored.

        Args:
            task: Which.
            incarnation: Of its process or connection.
            now_s: The time.
            clock_s: The time by which leases are judged.
            step: Training steps that it has done; None to keep the last report.

        Returns:
            As ``join``.

        Raises:
            FailedPreconditionError: The task has not joined.
            AbortedError: A newer incarnation of the task has joined; not retryable.
        """
        with self._lock:
            entry = self._entries.get(_parse(task))
            if entry is None:
                raise FailedPreconditionError(
                    f"{task} has not joined the cluster, as far as this ps knows; it must join first"
                )
            known = entry.member
            if known.incarnation != incarnation:
                raise AbortedError(
                    f"another connection of this process has joined as {task} since; close this older one"
                    if incarnation in entry.older
                    else f"another process (pid {known.pid} on {known.host}) has joined as {task} since; end this one, "
                    f"or give it a task of its own",
                    retryable=False,
                )
            if known.state is MemberState.ACTIVE:
                entry.member = replace(known, step=known.step if step is None else step, last_seen_s=now_s)
                entry.heard_s = now_s if clock_s is None else clock_s
                entry.is_disconnected = False
                entry.was_heard = True
            return entry.disagreement

    def connection_lost(self, incarnation: UUID) -> None:
        """Records that the last connection of an incarnation has ended: until it is heard of it may be replaced."""
        with self._lock:
            for entry in self._entries.values():
                if entry.member.incarnation == incarnation:
                    entry.is_disconnected = True

    def list_members(self, clock_s: float = 0.0) -> list[Member]:
        """All members, by job and index; their states at a moment on the clock of the leases.

        Their incarnations are those of ``listed_incarnation``.
        """
        with self._lock:
            shown = [self._entries[task_id].shown(clock_s) for task_id in sorted(self._entries)]
        return [replace(member, incarnation=listed_incarnation(member.incarnation)) for member in shown]

    def changes(self, clock_s: float) -> list[Change]:
        """The members that have died or come back since the last call."""
        with self._lock:
            return [
                Change(member, clock_s - entry.heard_s)
                for task_id in sorted(self._entries)
                if (member := _change(entry := self._entries[task_id], clock_s)) is not None
            ]

    def _compare_clusters(self, joined: _Entry, clock_s: float) -> None:
        """Notes, with both, how the cluster of a new member differs from that of another; with the lock held."""
        if not joined.job_sizes:
            return
        for entry in self._entries.values():
            if not entry.job_sizes or entry.job_sizes == joined.job_sizes:
                continue
            if entry is joined or entry.shown(clock_s).state in (MemberState.LEFT, MemberState.DEAD):
                continue
            for one, other in ((joined, entry), (entry, joined)):
                one.disagreement = _disagreement(one, other) or one.disagreement

    def _make_room(self, clock_s: float) -> None:
        """With the lock held."""
        known = [(entry.heard_s, task_id, entry) for task_id, entry in self._entries.items()]
        gone = [each for each in known if each[2].shown(clock_s).state in (MemberState.LEFT, MemberState.DEAD)]
        unheard = [each for each in known if not each[2].was_heard]
        if not gone and not unheard:
            raise ResourceExhaustedError(
                f"{len(self._entries)} tasks have joined, as many as may be, and none has left; end some first",
                retryable=False,
            )
        # Some at a time: a flood of them is not to look through all members for each.
        for _, task_id, _ in sorted(gone or unheard)[: 1 + self._max_members // 100]:
            del self._entries[task_id]


def _check_free(entry: _Entry, incarnation: UUID, clock_s: float) -> None:
    """Makes sure that no living process is a task, for another that would be; AbortedError while that is not known."""
    member = entry.shown(clock_s)
    if member.state in (MemberState.LEFT, MemberState.DEAD) or entry.is_disconnected:
        return
    if entry.claim is None or entry.claim.incarnation != incarnation:
        entry.claim = _Claim(incarnation, clock_s)
    who = f"{member.task} is the process {member.pid} on {member.host}"
    silent = f"last heard of {clock_s - entry.heard_s:.1f} s ago"
    if not member.lease_s or entry.heard_s > entry.claim.since_s:
        lives = f"which lives ({silent})" if member.lease_s else f"which has no lease ({silent})"
        raise AlreadyExistsError(
            f"{who}, {lives}; give this process another task, end the other one, connect with replace=True to take its "
            f"place, or with observer=True to look on"
        )
    raise AbortedError(
        f"{who}, {silent}; whether it lives shows within its lease of {member.lease_s:g} s",
        retry_after_s=_CLAIM_AGAIN_S,
    )


def _disagreement(own: _Entry, other: _Entry) -> str | None:
    """How another member's cluster differs from one's own, in words; None if it does not."""
    for job, size in own.job_sizes.items():
        of_other = other.job_sizes.get(job, size)
        if of_other != size:
            who = other.member
            return (
                f"{who.task} (pid {who.pid} on {who.host}) was started in a cluster with {of_other} tasks of the job "
                f"{job!r}, {own.member.task} in one with {size}; give all the same cluster spec"
            )
    return None


def _change(entry: _Entry, clock_s: float) -> Member | None:
    """The member if it has died or come back since the last call."""
    member = entry.shown(clock_s)
    is_dead = member.state is MemberState.DEAD
    if is_dead == entry.reported_dead:
        return None
    entry.reported_dead = is_dead
    return member


def _parse(task: str) -> TaskId:
    try:
        return TaskId.parse(task)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from error
