"""The thread of a ps process that announces its address to the other ps tasks, and on ps task 0 watches the leases."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Final, Protocol
from uuid import UUID

from ps_protocol.cluster_spec import PS_JOB
from ps_protocol.errors import AbortedError, ShardscopeError
from ps_protocol.liveness import HEARTBEATS_PER_LEASE
from ps_protocol.service_types import MemberState, PsAddress
from ps_protocol.task_id import TaskId
from ps_server.background.loops import BackgroundLoop
from ps_server.cluster.leases import DEFAULT_LEASE_S
from ps_server.cluster.membership import Change
from ps_server.core.parameter_server import ParameterServer
from ps_server.process.peers import PeerAnswers

_LOG = logging.getLogger(__name__)

FIRST_PS: Final = str(TaskId(PS_JOB, 0))

_WATCH_EVERY_S: Final = 0.25
_FIRST_PAUSE_S: Final = 0.25
"""Pause after the first failure to reach ps task 0; it doubles with each failure, up to the usual interval."""

_CALL_TIMEOUT_S: Final = 1.0
_STOP_TIMEOUT_S: Final = 5.0


class PeerCalls(Protocol):
    """``peers.Peers``."""

    def learn_address(self, address: PsAddress) -> None: ...

    def announce(
        self,
        address: PsAddress,
        host: str,
        pid: int,
        *,
        lease_s: float,
        age_s: float,
        cluster: UUID | None,
        timeout_s: float,
    ) -> PeerAnswers: ...

    def leave(self, first_ps: str, address: PsAddress, *, timeout_s: float) -> None: ...

    def close(self) -> None: ...


class PsHeartbeats:
    """Announces a ps task at once and then three times in each lease, from ``start`` to ``stop``.

    While ps task 0 cannot be reached, as when it starts a moment later, the next attempt comes sooner at first.

    Args:
        core: The ps task.
        address: Where it is; its incarnation is that of the process.
        peers: The other ps tasks; owned, and used by the thread alone.
        lease_s: How long it may be silent before it counts as dead, in seconds; 0 for ever.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        core: ParameterServer,
        address: PsAddress,
        peers: PeerCalls,
        *,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._core = core
        self._address = address
        self._peers = peers
        self._lease_s = lease_s
        self._clock = clock
        self._started_s = clock()
        self._host = socket.gethostname()
        self._was_refused = False
        self._pause_s = _FIRST_PAUSE_S
        self._next_s = self._started_s
        self._loop = BackgroundLoop(
            "heartbeats", self._step, core.troubles, at_end=self._leave, most_retry_s=min(1.0, self._interval_s)
        )

    def start(self) -> None:
        """Starts the thread."""
        self._loop.start()

    def stop(self) -> None:
        """Ends the thread, which tells ps task 0 that this task leaves; waits for it for a few seconds."""
        self._loop.stop(_STOP_TIMEOUT_S)

    def announce(self) -> float:
        """Announces the ps task once, and learns the others' addresses; returns the seconds until the next time."""
        age_s = self._clock() - self._started_s
        try:
            self._core.announce(
                self._address, self._host, os.getpid(), lease_s=self._lease_s, age_s=age_s, timeout_s=_CALL_TIMEOUT_S
            )
        except AbortedError as error:  # another process has announced itself here as this task
            return self._report([error])
        for known in self._core.list_addresses(timeout_s=_CALL_TIMEOUT_S):
            self._peers.learn_address(known)
        answers = self._peers.announce(
            self._address,
            self._host,
            os.getpid(),
            lease_s=self._lease_s,
            age_s=age_s,
            cluster=self._core.own_cluster,
            timeout_s=self._call_timeout_s,
        )
        if answers.cluster is not None:
            self._core.learn_cluster(answers.cluster)
        for each in answers.addresses:
            if each.task != self._address.task:
                self._learn(each)
        return self._report(answers.failures)

    def watch(self) -> None:
        """Logs, once each, the members that have died or come back."""
        for change in self._core.member_changes():
            _LOG.warning(describe(change))

    @property
    def _call_timeout_s(self) -> float:
        return min(_CALL_TIMEOUT_S, self._interval_s)

    @property
    def _interval_s(self) -> float:
        return (self._lease_s or DEFAULT_LEASE_S) / HEARTBEATS_PER_LEASE

    def _learn(self, address: PsAddress) -> None:
        try:
            self._core.learn_address(address)
        except ShardscopeError as error:
            _LOG.debug("an address that cannot be right: %s", error.message)

    def _report(self, failures: list[ShardscopeError]) -> float:
        """Logs why announcements failed; returns the seconds until the next try."""
        for error in failures:
            if isinstance(error, AbortedError) and not self._was_refused:
                self._was_refused = True
                _LOG.error("another process is this ps task: %s", error.message)
            _LOG.debug("not announced: %s", error)
        if not any(error.task == FIRST_PS and error.retryable for error in failures):
            self._pause_s = _FIRST_PAUSE_S
            return self._interval_s
        pause_s, self._pause_s = self._pause_s, 2 * self._pause_s
        return min(pause_s, self._interval_s)

    def _step(self) -> float:
        if self._clock() >= self._next_s:
            self._next_s = self._clock() + self._interval_s  # also if it fails
            self._next_s = self._clock() + self.announce()
        self.watch()
        return min(_WATCH_EVERY_S, self._interval_s)

    def _leave(self) -> None:
        try:
            self._peers.leave(FIRST_PS, self._address, timeout_s=self._call_timeout_s)
        finally:
            self._peers.close()


def describe(change: Change) -> str:
    """What the log says of a member that has died or come back."""
    member = change.member
    steps = "" if TaskId.parse(member.task).job == PS_JOB else f", {member.step:,} steps"
    who = f"{member.task} (pid {member.pid} on {member.host}{steps})"
    if member.state is MemberState.DEAD:
        return f"{who} is dead: not heard of for {change.silent_s:.1f} s, longer than its lease of {member.lease_s:g} s"
    return f"{who} is back"
