"""Reads and writes a stream socket in whole pieces: what both ends of the socket transport share.

The kernel watches the time (``SO_RCVTIMEO``, ``SO_SNDTIMEO``) on sockets in blocking mode; Python's own timeouts cost a
call of ``poll`` before each read and write.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import time
from collections.abc import Sequence
from typing import Final, TypeAlias

from ps_protocol.sockets.brief_wait import BriefWait
from ps_protocol.sockets.framing import Framing

SCRATCH_BYTES: Final = 64 * 1024
"""Size of the buffer that small frames are read into, whole and with one call."""

COPIED_BYTES: Final = 16 * 1024
"""Tensors up to here are received many with one call, and copied."""

MAX_PARTS: Final = 512
"""Most buffers that are sent with one call; Linux takes 1,024."""

_JOIN_BYTES: Final = 32 * 1024
_TAKES_NOTHING: Final = "the other side takes nothing"
_SEGMENT_BYTES: Final = 512 * 1024 * 1024

Part: TypeAlias = bytes | memoryview


class ConnectionEnded(ConnectionError):  # noqa: N818 - the end of a connection is not always an error
    """The other side has closed the connection; ``in_frame`` says whether in the middle of a frame."""

    def __init__(self, message: str, *, in_frame: bool):
        super().__init__(message)
        self.in_frame = in_frame


class SocketStream:
    """One end of a connection. One thread reads and one writes at a time; not both need be the same.

    Owns the socket.

    Args:
        sock: Connected, a stream.
    """

    __slots__ = (
        "_brief_wait",
        "_end",
        "_receive_timeout_ms",
        "_scratch",
        "_send_timeout_ms",
        "_start",
        "deadline_s",
        "framing",
        "looks_first",
        "moved_bytes",
        "sock",
    )

    def __init__(self, sock: socket.socket):
        sock.settimeout(None)
        self.sock = sock
        self.deadline_s = math.inf
        """When the piece that is being read or written has to be complete, on the monotonic clock."""
        self.framing = Framing()
        """How the frames on it are told from damage; another one once the handshake has agreed on it."""
        self.looks_first = False
        """Whether ``fill`` first looks for bytes without giving up the processor."""
        self.moved_bytes = 0
        """Bytes of large pieces, and of those that came bit by bit, so far: by it one sees whether anything moves."""
        self._brief_wait = BriefWait()
        self._scratch = memoryview(b"")
        self._start = 0
        self._end = 0
        self._receive_timeout_ms = -1
        self._send_timeout_ms = -1

    def lend_scratch(self, scratch: memoryview) -> None:
        """Gives writable memory to read into, until the next call gives other memory. Nothing may be buffered."""
        self._scratch = scratch
        self._start = self._end = 0

    @property
    def buffered_bytes(self) -> int:
        """Bytes received and not taken."""
        return self._end - self._start

    # -- time ---------------------------------------------------------------------------------

    def set_receive_timeout(self, timeout_ms: int) -> None:
        """Bounds each wait for bytes."""
        if timeout_ms != self._receive_timeout_ms:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(timeout_ms))
            self._receive_timeout_ms = timeout_ms

    def set_send_timeout(self, timeout_ms: int) -> None:
        """Bounds each wait for room."""
        if timeout_ms != self._send_timeout_ms:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(timeout_ms))
            self._send_timeout_ms = timeout_ms

    # -- reading ------------------------------------------------------------------------------

    def fill(self, *, in_piece: bool = False) -> int:
        """Reads what is there, waiting for at least a byte, into the free part of the scratch buffer.

        Args:
            in_piece: Whether it belongs to a piece that has begun to come, so that ``waits`` decides how long to wait.

        Returns:
            How many bytes came; 0 only in a piece, if it is to be waited for once more.

        Raises:
            TimeoutError: None came in time.
            ConnectionEnded: The other side has closed the connection.
            OSError: The connection is broken.
        """
        if self._start == self._end:
            self._start = self._end = 0
        target = self._scratch[self._end :]
        count = self._brief_wait.receive(self.sock, target) if self.looks_first else None
        if count is None:
            try:
                count = self.sock.recv_into(target)
            except BlockingIOError:
                if in_piece:
                    self.waits("nothing was received in time")
                    return 0
                raise TimeoutError("nothing was received in time") from None
        if not count:
            in_frame = self._start != self._end
            raise ConnectionEnded("the other side has closed the connection", in_frame=in_frame)
        self._end += count
        return count

    def take(self, size_bytes: int) -> memoryview:
        """Returns the next bytes, at most as many as the scratch buffer holds; they are good until the next call.

        Raises:
            TimeoutError, ConnectionEnded, OSError: As for ``fill``; what has come stays.
        """
        start = self._start
        if self._end - start < size_bytes:
            start = self._gather(size_bytes)
        self._start = end = start + size_bytes
        return self._scratch[start:end]

    def _gather(self, size_bytes: int) -> int:
        if self._start + size_bytes > len(self._scratch):
            self._compact()
        while self._end - self._start < size_bytes:
            self.moved_bytes += self.fill(in_piece=True)
            self._check_deadline()
        return self._start

    def read_into(self, target: memoryview) -> None:
        """Fills ``target`` with the next bytes: first those that have come, then straight from the socket.

        Raises:
            TimeoutError, ConnectionEnded, OSError: As for ``fill``; the target is filled in part.
        """
        size_bytes = len(target)
        done = min(size_bytes, self._end - self._start)
        target[:done] = self._scratch[self._start : self._start + done]
        self._start += done
        receive = self.sock.recv_into
        while done < size_bytes:
            try:
                count = receive(target[done : done + _SEGMENT_BYTES], 0, socket.MSG_WAITALL)
            except BlockingIOError:
                self.waits(f"nothing more was received in time, {done} of {size_bytes} bytes so far")
                continue
            if not count:
                raise ConnectionEnded(
                    f"the other side has closed the connection {size_bytes - done} bytes early", in_frame=True
                )
            done += count
            self.moved_bytes += count
            if done < size_bytes:
                self._check_deadline()

    def read_large(self, size_bytes: int) -> bytearray:
        """Returns the next bytes; memory for them is taken as they come, not for what was announced.

        Raises:
            TimeoutError, ConnectionEnded, OSError: As for ``fill``.
        """
        data = bytearray()
        while len(data) < size_bytes:
            step = min(size_bytes - len(data), max(len(self._scratch), len(data)))
            data += bytes(step)
            with memoryview(data) as view:
                self.read_into(view[-step:])
        return data

    def skip(self, size_bytes: int) -> None:
        """Reads and forgets the next bytes.

        Raises:
            TimeoutError, ConnectionEnded, OSError: As for ``fill``.
        """
        while size_bytes:
            size_bytes -= len(self.take(min(size_bytes, len(self._scratch))))

    def read_ahead(self, limit_bytes: int) -> None:
        """Reads what is there, without waiting, into a scratch buffer that grows as needed.

        Raises:
            ConnectionEnded, OSError: As for ``fill``.
            ConnectionError: More than ``limit_bytes`` would be buffered.
        """
        if self.buffered_bytes == len(self._scratch):
            if len(self._scratch) >= limit_bytes:
                raise ConnectionError(f"more than {limit_bytes} bytes came before they were asked for")
            grown = memoryview(bytearray(2 * len(self._scratch)))
            grown[: self.buffered_bytes] = self._scratch[self._start : self._end]
            self._scratch, self._start, self._end = grown, 0, self.buffered_bytes
        elif self._end == len(self._scratch):
            self._compact()
        try:
            count = self.sock.recv_into(self._scratch[self._end :], 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not count:
            raise ConnectionEnded("the other side has closed the connection", in_frame=True)
        self._end += count

    def _compact(self) -> None:
        kept = self._end - self._start
        self._scratch[:kept] = self._scratch[self._start : self._end]  # a move: memoryviews may overlap
        self._start, self._end = 0, kept

    # -- writing ------------------------------------------------------------------------------

    def send(self, parts: Sequence[Part], size_bytes: int) -> None:
        """Sends buffers end to end.

        Args:
            parts: What to send; must not change until this returns.
            size_bytes: Of all parts together.

        Raises:
            TimeoutError: The other side has taken nothing for too long, or not all of it by the deadline.
            OSError: The connection is broken.
        """
        if size_bytes > _JOIN_BYTES:
            self._send_rest(parts, 0)
            return
        data = b"".join(parts)
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            self.waits(_TAKES_NOTHING)
            sent = 0
        if sent != size_bytes:
            self._send_rest([memoryview(data)], sent)

    def send_some(self, parts: Sequence[Part], sent: int) -> int:
        """Sends what the other side takes without waiting for it.

        Args:
            parts: As for ``send``.
            sent: Bytes of them that have been sent.

        Returns:
            The same after this; less than all of them only if the other side takes no more just now.

        Raises:
            OSError: The connection is broken.
        """
        return self._send_rest(parts, sent, socket.MSG_DONTWAIT)

    def _send_rest(self, parts: Sequence[Part], sent: int, flags: int = 0) -> int:
        """Sends all but the first ``sent`` bytes; returns how many have been sent then."""
        index, offset, is_first = 0, sent, True
        while True:
            while index < len(parts) and offset >= len(parts[index]):
                offset -= len(parts[index])
                index += 1
            if index == len(parts):
                return sent
            if not is_first:
                self._check_deadline()
            is_first = False
            window = list(parts[index : index + MAX_PARTS])
            window[0] = memoryview(window[0])[offset:]
            try:
                count = self.sock.sendmsg(window, (), flags)
            except BlockingIOError:
                if flags:
                    return sent
                self.waits(_TAKES_NOTHING)
                continue
            sent += count
            offset += count
            self.moved_bytes += count

    # -- the other side is slow ---------------------------------------------------------------

    def waits(self, reason: str) -> None:
        """Called when nothing of a piece has moved for as long as one wait may take; returns to wait once more.

        Raises:
            TimeoutError: It is not waited for any longer.
        """
        raise TimeoutError(reason) from None

    def is_late(self) -> None:
        """Called when a piece is not complete by its deadline; returns to go on, with another deadline.

        Raises:
            TimeoutError: It is not waited for any longer.
        """
        raise TimeoutError("the other side is too slow")

    # -- the end ------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the other end is still there, as far as is known here; takes nothing of what it has sent."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Closes the socket; a thread that waits on it is not woken, see ``abort``."""
        self.sock.close()

    def abort(self) -> None:
        """Ends the connection, and wakes the threads that wait on it; the socket stays open until ``close``."""
        with contextlib.suppress(OSError):  # the other side was faster
            self.sock.shutdown(socket.SHUT_RDWR)

    def _check_deadline(self) -> None:
        if time.monotonic() > self.deadline_s:
            self.is_late()


def _timeval(timeout_ms: int) -> bytes:
    # 0 would stand for no limit at all.
    seconds, milliseconds = divmod(max(1, timeout_ms), 1000)
    return struct.pack("@ll", seconds, milliseconds * 1000)
