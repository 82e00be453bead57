"""One of the two processes of a replicated ps task: a thread that decides its role, and the guard before its answers.

``decisions`` says what to do, and ``register`` what is granted; this module does it. One thread makes all calls to the
coordination store, one after the other, so that a wish never contradicts an earlier answer.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final
from uuid import UUID

from ps_protocol.errors import FailedPreconditionError, ShardscopeError, UnavailableError
from ps_protocol.service_types import ReplicaRole, ReplicationStatus
from ps_server.background.loops import BackgroundLoop, Troubles
from ps_server.replication.backup_link import BackupLink
from ps_server.replication.decisions import PRIMARY_PART, ReplicaDecision, View, decide, is_stranded, is_within_lease
from ps_server.replication.follower import Follower
from ps_server.replication.member import Member, NoNotes, Notes, Part
from ps_server.replication.register import FIRST_EPOCH, Asker, Register, Role, Verdict, Wish
from ps_server.replication.replica_doors import GOOD, Reasons, Registers, Transitions, ask, level_of

_LOG = logging.getLogger(__name__)

_STEPS_PER_LEASE: Final = 10
_HELD_LEASES: Final = 3.0
_STOP_TIMEOUT_S: Final = 5.0
_LOST_AFTER_LEASES: Final = 2.0

FOR_A_FOLLOWER_S: Final = 5.0
"""How long a primary that is to end, and has the only state, waits for a process to follow it."""

_LOOK_EVERY_S: Final = 0.02

_RETURNS: Final = "it has its state from its disk, and asks whether it is in the pair still"


class Replica:
    """Thread-safe.

    Args:
        member: This process, as the register names it.
        returns: Whether it has its state from its disk, and may be in the register.
        task: The ps task, as "ps:0".
        is_second: Whether this is the process at the address of the backup.
        follower: Takes the primary's records while this process follows.
        link: Sends records to the backup while this process is the primary.
        registers: Owned; only the thread calls it.
        transitions: Carried out when the role changes.
        lease_s: Silence after which the other one counts as gone.
        clock: Monotonic seconds.
        notes: Where it notes what it is.
        troubles: Where it is noted that the thread fails.

    Attributes:
        is_primary: Whether this process is the primary, or was until it was superseded.
        epoch: Newest epoch that it has a part in.
    """

    def __init__(
        self,
        member: Member,
        *,
        returns: bool = False,
        task: str,
        is_second: bool,
        follower: Follower,
        link: BackupLink,
        registers: Registers,
        transitions: Transitions,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
        notes: Notes | None = None,
        troubles: Troubles | None = None,
    ):
        self._process = member.process
        self._notes = notes or NoNotes()
        self._task = task
        self._is_second = is_second
        self._follower = follower
        self._link = link
        self._registers = registers
        self._transitions = transitions
        self._lease_s = lease_s
        self._clock = clock
        # Written by the thread alone; the guard reads plain values.
        self.is_primary = False
        self._is_returning = returns
        self._is_over = False
        self._holds_back = ""  # why no call is answered while the task is handed over
        self.epoch = member.epoch if returns else 0
        self._is_paired = False
        self._backup: UUID | None = None
        self._started_s = clock()
        self._waits_until_s = float("-inf")  # for its first backup, or for the one that it has handed over to
        self._fenced_until_s = float("-inf")  # for a primary that was given up, or a backup that may be read
        self._register: Register | None = None
        self._register_s = float("-inf")
        self._was_refused = False
        self._was_ready = False
        self._reasons = Reasons(task, clock)
        # Written by other threads.
        self._broken = ""
        self._gives_up_state = False
        self._retires = False
        self._leaves_s = float("inf")  # since when it might hand over
        self._is_deserted = False  # both processes were told to end
        self._acts: Final[Mapping[ReplicaDecision, Callable[[], bool]]] = {
            ReplicaDecision.GO_ON: self._look,
            ReplicaDecision.ASK_TO_BEGIN: lambda: self._ask(Wish.BEGIN) is not None,
            ReplicaDecision.BEGIN_ANEW: self._begin_anew,
            ReplicaDecision.BEGIN: self._begin,
            ReplicaDecision.ADOPT: self._adopt,
            ReplicaDecision.ASK_TO_TAKE_OVER: self._ask_to_take_over,
            ReplicaDecision.FOLLOW_AGAIN: self._follow_again,
            ReplicaDecision.TAKE_OVER: self._take_over,
            ReplicaDecision.ASK_TO_GO_ALONE: self._go_alone,
            ReplicaDecision.ASK_TO_PAIR_UP: self._pair_up,
            ReplicaDecision.HAND_OVER: self._hand_over,
            ReplicaDecision.TAKE_BACK: self._take_back,
            ReplicaDecision.WRITE_AGAIN: self._write_again,
            ReplicaDecision.ASK_TO_RETURN: self._ask_to_return,
        }
        self._has_retired = threading.Event()
        pause_s = lease_s / _STEPS_PER_LEASE
        self._loop = BackgroundLoop(
            "replica",
            self._take_step,
            troubles or Troubles(),
            at_end=registers.close,
            first_retry_s=pause_s,
            most_retry_s=pause_s,
        )

    def start(self) -> None:
        """Starts the thread; the process must be reachable."""
        self._loop.start()

    def stop(self) -> None:
        """Ends the thread, and waits for it for a few seconds."""
        self._loop.stop(_STOP_TIMEOUT_S)

    def wake(self) -> None:
        """Has the thread decide at once: something has changed. Quick, and safe with any lock held."""
        self._loop.wake()

    def promote(self, *, accept_loss: bool) -> None:
        """See ``core.state.TaskRole``."""
        if self.is_primary:
            raise FailedPreconditionError(f"this process is the primary of {self._task} already")
        if self._is_returning and not is_stranded(self._view()):
            raise UnavailableError(f"this process is not in the pair yet: {_RETURNS}; try again later")
        if self._is_returning and not accept_loss:
            raise FailedPreconditionError(f"this process has its state from its disk, and waits: {self._reasons.last}")
        if self._is_returning:
            self._gives_up_state = True
        elif self._is_paired:
            self._follower.wants_place = True
        elif self._follower.has_state or self._is_sent_state:
            raise UnavailableError(f"this process is catching up with the primary of {self._task}; try again later")
        elif not accept_loss:
            raise FailedPreconditionError(
                f"this process has no state of {self._task}. Promote the one that has, or give up the state, with "
                f"--accept-loss"
            )
        else:
            self._gives_up_state = True
        self.wake()

    def retire(self, timeout_s: float) -> None:
        """Prepares the end of the process, so that nobody has to wait for a lease.

        The primary hands over to its backup. If there is none, it waits for one: for a few seconds if no process
        follows it, and as long as it may if one is catching up. A backup tells its primary, and waits until that goes
        on without it.

        Args:
            timeout_s: How long it may take.
        """
        self._retires = self._reasons.are_expected = True
        self._follower.leave()
        self.wake()
        began_s = kept_s = self._clock()
        while not self._has_retired.wait(_LOOK_EVERY_S):
            kept_s = self._clock() if self._holds_back else kept_s  # it begins to wait again if it keeps the place
            waited_s = self._clock() - (began_s if self._holds_back else kept_s)
            patience_s = min(FOR_A_FOLLOWER_S, timeout_s) if self._is_hopeless else timeout_s
            if self._holds_back or not self.is_primary:
                patience_s = max(patience_s, 2 * self._lease_s) if timeout_s else 0  # it may have to take over
            if self.may_end:
                return
            if waited_s >= patience_s:
                _LOG.error("%s ends, and no other process has its state", self._task)
                return

    @property
    def is_retiring(self) -> bool:
        """Whether this process was told to end."""
        return self._retires

    @property
    def has_retired(self) -> bool:
        """Whether the task goes on without this process."""
        return self._has_retired.is_set()

    @property
    def may_end(self) -> bool:
        """Whether a process that was told to end need not wait any more."""
        has_part = self.is_primary or self._is_paired or self._follower.has_state
        is_idle = self._is_returning or not has_part
        is_over = self._loop.is_stopping or self.has_retired
        return is_over or is_idle or (self._is_deserted and self._is_hopeless)

    @property
    def _is_hopeless(self) -> bool:
        return self.is_primary and not (self._is_paired or self._link.is_followed)

    # -- the guard ----------------------------------------------------------------------------

    def check_may_answer(self) -> None:
        """See ``core.state.TaskRole``.

        Raises:
            UnavailableError: This process must not answer now; retryable, here or at the other process.
        """
        reason = self._objection()
        if reason:
            raise UnavailableError(reason)

    def check_may_read(self) -> None:
        """See ``core.state.TaskRole``; errors as of ``check_may_answer``."""
        if self._is_paired and not self.is_primary:
            self._follower.check_may_read()
        else:
            self.check_may_answer()

    def _objection(self) -> str:
        """Why no call may be answered now; empty if it may."""
        if not self.is_primary or self._is_over:
            is_empty = not (self._is_over or self._follower.has_state or self._is_sent_state)
            return self._reasons.not_primary(waits=self._is_returning or is_empty)
        if self._holds_back:
            return self._holds_back
        now_s = self._clock()
        since_s = self._link.heard_s if self._is_paired else self._register_s
        if not is_within_lease(now_s, self._process, self._register, since_s, self._lease_s):
            if self._is_paired:
                return (
                    f"its backup, {self._link.name}, has not been heard of ({self._link.obstacle}): calls wait until "
                    f"it is heard of, or {self._registers.name} lets the task go on alone"
                )
            return (
                f"it has no backup, and {self._registers.name} has not confirmed for {now_s - self._register_s:.1f} s "
                f"that it is the primary of {self._task}: calls wait until it does"
            )
        if now_s < self._fenced_until_s:
            return "the task has just come to this process, and waits until no other one may answer"
        if self.epoch == FIRST_EPOCH or now_s < self._waits_until_s:
            return f"the task has just begun, and waits for its backup, {self._link.name}"
        return ""

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
        if self._is_returning:
            return ReplicationStatus(ReplicaRole.CATCHING_UP, known_epoch, obstacle=self._reasons.last or _RETURNS)
        if self._is_paired:
            return ReplicationStatus(ReplicaRole.BACKUP, known_epoch)
        if self._follower.has_state or self._is_sent_state:
            return ReplicationStatus(ReplicaRole.CATCHING_UP, known_epoch)
        return ReplicationStatus(ReplicaRole.EMPTY, known_epoch, obstacle=self._reasons.last)

    @property
    def _is_sent_state(self) -> bool:
        """Whether it has a primary, which has not been silent for long."""
        return self._follower.is_attached and self._clock() - self._follower.heard_s <= self._lease_s

    def _primary_obstacle(self) -> str:
        reason = self._objection()
        return reason or ("" if self.has_backup else f"{self._link.name}: {self._link.obstacle}")

    @property
    def is_ready(self) -> bool:
        """Whether this process may be relied on: a primary with a backup that answers, or a backup."""
        if self.is_primary:
            return self.has_backup and not self._objection()
        return self._is_paired and self._clock() - self._follower.heard_s <= self._lease_s

    def broken(self, reason: str) -> None:
        """Called when the followed state cannot be used any more; the next step ends the process."""
        self._broken = reason

    # -- deciding -----------------------------------------------------------------------------

    def step(self) -> bool:
        """Decides once, and reads the register; returns whether to decide again at once."""
        if self._broken:
            self._end(self._broken)
            return False
        self._note_leaving()
        view = self._view()
        decision, reason = decide(self._clock(), view)
        is_good = decision in GOOD or (decision is ReplicaDecision.END and bool(self._holds_back))
        is_good |= decision is ReplicaDecision.ASK_TO_GO_ALONE and self._link.is_left
        self._reasons.log(reason, logging.INFO if is_good else logging.WARNING)
        if decision is ReplicaDecision.END:
            self._end(reason)
            return False
        again = self._acts[decision]()
        if (self.is_primary or self._is_paired) and self._clock() >= self._fenced_until_s:  # else it must wait anew
            self._notes.note(self.epoch, Part.PRIMARY if self.is_primary else Part.BACKUP)
        return again

    def _note_leaving(self) -> None:
        """Before it hands over, its backup must have given a sign of life: the backup may have died just now."""
        if not (self.has_backup and (self._retires or self._link.is_wanted)):
            self._leaves_s = float("inf")
        elif self._leaves_s == float("inf"):
            self._leaves_s = self._clock()
            self._link.ask_for_sign()

    @property
    def _may_hand_over(self) -> bool:
        link, since_s = self._link, self._leaves_s
        # The link's locks are for those that are about to leave: the guard before each answer asks as well.
        return since_s < float("inf") and link.has_heard_since(since_s) and link.in_step == self._backup

    def _view(self) -> View:
        common = (self._process, self._is_second)
        follower, link = self._follower, self._link
        if self.is_primary:
            return View(
                *common,
                Role.PRIMARY,
                self.epoch,
                self._lease_s,
                self._register,
                self._register_s,
                heard_s=link.heard_s,
                is_paired=self._is_paired,
                waits_until_s=self._waits_until_s,
                candidate=self._candidate,
                is_replaced=link.is_replaced or (self.has_backup and link.in_step not in (None, self._backup)),
                is_left=link.is_left,
                may_hand_over=self._may_hand_over,
            )
        return View(
            *common,
            self._role,
            self.epoch if self._is_paired or self._is_returning else follower.epoch,
            self._lease_s,
            self._register,
            self._register_s,
            started_s=self._started_s,
            heard_s=follower.heard_s,
            is_paired=self._is_paired,
            was_refused=self._was_refused,
            gives_up_state=self._gives_up_state,
        )

    @property
    def _role(self) -> Role:
        if self.is_primary:
            return Role.PRIMARY
        if self._is_returning:
            return Role.RETURNING
        return Role.FOLLOWER if self._follower.has_state else Role.EMPTY

    @property
    def _candidate(self) -> UUID | None:
        """Who might become the backup; once it was asked for, until the answer is known."""
        if self._backup is not None or (self._link.is_left and not self._is_paired):
            return None
        return self._link.in_step

    def _take_step(self) -> float:
        again = self.step()
        self._link.hang_up_if_silent()
        self._tell_if_ready()
        pause_s = self._lease_s / _STEPS_PER_LEASE
        return 0.0 if again else min(pause_s, _LOOK_EVERY_S) if self._holds_back else pause_s

    def _tell_if_ready(self) -> None:
        is_ready = self.is_ready
        if is_ready != self._was_ready:
            self._was_ready = is_ready
            self._transitions.ready(is_ready)

    # -- carrying out -------------------------------------------------------------------------

    def _look(self) -> bool:
        """Reads the register; returns whether it has changed."""
        before = self._register
        verdict = self._ask(None)
        if not self.is_primary:
            self._note_loss()
            register = None if verdict is None else verdict.register
            has_part = register is not None and self._process in register.members
            if self._retires and verdict is not None and not has_part:
                self._has_retired.set()
        return verdict is not None and verdict.register != before

    def _note_loss(self) -> None:
        """Says so when no process is heard of that has the state."""
        register, waited_s = self._register, self._clock() - max(self._started_s, self._follower.heard_s)
        if register is None or self._is_paired or self._is_returning or waited_s < _LOST_AFTER_LEASES * self._lease_s:
            return
        self._reasons.log_loss(register, waited_s)

    def _ask_to_return(self) -> bool:
        known = self._register
        assert known is not None  # if it is of a later epoch than is noted, nobody has been answered in that epoch yet
        may_be_read = known.backup is not None or known.epoch > self.epoch
        verdict = self._ask(Wish.RETURN)
        if verdict is None or not verdict.granted:
            return verdict is not None
        register = verdict.register
        assert register is not None
        if register.primary == self._process:
            if self._gives_up_state:
                self._fenced_until_s = self._clock() + self._lease_s
            elif may_be_read:  # at its backup, as long as the process before this one would have waited for that
                self._fenced_until_s = self._started_s + self._lease_s * PRIMARY_PART
            if register.epoch == FIRST_EPOCH + 1:
                self._waits_until_s = self._clock() + _HELD_LEASES * self._lease_s
            self._become_primary(register, None if self._gives_up_state else self._follower.store)
        else:
            self.epoch, self._is_paired = register.epoch, True
            self._follower.return_to(register.primary, register.epoch)
            _LOG.warning("is the backup of %s again, in epoch %d, with what was on its disk", self._task, self.epoch)
        self._is_returning = False
        return True

    def _begin_anew(self) -> bool:
        verdict = self._ask(Wish.BEGIN_ANEW)
        if verdict is None or not verdict.granted:
            return False
        self._fenced_until_s = self._clock() + self._lease_s
        return True

    def _begin(self) -> bool:
        self._follower.stop()
        if self._follower.has_state:  # it came just now
            return self._follow_again()
        assert self._register is not None
        self._waits_until_s = self._clock() + _HELD_LEASES * self._lease_s
        return self._become_primary(self._register, None)

    def _ask_to_take_over(self) -> bool:
        self._follower.stop()
        if self._clock() - self._follower.heard_s <= self._lease_s:
            self._follower.follow_again()  # it was heard of just now, and may have been answered
            return False
        verdict = self._ask(Wish.TAKE_OVER)
        self._was_refused = verdict is not None and not verdict.granted
        return verdict is not None

    def _follow_again(self) -> bool:
        self._was_refused = False
        self._follower.follow_again()
        return True

    def _write_again(self) -> bool:
        self._ask(Wish.WRITE_AGAIN)
        return False

    def _take_over(self) -> bool:
        assert self._register is not None
        self._follower.stop()
        was_handed_over = self._clock() - self._follower.heard_s <= self._lease_s
        self._is_deserted = self._retires and was_handed_over and not self._follower.wants_place
        return self._become_primary(self._register, self._follower.store)

    def _become_primary(self, register: Register, store: UUID | None) -> bool:
        store = self._transitions.begin(store)
        # Whoever has handed over may take the place back, as its backup: it goes on alone before it answers.
        epoch, self._backup = register.epoch, register.backup
        self.epoch, self._is_paired = epoch, self._backup is not None
        self._link.start(epoch, store)
        self.is_primary = True
        _LOG.log(level_of(epoch, self._retires), "is the primary of %s now, in epoch %d", self._task, epoch)
        self._transitions.announce(epoch)
        return True

    def _adopt(self) -> bool:
        register = self._register
        assert register is not None
        self.epoch = register.epoch
        if not self.is_primary:
            self._is_paired = True
            self._follower.begin_epoch(register.epoch)
            return True
        self._backup = register.backup
        if self._holds_back:
            self._keep_place()
            self._fenced_until_s = self._link.heard_s + self._lease_s * PRIMARY_PART
        if register.backup is None:
            self._is_paired = False
            self._link.go_alone()
        self._link.begin_epoch(register.epoch)
        return True

    def _go_alone(self) -> bool:
        has_left = self._link.is_left
        verdict = self._ask(Wish.GO_ALONE)
        if verdict is None or not verdict.granted:
            return False
        self._is_deserted = self._retires and (has_left or self._is_deserted)
        self._keep_place()
        self.epoch += 1
        self._link.begin_epoch(self.epoch)
        self._is_paired, self._backup = False, None
        self._link.go_alone()
        level = level_of(self.epoch, has_left or self._retires)
        _LOG.log(level, "goes on without a backup, in epoch %d: updates are in this process alone", self.epoch)
        return True

    def _pair_up(self) -> bool:
        candidate = self._candidate
        if candidate is None or not self._link.hold(candidate):
            return False
        # From here on the candidate may become the primary: it must have every update, and the lease counts.
        self._is_paired = True
        verdict = self._ask(Wish.PAIR_UP, candidate)
        if verdict is None:
            return False
        if not verdict.granted:
            # It is alone as before only if no call was granted meanwhile, neither its own nor another's.
            if verdict.register == Register(self.epoch, self._process, None, self._is_second):
                self._is_paired = False
                self._link.go_alone()
            return False
        self.epoch, self._backup = self.epoch + 1, candidate
        self._link.begin_epoch(self.epoch)
        self._waits_until_s = float("-inf")
        _LOG.log(level_of(self.epoch), "%s is the backup now, in epoch %d", self._link.name, self.epoch)
        return True

    def _hand_over(self) -> bool:
        # Whoever has not been answered yet asks the backup, which has every update that was carried out for anybody
        # who was.
        self._holds_back = f"{self._task} is being handed over to {self._link.name}; ask there"
        self._waits_until_s = self._clock() + self._lease_s
        verdict = self._ask(Wish.HAND_OVER)
        if verdict is None:
            return False  # it may be granted yet, unless another change is: nobody is answered until that is known
        if not verdict.granted:
            self._keep_place()
            return True
        self._link.hang_up()  # which its follower notices
        return False

    def _take_back(self) -> bool:
        assert self._register is not None
        self.epoch = self._register.epoch
        return self._ask(Wish.TAKE_OVER) is not None

    def _keep_place(self) -> None:
        """It does not hand over, or no more."""
        self._holds_back, self._waits_until_s = "", float("-inf")

    def _ask(self, wish: Wish | None, candidate: UUID | None = None) -> Verdict | None:
        """Asks the coordination store, with no wish only for the register; None if it has not answered."""
        asker = Asker(self._process, self._is_second, self._view().epoch, self._backup)
        asked_s = self._clock()
        try:
            verdict = ask(self._registers, asker, wish, candidate, lease_s=self._lease_s)
        except ShardscopeError as error:
            self._reasons.log(error.message, logging.WARNING if wish is not None or self.is_primary else logging.DEBUG)
            return None
        if verdict.reason:
            self._reasons.log(f"{self._registers.name} says no: {verdict.reason}")
        self._register, self._register_s = verdict.register, asked_s
        if not self.is_primary:
            self._follower.expect(None if verdict.register is None else verdict.register.primary)
        return verdict

    def _end(self, reason: str) -> None:
        self._is_over = True
        self._loop.stop(0)
        if self._holds_back:
            _LOG.info("%s is the primary of %s now", self._link.name, self._task)
            self._link.close()
            self._transitions.handed_over(self._holds_back)
            reason = f"it has handed over to {self._link.name}, as the operator wants it"
        self._has_retired.set()
        if not self._retires:  # else it ends in good order
            self._transitions.end(reason)
