"""A TCP proxy between a client and a ps, on which a test can make the network fail."""

from __future__ import annotations

import contextlib
import enum
import select
import selectors
import socket
import struct
import threading
from types import TracebackType
from typing import Final, Self

PROXY_HOST: Final = "127.0.0.2"
"""Another address of this host, on which the ports of the ps are free."""

_PIECE_BYTES: Final = 64 * 1024
_JOIN_TIMEOUT_S: Final = 10.0
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER that ends a connection with RST: what was on its way is lost."""


class Direction(enum.Enum):
    """Which way bytes go."""

    TO_PS = "to_ps"
    TO_CLIENT = "to_client"


class Proxy:
    """Forwards every connection to one port; one thread does. As a context manager it ends all.

    Args:
        port: Where the ps listens on 127.0.0.1; the proxy listens at the same port of ``PROXY_HOST``.
    """

    def __init__(self, port: int):
        self._target = ("127.0.0.1", port)
        self.address = f"{PROXY_HOST}:{port}"
        self._listener = socket.create_server((PROXY_HOST, port))
        self._waker, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._pipes: dict[socket.socket, tuple[socket.socket, Direction]] = {}  # of the thread alone
        # guards: all below; no other lock is taken under it
        self._lock = threading.Condition()
        self._is_stalled = False
        self._is_black_hole = False
        self._forget_all = False
        self._forgotten: set[socket.socket] = set()  # of the thread alone
        self._cut_all = False
        self._is_obeyed = True
        self._cut_after: dict[Direction, int] = {}
        self._num_cut = 0
        self._num_withheld = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._thread.start()

    @property
    def num_cut(self) -> int:
        """Connections that were cut on purpose."""
        with self._lock:
            return self._num_cut

    @property
    def num_withheld(self) -> int:
        """How often something came and was not forwarded, or only when the proxy was healed."""
        with self._lock:
            return self._num_withheld

    def stall(self) -> None:
        """Forwards nothing any more, and keeps what comes, as a network does whose packets are sent again."""
        self._tell(stalled=True)

    def black_hole(self) -> None:
        """Forwards nothing any more, and forgets what comes; connections stay open."""
        self._tell(black_hole=True)

    def forget(self) -> None:
        """Forgets the connections there are, as a router does that was started again: they stay open, and what comes on
        them is lost. New ones are forwarded."""
        with self._lock:
            self._forget_all = True
            self._wait_until_obeyed()

    def heal(self) -> None:
        """Forwards again what comes; connections that have lost something are ended."""
        self._tell(stalled=False, black_hole=False)

    def cut(self) -> None:
        """Ends all connections, with what is on its way."""
        with self._lock:
            self._cut_all = True
            self._wait_until_obeyed()

    def cut_after(self, size_bytes: int, direction: Direction) -> None:
        """Ends the connection that carries the last of so many more bytes, once."""
        with self._lock:
            self._cut_after[direction] = size_bytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._is_closed = True
            self._wake.send(b"\0")
        self._thread.join(_JOIN_TIMEOUT_S)
        for each in (self._listener, self._waker, self._wake):
            each.close()
        self._selector.close()

    def _tell(self, *, stalled: bool | None = None, black_hole: bool | None = None) -> None:
        with self._lock:
            self._is_stalled = self._is_stalled if stalled is None else stalled
            heals = self._is_black_hole and black_hole is False
            self._is_black_hole = self._is_black_hole if black_hole is None else black_hole
            self._cut_all = self._cut_all or heals
            self._wait_until_obeyed()

    def _wait_until_obeyed(self) -> None:
        """With the lock held."""
        self._is_obeyed = False
        self._wake.send(b"\0")
        assert self._lock.wait_for(lambda: self._is_obeyed, _JOIN_TIMEOUT_S), "the proxy does not answer"

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            ready = [key.fileobj for key, _ in self._selector.select()]
            if self._waker in ready:
                self._waker.recv(_PIECE_BYTES)
                with self._lock:
                    if self._is_closed:
                        break
                    self._obey()
            for each in ready:
                assert isinstance(each, socket.socket)
                if each is self._listener:
                    self._accept()
                elif each in self._pipes:
                    self._forward(each)
        self._end_all()

    def _obey(self) -> None:
        """With the lock held."""
        if self._cut_all:
            self._num_cut += len(self._pipes) // 2
            self._end_all()
            self._cut_all = False
        if self._forget_all:
            self._forgotten |= self._pipes.keys()
            self._forget_all = False
        for sock in self._pipes:
            # What is not read stays where it is, and soon the sender has to stop.
            is_watched = sock in self._selector.get_map()
            if self._is_stalled and is_watched:
                self._selector.unregister(sock)
            elif not self._is_stalled and not is_watched:
                self._selector.register(sock, selectors.EVENT_READ)
                self._num_withheld += bool(select.select([sock], [], [], 0)[0])
        self._is_obeyed = True
        self._lock.notify_all()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            ps = socket.create_connection(self._target, _JOIN_TIMEOUT_S)
        except OSError:
            client.close()
            return
        for sock, other, direction in ((client, ps, Direction.TO_PS), (ps, client, Direction.TO_CLIENT)):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pipes[sock] = (other, direction)
            with self._lock:
                if not self._is_stalled:
                    self._selector.register(sock, selectors.EVENT_READ)

    def _forward(self, sock: socket.socket) -> None:
        other, direction = self._pipes[sock]
        try:
            data = sock.recv(_PIECE_BYTES)
        except OSError:
            data = b""
        with self._lock:
            if data and (self._is_black_hole or sock in self._forgotten):
                self._num_withheld += 1
                return
            left = self._cut_after.get(direction)
            is_cut = bool(data) and left is not None and left <= len(data)
            if left is not None and data:
                data = data[:left]
                self._cut_after[direction] = left - len(data)
            if is_cut:
                del self._cut_after[direction]
                self._num_cut += 1
        try:
            other.sendall(data)
        except OSError:
            data = b""
        if is_cut or not data:
            self._end(sock)

    def _end_all(self) -> None:
        while self._pipes:
            self._end(next(iter(self._pipes)))

    def _end(self, sock: socket.socket) -> None:
        other, _ = self._pipes.pop(sock)
        del self._pipes[other]
        self._forgotten -= {sock, other}
        for each in (sock, other):
            with contextlib.suppress(KeyError):  # not watched while stalled
                self._selector.unregister(each)
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            each.close()
