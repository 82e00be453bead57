"""The part of a snapshot beside the values: clients and their answers, departures, placements, as entries of a file.

``snapshot.proto`` defines an entry. Entries are written one by one, so that the answers of at most one client are in
memory twice.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from google.protobuf.message import DecodeError

from ps_protocol.codec import error_codec, message_codec, service_codec, spec_codec
from ps_protocol.codec.tensor_codec import Buffer
from ps_protocol.errors import InvalidArgumentError, ShardscopeError
from ps_protocol.files.synced_files import PIECE_BYTES, SyncedWriter
from ps_protocol.service_types import Placement
from ps_protocol.v1 import snapshot_pb2
from ps_server.batches.remembered_answers import FORGOTTEN, Answer, ClientImage, Forgotten
from ps_server.log import record_codec
from ps_server.log.restore_mark import RestoreMark
from ps_server.log.state_image import StateImage

_SIZE_BYTES: Final = 4


class MalformedEntryError(ValueError):
    """An entry does not follow ``snapshot.proto``."""


def write_entries(writer: SyncedWriter, image: StateImage) -> tuple[int, int]:
    """Writes all entries of an image; returns their size in bytes and CRC-32."""
    size_bytes = crc = 0
    for entry, buffers in encode_entries(image):
        content = entry.SerializeToString()
        parts: list[Buffer] = [len(content).to_bytes(_SIZE_BYTES, "little"), content, *buffers]
        for part in parts:
            crc = writer.write(part, crc)
            size_bytes += len(part)
    return size_bytes, crc


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    crc = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            crc = zlib.crc32(piece, crc)
    return crc


class Entries:
    """Decoded entries, sorted by kind."""

    def __init__(self) -> None:
        self.clients: list[ClientImage] = []
        self.departed: list[tuple[UUID, str]] = []
        self.placements: list[Placement] = []
        self.restored: RestoreMark | None = None

    def add(self, entry: snapshot_pb2.SnapshotEntry, file: BinaryIO) -> None:
        """Takes an entry, whose tensors come next in ``file``.

        Raises:
            MalformedEntryError, InvalidArgumentError: It cannot be understood.
        """
        match entry.WhichOneof("kind"):
            case "client":
                self.clients.append(_decode_client(entry.client, file))
            case "departure":
                client = spec_codec.decode_uuid(entry.departure.client_incarnation, "client incarnation")
                self.departed.append((client, entry.departure.reason))
            case "placement":
                placement = service_codec.decode_placement(entry.placement)
                if isinstance(placement, ShardscopeError):
                    raise MalformedEntryError("a placement is an error")
                self.placements.append(placement)
            case "restored":
                self.restored = record_codec.decode_mark(entry.restored)
            case _:
                raise MalformedEntryError("an entry is of no kind that this version knows")


class ReadEntries(Entries):
    """The entries of a file, sorted by kind.

    Args:
        path: Of the file, whose checksum has been verified: sizes in it are believed.

    Raises:
        MalformedEntryError: An entry cannot be understood.
        OSError: The file cannot be read.
    """

    def __init__(self, path: Path):
        super().__init__()
        with path.open("rb", PIECE_BYTES) as file:
            while size := file.read(_SIZE_BYTES):
                try:
                    content = bytes(_take(file, int.from_bytes(size, "little")))
                    self.add(snapshot_pb2.SnapshotEntry.FromString(content), file)
                except (DecodeError, InvalidArgumentError) as error:
                    raise MalformedEntryError(str(error)) from error


def encode_entries(image: StateImage) -> Iterator[tuple[snapshot_pb2.SnapshotEntry, list[memoryview]]]:
    """Yields the entries of an image, each with the tensors beside it."""
    for client in image.clients:
        yield _encode_client(client)
    for incarnation, reason in image.departed:
        departure = snapshot_pb2.SnapshotDeparture(client_incarnation=incarnation.bytes, reason=reason)
        yield snapshot_pb2.SnapshotEntry(departure=departure), []
    for placement in image.placements:
        yield snapshot_pb2.SnapshotEntry(placement=service_codec.encode_placement(placement)), []
    if image.restored is not None:
        entry = snapshot_pb2.SnapshotEntry()
        record_codec.encode_mark_into(entry.restored, image.restored)
        yield entry, []


def _encode_client(client: ClientImage) -> tuple[snapshot_pb2.SnapshotEntry, list[memoryview]]:
    entry = snapshot_pb2.SnapshotEntry()
    message, buffers = entry.client, list[memoryview]()
    message.client_incarnation = client.client.bytes
    message.task, message.newest, message.forgotten_up_to = client.task, client.newest, client.forgotten_up_to
    for sequence, answer in client.answers:
        added = message.answers.add(sequence=sequence, checksum=client.checksums.get(sequence, 0))
        if isinstance(answer, Forgotten):
            added.forgotten.SetInParent()
        elif isinstance(answer, ShardscopeError):
            added.error.CopyFrom(error_codec.encode_error(answer))
        else:
            reply, tensors = message_codec.encode_reply(answer)
            added.reply.CopyFrom(reply)
            buffers += tensors
    return entry, buffers


def _decode_client(message: snapshot_pb2.SnapshotClient, file: BinaryIO) -> ClientImage:
    return ClientImage(
        client=spec_codec.decode_uuid(message.client_incarnation, "client incarnation"),
        task=message.task,
        newest=message.newest,
        forgotten_up_to=message.forgotten_up_to,
        answers=tuple([(answer.sequence, _decode_answer(answer, file)) for answer in message.answers]),
        checksums={answer.sequence: answer.checksum for answer in message.answers if answer.checksum},
    )


def _decode_answer(message: snapshot_pb2.SnapshotAnswer, file: BinaryIO) -> Answer:
    match message.WhichOneof("kind"):
        case "reply":
            head = message_codec.reply_head(message.reply)
            return head.reply([_take(file, layout.size_bytes) for layout in head.layouts])
        case "error":
            return error_codec.decode_error(message.error)
        case "forgotten":
            return FORGOTTEN
        case _:
            raise MalformedEntryError("an answer is of no kind that this version knows")


def _take(file: BinaryIO, size_bytes: int) -> bytearray:
    content = bytearray(file.read(size_bytes))
    if len(content) != size_bytes:
        raise MalformedEntryError("the file ends inside an entry")
    return content
