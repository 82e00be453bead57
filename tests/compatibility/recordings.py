"""What a client and a ps have said to each other, as bytes in a file, and how two such things are compared.

Nothing of the product is used here but the classes that protobuf generates from the contract: the recordings are to
outlive any change of the code. What differs from run to run by its nature is masked.
"""

from __future__ import annotations

import json
import lzma
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from google.protobuf import message_factory
from google.protobuf.message import Message
from google.rpc import status_pb2  # type: ignore[import-untyped]  # googleapis-common-protos has no py.typed

from ps_protocol.v1 import (
    batch_pb2,
    checkpoints_pb2,
    control_pb2,
    data_pb2,
    directory_pb2,
    errors_pb2,
    inspection_pb2,
    membership_pb2,
    replication_pb2,
)

RECORDINGS: Final = Path(__file__).parent / "exchanges"

OPEN: Final = "socket/open/"
"""The handshake of a socket; "tcp" or "unix" follows."""
FRAME: Final = "socket/frame"

HELLO_BYTES: Final = 64
ANSWER_BYTES: Final = 16
REGION: Final = struct.Struct("<QQQ")
"""A place in shared memory: segment, offset, size."""
_PREFIX: Final = struct.Struct("<HBBIQII")

REQUEST, REPLY, ERROR, SEGMENT_REQUEST, SEGMENT_REPLY, FOLLOW, FOLLOW_ANSWER = range(1, 8)
FLAG_SHARED: Final = 2

EXCHANGE_STREAM: Final = "/ps_protocol.v1.Data/ExchangeStream"
HELLO: Final = "/ps_protocol.v1.Data/Hello"
FAR_VERSION: Final = 2**31
"""A version of the contract that no task speaks."""
STATUS_DETAILS: Final = "grpc-status-details-bin"


class Frame(NamedTuple):
    """One frame of a socket, taken apart as docs/socket-protocol.md says."""

    kind: int
    flags: int
    timeout_ms: int
    header: bytes
    regions: tuple[tuple[int, int, int], ...]
    data: bytes

    @classmethod
    def parse(cls, frame: bytes) -> Frame:
        magic, kind, flags, header_bytes, data_bytes, timeout_ms, num_regions = _PREFIX.unpack_from(frame)
        assert magic == 0x5053, frame[:24].hex()
        header_end = _PREFIX.size + header_bytes
        regions_end = header_end + num_regions * REGION.size
        assert len(frame) == regions_end + data_bytes
        regions = tuple(REGION.iter_unpack(frame[header_end:regions_end]))
        return cls(kind, flags, timeout_ms, frame[_PREFIX.size : header_end], regions, frame[regions_end:])


PREFIX_BYTES: Final = _PREFIX.size


def bytes_behind(prefix: bytes) -> int:
    """How many bytes of a frame follow its prefix."""
    _, _, _, header_bytes, data_bytes, _, num_regions = _PREFIX.unpack(prefix)
    return int(header_bytes + data_bytes + num_regions * REGION.size)


def frame_bytes(kind: int, header: bytes, data: bytes = b"", *, flags: int = 0, timeout_ms: int = 0) -> bytes:
    """Writes a frame without places in shared memory."""
    return _PREFIX.pack(0x5053, kind, flags, len(header), len(data), timeout_ms, 0) + header + data


class Place(NamedTuple):
    """Bytes in shared memory."""

    segment: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Exchange:
    """What a client sent once, and what it got back.

    Attributes:
        way: Path of a gRPC method, ``FRAME``, or ``OPEN`` and the kind of socket.
        connection: Which socket, counted from 1 in the order of their opening; 0 for gRPC.
        sent: Messages, in their order; of a socket one frame.
        received: Likewise; without any, a socket was closed.
        code: gRPC's status code, 0 for OK.
        details: With an error, the ``google.rpc.Status`` of its trailers.
        sent_shared: What was in the shared memory that the frame names.
        received_shared: What was in the room for the reply afterwards, if the reply is there.
    """

    way: str
    connection: int
    sent: tuple[bytes, ...]
    received: tuple[bytes, ...] = ()
    code: int = 0
    details: bytes = b""
    sent_shared: tuple[Place, ...] = ()
    received_shared: tuple[Place, ...] = ()


def save(name: str, exchanges: Iterable[Exchange], outcomes: Sequence[Any] = ()) -> None:
    """Writes a recording, and what the client made of what it received."""
    lines = [{"outcomes": outcomes}, *(_to_json(each) for each in exchanges)]
    RECORDINGS.mkdir(exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (RECORDINGS / f"{name}.jsonl.xz").write_bytes(lzma.compress(text.encode()))


def load(name: str) -> tuple[list[Exchange], list[Any]]:
    """Returns the exchanges of a recording, and what the client made of them."""
    text = lzma.decompress((RECORDINGS / f"{name}.jsonl.xz").read_bytes()).decode()
    first, *lines = [json.loads(line) for line in text.splitlines()]
    return [_from_json(line) for line in lines], first["outcomes"]


def _to_json(exchange: Exchange) -> dict[str, Any]:
    return {
        "way": exchange.way,
        "connection": exchange.connection,
        "sent": [_text(each) for each in exchange.sent],
        "received": [_text(each) for each in exchange.received],
        "code": exchange.code,
        "details": _text(exchange.details),
        "sent_shared": [[each.segment, each.offset, _text(each.data)] for each in exchange.sent_shared],
        "received_shared": [[each.segment, each.offset, _text(each.data)] for each in exchange.received_shared],
    }


def _from_json(line: dict[str, Any]) -> Exchange:
    return Exchange(
        line["way"],
        line["connection"],
        tuple(bytes.fromhex(each) for each in line["sent"]),
        tuple(bytes.fromhex(each) for each in line["received"]),
        line["code"],
        bytes.fromhex(line["details"]),
        tuple(Place(segment, offset, bytes.fromhex(data)) for segment, offset, data in line["sent_shared"]),
        tuple(Place(segment, offset, bytes.fromhex(data)) for segment, offset, data in line["received_shared"]),
    )


def _text(data: bytes) -> str:
    return data.hex()


# -- meaning: what two byte strings have to have in common -----------------------------------------

_METHODS: Final = {
    f"/{service.full_name}/{method.name}": method
    for module in (
        data_pb2,
        directory_pb2,
        membership_pb2,
        inspection_pb2,
        control_pb2,
        replication_pb2,
        checkpoints_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

METHODS: Final = frozenset(_METHODS)
"""Paths of all methods of the contract."""

NEWER: Final = frozenset({"/ps_protocol.v1.Control/Promote", "/ps_protocol.v1.Data/ExchangeMany"}) | frozenset(
    [path for path, method in _METHODS.items() if method.containing_service.file is checkpoints_pb2.DESCRIPTOR]
)
"""Those that the recorded version lacks. The peers lack them too, so the client has to do without."""


def method(path: str) -> Any:
    """Returns what the contract says of a method."""
    return _METHODS[path]


_MASKED: Final = {
    "Error": ("message",),  # for people
    "FastPath": ("address", "newest_version", "checks_tensors"),  # all but the address are newer than the recording
    "HelloRequest": ("newest_protocol_version",),  # which is newer
    "HelloReply": ("ticket", "oldest_protocol_version", "newest_protocol_version", "max_message_bytes"),  # likewise
    "Member": ("incarnation", "joined_at_s", "last_seen_s"),
    "GetStatusReply": ("uptime_s",),
    "AppliedBatch": ("checksum",),  # newer
    "SnapshotAnswer": ("checksum",),  # newer
    "Attachment": ("process", "store_incarnation", "settings"),  # the settings are newer
    "Attached": ("process", "takes_large_frames"),  # the latter is newer
}

_HEADERS: Final[dict[int, type[Message]]] = {
    REQUEST: batch_pb2.BatchRequest,
    REPLY: batch_pb2.BatchReply,
    ERROR: errors_pb2.Error,
    FOLLOW: replication_pb2.FollowFrame,
    FOLLOW_ANSWER: replication_pb2.FollowAnswer,
}


def meaning_of_sent(exchange: Exchange) -> Any:
    """What the bytes that a client sent say, to be compared."""
    return _meaning(exchange.way, exchange.sent, exchange.sent_shared, is_reply=False)


def meaning_of_received(exchange: Exchange) -> Any:
    """What the bytes that a client got back say, to be compared."""
    if exchange.code:
        status = status_pb2.Status.FromString(exchange.details)
        errors = []
        for detail in status.details:
            error = errors_pb2.Error()
            assert detail.Unpack(error)
            errors.append(masked(error))
        return exchange.code, errors
    return _meaning(exchange.way, exchange.received, exchange.received_shared, is_reply=True)


def _meaning(way: str, messages: Sequence[bytes], shared: Sequence[Place], *, is_reply: bool) -> Any:
    if way.startswith(OPEN):
        return list(messages)
    if way == FRAME:
        return [_meaning_of_frame(each) for each in messages], list(shared)
    method = _METHODS[way]
    parsed: list[Any] = [
        message_factory.GetMessageClass(method.output_type if is_reply else method.input_type).FromString(each)
        for each in messages
    ]
    if way != EXCHANGE_STREAM:
        return [masked(each) for each in parsed]
    # Where the buffers are cut into frames is not fixed.
    headers = [masked(each.header) for each in parsed if each.HasField("header")]
    return headers, b"".join(each.data for each in parsed)


def _meaning_of_frame(frame: bytes) -> Any:
    parsed = Frame.parse(frame)
    rest = parsed._replace(header=b"", timeout_ms=int(parsed.timeout_ms > 0))
    return rest, masked(_HEADERS[parsed.kind].FromString(parsed.header)) if parsed.kind in _HEADERS else parsed.header


def masked(message: Message) -> str:
    """Returns a message as text, without what differs from run to run."""
    copy = type(message)()
    copy.CopyFrom(message)
    _mask(copy)
    return str(copy)


def _mask(message: Any) -> None:
    for name in _MASKED.get(message.DESCRIPTOR.name, ()):
        message.ClearField(name)
    without_own_heartbeats(message)
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for each in value if field.is_repeated else (value,):
                _mask(each)


def without_own_heartbeats(message: Any) -> None:
    """Drops what a ps that is asked says of itself as a member of the cluster, which it may not be yet."""
    for field in ("members", "addresses"):
        if field in message.DESCRIPTOR.fields_by_name:
            others = [each for each in getattr(message, field) if each.task != "ps:0"]
            message.ClearField(field)
            getattr(message, field).extend(others)
