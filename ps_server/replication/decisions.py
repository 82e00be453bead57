"""What a process of a replicated ps task does next: a pure function of the time and of what it knows.

Why an old primary cannot do harm: the primary's lease is its backup's promise. A backup answers the primary's tokens
until it has heard nothing for a whole lease. Only then does it ask to take over, and it answers no token after that.
The primary counts the lease from when it *sent* the newest token that was answered, and uses only a part of it. So it
has stopped answering clients when its backup begins to ask.

A primary without a backup has its lease from the coordination store: it counts from when it asked for the register that
still names it. A process that begins anew, since the operator gives up the state of such a primary, waits for a whole
lease before it answers anybody.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ps_server.replication.register import FIRST_EPOCH, Register, Role

PRIMARY_PART: Final = 0.8
"""Part of a lease that the primary uses; the rest is for clocks that run at different rates."""


EXIT_SUPERSEDED: Final = 5
"""Exit code of ``ReplicaDecision.END``: the task goes on without this process; started again, it becomes the backup."""


class ReplicaDecision(enum.Enum):
    """What to do."""

    GO_ON = enum.auto()
    ASK_TO_BEGIN = enum.auto()
    """Ask to become the primary of a task that has no state yet."""
    BEGIN = enum.auto()
    """Become the primary, without any state."""
    ADOPT = enum.auto()
    """Adopt the register's epoch; the role stays."""
    ASK_TO_TAKE_OVER = enum.auto()
    """Stop following, and ask to become the primary."""
    FOLLOW_AGAIN = enum.auto()
    """It was refused: be a backup again."""
    TAKE_OVER = enum.auto()
    """Stop following, and become the primary, with the state that there is."""
    ASK_TO_GO_ALONE = enum.auto()
    ASK_TO_PAIR_UP = enum.auto()
    HAND_OVER = enum.auto()
    """Answer nobody any more, and ask to change places with the backup."""
    TAKE_BACK = enum.auto()
    """Ask to be the primary again, since the backup that it has handed over to is not heard of."""
    WRITE_AGAIN = enum.auto()
    """Put the register back that the coordination store has lost."""
    BEGIN_ANEW = enum.auto()
    """Ask to become the primary of a task whose state is given up, but for what is on this disk of it."""
    ASK_TO_RETURN = enum.auto()
    """Ask to be the primary or the backup that it was, and be that, with the state that was on its disk."""
    END = enum.auto()
    """End the process: its state is of no use any more."""


@dataclass(frozen=True, slots=True)
class View:
    """What a process knows.

    Attributes:
        process: Itself.
        is_second: Whether it is the process at the address of the backup.
        role: What it is.
        epoch: Its newest one; of a process that returns, the one that was noted on its disk.
        lease_s: Silence after which the other one counts as gone.
        register: What the coordination store said last; None if there is no entry, or it has not answered yet.
        register_s: When it was asked for that; minus infinity if it has not answered yet.
        started_s: When the process began to decide.
        heard_s: Follower, or empty: when its primary last sent something. Primary: when it sent the newest token that
            was answered.
        is_paired: Follower: whether it is its primary's backup. Primary: whether it has, or may have, one.
        was_refused: Follower: whether it was refused since it stopped following.
        waits_until_s: Primary: until when one that has just begun waits for a backup before it answers, and one that
            has handed over waits for the new primary.
        candidate: Primary: the process that has every record, and is not its backup yet.
        is_replaced: Primary: whether another process, without state, has taken the place of its backup.
        is_left: Primary: whether its backup has said that it is about to end.
        may_hand_over: Primary: whether it is to hand over to its backup, which has every record.
        gives_up_state: Whether the operator wants a process to begin that is empty, or whose state is on its disk,
            whatever state is lost by that.
    """

    process: UUID
    is_second: bool
    role: Role
    epoch: int
    lease_s: float
    register: Register | None = None
    register_s: float = float("-inf")
    started_s: float = 0.0
    heard_s: float = 0.0
    is_paired: bool = False
    was_refused: bool = False
    waits_until_s: float = 0.0
    candidate: UUID | None = None
    is_replaced: bool = False
    is_left: bool = False
    may_hand_over: bool = False
    gives_up_state: bool = False

    @property
    def is_unclaimed(self) -> bool:
        """Whether the coordination store has said that there is no entry."""
        return self.register is None and self.register_s > float("-inf")


def holds_lease(now_s: float, view: View) -> bool:
    """Whether a primary may answer: its backup, or the coordination store, has promised that nobody else does yet."""
    since_s = view.heard_s if view.is_paired else view.register_s
    return is_within_lease(now_s, view.process, view.register, since_s, view.lease_s)


def is_within_lease(now_s: float, process: UUID, register: Register | None, since_s: float, lease_s: float) -> bool:
    """``holds_lease`` without a view, for the guard before each answer.

    Args:
        now_s: The time.
        process: The primary.
        register: As in ``View``.
        since_s: When that was sent, to the backup or, without one, to the coordination store, which was answered last.
        lease_s: As in ``View``.
    """
    if register is not None and register.primary != process:
        return False
    return now_s - since_s <= lease_s * PRIMARY_PART


def decide(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    """Returns what to do, and why, for the log; the reason may be empty."""
    match view.role:
        case Role.EMPTY:
            return _decide_empty(now_s, view)
        case Role.RETURNING:
            return _decide_returning(view)
        case Role.FOLLOWER:
            return _decide_paired(now_s, view) if view.is_paired else _decide_unpaired(now_s, view)
        case Role.PRIMARY:
            return _decide_primary(now_s, view)


def _decide_empty(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    register = view.register
    if register is not None and register.primary == view.process:
        return ReplicaDecision.BEGIN, f"epoch {register.epoch} begins without any state"
    if view.gives_up_state and view.register_s > float("-inf"):
        return ReplicaDecision.BEGIN_ANEW, "the operator gives up the state that the task had"
    # The process in the place of the ps comes first, so that tasks begin where the cluster spec has them.
    has_waited = now_s - max(view.started_s, view.heard_s) > view.lease_s
    if view.is_unclaimed and (has_waited or not view.is_second):
        return ReplicaDecision.ASK_TO_BEGIN, ""
    if register is not None and register.epoch == FIRST_EPOCH and has_waited:
        return ReplicaDecision.ASK_TO_BEGIN, "the process that has begun, and has answered nobody, is not heard of"
    return ReplicaDecision.GO_ON, ""


def is_stranded(view: View) -> bool:
    """Whether a process has state from its disk of which the coordination store cannot say whether it is the newest."""
    is_known = view.register_s > float("-inf")
    return view.role is Role.RETURNING and is_known and _decide_returning(view)[0] is ReplicaDecision.GO_ON


def _decide_returning(view: View) -> tuple[ReplicaDecision, str]:
    register = view.register
    if view.register_s == float("-inf"):
        return ReplicaDecision.GO_ON, ""
    is_named = register is not None and view.process in register.members
    if register is not None and is_named and register.epoch >= view.epoch:
        return ReplicaDecision.ASK_TO_RETURN, ""
    if register is not None and register.has_gone_on_from(view.epoch):
        return ReplicaDecision.END, (
            f"the task has gone on without it, in epoch {register.epoch}; started again, it sets its state of epoch "
            f"{view.epoch} aside, and can become the backup"
        )
    if view.gives_up_state:
        return ReplicaDecision.BEGIN_ANEW, "the operator goes on with the state that is on this disk"
    # Which process has the newest state would be in the register.
    said = "has no entry of this task" if register is None else f"is as of epoch {register.epoch}, or another one"
    return ReplicaDecision.GO_ON, (
        f"the coordination store {said}, but this process has state of epoch {view.epoch} on its disk. Put the store's "
        f"data back. If they are lost, have the process with the newest state go on, once both are up: `shardscope "
        f"promote TASK --accept-loss` chooses it"
    )


def _decide_unpaired(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    register = view.register
    if register is not None and register.backup == view.process:
        return ReplicaDecision.ADOPT, f"it is the backup, in epoch {register.epoch}"
    if register is not None and register.primary == view.process:
        return ReplicaDecision.TAKE_OVER, f"the primary has handed over to it, in epoch {register.epoch}"
    silent_s = now_s - view.heard_s
    # It may be the backup, with the only state, unless the register was read since the silence was a lease long.
    if silent_s > view.lease_s and view.register_s > view.heard_s + view.lease_s:
        return ReplicaDecision.END, (
            f"the primary that it began to follow has been silent for {silent_s:.1f} s, and it had not become its "
            f"backup; started again, it can become one"
        )
    return ReplicaDecision.GO_ON, ""


def _decide_paired(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    register = view.register
    silent_s = now_s - view.heard_s
    if register is not None and register.epoch > view.epoch:
        # Its primary has handed over; or it has asked itself, in silence and having stopped, and the answer was lost.
        if register.primary == view.process:
            return ReplicaDecision.TAKE_OVER, f"it is the primary, in epoch {register.epoch}"
        if register.backup == view.process:
            return ReplicaDecision.ADOPT, ""
        return ReplicaDecision.END, (
            f"the primary goes on without it, in epoch {register.epoch}; started again, it can become its backup"
        )
    if silent_s <= view.lease_s:
        return ReplicaDecision.GO_ON, ""
    if view.was_refused:
        return ReplicaDecision.FOLLOW_AGAIN, ""
    return ReplicaDecision.ASK_TO_TAKE_OVER, f"the primary has been silent for {silent_s:.1f} s"


def _decide_primary(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    register = view.register
    if register is not None and (register.epoch > view.epoch or register.primary != view.process):
        return _decide_replaced(now_s, view, register)
    if view.is_unclaimed:
        return ReplicaDecision.WRITE_AGAIN, "the coordination store has lost the entry of this task"
    if view.candidate is not None and (register is not None or view.is_paired):
        return ReplicaDecision.ASK_TO_PAIR_UP, ""
    if view.is_paired and view.is_left:
        return ReplicaDecision.ASK_TO_GO_ALONE, "its backup is about to end"
    if view.is_paired and view.is_replaced:
        return ReplicaDecision.ASK_TO_GO_ALONE, "another process, without state, is in the place of its backup"
    if view.is_paired and view.heard_s == float("-inf"):
        return ReplicaDecision.ASK_TO_GO_ALONE, "its backup has not followed it yet"
    if view.is_paired and not holds_lease(now_s, view):
        return ReplicaDecision.ASK_TO_GO_ALONE, f"its backup has been silent for {now_s - view.heard_s:.1f} s"
    if view.epoch == FIRST_EPOCH and not view.is_paired and now_s > view.waits_until_s:
        return ReplicaDecision.ASK_TO_GO_ALONE, "no backup has come"
    if view.is_paired and view.may_hand_over:
        return ReplicaDecision.HAND_OVER, "it hands over to its backup"
    return ReplicaDecision.GO_ON, ""


def _decide_replaced(now_s: float, view: View, register: Register) -> tuple[ReplicaDecision, str]:
    """For a primary of which the register says something else than it knows."""
    if register.backup == view.process:
        # It has handed over. The other one answers nobody before it has changed the register once more.
        if now_s > view.waits_until_s:
            return ReplicaDecision.TAKE_BACK, "the process that it has handed over to has not begun to answer"
        return ReplicaDecision.GO_ON, ""
    if register.epoch > view.epoch:
        if register.primary != view.process:
            return ReplicaDecision.END, f"another process is the primary, in epoch {register.epoch}"
        return ReplicaDecision.ADOPT, ""
    if view.epoch == FIRST_EPOCH:
        return ReplicaDecision.END, "another process has begun in its place"
    return ReplicaDecision.GO_ON, (
        f"the coordination store was emptied, and another process has begun in epoch {register.epoch}: this one, which "
        f"has the state of epoch {view.epoch}, answers nobody until the store's data are put back"
    )
