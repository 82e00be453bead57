"""What the thread that decides the role of a process calls: the register, the log, and whoever a new role concerns."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from ps_server.replication.decisions import ReplicaDecision
from ps_server.replication.register import FIRST_EPOCH, Asker, Register, Verdict, Wish

_LOG = logging.getLogger("ps_server.replication.replica")

_REPORT_EVERY_S: Final = 5.0
_NUMBERS: Final = re.compile(r"[\d.]+")
_CALLS_PER_LEASE: Final = 5
_LONGEST_CALL_S: Final = 1.0

GOOD: Final = (ReplicaDecision.BEGIN, ReplicaDecision.ADOPT, ReplicaDecision.HAND_OVER)
"""Decisions whose reasons are no warnings."""


class Registers(Protocol):
    """``register_store.RegisterStore``."""

    @property
    def name(self) -> str: ...

    def read(self, *, timeout_s: float) -> Register | None: ...

    def ask(self, asker: Asker, wish: Wish, candidate: UUID | None = None, *, timeout_s: float) -> Verdict: ...

    def close(self) -> None: ...


def ask(
    registers: Registers, asker: Asker, wish: Wish | None, candidate: UUID | None = None, *, lease_s: float
) -> Verdict:
    """Asks for a wish, with none only for the register; in time that leaves the lease room for more."""
    timeout_s = min(_LONGEST_CALL_S, lease_s / _CALLS_PER_LEASE)
    if wish is None:
        return Verdict(registers.read(timeout_s=timeout_s))
    return registers.ask(asker, wish, candidate, timeout_s=timeout_s)


def level_of(epoch: int, is_expected: bool = False) -> int:
    """Of what is said when an epoch has begun: up to the first pair all goes as it should, or a process was ended."""
    return logging.INFO if is_expected or epoch <= FIRST_EPOCH + 1 else logging.WARNING


@dataclass(frozen=True, slots=True)
class Transitions:
    """Callbacks for changes of the role. The thread that decides calls them.

    Attributes:
        begin: Makes the core ready to serve with a store: the one followed or brought back; None for its own, or for a
            new one in the place of what was brought back. Returns which.
        announce: Tells the other tasks that this process is the primary, in an epoch.
        handed_over: Has nobody wait here any more, for the reason given: the other process is the primary.
        end: Ends the process, for the reason given; need not return.
        ready: Told whether this process may be relied on, when that has changed.
    """

    begin: Callable[[UUID | None], UUID]
    announce: Callable[[int], None]
    handed_over: Callable[[str], None]
    end: Callable[[str], None]
    ready: Callable[[bool], None] = lambda _is_ready: None


class Reasons:
    """Writes reasons to the log; the same one again only now and then.

    Args:
        task: The ps task, as "ps:0".
        clock: Monotonic seconds.

    Attributes:
        last: The newest one.
        are_expected: Whether this process was told to end, so that none of them is a warning.
    """

    def __init__(self, task: str, clock: Callable[[], float]):
        self._task = task
        self._clock = clock
        self.last = ""
        self.are_expected = False
        self.said_s: dict[str, float] = {}  # when, by how it begins without its numbers; of the last few seconds

    def log(self, what: str, level: int = logging.WARNING) -> None:
        """Writes a reason, if it is one and no repetition."""
        if not what:
            return
        now_s, self.last = self._clock(), what
        self.said_s = {begins: said_s for begins, said_s in self.said_s.items() if now_s - said_s <= _REPORT_EVERY_S}
        begins = _NUMBERS.sub("", what)[:40]
        if begins not in self.said_s:
            self.said_s[begins] = now_s
            _LOG.log(min(level, logging.INFO) if self.are_expected else level, "%s: %s", self._task, what)

    def not_primary(self, *, waits: bool) -> str:
        """What a client is told that asks a process which is not the primary.

        Args:
            waits: Whether it has no state that may be answered with, and nobody sends it any.
        """
        if waits and self.last:
            return f"this process waits for the state of {self._task}. {self.last[0].upper()}{self.last[1:]}"
        return (
            f"this process is not the primary of {self._task}. Ask the other ps tasks for the address of {self._task}"
        )

    def log_loss(self, register: Register, waited_s: float) -> None:
        """Says that for so long no process was heard of that has the state."""
        place = "backup" if register.is_second else "ps"
        self.log(
            f"no process has been heard of for {waited_s:.0f} s that has the state of epoch {register.epoch}, of which "
            f"the one in the place of the {place} was the primary. If that one is lost, `shardscope promote "
            f"{self._task} --accept-loss` begins without the state"
        )
