"""Who takes part in the cluster, and how far each has come. Kept by ps task 0."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Final
from uuid import UUID

from ps_protocol.errors import (
    AbortedError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
)
from ps_protocol.ps_service import Member, MemberState
from ps_protocol.task_id import TaskId

MAX_HOST_LENGTH: Final = 255


class Membership:
    """The tasks that have joined, each with its newest incarnation. Thread-safe; times are seconds since the epoch.

    Args:
        max_members: The most tasks remembered; of those that have left, the longest gone makes room.
    """

    def __init__(self, max_members: int = 10_000):
        self._max_members = max_members
        # guards: _members; no other lock is taken under it
        self._lock = threading.Lock()
        self._members: dict[TaskId, Member] = {}

    def join(self, task: str, incarnation: UUID, host: str, pid: int, now_s: float) -> None:
        """Records a task; a new incarnation takes the place of the old, the same one again changes only its host.

        Raises:
            InvalidArgumentError: The task is not written as "worker:1", or the host's name is too long.
            ResourceExhaustedError: There are too many members, and none has left.
        """
        task_id = _parse(task)
        if len(host) > MAX_HOST_LENGTH:
            raise InvalidArgumentError(
                f"the host's name of {task} has {len(host)} characters; at most 255 are possible"
            )
        with self._lock:
            known = self._members.get(task_id)
            if known is not None and known.incarnation == incarnation:
                self._members[task_id] = replace(known, host=host, pid=pid, state=MemberState.ACTIVE, last_seen_s=now_s)
                return
            if known is None and len(self._members) >= self._max_members:
                self._make_room()
            self._members[task_id] = Member(task, incarnation, host, pid, MemberState.ACTIVE, now_s, now_s, 0)

    def leave(self, task: str, incarnation: UUID, now_s: float) -> None:
        """Records that a task has ended in good order; ignored of an incarnation that is not the newest."""
        task_id = _parse(task)
        with self._lock:
            known = self._members.get(task_id)
            if known is not None and known.incarnation == incarnation:
                self._members[task_id] = replace(known, state=MemberState.LEFT, last_seen_s=now_s)

    def report_progress(self, task: str, incarnation: UUID, step: int, now_s: float) -> None:
        """Records how many training steps a task has done; of one that has left, the report came late and is ignored.

        Raises:
            FailedPreconditionError: The task has not joined.
            AbortedError: A newer incarnation of the task has joined; not retryable.
        """
        task_id = _parse(task)
        with self._lock:
            known = self._members.get(task_id)
            if known is None:
                raise FailedPreconditionError(f"{task} has not joined the cluster; join before reporting progress")
            if known.incarnation != incarnation:
                raise AbortedError(
                    f"another process (pid {known.pid} on {known.host}) has joined as {task} since; end this one, or "
                    f"give it a task of its own",
                    retryable=False,
                )
            if known.state is MemberState.ACTIVE:
                self._members[task_id] = replace(known, step=step, last_seen_s=now_s)

    def list_members(self) -> list[Member]:
        """All members, by job and index."""
        with self._lock:
            return [self._members[task_id] for task_id in sorted(self._members)]

    def _make_room(self) -> None:
        """With the lock held."""
        gone = [task_id for task_id, member in self._members.items() if member.state is MemberState.LEFT]
        if not gone:
            raise ResourceExhaustedError(
                f"{len(self._members)} tasks have joined, as many as may be, and none has left; end some first",
                retryable=False,
            )
        del self._members[min(gone, key=lambda task_id: self._members[task_id].last_seen_s)]


def _parse(task: str) -> TaskId:
    try:
        return TaskId.parse(task)
    except ValueError as error:
        raise InvalidArgumentError(str(error)) from error
