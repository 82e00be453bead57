"""What keeps a signal's exception from leaving anything half done.

Python runs signal handlers on the main thread alone. A handler, such as the one of Ctrl-C, may run at nearly every
instruction there, and what it raises comes out of that instruction: between taking a lock and the ``try`` behind it, or
in the middle of a ``finally``. Three things hold against that, and the client uses them wherever the main thread comes:

- ``with`` on a lock itself (a ``threading.Lock``, not something with an ``__enter__`` in Python) takes and frees it
  whatever happens: both ends are one instruction each, before and after which no handler runs unseen. A ``Turn`` makes
  of that a lock that can be tried.
- ``sheltered`` runs a function on another thread, where no handler ever runs; ``begun`` does so meanwhile.
- ``is_interrupt`` tells a handler's exception from an error of what it has interrupted, where errors are caught;
  ``raise_interrupt`` lets it go on.

What neither can be undone nor sheltered says beforehand that it is not whole, and afterwards that it is; who finds it
otherwise throws it away.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from _thread import start_new_thread
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final, Generic, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")

LINGER_S: Final = 1.0
"""How long an interrupt may wait for what still uses the caller's arrays; nearly always it is done at once."""

SHELTER: Final = "shardscope-shelter"
"""Name of the threads that make calls of the main thread."""

_IDLE_S: Final = 2.0
_BEGIN_S: Final = 0.02
_LOOK_S: Final = 1.0
_TURN_LOOK_S: Final = 0.05


class Turn:
    """A lock that can be tried, and that an interrupt cannot leave taken. Thread-safe.

    The caller holds a lock of its own, new or free, in a ``with`` statement around all of what it does in its turn;
    that lock is what the others look at:

        mine = threading.Lock()
        with mine:
            if turn.take(mine): ...

    Leaving the block ends the turn, and so does ``end``.
    """

    __slots__ = ("_holder", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards: _holder. No other lock is taken under it.
        self._holder = threading.Lock()

    def take(self, mine: threading.Lock) -> bool:
        """Takes the turn if nobody has it; ``mine`` is held by the caller for as long as it wants the turn."""
        with self._lock:
            if self._holder.locked() and self._holder is not mine:
                return False
            self._holder = mine
            return True

    def end(self, mine: threading.Lock) -> None:
        """Ends the turn, if it is ``mine``, before its block is left; who waits for it sees that a moment later."""
        with self._lock:
            if self._holder is mine:
                self._holder = threading.Lock()

    @property
    def is_taken(self) -> bool:
        """Whether somebody has it now."""
        return self._holder.locked()

    def wait(self, mine: threading.Lock, timeout_s: float) -> bool:
        """Takes the turn, waiting for the others; not for the main thread. Returns whether it has it."""
        deadline_s = time.monotonic() + timeout_s
        while not self.take(mine):
            holder = self._holder
            remaining_s = deadline_s - time.monotonic()
            if remaining_s <= 0:
                return False
            if holder.acquire(timeout=min(remaining_s, _TURN_LOOK_S)):
                holder.release()
        return True


# -- shelter ----------------------------------------------------------------------------------


class Begun(Generic[_T]):
    """A call that another thread makes. For one thread, which waits for the outcome or gives it up."""

    __slots__ = ("_function", "done", "error", "has_begun", "is_over", "result")

    def __init__(self, function: Callable[[], _T]):
        self._function: Callable[[], _T] | None = function
        self.has_begun = self.is_over = False
        self.done = threading.Lock()
        self.done.acquire()
        self.result: _T | None = None
        self.error: BaseException | None = None

    def run(self) -> None:
        function, self._function = self._function, None
        self.has_begun = True
        try:
            if function is not None:  # else it was given up
                self.result = function()
        except BaseException as error:  # noqa: BLE001 - who waits for it raises it
            self.error = error
        del function
        self.is_over = True
        self.done.release()

    def outcome(self) -> _T:
        """Waits for what the function returns, or raises its error. Once: it keeps neither."""
        while not self.done.acquire(timeout=_LOOK_S if self.has_begun else _BEGIN_S):
            if not self.has_begun:
                _helpers.add()  # the others are busy with what was interrupted before
        # The thread that has made the call has this in hand for a moment yet, and must not keep alive what it returned.
        result, self.result = self.result, None
        error, self.error = self.error, None
        if error is None:
            return result  # type: ignore[return-value] # a result of None is one
        try:
            raise error
        finally:
            del error  # or it would be kept by its own trace

    def give_up(self, timeout_s: float = LINGER_S) -> None:
        """Keeps it from being begun; if it is, waits for its end, but not for longer than ``timeout_s``."""
        self._function = None
        if self.has_begun and not self.is_over:
            self.done.acquire(timeout=timeout_s)


class _Helpers:
    """Threads that take work; one is started when none is free, and ends when it has had nothing to do for a while."""

    def __init__(self) -> None:
        self._work: SimpleQueue[Begun[Any]] = SimpleQueue()
        self.free: deque[None] = deque()  # one for each that waits for work

    def do(self, work: Begun[Any]) -> None:
        """Has it begun soon, on some thread."""
        self._work.put(work)
        if not self.free:
            try:
                self.add()
            except RuntimeError as error:  # the interpreter is about to end, and starts no more threads
                raise_interrupt(error)
                self._run_all()

    def add(self) -> None:
        """Starts one more thread."""
        # `Thread.start` waits for the new thread with a lock that an interrupt could leave taken, so that is done on a
        # thread as well. That one is bare: it starts another, and ends.
        start_new_thread(self._start, ())

    def _start(self) -> None:
        try:
            threading.Thread(target=self._run, name=SHELTER, daemon=True).start()
        except RuntimeError:
            self._run_all()

    def _run_all(self) -> None:
        """Does what there is to do on this thread."""
        with contextlib.suppress(Empty):
            while True:
                self._work.get_nowait().run()

    def _run(self) -> None:
        while True:
            self.free.append(None)
            try:
                work = self._work.get(timeout=_IDLE_S)
            except Empty:
                return
            finally:
                self.free.pop()
            work.run()
            del work  # or its result would stay until the next one comes


_helpers = _Helpers()
_main_thread = threading.main_thread().ident


def _become_copy() -> None:
    global _helpers, _main_thread  # noqa: PLW0603 - of a process
    _helpers = _Helpers()  # the threads of the other one are not here
    _main_thread = threading.get_ident()


os.register_at_fork(after_in_child=_become_copy)


def num_idle_threads() -> int:
    """How many threads wait for work; each ends by itself when it has had none for a moment."""
    return len(_helpers.free)


def on_main_thread() -> bool:
    """Whether signal handlers may run on this thread."""
    return threading.get_ident() == _main_thread


def sheltered(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Calls a function where no signal handler can interrupt it.

    On the main thread another thread makes the call, which costs some 20 to 100 µs. An interrupt ends the wait for it,
    not the call: that goes on to its end, and what it returns or raises is lost. So a function that makes something
    puts it where it belongs.

    Args:
        function: What to call. It must not depend on which thread it runs on, and must end in bounded time.
        args: Its arguments.
        kwargs: Its arguments.
    """
    if not on_main_thread():
        return function(*args, **kwargs)
    return begun(lambda: function(*args, **kwargs)).outcome()


def sheltered_to_the_end(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Does what ``sheltered`` does for a function that uses what is the caller's, such as its arrays.

    An interrupt waits until the function has ended, but not for longer than ``LINGER_S``, and not if there is another
    one.
    """
    if not on_main_thread():
        return function(*args, **kwargs)
    work = begun(lambda: function(*args, **kwargs))
    try:
        return work.outcome()
    except BaseException:
        if not work.is_over:
            work.done.acquire(timeout=LINGER_S)
        raise


def begun(function: Callable[[], _T]) -> Begun[_T]:
    """Has another thread call a function while this one goes on.

    An interrupt does not end the call; whoever is not told of it, since the interrupt came just here, has lost it.

    Args:
        function: As of ``sheltered``.
    """
    work = Begun(function)
    _helpers.do(work)
    return work


# -- errors -----------------------------------------------------------------------------------


def is_interrupt(error: BaseException) -> bool:
    """Whether a signal handler of this process has raised an exception that was caught on this thread.

    A handler is known by how it is called: with the number of the signal and the frame that it has interrupted.
    """
    if not on_main_thread():
        return False
    if not isinstance(error, Exception):
        return True
    trace = error.__traceback__
    while trace is not None:
        if _is_handler(trace.tb_frame):
            return True
        trace = trace.tb_next
    return False


def raise_interrupt(error: BaseException) -> None:
    """Raises an error that was caught again if it is no failure of what was tried, but a signal handler's exception."""
    if is_interrupt(error):
        raise error


def _is_handler(frame: FrameType) -> bool:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount]
    if len(names) < 2:
        return False
    values = frame.f_locals
    number, interrupted = values.get(names[-2]), values.get(names[-1])
    return isinstance(number, int) and isinstance(interrupted, FrameType)
