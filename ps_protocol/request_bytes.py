"""The headers of requests as bytes, made and read without message objects where the same ones come again.

On the wire they are the protobuf of ``batch.proto``, byte for byte what ``message_codec`` makes of them: any client may
send them, and whatever is not recognised here goes through that module. A training step sends the same operations on
the same variables over and over; only the sequence number and the tensors change. So the bytes of an operation are kept
by what it is, what a header means is kept by its bytes, and the sequence number is written and read by hand
(https://protobuf.dev/programming-guides/encoding/). All tables are bounded, and all functions safe to call from many
threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np

from ps_protocol import message_codec, tensor_codec
from ps_protocol.bounded_table import ENTRY_BYTES, BoundedTable
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operation_codec import encode_operation_into
from ps_protocol.operations import Batch, Describe, Gather, Operation, Read, Scatter, Update, WireDType
from ps_protocol.tensor_codec import Buffer, TensorLayout
from ps_protocol.v1 import batch_pb2
from ps_protocol.varints import decode_varint, encode_varint

_MAX_KEPT_BYTES: Final = 64 * 1024

# Tags: (number of the field << 3) | wire type, of batch.proto.
_REQUEST_CLIENT: Final = b"\x0a\x10"  # and its length
_REQUEST_SEQUENCE: Final = 0x10
_REQUEST_STORE: Final = b"\x1a\x10"  # and its length
_REQUEST_OPERATION: Final = b"\x22"

_UUID_BYTES: Final = 16
_EXACT: Final = WireDType.EXACT


# -- written ------------------------------------------------------------------------------------

_operation_fields: Final[BoundedTable[bytes]] = BoundedTable()


def encode_request(batch: Batch, *, names_client: bool) -> tuple[bytes, list[memoryview]]:
    """Returns the header of a batch and the bytes of its tensors, as ``message_codec.encode_batch``.

    Args:
        batch: What to send.
        names_client: Whether the header holds the client's incarnation; not if the connection says it.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be sent.
    """
    buffers: list[memoryview] = []
    fields = [_operation_field(operation, buffers) for operation in batch.operations]
    client = _REQUEST_CLIENT + batch.client.bytes if names_client else b""
    number = b"\x10" + encode_varint(batch.sequence) if batch.sequence else b""
    return b"".join([client, number, _REQUEST_STORE, batch.store.bytes, *fields]), buffers


def _operation_field(operation: Operation, buffers: list[memoryview]) -> bytes:
    key = _key(operation)
    if key is None:
        return _encoded_field(operation, buffers)
    field = _operation_fields.get(key)
    if field is None:
        field = _encoded_field(operation, buffers)
        _operation_fields.put(key, field, len(field) + ENTRY_BYTES)
    elif isinstance(operation, Update):
        buffers.append(tensor_codec.contiguous_bytes(operation.value))
    elif isinstance(operation, Scatter):
        buffers.append(tensor_codec.contiguous_bytes(operation.indices))
        buffers.append(tensor_codec.contiguous_bytes(operation.updates))
    elif isinstance(operation, Gather):
        buffers.append(tensor_codec.contiguous_bytes(operation.indices))
    return field


def _key(operation: Any) -> Hashable | None:
    """Returns what the bytes of an operation depend on; None if they are not worth keeping."""
    kind = type(operation)
    if kind is Update:
        value = operation.value
        return (operation.name, operation.rule, value.dtype, value.shape) if operation.wire is _EXACT else None
    if kind is Read:
        return (operation.name, operation.wire) if operation.unless_version is None else None
    if kind is Gather:
        indices = operation.indices
        return (operation.name, indices.dtype, indices.shape, operation.index_depth, operation.wire)
    if kind is Scatter and operation.wire is _EXACT:
        indices, updates = operation.indices, operation.updates
        shapes = (indices.dtype, indices.shape, updates.dtype, updates.shape)
        return (operation.name, operation.rule, *shapes, operation.index_depth)
    return None


def _encoded_field(operation: Operation, buffers: list[memoryview]) -> bytes:
    message = batch_pb2.Operation()
    encode_operation_into(message, operation, buffers)
    data = message.SerializeToString()
    return _REQUEST_OPERATION + encode_varint(len(data)) + data


# -- read ---------------------------------------------------------------------------------------

_Maker = Callable[[Sequence[Buffer], Sequence[int]], Operation]
"""Makes an operation, given the buffers that the batch's tensors lie in and where in them each begins."""


class _Template(NamedTuple):
    """What a header means but for its sequence and its tensors."""

    store: UUID
    mutates: bool
    operations: tuple[Operation, ...]  # if none of them has tensors
    makers: tuple[_Maker, ...]  # of the operations, if any has tensors
    layouts: tuple[TensorLayout, ...]
    starts: tuple[int, ...]  # of the tensors if they lie end to end
    at_once: tuple[int, ...]  # and if each has a buffer of its own: zeros
    data_bytes: int


_templates: Final[BoundedTable[_Template]] = BoundedTable()


class RequestHead:
    """The header of a request as received, whose tensors may be still to come.

    Args:
        header: Its bytes.
        client: Who sent it, if the header does not say so; None if it has to.

    Attributes:
        layouts: Of the tensors that belong beside it, in their order.
        data_bytes: What they have together.

    Raises:
        InvalidArgumentError: The header is malformed.
        DecodeError: It is no message.
    """

    __slots__ = ("_client", "_key", "_message", "_sequence", "_template", "data_bytes", "layouts")

    def __init__(self, header: bytes, client: UUID | None):
        self.layouts: Sequence[TensorLayout]
        self._template: _Template | None = None
        start = 0
        if header[:2] == _REQUEST_CLIENT and len(header) >= 2 + _UUID_BYTES:
            start = len(_REQUEST_CLIENT) + _UUID_BYTES
            client = message_codec.decode_uuid(header[2:start], "client incarnation")
        sequence = 0
        if start < len(header) and header[start] == _REQUEST_SEQUENCE:
            sequence, start = decode_varint(header, start + 1) or (0, 0)  # nothing is kept under what begins so
        key = header[start:]
        template = _templates.get(key)
        if template is not None and client is not None and template.mutates is bool(sequence):
            self._template = template
            self._client = client
            self._sequence = sequence
            self.layouts = template.layouts
            self.data_bytes = template.data_bytes
            return
        message = self._message = batch_pb2.BatchRequest.FromString(header)
        if client is not None and not message.client_incarnation:
            message.client_incarnation = client.bytes
        self._key = key if template is None and len(key) <= _MAX_KEPT_BYTES else b""
        self.layouts = message_codec.request_layouts(message)
        self.data_bytes = sum([layout.size_bytes for layout in self.layouts])

    def batch(self, buffers: Sequence[Buffer]) -> Batch:
        """Returns the batch; its tensors are views of ``buffers`` where they travel exactly.

        Raises:
            InvalidArgumentError: The buffers are not those that belong beside the header.
        """
        template = self._template
        if template is None:
            batch = message_codec.decode_batch(self._message, buffers)
            if self._key:
                _keep(self._key, batch, self.layouts)
            return batch
        if len(buffers) != len(template.layouts):
            raise InvalidArgumentError(f"{len(template.layouts)} tensors belong to the batch, not {len(buffers)}")
        return self._made(template, buffers, template.at_once)

    def batch_of(self, data: memoryview) -> Batch:
        """The same with the tensors end to end; views of ``data`` need not be aligned.

        Raises:
            InvalidArgumentError: The data are not those that belong beside the header.
        """
        if len(data) != self.data_bytes:
            raise InvalidArgumentError(
                f"the tensors of the message have {self.data_bytes} bytes, but {len(data)} are beside it"
            )
        template = self._template
        if template is not None:
            return self._made(template, (data,) * len(template.starts), template.starts)
        starts = _starts(self.layouts)
        return self.batch(
            [data[start : start + layout.size_bytes] for start, layout in zip(starts, self.layouts, strict=True)]
        )

    def _made(self, template: _Template, buffers: Sequence[Buffer], starts: Sequence[int]) -> Batch:
        operations = tuple([make(buffers, starts) for make in template.makers]) or template.operations
        return Batch(self._client, template.store, self._sequence, operations)


def _starts(layouts: Sequence[TensorLayout]) -> list[int]:
    return list(itertools.accumulate([layout.size_bytes for layout in layouts], initial=0))[:-1]


def _keep(key: bytes, batch: Batch, layouts: Sequence[TensorLayout]) -> None:
    if not all(map(_may_come_again, batch.operations)):
        return
    rest = batch_pb2.BatchRequest.FromString(key)
    if rest.sequence or rest.client_incarnation:
        return  # a field that is there twice counts as it is the last time
    makers: list[_Maker] = []
    taken = 0
    for operation in batch.operations:
        match operation:
            case Read() | Describe():
                makers.append(_constant(operation))
            case Update():
                makers.append(_update_maker(operation, layouts[taken], taken))
                taken += 1
            case Scatter():
                makers.append(_scatter_maker(operation, layouts[taken], layouts[taken + 1], taken))
                taken += 2
            case Gather():
                makers.append(_gather_maker(operation, layouts[taken], taken))
                taken += 1
    template = _Template(
        store=batch.store,
        mutates=batch.mutates,
        operations=() if taken else batch.operations,
        makers=tuple(makers) if taken else (),
        layouts=tuple(layouts),
        starts=tuple(_starts(layouts)),
        at_once=(0,) * len(layouts),
        data_bytes=sum([layout.size_bytes for layout in layouts]),
    )
    _templates.put(key, template, len(key) + ENTRY_BYTES * (1 + len(makers)))


def _may_come_again(operation: Operation) -> bool:
    """Whether its like is worth being kept: a version that a read names is soon an old one."""
    if isinstance(operation, Read):
        return operation.unless_version is None
    if isinstance(operation, Update | Scatter):
        return operation.wire is _EXACT
    return isinstance(operation, Gather | Describe)


def _constant(operation: Operation) -> _Maker:
    return lambda _buffers, _starts: operation


def _update_maker(like: Update, layout: TensorLayout, index: int) -> _Maker:
    name, rule, dtype, shape = like.name, like.rule, layout.dtype, layout.shape
    return lambda buffers, starts: Update(name, rule, np.ndarray(shape, dtype, buffers[index], starts[index]))


def _scatter_maker(like: Scatter, indices: TensorLayout, updates: TensorLayout, index: int) -> _Maker:
    name, rule, depth, second = like.name, like.rule, like.index_depth, index + 1
    return lambda buffers, starts: Scatter(
        name,
        rule,
        np.ndarray(indices.shape, indices.dtype, buffers[index], starts[index]),
        np.ndarray(updates.shape, updates.dtype, buffers[second], starts[second]),
        depth,
    )


def _gather_maker(like: Gather, layout: TensorLayout, index: int) -> _Maker:
    name, depth, wire = like.name, like.index_depth, like.wire
    return lambda buffers, starts: Gather(
        name, np.ndarray(layout.shape, layout.dtype, buffers[index], starts[index]), depth, wire
    )
