"""Who is the primary of a replicated ps task: one register in the coordination store, with one change for each epoch.

The safety of a failover rests on this: processes that cannot reach each other may ask for changes in the same epoch.
The first one is granted and begins the next epoch; the others are refused. That is a compare-and-swap register
(M. Herlihy, "Wait-Free Synchronization", 1991), which lets two processes agree; it needs neither clocks nor leases.

All functions are pure; ``register_store`` carries them out in the store.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from ps_protocol.errors import FailedPreconditionError

FIRST_EPOCH: Final = 1
"""In it a process has begun without state and answers nobody, so that another one may begin in its place."""


class Role(enum.IntEnum):
    """What a process of a pair is."""

    EMPTY = 0
    """It has no state, and no part in the pair."""
    FOLLOWER = 1
    PRIMARY = 2
    RETURNING = 3
    """It was in the pair, has its state from its disk, and does not know yet whether it is in the pair still."""


class Wish(enum.Enum):
    """What a process asks for."""

    BEGIN = enum.auto()
    """An empty process: to be the primary of a task that never had any state: in ``FIRST_EPOCH`` nobody is answered."""
    TAKE_OVER = enum.auto()
    """The backup: to be the primary."""
    GO_ALONE = enum.auto()
    """The primary: to have no backup any more; in ``FIRST_EPOCH`` to begin to answer without one."""
    PAIR_UP = enum.auto()
    """The primary: to have a process as its backup that has every record."""
    HAND_OVER = enum.auto()
    """The primary, which answers nobody any more: to change places with its backup.

    The new primary must ask to go alone before it answers anybody. As long as it has not, the old one, which has every
    acknowledged update, may take the place back, like any backup.
    """
    WRITE_AGAIN = enum.auto()
    """The primary: that the register be what it was, since the store has lost it."""
    BEGIN_ANEW = enum.auto()
    """As the operator wants it: to begin without the state that the task had, or with what is on this disk of it."""
    CLAIM = enum.auto()
    """A process with the state of a task that had no backup: to be its primary."""
    RETURN = enum.auto()
    """A process whose state was on its disk: to be what it was, the primary without a backup.

    It begins the next epoch, so that nothing counts any more that it has asked for before it ended.
    """


@dataclass(frozen=True, slots=True)
class Register:
    """Who is what in an epoch.

    Attributes:
        epoch: Counted from 1.
        primary: The process that may acknowledge updates.
        backup: The process that must have every acknowledged update, and may ask to take over; None for none.
        is_second: Whether the primary is the process at the address of the backup.
    """

    epoch: int
    primary: UUID
    backup: UUID | None = None
    is_second: bool = False

    @property
    def members(self) -> tuple[UUID, ...]:
        """Who has every acknowledged update."""
        return (self.primary,) if self.backup is None else (self.primary, self.backup)

    def has_gone_on_from(self, epoch: int) -> bool:
        """Whether a member of an epoch that is not named any more has an older state than those who are.

        Else this is of another history, which may have begun without what that member has.
        """
        return self.epoch > epoch or self.epoch == epoch == FIRST_EPOCH

    def encode(self) -> bytes:
        """Returns what the store keeps: JSON, for people who look there."""
        content = {
            "epoch": self.epoch,
            "primary": str(self.primary),
            "place": "backup" if self.is_second else "ps",
            "backup": str(self.backup) if self.backup else None,
        }
        return json.dumps(content).encode()

    @classmethod
    def decode(cls, content: bytes) -> Register:
        """Reads it back.

        Raises:
            FailedPreconditionError: It is no register.
        """
        try:
            said = json.loads(content)
            backup = said["backup"]
            return cls(
                int(said["epoch"]),
                UUID(said["primary"]),
                backup and UUID(backup),
                {"ps": False, "backup": True}[said["place"]],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FailedPreconditionError(
                f"the coordination store says {content[:100]!r} of who is the primary, which is no such entry: another "
                f"program, or another version, has written it"
            ) from error


@dataclass(frozen=True, slots=True)
class Asker:
    """A process that asks.

    Attributes:
        process: Which.
        is_second: Whether it is the one at the address of the backup.
        epoch: Newest epoch that it has a part in; 0 for none.
        backup: The primary's backup, as far as it knows; None if it has none.
    """

    process: UUID
    is_second: bool
    epoch: int = 0
    backup: UUID | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to a process.

    Attributes:
        register: Who is what now; None if there is no register.
        granted: Whether the change was made.
        reason: Why not, if it was not.
    """

    register: Register | None
    granted: bool = False
    reason: str = ""


def wanted(known: Register | None, asker: Asker, wish: Wish, candidate: UUID | None = None) -> Register:
    """The register that a process asks for, given the one that it knows."""
    mine = Register(asker.epoch + 1, asker.process, None, asker.is_second)
    match wish:
        case Wish.PAIR_UP:
            return replace(mine, backup=candidate)
        case Wish.HAND_OVER:
            assert asker.backup is not None
            return replace(mine, primary=asker.backup, backup=asker.process, is_second=not asker.is_second)
        case Wish.WRITE_AGAIN:
            return replace(mine, epoch=asker.epoch, backup=asker.backup)
        case Wish.BEGIN_ANEW:
            return replace(mine, epoch=max(asker.epoch, 0 if known is None else known.epoch) + 1)
        case Wish.CLAIM:
            return replace(mine, epoch=FIRST_EPOCH + 1)
        case Wish.RETURN:
            if known is None:
                return mine
            return replace(known if known.backup == asker.process else mine, epoch=known.epoch + 1)
        case Wish.BEGIN:
            return replace(mine, epoch=FIRST_EPOCH)
        case _:
            return mine


def objection(known: Register | None, asker: Asker, wish: Wish, candidate: UUID | None = None) -> str:
    """Why a wish cannot be granted; empty if it can."""
    if wish is Wish.BEGIN:
        return "" if known is None or known.epoch == FIRST_EPOCH else f"there was one, in epoch {known.epoch}"
    if wish in (Wish.WRITE_AGAIN, Wish.CLAIM):
        return "" if known is None else f"there is one, of epoch {known.epoch}"
    if wish is Wish.BEGIN_ANEW:
        return ""
    if known is None:
        return "the coordination store has no entry of this task"
    if wish is Wish.RETURN:
        return "" if asker.process in known.members else "the task has gone on without it"
    if asker.epoch != known.epoch:
        return f"it is for epoch {asker.epoch}, but the newest one is {known.epoch}"
    if wish is Wish.TAKE_OVER:
        return "" if known.backup == asker.process else "only the backup of this epoch may take over"
    if known.primary != asker.process:
        return "only the primary of this epoch may change its backup"
    if wish is Wish.HAND_OVER:
        return "" if known.backup is not None and known.backup == asker.backup else "it has no such backup"
    if wish is Wish.GO_ALONE:
        is_change = known.backup is not None or known.epoch == FIRST_EPOCH
        return "" if is_change else "it is alone already"
    if candidate is None or candidate == asker.process:
        return "a primary needs another process as its backup"
    return "" if known.backup is None else "it has a backup; it must go on alone first"


def in_words(register: Register | None) -> str:
    """What a register says, for the log."""
    if register is None:
        return "there is no primary"
    place = "the place of the backup" if register.is_second else "the place of the ps"
    backup = f"with the backup {register.backup}" if register.backup else "without a backup"
    return f"epoch {register.epoch}: the primary is {register.primary}, in {place}, {backup}"
