"""When the tasks of a cluster that a program has started by hand end: the ps tasks when all other tasks are done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Final

from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec
from ps_protocol.errors import ShardscopeError
from ps_protocol.forks import new_lock
from ps_protocol.service_types import Member, MemberState
from ps_protocol.task_id import TaskId
from worker_client.training.monitored.log import LOG
from worker_client.transport.hosting import PsHost
from worker_client.transport.selection import TransportChoice, connect_endpoint, host_ps

_LOOK_S: Final = 0.2
_REPORT_EVERY_S: Final = 30.0
_CALL_TIMEOUT_S: Final = 10.0
_PS_IS_GONE_S: Final = 5.0
"""Silence of ps task 0 after which a task that only waits for the others takes the cluster for ended."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class PsTask:
    """The ps task that this process is.

    Args:
        spec: The cluster.
        index: Which ps task.

    Raises:
        RuntimeError: It cannot start; the message says why.
    """

    def __init__(self, spec: ClusterSpec, index: int):
        self._spec = spec
        self._index = index
        self._host: PsHost = host_ps({"cluster_spec": spec.to_flag(), "task_index": index})
        self._lock = new_lock()  # guards: _is_stopped
        self._is_stopped = False

    def join(self) -> None:
        """Waits until the end is asked for, or if this is ps task 0 until all other tasks are done; then ends it.

        Raises:
            RuntimeError: It could not finish what it had accepted.
        """
        reports = _Reports()
        with _signals_noted() as signals:
            while not self._host.wait_for_shutdown(_LOOK_S):  # as long as the cluster lives
                if signals:
                    self._host.request_shutdown(f"it received {signals[0].name}")
                elif self._index == 0 and _workers(self._spec):
                    awaited = _awaited(_workers(self._spec), self._host.members())
                    if not awaited:
                        self._end_other_ps()
                        self._host.request_shutdown("the workers are done")
                    elif reports.is_due():
                        LOG.info("ps:0 serves until these are done: %s", ", ".join(awaited))
            self.close()

    def close(self) -> None:
        """Ends it; RuntimeError if it could not finish what it had accepted. May be repeated."""
        with self._lock:
            is_first, self._is_stopped = not self._is_stopped, True
        if is_first and not self._host.stop():
            raise RuntimeError(
                f"ps:{self._index} has ended, but could not finish, or keep on disk, all that it had accepted; its log "
                f"says what"
            )

    def _end_other_ps(self) -> None:
        """Asks the other ps tasks to end. One that cannot be reached is only logged: it goes on."""
        known = {each.task: each.address for each in self._host.addresses()}
        for index, address in enumerate(self._spec.ps_addresses()):
            task = str(TaskId(PS_JOB, index))
            if index == self._index:
                continue
            service = connect_endpoint(known.get(task, address), task, TransportChoice.GRPC).service
            try:
                service.shutdown("the workers are done", timeout_s=_CALL_TIMEOUT_S)
            except ShardscopeError as error:
                LOG.warning("%s does not end with the workers; use `shardscope shutdown`: %s", task, error)
            finally:
                service.close()


def wait_for_others(spec: ClusterSpec, task: TaskId) -> None:
    """Waits until the other tasks are done, or the ps tasks have ended.

    Args:
        spec: The cluster.
        task: This one, which is done.
    """
    others = [each for each in _workers(spec) if each != str(task)]
    service = connect_endpoint(spec.ps_addresses()[0], "ps:0", TransportChoice.GRPC).service
    reports, heard_s = _Reports(), time.monotonic()
    try:
        while True:  # as long as the cluster lives
            try:
                awaited = _awaited(others, service.list_members(timeout_s=_CALL_TIMEOUT_S))
            except ShardscopeError as error:
                if time.monotonic() - heard_s > _PS_IS_GONE_S:
                    LOG.info("%s waits no longer, since ps:0 has ended: %s", task, error)
                    return
            else:
                heard_s = time.monotonic()
                if not awaited:
                    return
                if reports.is_due():
                    LOG.info("%s is done, and waits for %s", task, ", ".join(awaited))
            time.sleep(_LOOK_S)
    finally:
        service.close()


def _workers(spec: ClusterSpec) -> list[str]:
    """The tasks that use the ps tasks."""
    return [
        str(TaskId(job, index))
        for job in spec.jobs
        if job not in (PS_JOB, BACKUP_JOB)
        for index in spec.task_indices(job)
    ]


def _awaited(tasks: Iterable[str], members: Sequence[Member]) -> list[str]:
    """Those tasks that have not ended well, with what is known of them."""
    states = {each.task: each.state for each in members}
    return [
        task if task in states and states[task] is not MemberState.DEAD else f"{task} ({_why(states.get(task))})"
        for task in tasks
        if states.get(task) is not MemberState.LEFT
    ]


def _why(state: MemberState | None) -> str:
    return "not started yet" if state is None else "dead, and may be started again"


class _Reports:
    """Says when to report again."""

    def __init__(self) -> None:
        self._next_s = time.monotonic() + _REPORT_EVERY_S

    def is_due(self) -> bool:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _REPORT_EVERY_S
        return True


@contextmanager
def _signals_noted() -> Iterator[list[signal.Signals]]:
    """Has the first signal that would end the process only noted, in the list; the second one ends it as before.

    Only the main thread is told of signals: elsewhere nothing is noted.
    """
    noted: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(signum: int, _: FrameType | None) -> None:
        noted.append(signal.Signals(signum))
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.getsignal(each) for each in _SIGNALS if signal.getsignal(each) is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, note)
    try:
        yield noted
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
