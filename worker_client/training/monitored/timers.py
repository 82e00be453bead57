"""Says when a hook is due: after a number of steps or of seconds, or never."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class HookTimer(Protocol):
    """Says when a hook is due."""

    def reset(self) -> None:
        """Forgets when it was due last."""

    def should_trigger_for_step(self, step: int) -> bool:
        """Whether it is due at a step."""
        ...

    def update_last_triggered_step(self, step: int) -> tuple[float | None, int | None]:
        """Notes that it was done at a step; returns the seconds and steps since the last time, None at the first."""
        ...

    def last_triggered_step(self) -> int | None:
        """The step at which it was done last, None if it never was."""
        ...


class SecondOrStepTimer:
    """Due at first, and then every so many steps or seconds, but not twice at one step.

    Args:
        every_secs: Seconds between two times.
        every_steps: Steps between two times.
        clock: Seconds.

    Raises:
        ValueError: Not exactly one of both is given.
    """

    def __init__(
        self,
        every_secs: float | None = None,
        every_steps: int | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        if every_secs is None and every_steps is None:
            raise ValueError("Either every_secs or every_steps should be provided.")
        if every_secs is not None and every_steps is not None:
            raise ValueError("Can not provide both every_secs and every_steps.")
        self._every_secs = every_secs
        self._every_steps = every_steps
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forgets when it was due last."""
        self._last: tuple[int, float] | None = None

    def should_trigger_for_step(self, step: int) -> bool:
        """Whether it is due at a step."""
        if self._last is None:
            return True
        last_step, last_s = self._last
        if step == last_step:
            return False
        if self._every_secs is not None:
            return self._clock() >= last_s + self._every_secs
        return self._every_steps is not None and step >= last_step + self._every_steps

    def may_trigger(self) -> bool:
        """Whether it can be due at any step, for those who have to ask for the step."""
        return self._last is None or self._every_secs is None or self._clock() >= self._last[1] + self._every_secs

    def update_last_triggered_step(self, step: int) -> tuple[float | None, int | None]:
        """Notes that it was done at a step; returns the seconds and steps since the last time, None at the first."""
        now_s, last = self._clock(), self._last
        self._last = (step, now_s)
        return (None, None) if last is None else (now_s - last[1], step - last[0])

    def last_triggered_step(self) -> int | None:
        """The step at which it was done last, None if it never was."""
        return None if self._last is None else self._last[0]


class NeverTimer:
    """Never due."""

    def reset(self) -> None:
        """Does nothing."""

    def should_trigger_for_step(self, step: int) -> bool:
        """Says no."""
        del step
        return False

    def update_last_triggered_step(self, step: int) -> tuple[None, None]:
        """Returns two None."""
        del step
        return (None, None)

    def last_triggered_step(self) -> None:
        """Returns None."""
