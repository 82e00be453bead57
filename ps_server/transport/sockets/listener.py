"""Accepts the socket transport's connections and keeps thousands of idle ones cheaply.

One thread watches all idle connections, and reads the tickets of new ones. A connection that becomes readable goes to a
pool of threads. One of them serves it in blocking mode until nothing has come for a while; then it is watched again. So
a busy client has the latency of a thread of its own, and an idle one costs a descriptor and a small object. A thread
that waits for a slow peer in the middle of a frame steps aside, so that the others find as many as ever.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import selectors
import socket
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID, uuid4

from ps_protocol.codec.header_bounds import HeaderBounds
from ps_protocol.forks import close_in_child
from ps_protocol.service_types import FastPath, FastPathKind, Welcome
from ps_protocol.sockets.frames import REASONS, SOCKET_PROTOCOL_VERSION, SocketHello, Verdict
from ps_protocol.sockets.framing import Framing
from ps_protocol.sockets.stream import SCRATCH_BYTES, SocketStream
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget
from ps_server.transport.descriptors import DescriptorReserve
from ps_server.transport.shared_memory.batches import SharedBatches
from ps_server.transport.shared_memory.registry import SegmentRegistry
from ps_server.transport.sockets.binding import listen_tcp, listen_unix, peer_name, prepare
from ps_server.transport.sockets.newcomers import HANDSHAKE_TIMEOUT_S, MAX_NEWCOMERS, Newcomers, Report, answer
from ps_server.transport.sockets.session import SocketSession
from ps_server.transport.sockets.slow_peers import (
    MAX_SLOW,
    SLOWEST_BYTES_PER_S,
    STALL_TIMEOUT_S,
    PeerStream,
    SlowPeers,
)
from ps_server.transport.sockets.threads import ServingThreads
from ps_server.transport.sockets.tickets import TicketOffice

_LOG = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 4096
"""One more ends one that was never used; if there is none it is refused, with the reason."""

_SHORT_LINGER_S: Final = 0.002
"""How long a thread waits for the next request while more than half of the threads are busy."""

_MAX_VISITORS: Final = 16
_JOIN_TIMEOUT_S: Final = 5.0
_PAUSE_S: Final = 0.5  # in accepting
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """How the socket transport is offered.

    Attributes:
        host: Address to listen on, as for gRPC; IPv6 in brackets.
        port: TCP port; 0 for any free one.
        max_threads: Connections that are served at the same time, besides slow ones.
        max_connections: Connections that may be open, once they have shown a ticket; one more ends the oldest that was
            never used, and is refused if there is none.
        max_newcomers: Connections that may be open and have shown none; one more ends the oldest.
        max_slow: Connections that may be slow in the middle of a frame; one more ends the slowest.
        stall_timeout_s: Longest that a client may keep the ps waiting in the middle of a frame.
        slowest_bytes_per_s: Rate that a slow client has to keep up, or it is ended.
        handshake_timeout_s: Longest that a new connection may take to show its ticket.
        linger_s: How long a thread waits for the next request before it gives its connection back to be watched.
        looks_first: Whether it keeps the processor while it waits, if that pays and no other connection is served.
        checks_tensors: Whether clients are asked for checksums of tensors, and get them.
        header_bounds: What the header of a batch may be.
    """

    host: str
    port: int = 0
    max_threads: int = 64
    max_connections: int = MAX_CONNECTIONS
    max_newcomers: int = MAX_NEWCOMERS
    max_slow: int = MAX_SLOW
    stall_timeout_s: float = STALL_TIMEOUT_S
    slowest_bytes_per_s: float = SLOWEST_BYTES_PER_S
    handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S
    linger_s: float = 0.5
    looks_first: bool = True
    checks_tensors: bool = False
    header_bounds: HeaderBounds = field(default_factory=HeaderBounds)


class SocketListener:
    """The socket transport of one ps task. Started once, stopped once; otherwise thread-safe.

    Args:
        core: Carries the batches out.
        settings: Where to listen, and limits.
        staging: Room for tensors on their way, shared with the other transports.
        buffers: Pool of buffers for large tensors, shared as well.
        segments: The shared memory of clients on this host; None to offer none.
        reserve: Descriptors that no connection gets.
    """

    def __init__(
        self,
        core: ParameterServer,
        settings: SocketSettings,
        *,
        staging: ByteBudget,
        buffers: BufferPool,
        segments: SegmentRegistry | None = None,
        reserve: DescriptorReserve | None = None,
    ):
        self._core = core
        self._settings = settings
        self._staging = staging
        self._tickets = TicketOffice()
        self._buffers = buffers
        self._segments = segments
        self._listeners: list[socket.socket] = []
        self._paths: tuple[FastPath, ...] = ()
        self._reserve = DescriptorReserve() if reserve is None else reserve
        self._threads = ServingThreads(settings.max_threads, "socket")
        self.slow_peers = SlowPeers(
            self._threads,
            stall_timeout_s=settings.stall_timeout_s,
            slowest_bytes_per_s=settings.slowest_bytes_per_s,
            limit=settings.max_slow,
        )
        staging.when_short = self.slow_peers.give_memory_back
        self._thread = threading.Thread(target=self._watch, name="socket-listener", daemon=True)
        self._returned: deque[SocketSession] = deque()  # idle again; appending is atomic
        # Used by the watching thread alone, as is when to accept connections again.
        self._newcomers = Newcomers(self._tickets, limit=settings.max_newcomers, timeout_s=settings.handshake_timeout_s)
        self._refusals, self._pauses = Report(), Report()
        self._resume_s: float | None = None
        # guards: _connections, _busy, _visitors, _is_stopping; no other lock is taken under it
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._connections: dict[socket.socket, SocketSession | None] = {}  # None for those of visitors
        self._busy: set[socket.socket] = set()  # those that a thread serves
        self._visitors: OrderedDict[UUID, Callable[[SocketStream], None]] = OrderedDict()  # oldest first
        self._is_stopping = False

    # -- life ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Listens and serves.

        Raises:
            OSError: The address is taken, not this machine's, or not allowed.
        """
        tcp = listen_tcp(self._settings.host, self._settings.port)
        version, checks = SOCKET_PROTOCOL_VERSION, self._settings.checks_tensors
        port = tcp[0].getsockname()[1]
        paths = [FastPath(FastPathKind.TCP, f":{port}", version=version, checks_tensors=checks)]
        unix = listen_unix()
        if unix is not None:
            name = unix.getsockname()[1:].decode()
            shares = self._segments is not None
            paths.insert(0, FastPath(FastPathKind.UNIX, name, shares, version, checks))
        self._listeners = [*tcp, unix] if unix is not None else tcp
        self._paths = tuple(paths)
        self._selector = selectors.DefaultSelector()
        self._waker, self._wake = socket.socketpair()
        self._waker.setblocking(False)
        self._wake.setblocking(False)
        self._selector.register(self._waker, selectors.EVENT_READ, self._take_back)
        self._accept_connections()
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Ends idle connections at once, others after their reply, and all after the grace; may be repeated."""
        deadline_s = time.monotonic() + grace_s
        with self._lock:
            if self._is_stopping:
                return
            self._is_stopping = True
        self._notify()
        self._thread.join(_JOIN_TIMEOUT_S)
        # Threads that wait for a request read the end of the stream; threads that send a reply go on.
        self._shut_down(socket.SHUT_RD)
        with self._lock:
            all_done = self._idle.wait_for(lambda: not self._busy, max(0.0, deadline_s - time.monotonic()))
        if not all_done:
            _LOG.warning("%d connections were cut off", len(self._busy))
            self._shut_down(socket.SHUT_RDWR)
        self._threads.shutdown(wait=all_done)
        with self._lock:
            unused = self._connections.keys() - self._busy
        for sock in unused:
            self._forget(sock)
        for each in (*self._listeners, self._waker, self._wake):
            each.close()
        self._selector.close()

    def welcome(self, welcome: Welcome, client: UUID) -> Welcome:
        """Adds the offers of this transport to a ps's answer to hello."""
        return replace(welcome, fast_paths=self._paths, ticket=self._tickets.issue(client))

    def admit(self, serve: Callable[[SocketStream], None]) -> tuple[int, UUID, bytes]:
        """Admits one connection that carries something else than batches.

        Args:
            serve: Called with the connection after its handshake, on a thread of the listener; the connection ends when
                it returns.

        Returns:
            The TCP port, and what to show there: the visitor's id, and a ticket.
        """
        visitor = uuid4()
        with self._lock:
            self._visitors[visitor] = serve
            while len(self._visitors) > _MAX_VISITORS:
                self._visitors.popitem(last=False)
        port = int(self._paths[-1].address.rpartition(":")[2])
        return port, visitor, self._tickets.issue(visitor)

    @property
    def address(self) -> str:
        """Where it is to listen, for errors."""
        return f"{self._settings.host}:{self._settings.port}"

    @property
    def num_connections(self) -> int:
        """Connections that are open, the handshake done or not."""
        return len(self._connections) + len(self._newcomers)

    @property
    def num_newcomers(self) -> int:
        """Those of them that have not shown a ticket."""
        return len(self._newcomers)

    @property
    def num_busy(self) -> int:
        """Connections that a thread serves, or waits on for a while for the next request."""
        return len(self._busy)

    # -- the watching thread ------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._is_stopping:
            for key, _ in self._selector.select(self._seconds_to_wait()):
                try:
                    key.data(key.fileobj)
                except Exception:  # noqa: BLE001 - the other connections still have to be watched
                    _LOG.exception("a connection was dropped by a defect of the socket transport")
                    if isinstance(key.fileobj, socket.socket):
                        self._drop(key.fileobj)
            for sock in self._newcomers.late():
                self._stop_watching(sock)
            if self._resume_s is not None and time.monotonic() >= self._resume_s:
                self._accept_connections()
        for listener in self._listeners:
            listener.close()  # at once: the kernel refuses new connections
        for sock in self._newcomers:
            self._stop_watching(sock)

    def _seconds_to_wait(self) -> float | None:
        # Without any end, a wake-up ends the wait.
        ends = [each for each in (self._newcomers.next_end_s, self._resume_s) if each is not None]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _drop(self, sock: socket.socket) -> None:
        """Ends a connection, if it is one and not a listener."""
        if sock in self._connections or sock in self._newcomers:
            self._stop_watching(sock)

    def _stop_watching(self, sock: socket.socket) -> None:
        """Ends a connection that no other thread has."""
        self._newcomers.remove(sock)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(sock)
        self._forget(sock)

    def _accept_connections(self) -> None:
        self._resume_s = None
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, self._accept)

    def _pause(self, reason: OSError) -> None:
        """Leaves new connections in the queue of the kernel for a while, since there is no descriptor for them."""
        self._pauses.note(
            "no connection can be accepted for a moment (%s); raise the limit of open files of this process", reason
        )
        for each in self._listeners:
            self._selector.unregister(each)
        self._resume_s = time.monotonic() + _PAUSE_S

    def _accept(self, listener: socket.socket) -> None:
        if self._resume_s is not None:
            return  # paused since this was reported
        try:
            sock, _ = listener.accept()
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                self._pause(error)
            else:
                _LOG.debug("a connection was gone before it was accepted: %s", error)
            return
        if self._reserve.holds(sock.fileno()):
            try:
                sock = self._moved(sock)
            except OSError as error:  # others were faster
                self._pause(error)
                return
            if self._reserve.holds(sock.fileno()):
                self._refuse(sock, f"{self._reserve.limit} descriptors are open; raise the limit of open files")
                return
        close_in_child(sock)  # or clients would not see that this process has ended
        oldest = self._newcomers.add(sock)
        if oldest is not None:
            self._stop_watching(oldest)
        self._selector.register(sock, selectors.EVENT_READ, self._greet)

    def _moved(self, sock: socket.socket) -> socket.socket:
        """Has a new connection take the descriptor of another one, if one can make room; else returns it as it is."""
        if not self._make_room():
            return sock
        with sock:
            return sock.dup()

    def _make_room(self) -> bool:
        """Ends the connection that is missed the least: without a ticket, else never used; returns whether there is."""
        oldest = self._newcomers.take_oldest()
        if oldest is None:
            return self._make_room_among_admitted()
        self._stop_watching(oldest)
        return True

    def _make_room_among_admitted(self) -> bool:
        """Ends the oldest connection on which nothing has come; returns whether there is one."""
        sock = self._oldest_unused()
        if sock is None:
            return False
        self._refusals.note("%s: connection ended to make room, since nothing has come on it", peer_name(sock))
        self._stop_watching(sock)
        return True

    def _oldest_unused(self) -> socket.socket | None:
        with self._lock:
            for sock, session in self._connections.items():
                if session is not None and session.is_unused:
                    return sock
        return None

    def _refuse(self, sock: socket.socket, why: str) -> None:
        """Tells a client that there are too many, and ends its connection, which is not watched."""
        self._refusals.note("%s: connection refused: %s", peer_name(sock), why)
        with sock, contextlib.suppress(OSError):
            answer(sock, Verdict.TOO_MANY_CONNECTIONS)

    def _greet(self, sock: socket.socket) -> None:
        """Reads of a ticket what has come, and admits the client if it is good."""
        if sock not in self._newcomers:
            return  # it was ended since this was reported
        try:
            hello = self._newcomers.read(sock)
        except OSError as error:
            _LOG.info("%s: connection ended in the handshake: %s", peer_name(sock), error)
            self._stop_watching(sock)
            return
        if hello is None:
            return
        self._selector.unregister(sock)
        if isinstance(hello, Verdict):
            self._refusals.note("%s: connection refused: %s", peer_name(sock), REASONS[hello])
            with sock, contextlib.suppress(OSError):
                answer(sock, hello)
        elif len(self._connections) >= self._settings.max_connections and not self._make_room_among_admitted():
            self._refuse(sock, REASONS[Verdict.TOO_MANY_CONNECTIONS])
        else:
            self._admit(sock, hello)

    def _admit(self, sock: socket.socket, hello: SocketHello) -> None:
        """Accepts a connection whose ticket is good: a thread gets it with its first frame."""
        peer, client = peer_name(sock), hello.client
        framing = Framing(hello.version, checks_tensors=hello.checks_tensors)
        with self._lock:
            visit = self._visitors.pop(client, None)
            self._connections[sock] = None
        try:
            prepare(sock)
            answer(sock, Verdict.ACCEPTED, hello.version)
        except OSError as error:
            _LOG.info("%s: connection ended in the handshake: %s", peer, error)
            self._forget(sock)
            return
        if visit is not None:
            _LOG.debug("%s: visitor %s has connected", peer, client)
            self._submit(sock, lambda: self._visit(sock, visit, framing))
            return
        _LOG.debug("%s: client %s has connected", peer, client)
        connection = SocketSession(
            PeerStream(sock, self.slow_peers, f"client {client} at {peer}"),
            client=client,
            core=self._core,
            staging=self._staging,
            buffers=self._buffers,
            shared=self._shared_batches(sock, client),
            header_bounds=self._settings.header_bounds,
            is_alone=lambda: self._settings.looks_first and len(self._busy) == 1,
        )
        connection.stream.framing = framing
        with self._lock:
            self._connections[sock] = connection
        self._selector.register(sock, selectors.EVENT_READ, functools.partial(self._wake_up, connection))

    def _take_back(self, waker: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            waker.recv(4096)
        while self._returned:
            connection = self._returned.popleft()
            sock = connection.stream.sock
            self._selector.register(sock, selectors.EVENT_READ, functools.partial(self._wake_up, connection))

    def _wake_up(self, connection: SocketSession, sock: socket.socket) -> None:
        if sock not in self._connections:
            return  # it was ended since this was reported
        connection.is_unused = False
        self._selector.unregister(sock)
        self._submit(sock, lambda: self._serve(connection))

    def _submit(self, sock: socket.socket, work: Callable[[], SocketSession | None]) -> None:
        with self._lock:
            self._busy.add(sock)
        self._threads.submit(functools.partial(self._do, sock, work))

    # -- the threads that serve ---------------------------------------------------------------

    def _do(self, sock: socket.socket, work: Callable[[], SocketSession | None]) -> None:
        """Works on a connection, and ends it unless the work returns it to be watched again."""
        idle = None
        try:
            idle = work()
        except Exception:  # noqa: BLE001 - it would be lost in the executor
            _LOG.exception("a connection was dropped by a defect of the socket transport")
        finally:
            if idle is None:
                self._forget(sock)
            with self._lock:
                self._busy.discard(sock)
                self._idle.notify_all()
            if idle is not None:
                self._returned.append(idle)
                self._notify()

    def _visit(self, sock: socket.socket, visit: Callable[[SocketStream], None], framing: Framing) -> None:
        """Serves a visitor to its end, by a thread that takes none from the clients."""
        self._threads.step_aside()
        stream = SocketStream(sock)
        stream.framing = framing
        try:
            visit(stream)
        finally:
            self._threads.step_back()

    def _serve(self, connection: SocketSession) -> SocketSession | None:
        is_crowded = len(self._busy) - self._threads.num_aside > self._settings.max_threads // 2
        is_idle = connection.serve(_scratch(), _SHORT_LINGER_S if is_crowded else self._settings.linger_s)
        return connection if is_idle and not self._is_stopping else None

    def _shared_batches(self, sock: socket.socket, client: UUID) -> SharedBatches | None:
        is_local = sock.family == getattr(socket, "AF_UNIX", None)
        return SharedBatches(self._segments, client) if is_local and self._segments is not None else None

    # -- the end of connections ---------------------------------------------------------------

    def _forget(self, sock: socket.socket) -> None:
        with self._lock:
            connection = self._connections.pop(sock, None)
            is_last = connection is not None and not any(
                other is not None and other.client == connection.client for other in self._connections.values()
            )
        if connection is not None:
            connection.close()
        sock.close()
        if connection is not None and is_last:
            self._core.connection_lost(connection.client)

    def _shut_down(self, how: int) -> None:
        with self._lock:
            socks = list(self._connections)
        for sock in socks:
            with contextlib.suppress(OSError):  # the other side was faster
                sock.shutdown(how)

    def _notify(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it has been woken often enough
            self._wake.send(b"\0")


_LOCAL = threading.local()


def _scratch() -> memoryview:
    """Memory to read into, one for each thread, so that an idle connection has none."""
    scratch: memoryview | None = getattr(_LOCAL, "scratch", None)
    if scratch is None:
        scratch = _LOCAL.scratch = memoryview(bytearray(SCRATCH_BYTES))
    return scratch
