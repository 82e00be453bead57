"""Keeps calls of gRPC and forks of this process apart.

gRPC puts itself right in a forked child only if no other thread was in it when the process was forked; else what the
child asks of it may hang, or abort the child (``ev_epoll1_linux.cc``: "Check failed"). So a fork waits for the calls
that are on their way, and holds off new ones meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable
from typing import Final, ParamSpec, Protocol, TypeVar

from ps_protocol.errors import FailedPreconditionError

_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Stream(Protocol):
    """What gRPC gives for a stream."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Has it called when the stream has ended; False if that has been."""


_S = TypeVar("_S", bound=_Stream)

WAIT_S: Final = 5.0
"""How long a fork waits for calls; only a ps that does not answer lets one take that long."""

_PAUSE_S: Final = 0.001


class ForkGate:
    """What calls and forks pass through. Thread-safe.

    It has no lock: the main thread may be interrupted while it forks.

    Attributes:
        was_passed: Whether this process was forked in spite of a call on its way, so that it must not use gRPC.
    """

    def __init__(self, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._calls: deque[None] = deque()  # one for each on its way
        self._forks: deque[None] = deque()  # one for each that is about to be made
        self._kept: dict[Callable[[], object], None] = {}  # what ends each stream that is kept open
        self.was_passed = False

    def call(self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Makes a call while no fork is made; not on the main thread, where a signal handler might interrupt it.

        Raises:
            FailedPreconditionError: This process must not use gRPC.
        """
        if self.was_passed:
            raise FailedPreconditionError(
                "this process was forked while a call of its parent to a ps was on its way, and gRPC does not work in "
                "it; fork before connecting or while all ps tasks answer, or start processes with the 'spawn' method "
                "of multiprocessing"
            )
        end_s = time.monotonic() + self._wait_s
        self._calls.append(None)
        try:
            while self._forks and time.monotonic() < end_s:
                self._calls.pop()
                time.sleep(_PAUSE_S)
                self._calls.append(None)  # before the fork is looked at, which looks in the other order
            return function(*args, **kwargs)
        finally:
            self._calls.pop()

    def keep(self, open_stream: Callable[[], _S], end: Callable[[], object]) -> _S:
        """Opens a stream that stays open between calls; a fork has it end, and waits until it has.

        Args:
            open_stream: Makes that call.
            end: Has the stream end in good order; called by any thread, as often as it may be.

        Raises:
            FailedPreconditionError: As of ``call``.
        """

        def over() -> None:
            self._kept.pop(end, None)

        def opened() -> _S:
            self._kept[end] = None
            try:
                stream = open_stream()
            except BaseException:
                over()
                raise
            if not stream.add_callback(over):
                over()
            return stream

        return self.call(opened)

    def before_fork(self) -> None:
        """Waits until there is no call and no stream."""
        self._forks.append(None)
        end_s = time.monotonic() + self._wait_s
        while (self._calls or self._kept) and time.monotonic() < end_s:
            for end in tuple(self._kept):
                end()
            time.sleep(_PAUSE_S)

    def after_fork_in_parent(self) -> None:
        """Lets calls pass."""
        with contextlib.suppress(IndexError):  # the wait was interrupted before it began
            self._forks.pop()

    def after_fork_in_child(self) -> None:
        """Lets calls of the child pass, whose one thread makes none yet."""
        self.was_passed = self.was_passed or bool(self._calls or self._kept)
        self._calls.clear()
        self._kept.clear()
        self._forks.clear()


GATE: Final = ForkGate()
"""That of this process."""

os.register_at_fork(
    before=GATE.before_fork,
    after_in_parent=GATE.after_fork_in_parent,
    after_in_child=GATE.after_fork_in_child,
)
