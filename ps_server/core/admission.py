"""Admits batches until the task is drained, holds those back that change something for a moment, and counts them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ps_protocol.errors import AbortedError, DeadlineExceededError, UnavailableError
from ps_protocol.service_types import ServingState


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts since the start of the task."""

    batches: int
    operations: int
    bytes_received: int
    bytes_sent: int


class Admission:
    """Whether batches may come: serving, then draining, then stopped when the last batch has left. Thread-safe.

    A hold keeps batches that change something waiting at the door, for as long as its lease. A batch inside may wait
    for another one inside, never for one outside.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # guards: all below; no other lock is taken under it
        self._lock = threading.Lock()
        self._emptied = threading.Condition(self._lock)
        self._opened = threading.Condition(self._lock)  # a hold has ended, or what it waits for has left
        self._inside = 0
        self._changing = 0  # of those inside, the ones that change something
        self._holder: UUID | None = None
        self._held_until_s = 0.0
        self._drain_reason: str | None = None
        self._listeners: list[Callable[[], None]] = []
        self._batches = 0
        self._operations = 0
        self._bytes_received = 0
        self._bytes_sent = 0

    def enter(self, num_operations: int, *, changes: bool = False, timeout_s: float = 0.0) -> bool:
        """Counts a batch in, to be followed by ``leave``; False, without counting, if the task is draining.

        Args:
            num_operations: Of the batch.
            changes: Whether it changes something, so that it waits while such batches are held back.
            timeout_s: Longest to wait.

        Raises:
            UnavailableError: It was held back for so long; nothing was applied.
        """
        with self._lock:
            if changes and self._holder is not None:
                self._wait_until_open(timeout_s)
            if self._drain_reason is not None:
                return False
            self._inside += 1
            self._changing += changes
            self._batches += 1
            self._operations += num_operations
            return True

    def leave(self, *, changes: bool = False) -> None:
        with self._lock:
            self._inside -= 1
            self._changing -= changes
            if self._holder is not None and not self._changing:
                self._opened.notify_all()
            if not self._inside and self._drain_reason is not None:
                self._emptied.notify_all()

    # -- holding ------------------------------------------------------------------------------

    def hold(self, holder: UUID, lease_s: float, timeout_s: float) -> None:
        """Holds back batches that change something, and waits until those inside have left. Safe to repeat.

        Args:
            holder: Which save or restore.
            lease_s: Seconds after which the hold ends by itself.
            timeout_s: Longest to wait for those inside.

        Raises:
            AbortedError: Another one holds them back; retryable.
            DeadlineExceededError: Those inside did not leave in time; nothing is held back.
        """
        with self._lock:
            if self._is_held and self._holder != holder:
                raise AbortedError("another save or restore holds updates back at this moment; try again")
            self._holder, self._held_until_s = holder, self._clock() + lease_s
            if not self._opened.wait_for(lambda: not self._changing, timeout_s):
                self._end_hold()
                raise DeadlineExceededError(
                    f"{self._changing} batches were still changing variables after {timeout_s:.1f} s; save or restore "
                    f"when less is going on, or try again"
                )

    def release(self, holder: UUID) -> bool:
        """Ends a hold; returns whether it was in force until now."""
        with self._lock:
            if self._holder != holder:
                return False
            was_held = self._is_held
            self._end_hold()
            return was_held

    def is_held_by(self, holder: UUID) -> bool:
        """Whether a hold is in force."""
        with self._lock:
            return self._holder == holder and self._is_held

    @property
    def _is_held(self) -> bool:
        return self._holder is not None and self._clock() < self._held_until_s

    def _end_hold(self) -> None:
        self._holder = None
        self._opened.notify_all()

    def _wait_until_open(self, timeout_s: float) -> None:
        deadline_s = self._clock() + timeout_s
        while self._holder is not None:
            now_s = self._clock()
            if now_s >= self._held_until_s:
                self._end_hold()  # whoever held them is gone, or too slow
            elif now_s >= deadline_s:
                raise UnavailableError(
                    f"updates were held back for a checkpoint for {timeout_s:.1f} s; nothing was applied, try again"
                )
            else:
                self._opened.wait(min(self._held_until_s, deadline_s) - now_s)

    # -- counting, draining -------------------------------------------------------------------

    def count_bytes(self, *, received: int, sent: int) -> None:
        """Adds to the bytes moved."""
        with self._lock:
            self._bytes_received += received
            self._bytes_sent += sent

    def start_draining(self, reason: str) -> None:
        """Admits no more batches; the first reason given is kept."""
        with self._lock:
            if self._drain_reason is not None:
                return
            self._drain_reason = reason
            listeners, self._listeners = self._listeners, []
        for notify in listeners:
            notify()

    def when_draining(self, notify: Callable[[], None]) -> None:
        """Calls ``notify`` once: when draining starts, or now if it has started."""
        with self._lock:
            if self._drain_reason is None:
                self._listeners.append(notify)
                return
        notify()

    def wait_until_empty(self, timeout_s: float) -> None:
        """Waits until every admitted batch has left; DeadlineExceededError if some have not."""
        with self._lock:
            if not self._emptied.wait_for(lambda: not self._inside, timeout_s):
                raise DeadlineExceededError(
                    f"{self._inside} batches were still being carried out after {timeout_s:.1f} s of draining; "
                    f"new ones stay refused: drain again to wait longer"
                )

    def refusal(self) -> UnavailableError:
        """The error for a batch that is not admitted."""
        return UnavailableError(
            f"the task is draining ({self._drain_reason}) and takes no new requests; try again later"
        )

    @property
    def is_draining(self) -> bool:
        """Whether no more batches are admitted."""
        return self._drain_reason is not None

    @property
    def state(self) -> ServingState:
        with self._lock:
            if self._drain_reason is None:
                return ServingState.SERVING
            return ServingState.DRAINING if self._inside else ServingState.STOPPED

    @property
    def num_batches(self) -> int:
        """Batches since the start of the task; takes no lock."""
        return self._batches

    @property
    def traffic(self) -> Traffic:
        with self._lock:
            return Traffic(self._batches, self._operations, self._bytes_received, self._bytes_sent)
