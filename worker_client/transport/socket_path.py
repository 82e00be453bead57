"""A client's connections to one ps task over the socket transport: a few, opened when they are needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from ps_protocol.errors import DeadlineExceededError, ShardscopeError, UnavailableError
from ps_protocol.operations import Batch, BatchReply
from ps_protocol.ps_service import PendingExchange
from worker_client.transport.socket_connection import SocketConnection

MAX_CONNECTIONS: Final = 8
"""Most connections of one client to one ps task; batches beyond them wait for one."""

MAX_PIPELINED_REPLY_BYTES: Final = 16 * 1024
"""Most bytes of tensors in the reply to a batch that may be sent before the replies to earlier ones are read."""


class SocketPath:
    """A ``PipelinedTransport`` over sockets. Thread-safe, but for ``begin``.

    The connection used last is used next, so that a client that needs only one has only one busy.

    Args:
        open_connection: Makes a connection; is given the seconds that it may take.
        task: The ps's name, as "ps:0", for the errors.
        address: Where the ps is, for the errors.
    """

    def __init__(self, open_connection: Callable[[float], SocketConnection], *, task: str, address: str):
        self._open_connection = open_connection
        self._task = task
        self._address = address
        # guards: _idle, _num_open, _is_closed; no other lock is taken under it
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self._idle: list[SocketConnection] = []
        self._num_open = 0
        self._is_closed = False
        self._pipeline: SocketConnection | None = None  # of the thread that calls `begin` alone

    def add(self, connection: SocketConnection) -> None:
        """Takes over a connection that is open already."""
        with self._lock:
            self._num_open += 1
        self._give_back(connection)

    @property
    def num_connections(self) -> int:
        """Connections that are open, but for the one that ``begin`` uses."""
        return self._num_open

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        """Has a batch carried out; ``Transport.exchange``.

        Raises:
            NoConnectionError: A connection was needed and could not be opened; nothing was sent.
            UnavailableError: The connection broke; what the batch changes may or may not have been applied.
            DeadlineExceededError: No reply in time, or no connection was free; likewise.
            ShardscopeError: The batch was refused as a whole.
        """
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            started_s = time.monotonic()
            connection = self._another(timeout_s)
            timeout_s -= time.monotonic() - started_s
        try:
            return connection.exchange(batch, timeout_s)
        finally:
            self._give_back(connection)

    def begin(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None:
        """Sends a batch without waiting for its reply; ``PipelinedTransport.begin``."""
        expected_bytes = batch.expected_reply_bytes
        if expected_bytes is None or expected_bytes > MAX_PIPELINED_REPLY_BYTES:
            return None
        connection = self._pipeline
        if connection is None or not connection.is_usable:
            if connection is not None:
                connection.close()
            self._pipeline = None
            connection = self._pipeline = self._opened(timeout_s)
        return connection.begin(batch, timeout_s)

    def close(self) -> None:
        """Closes the connections; batches that are on their way keep theirs until they are done."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._num_open -= len(idle)
            self._returned.notify_all()
        for connection in idle:
            connection.close()
        if self._pipeline is not None:
            self._pipeline.close()

    def _another(self, timeout_s: float) -> SocketConnection:
        """Opens a connection, or waits until one is free if there may not be another."""
        with self._lock:
            in_time = self._returned.wait_for(
                lambda: self._is_closed or self._idle or self._num_open < MAX_CONNECTIONS, timeout_s
            )
            if self._is_closed:
                raise UnavailableError(f"the connections to {self._task} are closed", task=self._task)
            if not in_time:
                raise DeadlineExceededError(
                    f"all {MAX_CONNECTIONS} connections to {self._task} at {self._address} were busy for "
                    f"{timeout_s:.1f} s",
                    task=self._task,
                )
            if self._idle:
                return self._idle.pop()
            self._num_open += 1
        try:
            return self._opened(timeout_s)
        except BaseException:
            with self._lock:
                self._num_open -= 1
                self._returned.notify()
            raise

    def _opened(self, timeout_s: float) -> SocketConnection:
        try:
            return self._open_connection(timeout_s)
        except ShardscopeError as error:
            # Time that ran out here was not the batch's; a ps that is silent now may answer later.
            retryable = error.retryable or isinstance(error, DeadlineExceededError)
            raise NoConnectionError(error.message, task=self._task, retryable=retryable) from error

    def _give_back(self, connection: SocketConnection) -> None:
        broken = []
        with self._lock:
            if connection.is_usable and not self._is_closed:
                self._idle.append(connection)
            else:
                # The others that are idle have most likely lost the same ps; to find out costs a failed try each.
                broken = [connection, *self._idle]
                self._idle = []
                self._num_open -= len(broken)
            self._returned.notify()
        for each in broken:
            each.close()


class NoConnectionError(UnavailableError):
    """A connection could not be opened; its cause says why. Not sent: the code is that of its base."""
