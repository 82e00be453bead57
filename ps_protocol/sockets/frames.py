"""What goes over a socket between a client and a ps: the handshake and the frames' prefixes, as bytes.

The protocol is written down in ``docs/socket-protocol.md``. What is parsed comes from another process. All that it
announces is checked here, before any memory is taken for it. Whatever is wrong is an ``InvalidArgumentError`` that says
what. Pure functions over bytes; safe to call from many threads.
"""

from __future__ import annotations

import enum
import struct
from typing import Final, NamedTuple
from uuid import UUID

from ps_protocol.codec.limits import MAX_MESSAGE_BYTES
from ps_protocol.codec.tensor_codec import MAX_SIZE_BYTES, Buffer
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.memory.regions import REGION_BYTES

OLDEST_SOCKET_VERSION: Final = 1
SOCKET_PROTOCOL_VERSION: Final = 2
"""Versions that this side speaks: from the oldest up to this one. The client chooses among those that it is offered."""

TICKET_BYTES: Final = 32
"""Size of a ticket; its bytes are random."""

MAX_HEADER_BYTES: Final = MAX_MESSAGE_BYTES
"""Most bytes of a frame's protobuf header, as for a gRPC message."""

MAX_LOCATIONS: Final = 1024 * 1024
"""Most places in shared memory that a frame may name."""

MAX_TIMEOUT_MS: Final = 86_400_000
"""Longest time that a request may be given, one day."""

LOCATION_BYTES: Final = REGION_BYTES
"""Size of one place in shared memory: a region, as ``regions.encode_regions`` writes it."""

_MAGIC: Final = b"\x89SHDSCP\n"
"""Begins a handshake. Not text in any encoding, so that no other protocol's client says it by chance."""

FRAME_MAGIC: Final = 0x5053
_CHECKS_TENSORS: Final = 0x01

_HELLO: Final = struct.Struct("<8sI16s32sI")
_ANSWER: Final = struct.Struct("<8sII")
_PREFIX: Final = struct.Struct("<HBBIQII")

HELLO_BYTES: Final = _HELLO.size
ANSWER_BYTES: Final = _ANSWER.size
PREFIX_BYTES: Final = _PREFIX.size


class Verdict(enum.IntEnum):
    """How a ps answers a handshake."""

    ACCEPTED = 0
    MALFORMED = 1
    WRONG_VERSION = 2
    BAD_TICKET = 3
    TOO_MANY_CONNECTIONS = 4


REASONS: Final[dict[Verdict, str]] = {
    Verdict.ACCEPTED: "the connection is accepted",
    Verdict.MALFORMED: "the ps did not understand the handshake",
    Verdict.WRONG_VERSION: "the ps does not speak that version of the socket protocol",
    Verdict.BAD_TICKET: "the ticket is unknown, used or expired; say Hello again for a new one",
    Verdict.TOO_MANY_CONNECTIONS: "the ps has as many connections as it may have",
}
"""What each verdict means, in words."""


class FrameKind(enum.IntEnum):
    """What a frame is."""

    REQUEST = 1
    """Client to ps: a ``BatchRequest`` and its tensors."""
    REPLY = 2
    """Ps to client: a ``BatchReply`` and its tensors."""
    ERROR = 3
    """Ps to client: an ``Error`` for the whole batch, in place of its reply."""
    SEGMENT_REQUEST = 4
    """Client to ps, Unix sockets only: asks for memory to share."""
    SEGMENT_REPLY = 5
    """Ps to client: the answer, with a descriptor beside its first byte."""
    FOLLOW = 6
    """Primary to follower: a ``FollowFrame``, or tensors that belong to the one before."""
    FOLLOW_ANSWER = 7
    """Follower to primary: a ``FollowAnswer``."""


FLAG_CLOSING: Final = 0x01
"""On an error: the ps ends the connection after this frame, since it cannot tell where the next one begins."""

FLAG_SHARED: Final = 0x02
"""On a reply: its tensors lie in the room that the request offered for them in shared memory."""

FLAG_PIPELINED: Final = 0x04
"""On a request: others may follow before its reply. If it is refused as a whole the ps ends the connection, so that
none of those behind it is carried out before it is sent again."""

KINDS: Final[dict[int, FrameKind]] = {int(kind): kind for kind in FrameKind}


class FramePrefix(NamedTuple):
    """What the first bytes of a frame say.

    Attributes:
        kind: What the frame is.
        flags: ``FLAG_*``, and on frames about shared memory what those define.
        header_bytes: Size of the protobuf header, at most ``MAX_HEADER_BYTES``.
        buffer_bytes: Size of the tensors that follow it, end to end, at most ``tensor_codec.MAX_SIZE_BYTES``.
        timeout_ms: Of a request, how long the client waits for its reply, counted from the first byte; else 0.
        num_locations: Places in shared memory that follow the header, before the tensors.
    """

    kind: FrameKind
    flags: int
    header_bytes: int
    buffer_bytes: int
    timeout_ms: int
    num_locations: int


def encode_prefix(
    kind: FrameKind,
    *,
    header_bytes: int,
    buffer_bytes: int = 0,
    timeout_ms: int = 0,
    flags: int = 0,
    num_locations: int = 0,
) -> bytes:
    """Returns the ``PREFIX_BYTES`` bytes that begin a frame; other arguments as in ``FramePrefix``.

    Raises:
        InvalidArgumentError: The header is too large to be sent.
    """
    if header_bytes > MAX_HEADER_BYTES:
        raise InvalidArgumentError(
            f"the header of the batch has {header_bytes} bytes, more than the {MAX_HEADER_BYTES} that may be sent; "
            f"put fewer operations into one batch"
        )
    return _PREFIX.pack(FRAME_MAGIC, kind, flags, header_bytes, buffer_bytes, timeout_ms, num_locations)


def parse_prefix(data: Buffer, offset: int = 0) -> FramePrefix:
    """Returns what the prefix at ``offset`` says; the bytes behind it are not looked at.

    Raises:
        InvalidArgumentError: It is not a prefix, or announces more than may be sent; the stream cannot be read on.
    """
    magic, number, flags, header_bytes, buffer_bytes, timeout_ms, num_locations = _PREFIX.unpack_from(data, offset)
    kind = KINDS.get(number)
    if magic != FRAME_MAGIC or kind is None:
        raise InvalidArgumentError(f"a frame begins with {bytes(data[offset : offset + 4]).hex()}, which is no frame")
    if header_bytes > MAX_HEADER_BYTES:
        raise InvalidArgumentError(f"a frame announces a header of {header_bytes} bytes; at most {MAX_HEADER_BYTES}")
    if buffer_bytes > MAX_SIZE_BYTES:
        raise InvalidArgumentError(f"a frame announces tensors of {buffer_bytes} bytes, beyond any memory")
    if num_locations > MAX_LOCATIONS:
        raise InvalidArgumentError(f"a frame names {num_locations} places in shared memory; at most {MAX_LOCATIONS}")
    if timeout_ms > MAX_TIMEOUT_MS:
        raise InvalidArgumentError(f"a frame has a timeout of {timeout_ms} ms; at most {MAX_TIMEOUT_MS}")
    return FramePrefix(kind, flags, header_bytes, buffer_bytes, timeout_ms, num_locations)


def milliseconds(timeout_s: float) -> int:
    """Returns a timeout as frames carry it: at least 1 and at most ``MAX_TIMEOUT_MS``."""
    return max(1, min(MAX_TIMEOUT_MS, int(timeout_s * 1000)))


class SocketHello(NamedTuple):
    """With what a client opens a connection; nothing in it is checked yet.

    Attributes:
        client: Its incarnation.
        ticket: What admits it.
        version: Of the protocol on this connection.
        checks_tensors: Whether frames have a checksum of their tensors, both ways.
    """

    client: UUID
    ticket: bytes
    version: int = OLDEST_SOCKET_VERSION
    checks_tensors: bool = False


def encode_hello(
    client: UUID, ticket: bytes, *, version: int = OLDEST_SOCKET_VERSION, checks_tensors: bool = False
) -> bytes:
    """Returns the ``HELLO_BYTES`` bytes with which a client opens a connection.

    Raises:
        InvalidArgumentError: The ticket has not ``TICKET_BYTES`` bytes.
    """
    if len(ticket) != TICKET_BYTES:
        raise InvalidArgumentError(f"the ps gave a ticket of {len(ticket)} bytes; a ticket has {TICKET_BYTES}")
    return _HELLO.pack(_MAGIC, version, client.bytes, ticket, _CHECKS_TENSORS if checks_tensors else 0)


def parse_hello(data: Buffer) -> SocketHello | Verdict:
    """Returns what a client says when it opens a connection, or why it is not understood."""
    if len(data) != HELLO_BYTES:
        return Verdict.MALFORMED
    magic, version, client, ticket, options = _HELLO.unpack(data)
    if magic != _MAGIC:
        return Verdict.MALFORMED
    if not OLDEST_SOCKET_VERSION <= version <= SOCKET_PROTOCOL_VERSION:
        return Verdict.WRONG_VERSION
    return SocketHello(UUID(bytes=client), ticket, version, version > 1 and bool(options & _CHECKS_TENSORS))


def encode_answer(verdict: Verdict, version: int = OLDEST_SOCKET_VERSION) -> bytes:
    """Returns the ``ANSWER_BYTES`` bytes with which a ps answers a handshake: in the version that the client speaks."""
    return _ANSWER.pack(_MAGIC, version, verdict)


def parse_answer(data: Buffer) -> Verdict:
    """Returns how the ps has answered.

    Raises:
        InvalidArgumentError: The other end is no ps of this version.
    """
    if len(data) != ANSWER_BYTES:
        raise InvalidArgumentError(f"the answer to the handshake has {len(data)} bytes; it should have {ANSWER_BYTES}")
    magic, _, number = _ANSWER.unpack(data)
    if magic != _MAGIC or number not in REASONS:
        raise InvalidArgumentError("what answers the handshake is not a ps of this version")
    return Verdict(number)
