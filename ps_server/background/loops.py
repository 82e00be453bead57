"""A thread that does its work again and again, whatever goes wrong, and says what did.

Snapshots, heartbeats, replication and other work in the background has nobody who would notice that its thread has
ended. One moment without descriptors or memory must not end it: it is tried again, and seen meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

_LOG = logging.getLogger(__name__)

_MAX_REASON_LENGTH: Final = 300
_MAX_KINDS: Final = 32
_FIRST_SILENCE_S: Final = 60.0
"""How long a failure that was logged is not logged again; twice as long each time."""

_MAX_SILENCE_S: Final = 3600.0


class Troubles:
    """What troubles background work just now, for those who look at the task. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards: _reasons; no other lock is taken under it
        self._reasons: dict[str, str] = {}

    def note(self, what: str, reason: str) -> None:
        """Notes why some work fails, until ``clear``."""
        with self._lock:
            self._reasons[what] = reason[:_MAX_REASON_LENGTH]

    def clear(self, what: str) -> None:
        """Notes that it goes on."""
        if what in self._reasons:
            with self._lock:
                self._reasons.pop(what, None)

    def reasons(self) -> tuple[str, ...]:
        """All that is noted, as "snapshots: OSError: [Errno 24] Too many open files"."""
        with self._lock:
            return tuple([f"{what}: {reason}" for what, reason in self._reasons.items()])


OF_PROCESS: Final = Troubles()
"""Of threads that work for all ps tasks of a process, such as the compiler of kernels."""


class Failures:
    """Counts the failures in a row of one kind of work, logs each kind once, and says when to try again. One thread.

    Args:
        what: The work, as in "snapshots".
        troubles: Where it is noted.
        first_retry_s: Seconds until the next try after the first failure; twice as many after each one that follows.
        most_retry_s: The most.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        what: str,
        troubles: Troubles,
        *,
        first_retry_s: float = 0.25,
        most_retry_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._what = what
        self._troubles = troubles
        self._first_retry_s = first_retry_s
        self._most_retry_s = most_retry_s
        self._clock = clock
        self._number = 0
        self._was_logged = False
        self._silences: dict[tuple[type[BaseException], object], tuple[float, float]] = {}  # until when, how long

    def note(self, error: BaseException) -> float:
        """Notes a failure; returns the seconds until the next try. Raises nothing, even without memory."""
        retry_s = self._first_retry_s
        try:
            self._number += 1
            retry_s = float(min(self._most_retry_s, self._first_retry_s * 2.0 ** min(self._number - 1, 30)))
            self._troubles.note(self._what, f"{type(error).__name__}: {error}")
            if self._is_news(error):
                self._was_logged = True
                _LOG.error("%s failed and is tried again in %.2g s", self._what, retry_s, exc_info=error)
        except BaseException:  # noqa: BLE001, S110 - what cannot be told must not end the thread either
            pass
        return retry_s

    def clear(self) -> None:
        """Notes a success."""
        if self._number:
            self._number = 0
            self._troubles.clear(self._what)
            if self._was_logged:
                self._was_logged = False
                _LOG.warning("%s goes on", self._what)

    def _is_news(self, error: BaseException) -> bool:
        kind = (type(error), getattr(error, "errno", None))
        now_s = self._clock()
        until_s, silence_s = self._silences.get(kind, (now_s, _FIRST_SILENCE_S / 2))
        if now_s < until_s:
            return False
        if len(self._silences) >= _MAX_KINDS:
            self._silences.clear()
        silence_s = min(2 * silence_s, _MAX_SILENCE_S)
        self._silences[kind] = (now_s + silence_s, silence_s)
        return True


class BackgroundLoop:
    """A thread that takes one step after the other until it is stopped. Thread-safe.

    A step that raises, whatever it is, is noted and taken again later: first soon, then less and less often.

    Args:
        name: What it does, as in "snapshots": the name of the thread, and of its troubles.
        step: Does what is due; returns the seconds until the next step.
        troubles: Where it is noted that steps fail.
        at_end: Called by the thread when it was stopped.
        first_retry_s: Seconds until a step that has failed is taken again, as ``Failures`` has it.
        most_retry_s: The most.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], float],
        troubles: Troubles,
        *,
        at_end: Callable[[], None] | None = None,
        first_retry_s: float = 0.25,
        most_retry_s: float = 10.0,
    ):
        self._step = step
        self._at_end = at_end
        self._failures = Failures(name, troubles, first_retry_s=first_retry_s, most_retry_s=most_retry_s)
        self._is_stopping = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to stop; a long step looks now and then."""
        return self._is_stopping

    def start(self) -> None:
        """Takes the first step at once."""
        self._thread.start()

    def wake(self) -> None:
        """Has the next step taken now."""
        self._woken.set()

    def stop(self, timeout_s: float) -> bool:
        """Takes no further step; returns whether the one being taken has ended in time. A step may call it too."""
        self._is_stopping = True
        self._woken.set()
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._is_stopping:
            try:
                pause_s = self._step()
                self._failures.clear()
            except BaseException as error:  # noqa: BLE001 - nothing may end the thread but ``stop``
                pause_s = self._failures.note(error)
            self._rest(pause_s)
        if self._at_end is not None:
            try:
                self._at_end()
            except Exception:  # noqa: BLE001 - the thread is ending
                _LOG.exception("the end of %s failed", self._thread.name)

    def _rest(self, pause_s: float) -> None:
        try:
            self._woken.wait(pause_s)
            self._woken.clear()
        except MemoryError:  # the wait needs a lock of its own
            time.sleep(pause_s)
