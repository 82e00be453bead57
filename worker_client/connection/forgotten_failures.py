"""Says that operations have failed whose outcome nobody asked for, without a line for each of thousands."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from ps_protocol.errors import CancelledError

_LOG = logging.getLogger(__name__)

_QUIET_S: Final = 1.0
_MAX_NAMED: Final = 3


class ForgottenFailures:
    """Writes failures to the log; those alike within a second are counted, and told with the next one or at the end.

    It is called by the garbage collector, on any thread and at any instant, and so takes no lock: two threads at the
    same instant may at worst count one too few.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._last: tuple[type[BaseException], str] | None = None
        self._told_s = 0.0
        self._num_untold = 0

    def add(self, error: BaseException, names: Sequence[str]) -> None:
        """Takes note of a failure.

        Args:
            error: What happened. What ``close`` has given up it has reported itself.
            names: Full names of the variables concerned.
        """
        if isinstance(error, CancelledError):
            return
        kind = type(error), getattr(error, "task", "")
        if kind == self._last and self._clock() - self._told_s < _QUIET_S:
            self._num_untold += 1
            return
        self.flush()
        self._last, self._told_s = kind, self._clock()
        _LOG.error(
            "an operation on %s has failed, and nobody asked for its outcome: %s: %s",
            _listed(names),
            type(error).__name__,
            error,
        )

    def flush(self) -> None:
        """Tells how many were only counted."""
        count, self._num_untold = self._num_untold, 0
        if count and self._last is not None:
            _LOG.error("%d more such operations have failed with %s", count, self._last[0].__name__)


def _listed(names: Sequence[str]) -> str:
    different = list(dict.fromkeys(names))
    others = len(different) - _MAX_NAMED
    listed = ", ".join(different[:_MAX_NAMED]) or "a variable"
    return f"{listed} and {others} others" if others > 0 else listed


FORGOTTEN: Final = ForgottenFailures()
