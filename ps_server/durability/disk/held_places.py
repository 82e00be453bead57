"""Files and directories that this process uses, and notices if they were moved, replaced or deleted.

What is written to a file without its name is lost with the process. So before anything is acknowledged, the path of
each is looked up, and has to lead to what is held. What is held stays open, so that its number (device and inode) is
not given to another file meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ps_protocol.forks import close_in_child


class DisplacedError(OSError):
    """A path leads to something else than it did; the message says what has happened, and what to do."""


class HeldPlaces:
    """Paths, each with what it has to lead to. ``check`` may be called by any thread.

    Args:
        paths: Of files and directories that are there. Only looked at; no locks are lost when they are closed.

    Raises:
        OSError: One is not there, or no descriptor is left.
    """

    def __init__(self, paths: Sequence[Path]):
        self._descriptors: list[int] = []
        close_in_child(self)
        try:
            for path in paths:
                self._descriptors.append(os.open(path, os.O_PATH | os.O_CLOEXEC))
            self._expected = [
                (str(path), _identity(os.fstat(descriptor)))
                for path, descriptor in zip(paths, self._descriptors, strict=True)
            ]
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Raises DisplacedError unless each path leads to what it did. One call of the system for each path."""
        for path, identity in self._expected:
            try:
                found = _identity(os.stat(path))  # noqa: PTH116 - this is called for each commit
            except OSError as error:
                raise self._displaced(path, f"cannot be found any more ({error.strerror})") from error
            if found != identity:
                raise self._displaced(path, "has been replaced by another")

    def close(self) -> None:
        """Lets go of all."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _displaced(self, path: str, what: str) -> DisplacedError:
        if all(os.fstat(descriptor).st_nlink for descriptor in self._descriptors):
            remedy = "move it back to where it was, or end this ps and start it where its directory is now"
        else:
            remedy = "it was deleted: read what you still need, end this ps, and start it on a copy or without a state"
        return DisplacedError(f"{path} {what} while this ps runs, so nothing is acknowledged; {remedy}")


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
