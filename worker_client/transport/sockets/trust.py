"""Whether the sockets to a ps are trusted: how long one may be silent, and whether one was for too long.

A network that drops what is sent, a connection that the other end has forgotten, a ps whose sockets are stuck: all of
these look like a ps that takes its time. So a batch that gets no answer soon is given up there, which its number makes
safe, and the next connection first has to prove itself with a question that takes no time. If it does, the batch was
slow, and more patience is had from then on. If it does not, batches go another way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

SILENCE_S: Final = 1.0
"""How long nothing may move before a connection is doubted, besides the time for its batches."""

PROOF_S: Final = 0.75
"""How long connecting and a first answer may take on the connection after a doubted one."""

_OPERATIONS_PER_S: Final = 1000.0
_BYTES_PER_S: Final = 100e6
_LONGEST_S: Final = 16.0
_FORGIVEN_AFTER_S: Final = 60.0


class Trust:
    """What is thought of the connections to one ps. Thread-safe: each change is one step.

    Args:
        clock: Monotonic seconds.

    Attributes:
        is_doubted: Whether the next connection has to prove itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._patience_s = SILENCE_S
        self._doubted_s = float("-inf")
        self.is_doubted = False

    @property
    def patience_s(self) -> float:
        """How long a connection may be silent now: longer, if one was doubted a short while ago."""
        return self._patience_s if self._clock() - self._doubted_s < _FORGIVEN_AFTER_S else SILENCE_S

    def allows(self, silent_s: float, num_operations: int, size_bytes: int) -> bool:
        """Whether a connection may be silent for so long, with so many operations and bytes of tensors on their way."""
        return silent_s < self.patience_s + num_operations / _OPERATIONS_PER_S + size_bytes / _BYTES_PER_S

    def doubt(self) -> None:
        """A connection was silent for too long."""
        self._patience_s = min(2 * self.patience_s, _LONGEST_S)
        self._doubted_s = self._clock()
        self.is_doubted = True

    def restore(self) -> None:
        """A connection has proved itself."""
        self.is_doubted = False
