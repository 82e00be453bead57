"""What a slow or silent peer may keep a ps from: never its threads, and never for long.

A thread serves a connection in blocking mode. If a frame that has begun to come, or a reply, does not go on for a
moment, its thread steps aside: another one may take its place. The peer has to keep up a rate from then on. There are
only so many such connections; one more ends the slowest.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from typing import Final

from ps_protocol.sockets.stream import SocketStream
from ps_server.transport.sockets.threads import ServingThreads

_LOG = logging.getLogger(__name__)

PATIENCE_S: Final = 0.5
"""How long a peer may keep the ps waiting before it counts as slow."""

LOOK_S: Final = 0.02
"""The same while others wait for a thread; after each it is seen whether they do."""

STALL_TIMEOUT_S: Final = 20.0
"""Longest that a peer may pause in the middle of a frame, or of taking a reply."""

SLOWEST_BYTES_PER_S: Final = 1_000_000
"""Rate that a slow peer has to keep up, for the time beyond what it may pause."""

NOT_BEGUN: Final = -math.inf
"""The deadline of a piece whose time begins when it is found that it does not move with one call."""

MAX_SLOW: Final = 128
"""Connections that may be slow at a time; each has a thread and its tensors' memory."""


class SlowPeers:
    """The connections that wait for a slow peer. Thread-safe.

    Args:
        threads: Whose threads step aside.
        stall_timeout_s: Longest that a peer may pause.
        slowest_bytes_per_s: Rate that a slow one has to keep up.
        limit: How many there may be.
    """

    def __init__(
        self,
        threads: ServingThreads,
        *,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        slowest_bytes_per_s: float = SLOWEST_BYTES_PER_S,
        limit: int = MAX_SLOW,
    ):
        self.stall_timeout_s: Final = stall_timeout_s
        self.slowest_bytes_per_s: Final = slowest_bytes_per_s
        self._threads = threads
        self._limit = limit
        self._lock = threading.Lock()  # guards: _slow, num_ended; no other lock is taken under it
        self._slow: set[PeerStream] = set()
        self.num_ended = 0
        """Connections that were ended to make room."""

    @property
    def num_slow(self) -> int:
        """How many there are now."""
        return len(self._slow)

    @property
    def are_threads_wanted(self) -> bool:
        """Whether others wait for a thread."""
        return self._threads.are_wanted

    def enter(self, stream: PeerStream) -> None:
        """Notes that the calling thread waits for a slow peer; if there are too many, the slowest is ended."""
        with self._lock:
            self._slow.add(stream)
            is_over = len([each for each in self._slow if not each.is_ended]) > self._limit
        if is_over:
            self.end_slowest(f"more than {self._limit} connections were slow")
        self._threads.step_aside()

    def may_enter_early(self) -> bool:
        """Whether one more may be slow that has not had its time: there is room, or one that does not keep the rate."""
        return len(self._slow) < self._limit or self.end_slowest(
            f"more than {self._limit} connections were slow while others waited for a thread", self.slowest_bytes_per_s
        )

    def leave(self, stream: PeerStream) -> None:
        """Notes that it waits no longer."""
        self._threads.step_back()
        with self._lock:
            self._slow.discard(stream)

    def give_memory_back(self) -> None:
        """Ends the slowest of those that do not keep up the rate, since others find no room for their tensors."""
        if self._slow:
            self.end_slowest("the memory for batches on their way is wanted by others", self.slowest_bytes_per_s)

    def end_slowest(self, reason: str, below_bytes_per_s: float = math.inf) -> bool:
        """Ends the connection that moves the least, if any is slow; returns whether there was one.

        Args:
            reason: Why, for the log.
            below_bytes_per_s: Leaves those that move faster.
        """
        now_s = time.monotonic()
        with self._lock:
            others = [each for each in self._slow if not each.is_ended and each.bytes_per_s(now_s) < below_bytes_per_s]
            if not others:
                return False
            slowest = min(others, key=lambda each: each.bytes_per_s(now_s))
            slowest.is_ended = True
            self.num_ended += 1
        _LOG.warning("%s: connection ended, the slowest there was: %s", slowest.peer, reason)
        slowest.abort()
        return True


class PeerStream(SocketStream):
    """A connection on which a peer keeps no thread for long.

    What ends it when it is in the middle of a frame: a pause of ``stall_timeout_s``; a rate below the slowest, with as
    long a pause to spare; or that it is the slowest of too many (``is_ended``).

    Args:
        sock: Connected; owned.
        slow: Of the listener.
        peer: Where the peer is, for the log.
    """

    __slots__ = (
        "_began_bytes",
        "_began_s",
        "_counted_bytes",
        "_limit_s",
        "_patience_ms",
        "is_ended",
        "is_slow",
        "look_ms",
        "peer",
        "slow",
    )

    def __init__(self, sock: socket.socket, slow: SlowPeers, peer: str):
        super().__init__(sock)
        self.slow = slow
        self.peer = peer
        self.is_slow = False
        """Whether the thread that serves it has stepped aside."""
        self.is_ended = False
        """Whether it was ended to make room."""
        self._began_s = 0.0
        self._began_bytes = self._counted_bytes = 0
        self._limit_s = math.inf
        self.look_ms = max(1, int(min(LOOK_S, slow.stall_timeout_s) * 1000))
        """Longest single wait for the peer, before it is slow."""
        self._patience_ms = max(1, int(min(PATIENCE_S, slow.stall_timeout_s) * 1000))
        self.set_send_timeout(self.look_ms)

    def begin(self, now_s: float) -> None:
        """Begins to wait for a piece: the rest of a frame, or that a reply is taken."""
        self._began_s = now_s
        self._began_bytes = self._counted_bytes = self.moved_bytes
        self._limit_s = now_s + self.slow.stall_timeout_s
        self.deadline_s = now_s + LOOK_S

    def settle(self) -> None:
        """The piece is complete, or given up."""
        if self.is_slow:
            self.is_slow = False
            self.slow.leave(self)
            self.set_send_timeout(self.look_ms)

    def bytes_per_s(self, now_s: float) -> float:
        """How fast the piece moves."""
        return (self.moved_bytes - self._began_bytes) / max(now_s - self._began_s, LOOK_S)

    def waits(self, reason: str) -> None:
        if self.deadline_s == NOT_BEGUN:
            self.begin(time.monotonic() - self.look_ms / 1000)
        self._take_time(reason)

    def is_late(self) -> None:
        if self.deadline_s == NOT_BEGUN:
            self.begin(time.monotonic())
        else:
            self._take_time("it is too slow")

    def _take_time(self, reason: str) -> None:
        now_s, moved_bytes = time.monotonic(), self.moved_bytes
        # Bytes buy time, but never more than a pause: what came fast at first is no credit for hours.
        bought_s = (moved_bytes - self._counted_bytes) / self.slow.slowest_bytes_per_s
        self._counted_bytes = moved_bytes
        self._limit_s = min(self._limit_s + bought_s, now_s + self.slow.stall_timeout_s)
        if now_s >= self._limit_s:
            raise TimeoutError(
                f"{reason}; {moved_bytes - self._began_bytes} bytes moved in {now_s - self._began_s:.1f} s, where "
                f"{self.slow.slowest_bytes_per_s:.0f} bytes in a second and {self.slow.stall_timeout_s:g} s are the "
                f"least"
            ) from None
        if not self.is_slow and self._is_slow_by(now_s):
            self.is_slow = True
            self.set_receive_timeout(self._patience_ms)
            self.set_send_timeout(self._patience_ms)
            self.slow.enter(self)
        self.deadline_s = min(self._limit_s, now_s + (PATIENCE_S if self.is_slow else LOOK_S))

    def _is_slow_by(self, now_s: float) -> bool:
        if now_s - self._began_s >= PATIENCE_S:
            return True
        return self.slow.are_threads_wanted and self.slow.may_enter_early()
