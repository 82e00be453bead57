"""Admits batches until the task is drained, and counts them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from ps_protocol.errors import DeadlineExceededError, UnavailableError
from ps_protocol.service_types import ServingState


@dataclass(frozen=True, slots=True)
class Traffic:
    """Counts since the start of the task."""

    batches: int
    operations: int
    bytes_received: int
    bytes_sent: int


class Admission:
    """Whether batches may come: serving, then draining, then stopped when the last batch has left. Thread-safe."""

    def __init__(self) -> None:
        # guards: all below; no other lock is taken under it
        self._lock = threading.Lock()
        self._emptied = threading.Condition(self._lock)
        self._inside = 0
        self._drain_reason: str | None = None
        self._listeners: list[Callable[[], None]] = []
        self._batches = 0
        self._operations = 0
        self._bytes_received = 0
        self._bytes_sent = 0

    def enter(self, num_operations: int) -> bool:
        """Counts a batch in, to be followed by ``leave``; False, without counting, if the task is draining."""
        with self._lock:
            if self._drain_reason is not None:
                return False
            self._inside += 1
            self._batches += 1
            self._operations += num_operations
            return True

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside and self._drain_reason is not None:
                self._emptied.notify_all()

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
    def traffic(self) -> Traffic:
        with self._lock:
            return Traffic(self._batches, self._operations, self._bytes_received, self._bytes_sent)
