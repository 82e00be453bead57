"""The primary's end of a connection to its follower: frames out and answers in.

The frames are those of ``docs/socket-protocol.md``. Large tensors are sent without a copy, in pieces, so that a token
may go between them.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

from ps_protocol.codec.chunks import pieces
from ps_protocol.codec.error_codec import decode_error
from ps_protocol.codec.spec_codec import decode_uuid
from ps_protocol.errors import InvalidArgumentError, UnavailableError
from ps_protocol.sockets import options as socket_options
from ps_protocol.sockets.frames import (
    ANSWER_BYTES,
    REASONS,
    SOCKET_PROTOCOL_VERSION,
    FrameKind,
    FramePrefix,
    Verdict,
    encode_hello,
    parse_answer,
)
from ps_protocol.sockets.framing import Framing
from ps_protocol.sockets.stream import MAX_PARTS, SCRATCH_BYTES, ConnectionEnded, Part, SocketStream
from ps_protocol.v1 import errors_pb2, replication_pb2
from ps_server.replication.stream_frames import SOON_BYTES

PIECE_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of tensors in one frame: between frames tokens are sent, but each costs a hand-over."""

_BURST_BYTES: Final = 64 * 1024
"""Small frames are sent together up to this size."""

_WAIT_MS: Final = 100
"""Longest that one call waits for the follower."""

_UNREAD_BYTES: Final = 1024 * 1024
_END: Final = getattr(select, "POLLRDHUP", 0)  # and errors, which are always reported; not incoming data


class _Frame(NamedTuple):
    """A frame without its prefix."""

    header: bytes
    buffers: Sequence[memoryview]
    buffer_bytes: int


class FollowerConnection:
    """A connection that has been accepted. One thread at a time, but for ``abort`` and ``wait_for_end``.

    Args:
        stream: Owned.
    """

    def __init__(self, stream: SocketStream):
        self._stream = stream
        stream.lend_scratch(memoryview(bytearray(SCRATCH_BYTES)))
        stream.set_receive_timeout(_WAIT_MS)
        stream.set_send_timeout(_WAIT_MS)
        self._frames: deque[_Frame] = deque()
        self._leaving: list[Part] = []  # the unsent rest of the frames that are being sent
        self._prefix: FramePrefix | None = None  # of the answer that is being received
        self._poll = select.poll()
        self._poll.register(stream.sock, _END)

    @property
    def is_clear(self) -> bool:
        """Whether everything has been sent."""
        return not self._leaving and not self._frames

    def put(self, message: replication_pb2.FollowFrame, buffers: Sequence[memoryview] = ()) -> None:
        """Queues a message and the tensors beside it, which must not change until they are sent."""
        message.data_bytes = sum(map(len, buffers))
        self.put_bytes(message.SerializeToString(), buffers)

    def put_bytes(self, message: bytes, buffers: Sequence[memoryview]) -> None:
        """As ``put``, for a message as bytes that says how large the tensors are."""
        size_bytes = sum(map(len, buffers))
        if size_bytes <= PIECE_BYTES:
            self._frames.append(_Frame(message, buffers, size_bytes))
            return
        self._frames.append(_Frame(message, (), 0))
        for piece in pieces(buffers, PIECE_BYTES):
            self._frames.append(_Frame(b"", piece, sum(map(len, piece))))

    def put_first(self, message: replication_pb2.FollowFrame) -> None:
        """Queues a message without tensors before all others."""
        self._frames.appendleft(_Frame(message.SerializeToString(), (), 0))

    def send(self) -> bool:
        """Sends the next frame, or several small ones; False if a part is left, which the next call sends.

        Raises:
            OSError: The connection is broken.
        """
        if not self._leaving:
            self._leaving = self._burst()
        while self._leaving:
            try:
                sent = self._stream.sock.sendmsg(self._leaving[:MAX_PARTS])
            except BlockingIOError:
                return False
            self._leaving = _rest(self._leaving, sent)
        return True

    def receive(self, *, waits: bool) -> list[replication_pb2.FollowAnswer]:
        """Returns the answers that have come; with ``waits``, waits a little for the first one.

        Raises:
            ConnectionEnded, OSError: The connection is over.
            InvalidArgumentError: The follower sent something that is not an answer.
            ShardscopeError: The follower has ended the conversation, for this reason.
        """
        stream = self._stream
        answers: list[replication_pb2.FollowAnswer] = []
        if not waits and not stream.buffered_bytes:
            stream.read_ahead(_UNREAD_BYTES)
        while stream.buffered_bytes or (waits and not answers):
            try:
                answers.append(self._answer())
            except TimeoutError:
                break
        return answers

    def wait_for_end(self, timeout_s: float) -> None:
        """Waits; ConnectionEnded as soon as the follower has closed the connection. Safe beside other calls."""
        if self._poll.poll(timeout_s * 1000):
            raise ConnectionEnded("the other side has closed the connection", in_frame=False)

    def abort(self) -> None:
        """Ends the connection; a thread that waits on it gets an error."""
        self._stream.abort()

    def close(self) -> None:
        """Closes the socket, which no thread uses any more."""
        self._stream.close()

    def _burst(self) -> list[Part]:
        """Returns the next frames to send: they are numbered in the order in which they leave."""
        frames, framing = self._frames, self._stream.framing
        parts: list[Part] = []
        size_bytes = 0
        while frames:
            header, buffers, buffer_bytes = frames[0]
            frame_bytes = len(header) + buffer_bytes
            if parts and size_bytes + frame_bytes > _BURST_BYTES:
                break
            frames.popleft()
            size_bytes += frame_bytes
            parts += (framing.prefix(FrameKind.FOLLOW, header, buffers=buffers, buffer_bytes=buffer_bytes), header)
            parts += buffers
            if size_bytes > _BURST_BYTES:
                break
        self._stream.looks_first = size_bytes <= SOON_BYTES
        return [b"".join(parts)] if 0 < size_bytes <= _BURST_BYTES else parts

    def _answer(self) -> replication_pb2.FollowAnswer:
        framing = self._stream.framing
        if self._prefix is None:
            self._prefix = framing.parse(self._stream.take(framing.prefix_bytes))
        kind, size_bytes = self._prefix.kind, self._prefix.header_bytes
        if size_bytes > SCRATCH_BYTES - framing.prefix_bytes or self._prefix.buffer_bytes:
            raise InvalidArgumentError(f"an answer of {size_bytes} bytes is too long for one")
        content = bytes(self._stream.take(size_bytes))
        self._prefix = None
        framing.check_header(content)
        try:
            if kind is FrameKind.ERROR:
                raise decode_error(errors_pb2.Error.FromString(content))
            if kind is FrameKind.FOLLOW_ANSWER:
                return replication_pb2.FollowAnswer.FromString(content)
        except DecodeError as error:
            raise InvalidArgumentError(f"{size_bytes} bytes were received that are no answer: {error}") from error
        raise InvalidArgumentError(f"a follower does not send frames of the kind {kind.name}")


def connect(address: str, reply: replication_pb2.ConnectReply, timeout_s: float) -> FollowerConnection:
    """Opens a connection that a follower has offered.

    Args:
        address: Of the follower's gRPC server, as "host:port".
        reply: The offer.
        timeout_s: Bound on each step.

    Raises:
        OSError: It cannot be reached.
        UnavailableError, InvalidArgumentError: It does not accept the connection.
    """
    host = address.rpartition(":")[0].strip("[]")
    sock = socket.create_connection((host, reply.port), timeout_s)
    try:
        socket_options.set_up(sock)
        stream = SocketStream(sock)
        _shake_hands(stream, reply, int(timeout_s * 1000))
        return FollowerConnection(stream)
    except BaseException:
        sock.close()
        raise


def _shake_hands(stream: SocketStream, reply: replication_pb2.ConnectReply, timeout_ms: int) -> None:
    stream.set_receive_timeout(timeout_ms)
    stream.set_send_timeout(timeout_ms)
    stream.lend_scratch(memoryview(bytearray(ANSWER_BYTES)))
    # A follower that does not say what it speaks is older than that field.
    version = min(reply.newest_version or 1, SOCKET_PROTOCOL_VERSION)
    visitor = decode_uuid(reply.visitor, "visitor")
    hello = encode_hello(visitor, reply.ticket, version=version)
    stream.send([hello], len(hello))
    verdict = parse_answer(stream.take(ANSWER_BYTES))
    if verdict is not Verdict.ACCEPTED:
        raise UnavailableError(f"the follower refused a connection: {REASONS[verdict]}")
    stream.framing = Framing(version)


def _rest(parts: list[Part], sent: int) -> list[Part]:
    """Returns what is left to send."""
    for index, part in enumerate(parts):
        if sent < len(part):
            return [memoryview(part)[sent:], *parts[index + 1 :]]
        sent -= len(part)
    return []
