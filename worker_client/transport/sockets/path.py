"""The socket transport of a client to one ps task: a few connections, opened when they are needed."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final
from uuid import UUID

from ps_protocol.errors import DeadlineExceededError, ShardscopeError, UnavailableError
from ps_protocol.interrupts import sheltered
from ps_protocol.operations import Array, Batch, BatchReply
from ps_protocol.ps_service import Line, PendingExchange, Transport
from ps_protocol.sockets.frames import SOCKET_PROTOCOL_VERSION
from worker_client.transport.endpoint import Offer
from worker_client.transport.shared_memory.connection import SegmentConnection
from worker_client.transport.shared_memory.pool import SegmentPool
from worker_client.transport.sockets.addresses import connect
from worker_client.transport.sockets.connection import SilentConnectionError, SocketConnection
from worker_client.transport.sockets.trust import PROOF_S, Trust

_LOG = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 8
"""Most connections of one client to one ps task; batches beyond them wait for one."""

MAX_PIPELINED_REPLY_BYTES: Final = 16 * 1024
"""Most bytes of tensors in the reply to a batch that may be sent before the replies to earlier ones are read."""

_LOOK_S: Final = 0.05

_CONNECT_TIMEOUT_S: Final = 2.0
"""Longest that connecting is tried; where a firewall drops what is sent, nothing else ends it."""


def open_transport(offer: Offer) -> SocketTransport:
    """Connects to a ps, over a TCP or a Unix socket.

    Raises:
        OSError: Nothing answers there.
        ShardscopeError: The ps, or what answers instead of it, has refused.
    """
    transport = SocketTransport(offer)
    transport.connect(offer)
    return transport


class SocketTransport(Transport):
    """Batches over sockets, and their tensors in shared memory where that is offered.

    The first connection that is free is used next, so a client that needs only one keeps one busy. A connection is
    busy as long as a caller holds the lock that it was taken with, in a ``with`` statement. It says itself whether it
    is of use after that. So an interrupted caller gives it back as well, and whoever comes next drops what is broken.

    What a batch changes counts once whichever transport it takes, and if it takes two: the ps knows it by its client
    and its sequence number. So a batch whose reply was lost here may be sent again over the reference transport.

    Args:
        offer: Of the ps.
    """

    def __init__(self, offer: Offer):
        self._offer = offer
        self._task = offer.task
        self._trust = Trust()
        self._segments = SegmentPool(self._open_for_segments, task=offer.task) if offer.shares_memory else None
        # guards: _connections, _num_opening, _num_waiting, _is_closed, changes of _pipeline, and who takes a
        # connection; no other lock is taken under it
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self._connections: list[SocketConnection] = []
        self._num_opening = 0
        self._num_waiting = 0
        self._is_closed = False
        self._pipeline: SocketConnection | None = None  # of the thread that calls `begin` alone

    def connect(self, offer: Offer) -> None:
        """Opens a connection with an offer that was not used yet; errors as for ``open_transport``."""
        self._add(self._connected(offer, _CONNECT_TIMEOUT_S))

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        """Has a batch carried out; ``Transport.exchange``.

        Raises:
            NoConnectionError: A connection was needed and could not be opened, and there is no other transport;
                nothing was sent.
            UnavailableError: The connection broke; what the batch changes may or may not have been applied.
            DeadlineExceededError: No reply in time, or no connection was free; likewise.
            ShardscopeError: The batch was refused as a whole.
        """
        try:
            return self._exchange(batch, timeout_s)
        finally:
            self.freed()

    def _exchange(self, batch: Batch, timeout_s: float) -> BatchReply:
        caller = threading.Lock()
        with caller:
            connection = self._taken(caller)
            if connection is None:
                started_s = time.monotonic()
                try:
                    while connection is None:
                        sheltered(self._make_one_free, timeout_s - (time.monotonic() - started_s))
                        connection = self._taken(caller)
                except NoConnectionError as error:
                    reference = self._offer.reference
                    if reference is None:
                        raise
                    if error.ps_answers and not self._connections:
                        sheltered(self._offer.give_up, self, error.message)
                    return reference.exchange(batch, timeout_s=timeout_s - (time.monotonic() - started_s))
                timeout_s -= time.monotonic() - started_s
            reply = None
            try:
                reply = connection.exchange(batch, timeout_s)
            except SilentConnectionError:
                self.drop_broken(caller)
                if connection.deadline_s <= time.monotonic():
                    raise
            except BaseException:
                if not connection.is_usable:
                    self.drop_broken(caller)
                raise
        if reply is None:  # the same batch again, on a connection that has proved itself, or by the reference
            return self.exchange(batch, timeout_s=_until(connection.deadline_s))
        return reply

    def line(self, caller: threading.Lock, *, timeout_s: float) -> Line | None:  # noqa: ARG002 - has no use for it
        """Returns a connection that is free; ``Transport.line``."""
        connection = self._taken(caller)
        return None if connection is None else _ConnectionLine(self, connection, caller)

    def begin(self, batch: Batch, *, timeout_s: float) -> PendingExchange | None:
        """Sends a batch without waiting for its reply; ``Transport.begin``."""
        expected_bytes = batch.expected_reply_bytes
        if expected_bytes is None or expected_bytes > MAX_PIPELINED_REPLY_BYTES:
            return None
        connection = self._pipeline
        if connection is None or not connection.is_usable:
            if connection is not None:
                connection.close()
            self._pipeline = None
            if self._trust.is_doubted:
                self._drop_free()
            try:
                connection = self._opened(timeout_s)
            except NoConnectionError as error:
                if self._offer.reference is None or not error.ps_answers:
                    raise
                if not self._connections:
                    self._offer.give_up(self, error.message)
                return None
            with self._lock:
                is_late = self._is_closed
                self._pipeline = None if is_late else connection
            if is_late:
                connection.close()
                raise self._closed()
        return connection.begin(batch, timeout_s)

    def new_buffer(self, size_bytes: int, *, timeout_s: float) -> Array | None:
        lease = None if self._segments is None else self._segments.lease(size_bytes, timeout_s=timeout_s)
        return None if lease is None else lease.array(writable=True)

    def close(self) -> None:
        """Closes the connections; batches that are on their way keep theirs until they are done."""
        with self._lock:
            self._is_closed = True
            self._returned.notify_all()
            pipeline = self._pipeline
        self._drop_free()
        if pipeline is not None:
            pipeline.close()
        if self._segments is not None:
            self._segments.close()

    def _closed(self) -> UnavailableError:
        return UnavailableError(f"the connections to {self._task} are closed", task=self._task)

    # -- which connection ---------------------------------------------------------------------

    def _taken(self, caller: threading.Lock) -> SocketConnection | None:
        """Takes a connection that is free, for as long as the caller holds that lock; None if there is none."""
        if self._trust.is_doubted:
            return None
        with self._lock:
            for connection in self._connections:
                if connection.is_usable and not connection.caller.locked():
                    connection.caller = caller
                    return connection
        return None

    def _make_one_free(self, timeout_s: float) -> None:
        """Opens a connection, or waits until one is free if there may not be another.

        Raises:
            UnavailableError: The transport was closed.
            DeadlineExceededError: None became free in time.
            NoConnectionError: As of ``_opened``.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            self._drop_broken()
            if self._trust.is_doubted:
                self._drop_free()  # they go where the one went that was silent
            with self._lock:
                if self._is_closed:
                    raise self._closed()
                if any(not each.caller.locked() for each in self._connections):
                    return
                remaining_s = deadline_s - time.monotonic()
                may_open = len(self._connections) + self._num_opening < MAX_CONNECTIONS
                if may_open:
                    self._num_opening += 1
                elif remaining_s > 0:
                    self._num_waiting += 1
                    self._returned.wait(min(remaining_s, _LOOK_S))  # one given back by an interrupt wakes nobody
                    self._num_waiting -= 1
                else:
                    raise DeadlineExceededError(
                        f"all {MAX_CONNECTIONS} connections to {self._task} at {self._offer.address} were busy for "
                        f"{timeout_s:.1f} s",
                        task=self._task,
                    )
            if may_open:
                self._open_one(remaining_s)
                return

    def _open_one(self, timeout_s: float) -> None:
        try:
            self._add(self._opened(timeout_s))
        finally:
            with self._lock:
                self._num_opening -= 1
                self._returned.notify()

    def drop_broken(self, caller: threading.Lock) -> None:
        """Closes the connection that a caller has, and those that are free, since it broke."""
        sheltered(self._drop_broken, caller)

    def freed(self) -> None:
        """Has whoever waits for a connection look for one that was given back."""
        if self._num_waiting or self._is_closed:
            sheltered(self._given_back)

    def _add(self, connection: SocketConnection) -> None:
        with self._lock:
            self._connections.append(connection)
        if self._is_closed:
            self._drop_free()

    def _given_back(self) -> None:
        with self._lock:
            self._returned.notify()
        if self._is_closed:
            self._drop_free()

    def _drop_broken(self, caller: threading.Lock | None = None) -> None:
        """Closes connections if one is broken that nobody uses but ``caller``.

        The others that are free have most likely lost the same ps; to find out costs a failed try each.
        """
        with self._lock:
            free = [each for each in self._connections if each.caller is caller or not each.caller.locked()]
            if all(each.is_usable for each in free):
                return
            self._connections = [each for each in self._connections if each not in free]
            self._returned.notify()
        for each in free:
            each.close()

    def _drop_free(self) -> None:
        with self._lock:
            free = [each for each in self._connections if not each.caller.locked()]
            self._connections = [each for each in self._connections if each not in free]
        for each in free:
            each.close()

    def _opened(self, timeout_s: float) -> SocketConnection:
        """Opens one more connection, for which the ps gives another ticket.

        Raises:
            NoConnectionError: The ps does not answer, offers no sockets any more or cannot be reached there.
        """
        try:
            offer = self._offer.again(timeout_s)
        except ShardscopeError as error:
            # Time that ran out here was not the batch's; a ps that is silent now may answer later.
            retryable = error.retryable or isinstance(error, DeadlineExceededError)
            raise NoConnectionError(error.message, task=self._task, retryable=retryable) from error
        kind = self._offer.path.kind.name
        try:
            if offer is None:
                raise UnavailableError("it is not offered any more")
            return self._connected(offer, min(timeout_s, _CONNECT_TIMEOUT_S))
        except (OSError, ShardscopeError) as error:
            failure = NoConnectionError(
                f"{self._task} at {self._offer.address} answers, but cannot be reached over its {kind} socket any more "
                f"({error}); open its --socket-port to this host",
                task=self._task,
            )
            failure.ps_answers = True
            raise failure from error

    def _connected(self, offer: Offer, timeout_s: float) -> SocketConnection:
        is_doubted, deadline_s = self._trust.is_doubted, time.monotonic() + timeout_s
        if is_doubted:
            deadline_s = min(deadline_s, time.monotonic() + PROOF_S)
        sock = connect(offer.path, offer.address.rpartition(":")[0], _until(deadline_s))
        segments = self._segments if offer.shares_memory else None
        connection = SocketConnection(
            sock,
            offer.client,
            task=self._task,
            address=offer.address,
            segments=segments,
            version=min(offer.path.version, SOCKET_PROTOCOL_VERSION),
            checks_tensors=offer.path.checks_tensors,
            trust=self._trust,
        )
        try:
            connection.shake_hands(offer.ticket, _until(deadline_s))
            if is_doubted:
                _prove(connection, offer.client, _until(deadline_s))
                self._trust.restore()
                _LOG.info("a connection to %s was silent for too long; a new one takes its place", self._task)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_for_segments(self, timeout_s: float) -> SegmentConnection:
        """Opens one more connection, for nothing but shared memory."""
        opened = self._opened(timeout_s)
        return SegmentConnection(opened.sock, task=self._task, framing=opened.framing)


def _until(deadline_s: float) -> float:
    """Seconds that are left, a few if there are none, so that what is tried fails by itself."""
    return max(0.01, deadline_s - time.monotonic())


def _prove(connection: SocketConnection, client: UUID, timeout_s: float) -> None:
    """Asks what takes no time to answer; any answer will do. Errors as of ``SocketConnection.exchange``."""
    try:
        connection.exchange(Batch(client, UUID(int=0), 0, ()), timeout_s)
    except ShardscopeError:
        if not connection.is_usable:
            raise


class _ConnectionLine:
    """A connection as a ``Line``."""

    __slots__ = ("_caller", "_connection", "_transport")

    waits_apart = False

    def __init__(self, transport: SocketTransport, connection: SocketConnection, caller: threading.Lock):
        self._transport = transport
        self._connection = connection
        self._caller = caller

    def send(self, batch: Batch, *, timeout_s: float) -> None:
        try:
            self._connection.send(batch, timeout_s=timeout_s)
        except BaseException:
            self._transport.drop_broken(self._caller)
            raise

    def wait(self) -> None:
        """``receive`` does."""

    def receive(self) -> BatchReply:
        try:
            return self._connection.receive()
        except BaseException:
            if not self._connection.is_usable:
                self._transport.drop_broken(self._caller)
            raise

    def freed(self) -> None:
        self._transport.freed()


class NoConnectionError(UnavailableError):
    """A connection could not be opened; its cause says why. Not sent: the code is that of its base.

    Attributes:
        ps_answers: Whether the ps was there all the same.
    """

    ps_answers = False
