"""The time of a batch, for every transport on which a header may be large."""

from __future__ import annotations

from collections.abc import Callable

from ps_protocol.errors import DeadlineExceededError


class TimeLeft:
    """How long a batch may still take, which is looked at while it is decoded.

    Args:
        timeout_s: From now on, in seconds.
        clock: Monotonic seconds.
    """

    __slots__ = ("_clock", "_ends_s", "_timeout_s")

    def __init__(self, timeout_s: float, clock: Callable[[], float]):
        self._timeout_s = timeout_s
        self._clock = clock
        self._ends_s = clock() + timeout_s

    def checked_s(self) -> float:
        """Returns the seconds that are left; DeadlineExceededError if there are none."""
        left_s = self._ends_s - self._clock()
        if left_s <= 0:
            raise DeadlineExceededError(
                f"the {self._timeout_s:.1f} s of the call were over before its batch was decoded, and nothing was "
                f"applied; send fewer operations at a time, or allow more time"
            )
        return left_s

    def check(self) -> None:
        """Raises DeadlineExceededError if there are none."""
        self.checked_s()
