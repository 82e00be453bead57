"""Tells the cluster at intervals that this client lives, so that a death is noticed within the lease."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from uuid import UUID

from ps_protocol.errors import AbortedError, AlreadyExistsError, FailedPreconditionError, ShardscopeError
from ps_protocol.liveness import HEARTBEATS_PER_LEASE
from ps_protocol.ps_service import ClusterService

_LOG = logging.getLogger(__name__)

_CALL_TIMEOUT_S: Final = 1.0
STOP_TIMEOUT_S: Final = 5.0
"""How long the end of the thread is waited for."""


class FirstPs(Protocol):
    """What is used of the handle of ps task 0."""

    @property
    def service(self) -> ClusterService: ...

    def look(self) -> None: ...


class Heartbeat:
    """A daemon thread that renews the lease, from ``start`` to ``stop``. Thread-safe.

    A ps task 0 that is away is no failure: the thread goes on trying, and joins again when the ps has been
    restarted and knows no members.

    Args:
        first_ps: The handle of ps task 0.
        task: This client's task, as "worker:1".
        incarnation: Of the client.
        host: Where it runs.
        pid: Of its process.
        lease_s: How long it may be silent before it counts as dead, in seconds; 0 for ever: then there is no thread.
        job_sizes: How many tasks each job has by this client's cluster spec.
        replace: Whether to take the place of a living process that is this task.
        clock: Monotonic seconds.

    Attributes:
        step: Training steps done, as last reported; told with each heartbeat.
    """

    def __init__(
        self,
        first_ps: FirstPs,
        *,
        task: str,
        incarnation: UUID,
        host: str,
        pid: int,
        lease_s: float,
        job_sizes: Mapping[str, int] | None = None,
        replace: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._first_ps = first_ps
        self._task = task
        self._incarnation = incarnation
        self._host = host
        self._pid = pid
        self._lease_s = lease_s
        self._job_sizes = job_sizes
        self._replace = replace
        self._told = ""  # what was logged last of joining and of other clusters, so that it is logged once
        self._clock = clock
        self._started_s = clock()
        self._has_failed = False  # so that it is logged once
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.step: int | None = None

    def join(self, service: ClusterService, timeout_s: float) -> None:
        """Makes this client a member of the cluster, at its start.

        Raises:
            AbortedError: Whether another process that is this task lives is not known yet; retryable.
            AlreadyExistsError: It does live.
            ShardscopeError: Ps task 0 does not answer, or refuses.
        """
        self._join(service, timeout_s, age_s=0.0)

    def _join(self, service: ClusterService, timeout_s: float, *, age_s: float) -> None:
        try:
            disagreement = service.join(
                self._task,
                self._incarnation,
                self._host,
                self._pid,
                lease_s=self._lease_s,
                age_s=age_s,
                if_free=not self._replace,
                job_sizes=self._job_sizes,
                timeout_s=timeout_s,
            )
        except AbortedError as error:
            if self._told != self._task:
                self._told = self._task
                _LOG.warning("waiting for the place of %s: %s", self._task, error.message)
            raise
        self._tell(disagreement)

    def start(self) -> None:
        """Starts the thread; called once, after ``join``."""
        if self._lease_s > 0:
            thread = threading.Thread(target=self._run, name="shardscope-heartbeat", daemon=True)
            thread.start()
            self._thread = thread  # not before: `stop` may come meanwhile, and the thread ends at once then

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ends the thread, and waits until it has ended or some seconds are over. May be repeated."""
        self._ended.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join(timeout_s)

    def beat(self) -> bool:
        """Renews the lease once; False if this client has lost its place to another process, and is to stop."""
        service = self._first_ps.service
        timeout_s = min(_CALL_TIMEOUT_S, self._lease_s / HEARTBEATS_PER_LEASE)
        try:
            try:
                self._tell(service.heartbeat(self._task, self._incarnation, self.step, timeout_s=timeout_s))
            except FailedPreconditionError:
                self._join(service, timeout_s, age_s=self._clock() - self._started_s)
                _LOG.info("%s has joined the cluster again", self._task)
        except (AbortedError, AlreadyExistsError) as error:
            if error.retryable:
                return True
            _LOG.warning("no more heartbeats of %s: %s", self._task, error.message)
            return False
        except ShardscopeError as error:
            _LOG.debug("no heartbeat: %s", error)
            self._first_ps.look()
        return True

    def _tell(self, disagreement: str | None) -> None:
        if disagreement and disagreement != self._told:
            self._told = disagreement
            _LOG.warning("tasks disagree about the cluster: %s", disagreement)

    def _run(self) -> None:
        # Until the client is closed; each wait is one interval.
        while not self._ended.wait(self._lease_s / HEARTBEATS_PER_LEASE):
            try:
                if not self.beat():
                    return
            except Exception:  # noqa: BLE001 - a client without heartbeats would count as dead
                if not self._has_failed:
                    self._has_failed = True
                    _LOG.exception("a heartbeat of %s failed; the next one follows", self._task)
