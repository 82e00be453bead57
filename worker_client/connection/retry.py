"""Bounded waiting: deadlines, and the pauses between the tries of a call that may be repeated."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from ps_protocol.errors import DeadlineExceededError, ShardscopeError
from ps_protocol.interrupts import is_interrupt
from ps_protocol.task_id import TaskId

_T = TypeVar("_T")


class Deadline:
    """A moment by which something must be done.

    Args:
        timeout_s: Seconds from now.
        clock: Monotonic seconds.
    """

    __slots__ = ("_clock", "_end_s", "timeout_s")

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic):
        self.timeout_s = timeout_s
        self._clock = clock
        self._end_s = clock() + timeout_s

    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end_s - self._clock())

    def elapsed_s(self) -> float:
        """Seconds since the deadline was set."""
        return self._clock() - self._end_s + self.timeout_s

    def end_in(self, seconds: float) -> None:
        """Moves the end; ``elapsed_s`` still counts from the beginning."""
        end_s = self._clock() + seconds
        self.timeout_s += end_s - self._end_s
        self._end_s = end_s


class Reports:
    """When to say that something is still waited for: soon at first, then after twice as long each time.

    Args:
        first_s: Seconds of waiting before the first report.
    """

    __slots__ = ("_next_s",)

    def __init__(self, first_s: float = 2.0):
        self._next_s = first_s

    def is_due(self, elapsed_s: float) -> bool:
        """Whether to report after so many seconds of waiting; if so, the next one is due later."""
        if elapsed_s < self._next_s:
            return False
        self._next_s = elapsed_s + min(max(elapsed_s, 4.0), 30.0)
        return True

    @staticmethod
    def line(task: object, address: str, waited_s: float, patience_s: float, error: ShardscopeError) -> str:
        """What to say, short enough for a terminal: the error at the end says what to do."""
        reason = short_reason(error, address)
        if waited_s > patience_s:
            return f"{task} at {address} is not waited for any longer, after {patience_s:.0f} s: {reason}"
        return f"waiting for {task} at {address}, {waited_s:.0f} s of up to {patience_s:.0f} s: {reason}"


def short_reason(error: ShardscopeError | None, address: str) -> str:
    """Why a task does not answer, in a few words: without the address, which stands beside it, and without a remedy.

    Args:
        error: The failure; None if none is known.
        address: Where the task was called.
    """
    if error is None:
        return "no answer"
    reason = error.message.partition(". ")[0].removeprefix(f"the task at {address} ")
    # "cannot be reached (Connection refused)": why is enough. Elsewhere what stands in brackets are details.
    unreachable, _, why = reason.partition("cannot be reached (")
    return reason.partition(" (")[0] if unreachable or not why else why.removesuffix(")")


def no_hello(task: TaskId, address: str, timeout_s: float, error: ShardscopeError | None) -> str:
    """Why there is no connection to a ps task, and what to do; a process that answers says so itself.

    Args:
        task: The ps task.
        address: Where it was called last.
        timeout_s: How long it was waited for.
        error: The last failure; None if none is known.
    """
    if error is not None and error.message.startswith("this process "):
        return f"{task} does not serve after {timeout_s:.0f} s: {address} says: {error.message}"
    return (
        f"no ps answers at {address} after {timeout_s:.0f} s ({short_reason(error, address)}); start it with `python "
        f"-m ps_server --task-index {task.index}` or correct its address in the cluster spec"
    )


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter, so that clients that failed together do not return together.

    The pause after failure ``n`` is uniform in ``[0, min(max_backoff_s, initial_backoff_s * 2**(n-1))]``, but never
    shorter than what the error asks for (M. Brooker, "Exponential Backoff And Jitter", 2015).

    Attributes:
        initial_backoff_s: Longest pause after the first failure.
        max_backoff_s: Longest pause after any.
        attempt_timeout_s: What one try may take, besides the time for its bytes.
        bytes_per_s: The slowest rate that a large tensor is given time for.
        random: Source of the jitter.
        sleep: Waits for that many seconds.
        clock: Monotonic seconds.
    """

    initial_backoff_s: float = 0.05
    max_backoff_s: float = 2.0
    attempt_timeout_s: float = 20.0
    bytes_per_s: float = 10e6
    random: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def backoff_s(self, failures: int, error: ShardscopeError) -> float:
        """Seconds to wait after the given number of failures (1 or more)."""
        ceiling = min(self.max_backoff_s, self.initial_backoff_s * 2 ** min(failures - 1, 16))
        return max(error.retry_after_s, self.random.uniform(0, ceiling))

    def attempt_s(self, size_bytes: int) -> float:
        """Seconds that one try may take in which that many bytes move, either way."""
        return self.attempt_timeout_s + size_bytes / self.bytes_per_s

    @staticmethod
    def is_worth_repeating(error: ShardscopeError) -> bool:
        """Whether the same call may succeed if made again; what a signal handler has raised is no failure of it."""
        # A try that ran out of its own time may have lost only its reply.
        return (error.retryable or isinstance(error, DeadlineExceededError)) and not is_interrupt(error)

    def call(
        self,
        attempt: Callable[[float], _T],
        *,
        timeout_s: float,
        what: str | Callable[[], str],
        size_bytes: int = 0,
        failure: ShardscopeError | None = None,
        on_failure: Callable[[ShardscopeError, Deadline], None] | None = None,
        extend: Callable[[ShardscopeError, Deadline], bool] | None = None,
    ) -> _T:
        """Tries until it succeeds, fails for good or runs out of time.

        Args:
            attempt: Is given the seconds it may take. Must be safe to repeat.
            timeout_s: Bound on all tries and pauses together, in seconds.
            what: What is being waited for, for the error, as "ps:1 at host:port to apply an update"; or its maker.
            size_bytes: Bytes that move, either way.
            failure: How a first try has ended that was made already.
            on_failure: Called with each failure that will be tried again.
            extend: Called with each failure that is worth repeating, before the next try. It may move the end, and
                returns whether the pauses are to be short again. What it raises ends the call.

        Raises:
            DeadlineExceededError: Time ran out; it knows the last failure.
            ShardscopeError: The first failure that is not worth repeating.
        """
        deadline = Deadline(timeout_s, self.clock)
        attempt_s = self.attempt_s(size_bytes)
        tries = failures = 0
        while True:
            try:
                if failure is None:
                    return attempt(min(deadline.remaining_s() if tries else timeout_s, attempt_s))
            except ShardscopeError as error:
                if not self.is_worth_repeating(error):
                    raise
                failure = error
            tries += 1
            failures += 1
            if extend is not None and extend(failure, deadline):
                failures = 1
            pause_s = self.backoff_s(failures, failure)
            if pause_s >= deadline.remaining_s():
                waited_for = what if isinstance(what, str) else what()
                gave_up = DeadlineExceededError(
                    f"gave up after {tries} {'try' if tries == 1 else 'tries'} in {deadline.elapsed_s():.1f} s waiting "
                    f"for {waited_for}; last failure: {failure.message}",
                    variable=failure.variable,
                    task=failure.task,
                )
                gave_up.last_failure = failure  # not its cause: its message says all, and its traceback is long
                raise gave_up
            if on_failure is not None:
                on_failure(failure, deadline)
            failure = None
            self.sleep(pause_s)
