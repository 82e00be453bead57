"""A stream for small batches that stays open as long as the client is at work.

It costs less than a call for each batch: a call has headers, a status, and several changes of thread on the ps.

gRPC sends what an iterator yields, from a thread of its own. So that thread knows when nothing was sent for a while,
and ends the stream; and when a batch is not answered in time, and gives it up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Final, Protocol, TypeAlias

from ps_protocol.grpc_edge.fork_gate import GATE
from ps_protocol.interrupts import sheltered

IDLE_S: Final = 0.5
"""How long a stream stays open without a batch: it keeps a thread of the ps."""

MAX_STREAMS: Final = 4
"""How many a client has open to one ps; further batches at the same time go in calls of their own."""

_REST_S: Final = 1.0
"""How long none is opened after the ps has ended one."""


class Replies(Protocol):
    """What gRPC gives for a stream."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __next__(self) -> bytes: ...

    def cancel(self) -> bool:
        """Ends it; without effect on one that has ended."""

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Has it called when the stream has ended; False if that has been."""


OpenStream: TypeAlias = Callable[[Iterator[bytes], float], Replies]
"""Opens a stream of the messages that an iterator yields, for at most so many seconds."""


class BatchStream:
    """One stream. One caller at a time: it sends a batch, takes the reply, and gives the stream back.

    Args:
        open_stream: Opens it.
        lifetime_s: For how long.

    Attributes:
        is_open: Whether it may be used again; it may have ended all the same.
        has_expired: Whether it has ended because a batch was not answered in time.
    """

    def __init__(self, open_stream: OpenStream, lifetime_s: float):
        self.is_open = True
        self.has_expired = False
        self._end_s = time.monotonic() + lifetime_s
        self._requests: SimpleQueue[bytes | None] = SimpleQueue()
        self._due_s: float | None = None  # when the batch on its way is to be answered
        self._reply: bytes | None = None
        self._error: Exception | None = None
        self._replies = GATE.keep(lambda: open_stream(self._messages(), lifetime_s), self.end)

    def has_time_for(self, timeout_s: float) -> bool:
        """Whether a batch may be sent that is waited for so long."""
        return self.is_open and self._end_s - time.monotonic() >= timeout_s

    def send(self, message: bytes, timeout_s: float) -> None:
        """Has a batch sent, which is given up if it is not answered in time."""
        self._due_s = time.monotonic() + timeout_s
        self._requests.put(message)

    def receive(self) -> bytes | None:
        """Returns the reply; None if the stream had ended in good order, and the batch was not read.

        Raises:
            grpc.RpcError: The stream has ended in another way.
        """
        if self._due_s is not None:
            sheltered(self.wait)
        if self._error is not None:
            raise self._error
        return self._reply

    def wait(self) -> None:
        """Waits for what ``receive`` then gives; not for the main thread, which gRPC must not be called by."""
        self._reply = None
        try:
            self._reply = next(self._replies, None)
        except Exception as error:  # noqa: BLE001 - the caller raises it
            self._error = error
        if self._reply is None:
            self.end()
        self._due_s = None

    def end(self) -> None:
        """Has it end when what was sent is answered; may be repeated."""
        self.is_open = False
        self._requests.put(None)

    def _messages(self) -> Iterator[bytes]:
        while (message := self._next_message()) is not None:
            yield message
        self.is_open = False

    def _next_message(self) -> bytes | None:
        while True:
            try:
                return self._requests.get(timeout=IDLE_S)
            except Empty:
                due_s = self._due_s
                if due_s is None:
                    return None
                if due_s <= time.monotonic():
                    self.has_expired = True
                    self._replies.cancel()
                    return None


class BatchStreams:
    """The streams of a client to one ps task. Thread-safe; an interrupt loses at most a stream, which ends by itself.

    Args:
        open_stream: Opens one.
    """

    def __init__(self, open_stream: OpenStream):
        self._open_stream = open_stream
        self._free: deque[BatchStream] = deque()
        self._opened: list[BatchStream] = []
        self._rests_until_s = 0.0
        self._is_closed = False

    def free(self, timeout_s: float) -> BatchStream | None:
        """Takes out a stream, for a batch that is waited for so long; None if it is to go in a call of its own."""
        while self._free:
            try:
                stream = self._free.pop()
            except IndexError:
                break  # another thread was faster
            if stream.has_time_for(timeout_s):
                return stream
            stream.end()
        if self._is_closed or time.monotonic() < self._rests_until_s:
            return None
        return sheltered(self._new, timeout_s)

    def _new(self, timeout_s: float) -> BatchStream | None:
        self._opened = [each for each in self._opened if each.is_open]
        if len(self._opened) >= MAX_STREAMS:
            return None
        # Twice as long as the batch may take, so that it is not opened anew for each.
        stream = BatchStream(self._open_stream, 2 * timeout_s)
        self._opened.append(stream)
        return stream

    def give_back(self, stream: BatchStream) -> None:
        """Has a stream used again, whose reply was taken."""
        self._free.append(stream)
        if self._is_closed:
            stream.end()

    def rest(self) -> None:
        """Opens none for a while."""
        self._rests_until_s = time.monotonic() + _REST_S

    def give_up(self) -> None:
        """Opens none any more: the ps knows no such streams."""
        self._is_closed = True

    def close(self) -> None:
        """Ends the streams, before their channel is closed."""
        self._is_closed = True
        for each in self._opened:
            each.end()
