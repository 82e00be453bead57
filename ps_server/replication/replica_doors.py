"""What the thread that decides the role of a process calls: the register, the log, and whoever a new role concerns."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from ps_server.replication.register import Asker, Register, Verdict, Wish

_LOG = logging.getLogger("ps_server.replication.replica")

_REPORT_EVERY_S: Final = 5.0


class Registers(Protocol):
    """``register_store.RegisterStore``."""

    @property
    def name(self) -> str: ...

    def read(self, *, timeout_s: float) -> Register | None: ...

    def ask(self, asker: Asker, wish: Wish, candidate: UUID | None = None, *, timeout_s: float) -> Verdict: ...

    def close(self) -> None: ...


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
    """

    def __init__(self, task: str, clock: Callable[[], float]):
        self._task = task
        self._clock = clock
        self.last = ""
        self.last_s = float("-inf")

    def log(self, what: str, level: int = logging.WARNING) -> None:
        """Writes a reason, if it is one and no repetition."""
        now_s = self._clock()
        if what and (what[:40] != self.last[:40] or now_s - self.last_s > _REPORT_EVERY_S):
            self.last, self.last_s = what, now_s
            _LOG.log(level, "%s: %s", self._task, what)
