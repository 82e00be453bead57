"""Pauses of all workers of a soak: while one lasts nothing is on its way, so that sums can be compared exactly.

The soak asks for a pause by a file with its number. Each worker that has all its answers writes the number into a file
of its own, and sends nothing until the soak has removed its file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_PAUSE_FILE: Final = "pause"
_POLL_S: Final = 0.02


class NotPausedError(Exception):
    """A worker did not get its answers in time."""


class Pauses:
    """Asks for pauses.

    Args:
        directory: Of the soak.
        num_workers: How many workers must have paused.
    """

    def __init__(self, directory: Path, num_workers: int):
        self._directory = directory
        self._num_workers = num_workers
        self._number = 0

    @contextmanager
    def pause(self, timeout_s: float) -> Iterator[None]:
        """Has all workers pause for the block.

        Raises:
            NotPausedError: One still waits for an answer at the end of that time.
        """
        self._number += 1
        asked = self._directory / _PAUSE_FILE
        draft = asked.with_suffix(".draft")
        draft.write_text(str(self._number))
        draft.rename(asked)
        try:
            deadline_s = time.monotonic() + timeout_s
            while busy := [worker for worker in range(self._num_workers) if not self._has_paused(worker)]:
                if time.monotonic() > deadline_s:
                    raise NotPausedError(f"after {timeout_s:.0f} s these workers still wait for answers: {busy}")
                time.sleep(_POLL_S)
            yield
        finally:
            asked.unlink()

    def _has_paused(self, worker: int) -> bool:
        return _number_in(_paused_path(self._directory, worker)) == self._number


def pause_if_asked(directory: Path, worker: int, finish: Callable[[], None]) -> None:
    """Called by a worker between two updates; returns when no pause is asked for.

    Args:
        directory: Of the soak.
        worker: Its index.
        finish: Waits for what is on its way.
    """
    asked = directory / _PAUSE_FILE
    number = _number_in(asked)
    if not number:
        return
    finish()
    draft = _paused_path(directory, worker).with_suffix(".draft")
    draft.write_text(str(number))
    draft.rename(_paused_path(directory, worker))
    while _number_in(asked) == number:
        time.sleep(_POLL_S)


def _paused_path(directory: Path, worker: int) -> Path:
    return directory / f"worker-{worker}.paused"


def _number_in(path: Path) -> int:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0
