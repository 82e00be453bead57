"""The threads that serve connections: a bounded number, and one more for each that waits for a slow peer."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

_LOG = logging.getLogger(__name__)

Work: TypeAlias = Callable[[], None]


class ServingThreads:
    """Threads that do what is handed to them, in its order, and stay for more. Thread-safe.

    A thread that has stepped aside does not count, so that another one may take its place meanwhile. How many step
    aside is for the caller to bound.

    Args:
        max_threads: Most threads that have not stepped aside.
        name: Begins the names of the threads.
    """

    def __init__(self, max_threads: int, name: str):
        self._max_threads = max_threads
        self._name = name
        # guards: all below; no other lock is taken under it. A thread is started under it.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._work: deque[Work] = deque()
        self._threads: set[threading.Thread] = set()
        self._num_idle = 0
        self._num_aside = 0
        self._num_made = 0
        self._is_closed = False

    @property
    def num_threads(self) -> int:
        """Threads that there are."""
        return len(self._threads)

    @property
    def are_wanted(self) -> bool:
        """Whether work waits for a thread."""
        return len(self._work) > self._num_idle

    @property
    def num_aside(self) -> int:
        """Threads that have stepped aside."""
        return self._num_aside

    def submit(self, work: Work) -> None:
        """Has work done, which must not raise; it waits until a thread is free."""
        with self._lock:
            self._work.append(work)
            self._find_thread()

    def step_aside(self) -> None:
        """The calling thread no longer counts, until ``step_back``."""
        with self._lock:
            self._num_aside += 1
            self._find_thread()

    def step_back(self) -> None:
        """The calling thread counts again; if there is one too many, the next one that has nothing to do ends."""
        with self._lock:
            self._num_aside -= 1
            if self._num_idle and self._has_surplus():
                self._changed.notify()

    def shutdown(self, *, wait: bool) -> None:
        """Takes no more work, and ends the threads when they have done what they have.

        Args:
            wait: Whether to wait for their ends.
        """
        with self._lock:
            self._is_closed = True
            self._changed.notify_all()
            threads = list(self._threads)
        if wait:
            for each in threads:
                each.join()

    def _find_thread(self) -> None:
        """With the lock held: wakes or starts a thread for work that waits, if one may be there."""
        if not self._work:
            return
        if len(self._work) <= self._num_idle:
            self._changed.notify()
            return
        if len(self._threads) - self._num_aside >= self._max_threads:
            return
        self._num_made += 1
        thread = threading.Thread(target=self._run, name=f"{self._name}_{self._num_made}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has none left just now
            _LOG.error("no thread can be started (%s); connections wait for the %d there are", error, self.num_threads)
            return
        self._threads.add(thread)

    def _has_surplus(self) -> bool:
        return len(self._threads) - self._num_aside > self._max_threads

    def _run(self) -> None:
        while True:
            work = self._next()
            if work is None:
                return
            work()
            del work  # or what it holds would stay until the next one comes

    def _next(self) -> Work | None:
        """Waits for work; None if the calling thread is to end."""
        with self._lock:
            while not self._work:
                if self._is_closed or self._has_surplus():
                    self._threads.discard(threading.current_thread())
                    return None
                self._num_idle += 1
                self._changed.wait()
                self._num_idle -= 1
            return self._work.popleft()
