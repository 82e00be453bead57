"""What a process of a replicated ps task does next: a pure function of the time and of what it knows.

Why an old primary cannot do harm: the primary's lease is its backup's promise. A backup answers the primary's tokens
until it has heard nothing for a whole lease. Only then does it ask to take over, and it answers no token after that.
The primary counts the lease from when it *sent* the newest token that was answered, and uses only a part of it. So it
has stopped answering clients when its backup begins to ask.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ps_server.replication.register import Register, Role

PRIMARY_PART: Final = 0.8
"""Part of a lease that the primary uses; the rest is for clocks that run at different rates."""


EXIT_SUPERSEDED: Final = 5
"""Exit code of ``ReplicaDecision.END``: the task goes on without this process; started again, it becomes the backup."""


class ReplicaDecision(enum.Enum):
    """What to do."""

    GO_ON = enum.auto()
    BEGIN = enum.auto()
    """Become the primary of a task that has no state yet."""
    ADOPT = enum.auto()
    """Adopt the register's epoch; the role stays."""
    ASK_TO_TAKE_OVER = enum.auto()
    """Stop following, and ask the arbiter."""
    FOLLOW_AGAIN = enum.auto()
    """The arbiter has refused: be a backup again."""
    TAKE_OVER = enum.auto()
    """Become the primary, with the state that there is."""
    ASK_TO_GO_ALONE = enum.auto()
    ASK_TO_PAIR_UP = enum.auto()
    END = enum.auto()
    """End the process: its state is of no use any more."""


@dataclass(frozen=True, slots=True)
class View:
    """What a process knows.

    Attributes:
        process: Itself.
        role: What it is.
        epoch: Its newest one.
        lease_s: Silence after which the other one counts as gone.
        register: The arbiter's last answer; None if the arbiter does not know, or has not answered yet.
        register_s: When the call was made that this answers.
        heard_s: Follower: when its primary last sent something. Primary: when it sent the newest answered token.
        is_paired: Follower: whether it is its primary's backup. Primary: whether it has, or may have, one.
        has_stopped: Follower: whether it has stopped following.
        was_refused: Follower: whether the arbiter has refused since it stopped.
        candidate: Primary: the process that has every record, and is not its backup yet.
        is_replaced: Primary: whether another process, without state, has taken the place of its backup.
    """

    process: UUID
    role: Role
    epoch: int
    lease_s: float
    register: Register | None = None
    register_s: float = 0.0
    heard_s: float = 0.0
    is_paired: bool = False
    has_stopped: bool = False
    was_refused: bool = False
    candidate: UUID | None = None
    is_replaced: bool = False


def holds_lease(now_s: float, view: View) -> bool:
    """Whether a primary may answer: it has no backup, or its backup has promised not to take over yet."""
    return not view.is_paired or now_s - view.heard_s <= view.lease_s * PRIMARY_PART


def decide(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    """Returns what to do, and why, for the log; the reason may be empty."""
    match view.role:
        case Role.EMPTY:
            return _decide_empty(view)
        case Role.FOLLOWER:
            return _decide_paired(now_s, view) if view.is_paired else _decide_unpaired(now_s, view)
        case Role.PRIMARY:
            return _decide_primary(now_s, view)


def _decide_empty(view: View) -> tuple[ReplicaDecision, str]:
    if view.register is not None and view.register.primary == view.process:
        return (
            ReplicaDecision.BEGIN,
            f"no process of the task has any state; epoch {view.register.epoch} begins with none",
        )
    return ReplicaDecision.GO_ON, ""


def _decide_unpaired(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    register = view.register
    if register is not None and register.backup == view.process:
        return ReplicaDecision.ADOPT, f"it is the backup, in epoch {register.epoch}"
    silent_s = now_s - view.heard_s
    # It may be the backup, with the only state, unless the arbiter has answered since the silence was a lease long.
    if silent_s > view.lease_s and view.register_s > view.heard_s + view.lease_s and register is not None:
        return ReplicaDecision.END, (
            f"the primary that it began to follow has been silent for {silent_s:.1f} s, and it had not become its "
            f"backup; started again, it can become one"
        )
    return ReplicaDecision.GO_ON, ""


def _decide_paired(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    register = view.register
    silent_s = now_s - view.heard_s
    if register is not None and register.epoch > view.epoch:
        if register.primary != view.process:
            return ReplicaDecision.END, (
                f"the primary goes on without it, in epoch {register.epoch}; started again, it can become its backup"
            )
        if view.has_stopped and silent_s > view.lease_s:
            return ReplicaDecision.TAKE_OVER, f"it was granted epoch {register.epoch}"
        return ReplicaDecision.ASK_TO_TAKE_OVER, ""  # granted by a call whose answer was lost: stops first, and waits
    if silent_s <= view.lease_s:
        return ReplicaDecision.GO_ON, ""
    if view.has_stopped and view.was_refused:
        return ReplicaDecision.FOLLOW_AGAIN, ""
    return ReplicaDecision.ASK_TO_TAKE_OVER, f"the primary has been silent for {silent_s:.1f} s"


def _decide_primary(now_s: float, view: View) -> tuple[ReplicaDecision, str]:
    register = view.register
    if register is not None and register.epoch > view.epoch:
        if register.primary != view.process:
            return ReplicaDecision.END, f"another process became the primary in epoch {register.epoch}"
        return ReplicaDecision.ADOPT, ""
    if view.candidate is not None and (register is not None or view.is_paired):
        return ReplicaDecision.ASK_TO_PAIR_UP, ""
    if view.is_paired and view.is_replaced:
        return ReplicaDecision.ASK_TO_GO_ALONE, "another process, without state, is in the place of its backup"
    if not holds_lease(now_s, view):
        return ReplicaDecision.ASK_TO_GO_ALONE, f"its backup has been silent for {now_s - view.heard_s:.1f} s"
    return ReplicaDecision.GO_ON, ""
