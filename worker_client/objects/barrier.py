"""Barriers: all workers, or so many of them, wait for each other."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

from ps_protocol.cluster_spec import CHIEF_JOBS, WORKER_JOB
from ps_protocol.errors import (
    AbortedError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    ShardscopeError,
)
from ps_protocol.interrupts import Turn
from ps_protocol.service_types import Member
from ps_protocol.shared_objects import Json
from worker_client.connection.retry import Deadline, Reports
from worker_client.objects.departures import Departures, described
from worker_client.objects.shared_object import FIRST_WAIT_S, SharedObject

_LOG = logging.getLogger(__name__)

WORKER_JOBS: Final = (*CHIEF_JOBS, WORKER_JOB)
"""Those whose tasks meet."""

_FIRST_REPORT_S: Final = 10.0
"""To wait for others is what barriers are for; a wait is worth a line in the log when it is as long as that."""


class Barrier:
    """One barrier, as one client sees it. Thread-safe; one thread at a time waits there.

    Args:
        opened: The object.
        name: What the user calls it.
        task: This client's task, as "worker:1".
        identity: Of this client.
        workers: All workers of the cluster spec; empty if it names none.
        list_members: Lists the members of the cluster.
    """

    def __init__(
        self,
        opened: SharedObject,
        *,
        name: str,
        task: str,
        identity: str,
        workers: Sequence[str],
        list_members: Callable[[], Sequence[Member]],
    ):
        self._object = opened
        self._name = name
        self._task = task
        self._identity = identity
        self._workers = workers
        self._list_members = list_members
        self._departures = Departures(task, list_members())
        self._turn = Turn()
        self._waiting_thread = ""
        self._call = 1  # of the next call, or of one whose end is not known; changed by whose turn it is

    def wait(self, count: int, timeout_s: float) -> None:
        """Waits for the others; see ``Client.barrier``."""
        mine = threading.Lock()
        with mine:
            if not self._turn.take(mine):
                raise FailedPreconditionError(
                    f"barrier {self._name}: the thread {threading.current_thread().name} of {self._task} has come, but "
                    f"the thread {self._waiting_thread} of it waits there already; a worker arrives once, so let one "
                    f"thread of it do that"
                )
            self._waiting_thread = threading.current_thread().name
            caller = {"by": self._task, "id": self._identity, "call": self._call}
            try:
                failure = self._meet(caller, count, Deadline(timeout_s))
            except BaseException:
                # By Ctrl-C, say: the others are not to count on it. Should they have met by now, it has met them too,
                # and is told so when it comes again, since the call keeps its number.
                with contextlib.suppress(ShardscopeError):  # the connection may be closed
                    self._object.act_later({"do": "leave", **caller})
                raise
            self._call += 1
            if failure is not None:
                raise failure

    def _meet(self, caller: Json, count: int, deadline: Deadline) -> ShardscopeError | None:
        """Meets the others, or returns why that is not to be; what it raises leaves that open."""
        watch = _Watch(self, count, deadline)
        while True:
            arrived = self._object.act({"do": "arrive", "count": count, "store": self._object.store, **caller})
            if arrived is None:
                raise InternalError(f"barrier {self._name} has neither counted nor refused {self._task}")
            watch.meeting = arrived["meeting"]
            question = {"meeting": watch.meeting, **caller}
            answer = self._object.wait(question, deadline, watch.look, first_s=FIRST_WAIT_S)
            if answer is None:
                left = self._object.act({"do": "leave", **caller}) or {}
                return None if left.get("met") else watch.late(left.get("arrived", []))
            if answer.get("met"):
                return None
            if "broken" in answer:
                return AbortedError(
                    f"barrier {self._name}: {answer['broken']}; those who had arrived have been told the same. Go on "
                    f"without it, or start it again and have all come again",
                    retryable=False,
                )
            if "replaced" in answer:
                return AbortedError(
                    f"barrier {self._name}: another process that is {self._task} (connection {answer['replaced'][0]}) "
                    f"has arrived in the place of this one (connection {self._identity}); give each process a task of "
                    f"its own",
                    retryable=False,
                )
            # It was taken for dead, and is not: it arrives again.


class _Watch:
    """Looks now and then who is missing, on behalf of one who waits.

    Attributes:
        meeting: Which meeting is waited for.
    """

    def __init__(self, barrier: Barrier, count: int, deadline: Deadline):
        self._barrier = barrier
        self._count = count
        self._deadline = deadline
        self._reports = Reports(_FIRST_REPORT_S)
        self._told: tuple[int, list[str]] = (0, [])
        self.meeting = 0

    def look(self) -> None:
        """Tells the barrier who is gone, and the log who is waited for."""
        barrier = self._barrier
        members = {each.task: each for each in barrier._list_members() if _is_worker(each.task)}
        gone = barrier._departures.among(members)
        if gone and (self.meeting, gone) != self._told:
            possible = [task for task in barrier._workers if task not in gone]
            why = (
                f"{', '.join([described(task, members) for task in gone])}, so that no more than {len(possible)} of "
                f"the {self._count} workers that it takes can come"
            )
            barrier._object.act(
                {
                    "do": "gone",
                    "meeting": self.meeting,
                    "gone": gone,
                    "workers": possible if barrier._workers else None,
                    "why": why,
                }
            )
            self._told = (self.meeting, gone)
        if self._reports.is_due(self._deadline.elapsed_s()):
            _LOG.warning(
                "%s waits at barrier %s for %d workers, %.0f s of up to %.0f s: %s",
                barrier._task,
                barrier._name,
                self._count,
                self._deadline.elapsed_s(),
                self._deadline.timeout_s,
                ", ".join([described(task, members) for task in barrier._workers if task != barrier._task])
                or "who the others are, the cluster spec does not say",
            )

    def late(self, arrived: Sequence[str]) -> DeadlineExceededError:
        """The error for one who has waited long enough."""
        barrier = self._barrier
        members = {each.task: each for each in barrier._list_members()}
        missing = [task for task in barrier._workers if task not in arrived and task != barrier._task]
        names = ", ".join([described(task, members) for task in missing]) or "whom the cluster spec does not name"
        return DeadlineExceededError(
            f"barrier {barrier._name}: {len(arrived) + 1} of {self._count} workers had arrived after "
            f"{self._deadline.timeout_s:.1f} s ({', '.join(sorted([*arrived, barrier._task]))}); missing: {names}. "
            f"Wait longer with timeout_s, or start who is missing",
            retryable=False,
        )


def _is_worker(task: str) -> bool:
    return task.partition(":")[0] in WORKER_JOBS
