"""One of the two processes of a replicated ps task: a thread that decides its role, and the guard before its answers.

``decisions`` says what to do, and ``register`` what the arbiter grants; this module does it. One thread makes all
calls to the arbiter, one after the other, so that a report never contradicts an earlier answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from ps_protocol.errors import ShardscopeError, UnavailableError
from ps_protocol.service_types import ReplicaRole, ReplicationStatus
from ps_server.background.loops import BackgroundLoop, Troubles
from ps_server.replication.backup_link import BackupLink
from ps_server.replication.decisions import ReplicaDecision, View, decide, holds_lease
from ps_server.replication.follower import Follower
from ps_server.replication.register import ArbiterVerdict, Register, ReplicaReport, Role, Wish

_LOG = logging.getLogger(__name__)

_STEPS_PER_LEASE: Final = 10
_CALLS_PER_LEASE: Final = 5
_LONGEST_CALL_S: Final = 1.0
_HELD_LEASES: Final = 3.0
_STOP_TIMEOUT_S: Final = 5.0
_REPORT_EVERY_S: Final = 5.0

FIRST_PAIR_EPOCH: Final = 2
"""In the first, a task begins without state in one process; in this one the other has become its backup."""


class ArbiterCalls(Protocol):
    """``arbiter.ArbiterClient``."""

    def consult(
        self, report: ReplicaReport, wish: Wish = Wish.NONE, candidate: UUID | None = None, *, timeout_s: float
    ) -> ArbiterVerdict: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Transitions:
    """Callbacks for changes of the role. The thread that decides calls them.

    Attributes:
        begin: Makes the core ready to serve with a store: the one followed, or None for its own; returns which.
        announce: Tells the other tasks that this process is the primary, in an epoch.
        end: Ends the process, for the reason given; need not return.
    """

    begin: Callable[[UUID | None], UUID]
    announce: Callable[[int], None]
    end: Callable[[str], None]


class Replica:
    """Thread-safe.

    Args:
        process: This process.
        task: The ps task, as "ps:0".
        follower: Takes the primary's records while this process follows.
        link: Sends records to the backup while this process is the primary.
        arbiter: Owned; only the thread calls it.
        transitions: Carried out when the role changes.
        lease_s: Silence after which the other one counts as gone.
        clock: Monotonic seconds.
        troubles: Where it is noted that the thread fails.

    Attributes:
        is_primary: Whether this process is the primary, or was until it was superseded.
        epoch: Newest epoch that it has a part in.
    """

    def __init__(
        self,
        process: UUID,
        *,
        task: str,
        follower: Follower,
        link: BackupLink,
        arbiter: ArbiterCalls,
        transitions: Transitions,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
        troubles: Troubles | None = None,
    ):
        self._process = process
        self._task = task
        self._follower = follower
        self._link = link
        self._arbiter = arbiter
        self._transitions = transitions
        self._lease_s = lease_s
        self._clock = clock
        # Written by the thread alone; the guard reads plain values.
        self.is_primary = False
        self._is_over = False
        self.epoch = 0
        self._is_paired = False
        self._backup: UUID | None = None
        self._serves_from_s = 0.0
        self._register: Register | None = None
        self._register_s = float("-inf")
        self._was_refused = False
        self._number = 0
        self._last_reason = ""
        self._last_reason_s = float("-inf")
        self._broken = ""
        pause_s = lease_s / _STEPS_PER_LEASE
        self._loop = BackgroundLoop(
            "replica",
            self._take_step,
            troubles or Troubles(),
            at_end=arbiter.close,
            first_retry_s=pause_s,
            most_retry_s=pause_s,
        )

    def start(self) -> None:
        """Starts the thread; the process must be reachable."""
        self._loop.start()

    def stop(self) -> None:
        """Ends the thread, and waits for it for a few seconds."""
        self._loop.stop(_STOP_TIMEOUT_S)

    # -- the guard ----------------------------------------------------------------------------

    def check_may_answer(self) -> None:
        """See ``core.state.TaskRole``.

        Raises:
            UnavailableError: This process must not answer now; retryable, here or at the other process.
        """
        if not self.is_primary or self._is_over:
            raise UnavailableError(
                f"this process is not the primary of {self._task}. Ask the other ps tasks for the address of "
                f"{self._task}"
            )
        if not holds_lease(self._clock(), self._guard_view()):
            raise UnavailableError(
                f"its backup, {self._link.name}, has not been heard of ({self._link.obstacle}): calls wait until "
                f"it is heard of, or until the arbiter lets the task go on alone"
            )
        if self._clock() < self._serves_from_s:
            raise UnavailableError(f"the task has just begun, and waits for its backup, {self._link.name}")

    @property
    def has_backup(self) -> bool:
        """Whether another process has every acknowledged update too."""
        return self._backup is not None

    def status(self) -> ReplicationStatus:
        """What this process is, as far as it knows."""
        register = self._register
        known_epoch = max(self.epoch, self._follower.epoch, 0 if register is None else register.epoch)
        if self.is_primary:
            return ReplicationStatus(ReplicaRole.PRIMARY, self.epoch, self.has_backup, self._primary_obstacle())
        if self._is_paired:
            return ReplicationStatus(ReplicaRole.BACKUP, known_epoch)
        silent_s = self._clock() - self._follower.heard_s
        is_sent_state = self._follower.is_attached and silent_s <= self._lease_s
        if self._follower.has_state or is_sent_state:
            return ReplicationStatus(ReplicaRole.CATCHING_UP, known_epoch)
        return ReplicationStatus(ReplicaRole.EMPTY, known_epoch, obstacle=self._last_reason)

    def _primary_obstacle(self) -> str:
        try:
            self.check_may_answer()
        except UnavailableError as error:
            return error.message
        return "" if self.has_backup else f"{self._link.name}: {self._link.obstacle}"

    def broken(self, reason: str) -> None:
        """Called when the followed state cannot be used any more; the next step ends the process."""
        self._broken = reason

    # -- deciding -----------------------------------------------------------------------------

    def step(self) -> bool:
        """Decides once, and reports to the arbiter; returns whether to decide again at once."""
        if self._broken:
            self._end(self._broken)
            return False
        view = self._view()
        decision, reason = decide(self._clock(), view)
        is_good = decision in (ReplicaDecision.BEGIN, ReplicaDecision.ADOPT)
        self._log_reason(reason, logging.INFO if is_good else logging.WARNING)
        match decision:
            case ReplicaDecision.BEGIN:
                self._begin()
            case ReplicaDecision.TAKE_OVER:
                self._take_over()
            case ReplicaDecision.ADOPT:
                self._adopt()
            case ReplicaDecision.FOLLOW_AGAIN:
                self._was_refused = False
                self._follower.follow_again()
            case ReplicaDecision.END:
                self._end(reason)
                return False
            case ReplicaDecision.ASK_TO_TAKE_OVER:
                self._follower.stop()
                verdict = self._consult(Wish.TAKE_OVER)
                self._was_refused = verdict is not None and not verdict.granted
                return verdict is not None and verdict.granted
            case ReplicaDecision.ASK_TO_GO_ALONE:
                return self._go_alone()
            case ReplicaDecision.ASK_TO_PAIR_UP:
                return self._pair_up(view.candidate)
            case ReplicaDecision.GO_ON:
                self._consult(Wish.NONE)
                return False
        return True

    def _view(self) -> View:
        follower = self._follower
        if self.is_primary:
            candidate = self._link.in_step if self._backup is None else None
            return self._guard_view(candidate=candidate, is_replaced=self._link.is_replaced)
        return View(
            self._process,
            Role.FOLLOWER if follower.has_state else Role.EMPTY,
            self.epoch if self._is_paired else follower.epoch,
            self._lease_s,
            register=self._register,
            register_s=self._register_s,
            heard_s=follower.heard_s,
            is_paired=self._is_paired,
            has_stopped=follower.is_stopped,
            was_refused=self._was_refused,
        )

    def _guard_view(self, *, candidate: UUID | None = None, is_replaced: bool = False) -> View:
        return View(
            self._process,
            Role.PRIMARY,
            self.epoch,
            self._lease_s,
            register=self._register,
            heard_s=self._link.heard_s,
            is_paired=self._is_paired,
            candidate=candidate,
            is_replaced=is_replaced,
        )

    def _take_step(self) -> float:
        again = self.step()
        self._link.hang_up_if_silent()
        return 0.0 if again else self._lease_s / _STEPS_PER_LEASE

    # -- carrying out -------------------------------------------------------------------------

    def _begin(self) -> None:
        self._follower.stop()
        if self._follower.has_state:  # it came just now
            self._follower.follow_again()
            return
        assert self._register is not None
        self._serves_from_s = self._clock() + _HELD_LEASES * self._lease_s
        self._become_primary(self._register.epoch, None)

    def _take_over(self) -> None:
        assert self._register is not None
        self._become_primary(self._register.epoch, self._follower.store)

    def _become_primary(self, epoch: int, store: UUID | None) -> None:
        store = self._transitions.begin(store)
        self.epoch, self._is_paired, self._backup = epoch, False, None
        self._link.start(epoch, store)
        self.is_primary = True
        _LOG.log(_level(epoch), "is the primary of %s now, in epoch %d", self._task, epoch)
        self._transitions.announce(epoch)

    def _adopt(self) -> None:
        register = self._register
        assert register is not None
        self.epoch = register.epoch
        if not self.is_primary:
            self._is_paired = True
            self._follower.begin_epoch(register.epoch)
            return
        self._backup = register.backup
        if register.backup is None:
            self._is_paired = False
            self._link.go_alone()
        self._link.begin_epoch(register.epoch)

    def _go_alone(self) -> bool:
        verdict = self._consult(Wish.GO_ALONE)
        if verdict is None or not verdict.granted:
            return False
        self.epoch += 1
        self._link.begin_epoch(self.epoch)
        self._is_paired, self._backup = False, None
        self._link.go_alone()
        _LOG.warning("goes on without a backup, in epoch %d: updates are in this process alone", self.epoch)
        return True

    def _pair_up(self, candidate: UUID | None) -> bool:
        if candidate is None or not self._link.hold(candidate):
            return False
        # From here on the candidate may become the primary: it must have every update, and the lease counts.
        self._is_paired = True
        verdict = self._consult(Wish.PAIR_UP, candidate)
        if verdict is None:
            return False
        if not verdict.granted:
            # It is alone as before only if no call was granted meanwhile, neither its own nor another's.
            if verdict.register == Register(self.epoch, self._process):
                self._is_paired = False
                self._link.go_alone()
            return False
        self.epoch, self._backup = self.epoch + 1, candidate
        self._link.begin_epoch(self.epoch)
        self._serves_from_s = 0.0
        _LOG.log(_level(self.epoch), "%s is the backup now, in epoch %d", self._link.name, self.epoch)
        return True

    def _consult(self, wish: Wish, candidate: UUID | None = None) -> ArbiterVerdict | None:
        """Asks the arbiter; None if it has not answered."""
        self._number += 1
        view = self._view()
        report = ReplicaReport(self._process, self._number, view.role, view.epoch, self._backup)
        asked_s = self._clock()
        timeout_s = min(_LONGEST_CALL_S, self._lease_s / _CALLS_PER_LEASE)
        try:
            verdict = self._arbiter.consult(report, wish, candidate, timeout_s=timeout_s)
        except ShardscopeError as error:
            if wish is not Wish.NONE:
                self._log_reason(f"the arbiter does not answer: {error.message}")
            return None
        if verdict.reason:
            self._log_reason(f"the arbiter says no: {verdict.reason}" if wish is not Wish.NONE else verdict.reason)
        self._register, self._register_s = verdict.register, asked_s
        if not self.is_primary:
            self._follower.expect(None if verdict.register is None else verdict.register.primary)
        return verdict

    def _end(self, reason: str) -> None:
        self._is_over = True
        self._loop.stop(0)
        self._transitions.end(reason)

    def _log_reason(self, what: str, level: int = logging.WARNING) -> None:
        """Writes a reason to the log; the same one again only now and then."""
        now_s = self._clock()
        if what and (what[:40] != self._last_reason[:40] or now_s - self._last_reason_s > _REPORT_EVERY_S):
            self._last_reason, self._last_reason_s = what, now_s
            _LOG.log(level, "%s: %s", self._task, what)


def _level(epoch: int) -> int:
    """Of what is said when an epoch has begun: up to the first pair all goes as it should."""
    return logging.INFO if epoch <= FIRST_PAIR_EPOCH else logging.WARNING
