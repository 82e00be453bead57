"""Work that may take longer than a lease: another thread does it, so that the primary is answered meanwhile."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import Generic, Self, TypeVar

_T = TypeVar("_T")


class LongJob(Generic[_T]):
    """In ``with``, which ends when the work is done: it is not given up halfway.

    Args:
        job: The work.
        source: Descriptor from which something may be read while it is done.
    """

    def __init__(self, job: Callable[[], _T], source: int):
        self._job = job
        self._source = source
        self._results: list[_T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="long record", daemon=True)

    def __enter__(self) -> Self:
        self._done, self._tell_done = os.pipe()
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.join()
        os.close(self._done)

    @property
    def is_done(self) -> bool:
        """Whether ``result`` has something."""
        return bool(self._results) or self._error is not None

    def wait(self, timeout_s: float, *, for_source: bool) -> bool:
        """Waits until the work is done, or there is something to read; returns whether there is.

        Args:
            timeout_s: How long.
            for_source: Whether it is waited for something to read.
        """
        poll = select.poll()
        poll.register(self._done, select.POLLIN)
        if for_source:
            poll.register(self._source, select.POLLIN)
        return any(descriptor == self._source for descriptor, _ in poll.poll(timeout_s * 1000))

    def result(self) -> _T:
        """Returns what the work has come to, or raises what has ended it; once it is done."""
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._job())
        except BaseException as error:  # noqa: BLE001 - for whoever asks for the result
            self._error = error
        finally:
            os.close(self._tell_done)  # which the other end can be told by
