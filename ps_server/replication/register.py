"""Who is the primary of a replicated ps task, as its arbiter knows it: one change for each epoch.

The safety of a failover rests on this: processes that cannot reach each other may ask for changes in the same epoch.
The first one is granted and begins the next epoch; the others are refused. That is a compare-and-swap register
(M. Herlihy, "Wait-Free Synchronization", 1991), which lets two processes agree; it needs neither clocks nor leases.

The arbiter keeps nothing on disk. After a restart it grants nothing until both processes have reported what they are;
then the newest epoch counts. All functions are pure.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from uuid import UUID


class Role(enum.IntEnum):
    """What a process of a pair is; numbers of ``ConsultRequest.Role``."""

    EMPTY = 0
    """It has no state, and no part in the pair."""
    FOLLOWER = 1
    PRIMARY = 2


class Wish(enum.IntEnum):
    """What a process asks of the arbiter; numbers of ``ConsultRequest.Wish``."""

    NONE = 0
    TAKE_OVER = 1
    GO_ALONE = 2
    PAIR_UP = 3


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """What a process says of itself.

    Attributes:
        process: Which; drawn at its start.
        number: Of the call, counted by the process.
        role: What it is.
        epoch: Newest epoch that it has a part in; 0 for none.
        backup: The primary's backup; None if it has none.
    """

    process: UUID
    number: int
    role: Role
    epoch: int = 0
    backup: UUID | None = None


@dataclass(frozen=True, slots=True)
class Register:
    """Who is what in an epoch.

    Attributes:
        epoch: Counted from 1.
        primary: The process that may acknowledge updates.
        backup: The process that must have every acknowledged update, and may ask to take over; None for none.
    """

    epoch: int
    primary: UUID
    backup: UUID | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """All that an arbiter knows of one pair.

    Attributes:
        register: Who is what; None if the arbiter does not know.
        heard: The newest report of each of the two places, False for the one at the address of the ps task.
    """

    register: Register | None = None
    heard: Mapping[bool, ReplicaReport] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArbiterVerdict:
    """The arbiter's answer.

    Attributes:
        register: Who is what now; None if the arbiter does not know.
        granted: Whether the change was granted.
        reason: Why not, if it was not.
    """

    register: Register | None
    granted: bool = False
    reason: str = ""


def judge(
    known: Known, is_second: bool, report: ReplicaReport, wish: Wish = Wish.NONE, candidate: UUID | None = None
) -> tuple[Known, ArbiterVerdict]:
    """Decides about one call.

    Args:
        known: What the arbiter knows.
        is_second: Which of the two places calls.
        report: What it says of itself.
        wish: What it asks for.
        candidate: The process that a primary wants as its backup.

    Returns:
        What the arbiter knows from now on, and its answer.
    """
    before = known.heard.get(is_second)
    if before is not None and before.process == report.process and before.number >= report.number:
        return known, ArbiterVerdict(known.register, reason="a later call of the same process was answered already")
    known = _learned(replace(known, heard={**known.heard, is_second: report}))
    if wish is Wish.NONE:
        return known, ArbiterVerdict(known.register, reason=_loss(known))
    if known.register is None:
        return known, ArbiterVerdict(
            None,
            reason="the arbiter was started after the pair and has not heard of both its processes since, so that it "
            "cannot tell who was the primary last; start the other one, or end this one and restore a checkpoint",
        )
    wanted = Register(report.epoch + 1, report.process, candidate if wish is Wish.PAIR_UP else None)
    if known.register == wanted:
        return known, ArbiterVerdict(wanted, granted=True)  # it was granted before, and the answer was lost
    reason = _objection(known.register, report, wish, candidate)
    if reason:
        return known, ArbiterVerdict(known.register, reason=reason)
    return replace(known, register=wanted), ArbiterVerdict(wanted, granted=True)


def _objection(register: Register, report: ReplicaReport, wish: Wish, candidate: UUID | None) -> str:
    """Why a wish cannot be granted; empty if it can."""
    if report.epoch != register.epoch:
        return f"it is for epoch {report.epoch}, but the newest one is {register.epoch}"
    if wish is Wish.TAKE_OVER:
        return "" if register.backup == report.process else "only the backup of this epoch may take over"
    if register.primary != report.process:
        return "only the primary of this epoch may change its backup"
    if wish is Wish.GO_ALONE:
        return "" if register.backup is not None else "it is alone already"
    if candidate is None or candidate == report.process:
        return "a primary needs another process as its backup"
    return "" if register.backup is None else "it has a backup; it must go on alone first"


def _learned(known: Known) -> Known:
    """Completes what is known by what both processes say of themselves."""
    primaries = [each for each in known.heard.values() if each.role is Role.PRIMARY]
    newest = max(primaries, key=lambda each: each.epoch, default=None)
    is_complete = len(known.heard) == 2
    if newest is not None and (is_complete if known.register is None else newest.epoch > known.register.epoch):
        return replace(known, register=Register(newest.epoch, newest.process, newest.backup))
    # No process has any state: the task begins. But once there was a primary it does not: a backup with state may not
    # have reported yet.
    if known.register is None and is_complete and _are_empty(known):
        return replace(known, register=Register(1, known.heard[False].process))
    return known


def _loss(known: Known) -> str:
    """The message for two processes without state whose task had one; empty in any other case."""
    if known.register is None or len(known.heard) < 2 or not _are_empty(known):
        return ""
    if {each.process for each in known.heard.values()} & {known.register.primary, known.register.backup}:
        return ""
    return (
        f"neither process has any state, but there was one up to epoch {known.register.epoch}, which is lost unless a "
        f"process that has it is still there. To begin without it, end both and the arbiter's process; start all three"
    )


def _are_empty(known: Known) -> bool:
    return all(each.role is Role.EMPTY for each in known.heard.values())
