"""The tasks that take part in the cluster, their progress and their leases. Kept by ps task 0."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from ps_protocol.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from ps_protocol.service_types import Member, MemberState
from ps_protocol.task_id import TaskId
from ps_server.cluster.leases import LeaseState, check_lease, lease_state

MAX_HOST_LENGTH: Final = 255

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


@dataclass(slots=True)
class _Entry:
    """One task. ``member.state`` is ACTIVE or LEFT; whether it is dead follows from the lease.

    Attributes:
        member: Its newest incarnation.
        heard_s: When it was last heard of, on the clock of the leases.
        reported_dead: Whether ``changes`` has reported its death.
    """

    member: Member
    heard_s: float
    reported_dead: bool = False

    def shown(self, clock_s: float) -> Member:
        if self.member.state is not MemberState.ACTIVE:
            return self.member
        return replace(self.member, state=_STATES[lease_state(clock_s, self.heard_s, self.member.lease_s)])


class Membership:
    """The tasks that have joined, each with its newest incarnation. Thread-safe.

    Methods are given the time twice: ``now_s`` in seconds since the epoch, which is what is shown, and ``clock_s`` on a
    clock that never goes back, by which leases are judged. Without the latter, ``now_s`` is taken for both.

    Args:
        max_members: The most tasks remembered. A new one then replaces the one that has left or is dead for longest.
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
    ) -> None:
        """Records a task; a new incarnation takes the place of the old, the same one again changes only its host.

        Raises:
            InvalidArgumentError: The task is not written as "worker:1", the host's name is too long, or the lease is
                not possible.
            ResourceExhaustedError: There are too many members, and none has left.
        """
        task_id = _parse(task)
        clock_s = now_s if clock_s is None else clock_s
        if len(host) > MAX_HOST_LENGTH:
            raise InvalidArgumentError(
                f"the host's name of {task} has {len(host)} characters; at most 255 are possible"
            )
        check_lease(lease_s)
        with self._lock:
            entry = self._entries.get(task_id)
            if entry is not None and entry.member.incarnation == incarnation:
                entry.member = replace(
                    entry.member, host=host, pid=pid, state=MemberState.ACTIVE, last_seen_s=now_s, lease_s=lease_s
                )
                entry.heard_s = clock_s
                return
            if entry is None and len(self._entries) >= self._max_members:
                self._make_room(clock_s)
            joined_at_s = now_s - max(0.0, age_s)
            member = Member(task, incarnation, host, pid, MemberState.ACTIVE, joined_at_s, now_s, 0, lease_s)
            self._entries[task_id] = _Entry(member, clock_s, entry is not None and entry.reported_dead)

    def leave(self, task: str, incarnation: UUID, now_s: float) -> None:
        """Records that a task has ended in good order; ignored for an incarnation that is not the newest."""
        with self._lock:
            entry = self._entries.get(_parse(task))
            if entry is not None and entry.member.incarnation == incarnation:
                entry.member = replace(entry.member, state=MemberState.LEFT, last_seen_s=now_s)
                entry.reported_dead = False

    def heartbeat(
        self, task: str, incarnation: UUID, now_s: float, *, clock_s: float | None = None, step: int | None = None
    ) -> None:
        """Renews a task's lease; a late heartbeat of a task that has left is ignored.

        Args:
            task: Which.
            incarnation: Of its process or connection.
            now_s: The time.
            clock_s: The time by which leases are judged.
            step: Training steps that it has done; None to keep the last report.

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
                    f"another process (pid {known.pid} on {known.host}) has joined as {task} since; end this one, or "
                    f"give it a task of its own",
                    retryable=False,
                )
            if known.state is MemberState.ACTIVE:
                entry.member = replace(known, step=known.step if step is None else step, last_seen_s=now_s)
                entry.heard_s = now_s if clock_s is None else clock_s

    def list_members(self, clock_s: float = 0.0) -> list[Member]:
        """All members, by job and index; their states at a moment on the clock of the leases."""
        with self._lock:
            return [self._entries[task_id].shown(clock_s) for task_id in sorted(self._entries)]

    def changes(self, clock_s: float) -> list[Change]:
        """The members that have died or come back since the last call."""
        with self._lock:
            return [
                Change(member, clock_s - entry.heard_s)
                for task_id in sorted(self._entries)
                if (member := _change(entry := self._entries[task_id], clock_s)) is not None
            ]

    def _make_room(self, clock_s: float) -> None:
        """With the lock held."""
        gone: list[tuple[float, TaskId]] = [
            (entry.heard_s, task_id)
            for task_id, entry in self._entries.items()
            if entry.shown(clock_s).state in (MemberState.LEFT, MemberState.DEAD)
        ]
        if not gone:
            raise ResourceExhaustedError(
                f"{len(self._entries)} tasks have joined, as many as may be, and none has left; end some first",
                retryable=False,
            )
        del self._entries[min(gone)[1]]


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
