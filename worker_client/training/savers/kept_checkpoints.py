"""Which checkpoints a saver has written and not deleted, and which it deletes: TensorFlow 1's rules."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from ps_protocol.interrupts import raise_interrupt

_LOG: Final = logging.getLogger("tensorflow")
_HOUR_S: Final = 3600.0

FOREVER: Final = math.inf
"""The time of a checkpoint of which nobody knows when it was written: it counts as new."""


class KeptCheckpoints:
    """The newest checkpoints of a saver. One thread.

    Args:
        max_to_keep: How many; 0 for all, which then are not remembered.
        keep_every_n_hours: After how many hours one of those that would be deleted is kept.
        remove: Deletes a checkpoint: is given its path, and the suffix of TensorFlow's file beside it.
    """

    def __init__(self, max_to_keep: int, keep_every_n_hours: float, remove: Callable[[str, str], None]):
        self._remove = remove
        self._max_to_keep = max_to_keep
        self._every_s = keep_every_n_hours * _HOUR_S
        self._next_kept_s = time.time() + self._every_s
        self._newest: list[tuple[str, float]] = []
        self._too_many: list[tuple[str, float]] = []

    @property
    def paths(self) -> list[str]:
        """Of those that are not deleted, the oldest first."""
        return [path for path, _ in self._newest]

    def replace(self, paths_with_times: Iterable[tuple[str, float]]) -> None:
        """Says which there are, and when each was written, in seconds since 1970."""
        self._newest = list(paths_with_times)

    def add(self, path: str) -> None:
        """Says that one has been written now."""
        if not self._max_to_keep:
            return
        self._newest = [each for each in self._newest if each[0] != path]
        self._newest.append((path, time.time()))
        if len(self._newest) > self._max_to_keep:
            self._too_many.append(self._newest.pop(0))

    def delete_one(self, meta_graph_suffix: str) -> None:
        """Deletes the oldest of those that are too many, unless it is kept for its hour."""
        if not self._too_many:
            return
        path, written_s = self._too_many.pop(0)
        if written_s > self._next_kept_s:
            self._next_kept_s += self._every_s
            return
        try:
            self._remove(path, meta_graph_suffix)
        except OSError as error:
            raise_interrupt(error)
            _LOG.warning("Ignoring: %s", error)
