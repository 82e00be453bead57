"""Encodes a state image as parts of a stream, and decodes it."""

from __future__ import annotations

import io
from collections.abc import Iterator

from ps_protocol.codec import tensor_codec
from ps_protocol.codec.spec_codec import decode_spec
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.v1 import replication_pb2, snapshot_pb2
from ps_server.durability.snapshots.ledger_file import Entries, MalformedEntryError, encode_entries
from ps_server.log.record_codec import encode_image_into
from ps_server.log.state_image import StateImage
from ps_server.store.stored_variable import VariableImage


def encode_image(image: StateImage) -> Iterator[tuple[replication_pb2.ImagePart, list[memoryview]]]:
    """Yields the parts of an image, each with the bytes of the tensors beside it."""
    head = replication_pb2.ImagePart()
    head.head.position = image.position
    yield head, []
    for variable in image.variables:
        yield _encode_variable(variable)
    for entry, buffers in encode_entries(image):
        yield replication_pb2.ImagePart(entry=entry), buffers
    yield replication_pb2.ImagePart(end=replication_pb2.ImageEnd()), []


class ImageBuilder:
    """Makes an image from its parts. One thread."""

    def __init__(self) -> None:
        self._position: int | None = None
        self._variables: list[VariableImage] = []
        self._entries = Entries()

    def add(self, part: replication_pb2.ImagePart, data: memoryview) -> StateImage | None:
        """Adds a part; returns the image after the last one.

        Raises:
            InvalidArgumentError: It is malformed, or out of order.
        """
        kind = part.WhichOneof("kind")
        if (kind == "head") == (self._position is not None):
            raise InvalidArgumentError("an image must begin with its head, and have only one")
        match kind:
            case "head":
                self._position = part.head.position
            case "variable":
                self._variables.append(_decode_variable(part.variable, data))
            case "entry":
                self._add_entry(part, data)
            case "end":
                return self._image()
            case _:
                raise InvalidArgumentError("a part of an image is of no kind that this version knows")
        return None

    def _add_entry(self, part: replication_pb2.ImagePart, data: memoryview) -> None:
        try:
            self._entries.add(part.entry, io.BytesIO(data))
        except MalformedEntryError as error:
            raise InvalidArgumentError(f"an entry of the image is malformed: {error}") from error

    def _image(self) -> StateImage:
        assert self._position is not None
        entries = self._entries
        return StateImage(
            self._position,
            tuple(self._variables),
            tuple(entries.clients),
            tuple(entries.departed),
            tuple(entries.placements),
            entries.restored,
        )


def _encode_variable(variable: VariableImage) -> tuple[replication_pb2.ImagePart, list[memoryview]]:
    part, buffers = replication_pb2.ImagePart(), list[memoryview]()
    encode_image_into(part.variable, variable, buffers)
    return part, buffers


def _decode_variable(message: snapshot_pb2.ImageVariable, data: memoryview) -> VariableImage:
    spec = decode_spec(message.spec)
    declared = decode_spec(message.declared) if message.HasField("declared") else None
    if not message.HasField("value"):
        return VariableImage(spec, None, message.version, declared)
    value, end = tensor_codec.decode_at(message.value, data, 0)
    if end != len(data) or value.shape != spec.shape or value.dtype != spec.dtype:
        raise InvalidArgumentError(f"the value in the image is not one of variable {spec.name}", variable=spec.name)
    return VariableImage(spec, value.copy(), message.version, declared)
