"""Whether a ps task answers, and how long to wait for one that does not: one answer for all threads.

A call that fails does not tell whether a reply was lost, or the ps is busy or has died. So the client says hello to
the ps, which also opens the faster ways to one that was restarted. If it does not answer, it is away. Everything for it
is kept, unchanged and in order, and sent when it is back within the grace.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from ps_protocol.errors import DeadlineExceededError, ShardscopeError, UnavailableError
from ps_protocol.interrupts import sheltered
from worker_client.connection.retry import Deadline, Reports, short_reason

_LOG = logging.getLogger(__name__)

_RECENT_S: Final = 0.05
"""Age up to which what one thread has found out serves the others too."""

_MAX_HELLO_S: Final = 10.0
"""Longest to wait for another thread that finds out; what it does is bounded by less."""


class Availability:
    """Thread-safe.

    Args:
        task: The ps task, as "ps:0".
        where: Says where it is being looked for.
        patience_s: How long operations wait for it, from when the first of them found it away, in seconds.
        say_hello: Says hello again, perhaps at another address; raises a retryable error if nothing answers, and
            another one if the ps will not talk to this client any more. Bounded to a few seconds.
        probe: Finds out whether it answers at all, and changes nothing; raises if it does not. Bounded likewise.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        task: str,
        where: Callable[[], str],
        patience_s: float,
        say_hello: Callable[[], None],
        probe: Callable[[], None],
        clock: Callable[[], float],
    ):
        self.patience_s = patience_s
        self._task = task
        self._where = where
        self._say_hello = say_hello
        self._probe = probe
        self._clock = clock
        # guards: all below, and that one thread at a time says hello, for which it is held. No other lock of this
        # package is taken under it; the fields are plain values, which may be read without it.
        self._lock = threading.Lock()
        self._failure: ShardscopeError | None = None  # why it is away
        self._away_since_s = 0.0
        self._asked_s = float("-inf")  # when hello was last begun
        self._reports = Reports(0.0)

    @property
    def is_away(self) -> bool:
        """Whether operations wait for it."""
        return self._failure is not None

    @property
    def away_s(self) -> float:
        """For how long they have waited."""
        return self._clock() - self._away_since_s if self.is_away else 0.0

    @property
    def remaining_s(self) -> float:
        """For how long they will still wait; 0 if it is not away."""
        return max(0.0, self.patience_s - self.away_s) if self.is_away else 0.0

    def require(self) -> None:
        """Makes sure that a ps that was away is back before anything is sent to it.

        Raises:
            UnavailableError: It is still away; retryable.
            ShardscopeError: It is back, but will not talk to this client any more.
        """
        if not self.is_away:
            return
        sheltered(self._ask, self._clock() - _RECENT_S, self._say_hello)
        failure = self._failure
        if failure is not None:
            raise UnavailableError(failure.message, task=self._task)

    def note(self, error: ShardscopeError) -> None:
        """Takes note of a failed call, and finds out whether the ps is away.

        Raises:
            ShardscopeError: It is there, but will not talk to this client any more.
        """
        if self.is_away:
            return
        if isinstance(error, UnavailableError):
            sheltered(self._ask, self._clock(), self._say_hello)
        elif isinstance(error, DeadlineExceededError):  # a ps that is only busy keeps its connections
            sheltered(self._ask, self._clock(), self._probe)

    def waited_in_vain(self, error: DeadlineExceededError) -> DeadlineExceededError:
        """Returns the error of an operation that has waited for it as long as operations do.

        Args:
            error: What the tries have ended with.
        """
        bound = f"than {self.patience_s:.0f} s (ps_grace_s)" if self.patience_s else "since the connection is closed"
        gave_up = DeadlineExceededError(
            f"{self._task} at {self._where()} has been away for {self.away_s:.0f} s "
            f"({short_reason(error.last_failure, self._where())}), and is not waited for any longer {bound}. Start it "
            f"again, with the --data-dir that it had, if any; what was not acknowledged may or may not have been "
            f"applied",
            variable=error.variable,
            task=self._task,
        )
        gave_up.last_failure = error.last_failure
        return gave_up

    def give_up(self) -> None:
        """Has operations wait no longer for a ps that is away: the connection is being closed."""
        self.patience_s = 0.0

    def look(self) -> None:
        """Finds out whether the ps answers, for a caller that does not wait for it."""
        sheltered(self._look)

    def _look(self) -> None:
        with self._lock:
            try:
                self._say_hello()
            except ShardscopeError as error:
                _LOG.debug("%s at %s does not answer: %s", self._task, self._where(), error.message)

    def _ask(self, unless_asked_since_s: float, question: Callable[[], None]) -> None:
        if not self._lock.acquire(timeout=_MAX_HELLO_S):
            return
        try:
            if self._asked_s >= unless_asked_since_s:
                return
            self._asked_s = self._clock()
            try:
                question()
            except ShardscopeError as error:
                if not (error.retryable or isinstance(error, DeadlineExceededError)):
                    self._failure = None
                    raise
                self._is_away(error)
            else:
                self._is_back()
        finally:
            self._lock.release()

    def _is_away(self, error: ShardscopeError) -> None:
        """With the lock held."""
        if self._failure is None:
            self._away_since_s = self._asked_s
            self._reports = Reports(0.0)
        self._failure = error
        if self._reports.is_due(self.away_s):
            line = self._reports.line(self._task, self._where(), self.away_s, self.patience_s, error)
            _LOG.warning("%s", line)

    def _is_back(self) -> None:
        """With the lock held."""
        if self._failure is not None:
            _LOG.warning("%s at %s is back after %.0f s", self._task, self._where(), self.away_s)
            self._failure = None


class OperationTime:
    """The time that one operation may take, of which waiting for a ps that is away is no part.

    In all it takes at most ``timeout_s`` and ``availability.patience_s`` together. Not thread-safe.

    Args:
        availability: Of the ps that it is for.
        timeout_s: Bound on the time during which the ps is there, in seconds.
    """

    __slots__ = ("_availability", "_timeout_s", "_was_away")

    def __init__(self, availability: Availability, timeout_s: float):
        self._availability = availability
        self._timeout_s = timeout_s
        self._was_away = False

    def extend(self, failure: ShardscopeError, deadline: Deadline) -> bool:
        """Moves the end of the operation after a try has failed; returns whether the ps has come back meanwhile.

        ``RetryPolicy.call``'s ``extend``.
        """
        self._availability.note(failure)
        longest_s = self._timeout_s + self._availability.patience_s - deadline.elapsed_s()
        if self._availability.is_away:
            self._was_away = True
            deadline.end_in(min(self._availability.remaining_s, longest_s))
            return False
        is_back, self._was_away = self._was_away, False
        if is_back:
            deadline.end_in(min(self._timeout_s, longest_s))
        return is_back
