"""The headers of batches and replies as bytes, made and read without message objects where the same ones come again.

On the wire they are the protobuf of ``batch.proto``, byte for byte what ``message_codec`` makes of them: any client may
send them, and whatever is not recognised here goes through that module. A training step sends the same operations on
the same variables over and over; only the sequence number, the tensors and the versions change. So the bytes of an
operation are kept by what it is, what a header means is kept by its bytes, and the few fields that change are written
and read by hand (https://protobuf.dev/programming-guides/encoding/). All tables are bounded, and all functions safe to
call from many threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import UUID

import numpy as np

from ps_protocol import message_codec, tensor_codec
from ps_protocol.errors import ShardscopeError
from ps_protocol.operation_codec import encode_operation_into
from ps_protocol.operations import (
    READS,
    Array,
    Batch,
    BatchReply,
    Describe,
    Gather,
    Operation,
    Read,
    Result,
    Scatter,
    Update,
    WireDType,
)
from ps_protocol.tensor_codec import TensorLayout
from ps_protocol.v1 import batch_pb2
from ps_protocol.v1.tensor_pb2 import TensorHeader
from ps_protocol.varints import decode_varint, encode_varint

_TABLE_BYTES: Final = 16 * 1024 * 1024
_ENTRY_BYTES: Final = 512
"""About what Python takes for an entry, and for each operation in it, beside its bytes."""
_MAX_KEPT_BYTES: Final = 16 * 1024

# Tags: (number of the field << 3) | wire type, of batch.proto.
_REQUEST_SEQUENCE: Final = 0x10
_REQUEST_STORE: Final = b"\x1a\x10"  # and its length
_REQUEST_OPERATION: Final = b"\x22"
_REPLY: Final = 0x0A
_REPLY_VERSION: Final = 0x10
_REPLY_INITIALIZED: Final = b"\x18\x01"
_REPLY_TENSOR: Final = 0x22

_EXACT: Final = WireDType.EXACT
_Value = TypeVar("_Value")


class _Table(Generic[_Value]):
    """A dictionary that forgets everything when it is full: simple, and rare with a model's few thousand variables.

    Full is counted in bytes: what is kept of other processes' headers has no other bound on its size.
    """

    def __init__(self, limit_bytes: int = _TABLE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        # guards: changes of _entries, used_bytes. A look-up is atomic and done without it.
        self._lock = threading.Lock()
        self._entries: dict[Hashable, _Value] = {}
        self.used_bytes = 0
        self.get = self._entries.get

    def put(self, key: Hashable, value: _Value, size_bytes: int) -> None:
        """Keeps a value of about that size, if there is none of its key."""
        with self._lock:
            if key in self._entries:
                return
            if self.used_bytes + size_bytes > self._limit_bytes:
                self._entries.clear()
                self.used_bytes = 0
            self._entries[key] = value
            self.used_bytes += size_bytes


# -- requests -----------------------------------------------------------------------------------

_operation_fields: Final[_Table[bytes]] = _Table()


def encode_request(batch: Batch, *, names_client: bool) -> tuple[bytes, list[memoryview]]:
    """Returns the header of a batch and the bytes of its tensors, as ``message_codec.encode_batch``.

    Args:
        batch: What to send.
        names_client: Whether the header holds the client's incarnation; not if the connection says it.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be sent.
    """
    if names_client:
        message, buffers = message_codec.encode_batch(batch)
        return message.SerializeToString(), buffers
    buffers = []
    fields = [_operation_field(operation, buffers) for operation in batch.operations]
    number = b"\x10" + encode_varint(batch.sequence) if batch.sequence else b""
    return b"".join([number, _REQUEST_STORE, batch.store.bytes, *fields]), buffers


def _operation_field(operation: Operation, buffers: list[memoryview]) -> bytes:
    key = _key(operation)
    if key is None:
        return _encoded_field(operation, buffers)
    field = _operation_fields.get(key)
    if field is None:
        field = _encoded_field(operation, buffers)
        _operation_fields.put(key, field, len(field) + _ENTRY_BYTES)
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


class _Template(NamedTuple):
    """What a header means but for its sequence and its tensors."""

    store: UUID
    mutates: bool
    operations: tuple[Operation, ...]
    makers: tuple[Callable[[memoryview], Operation], ...]  # of the operations with tensors, or none
    data_bytes: int


_templates: Final[_Table[_Template]] = _Table()


def decode_request(header: bytes, data: memoryview, client: UUID) -> Batch:
    """Returns the batch that a header and its tensors end to end hold, as ``message_codec.decode_batch_of``.

    Args:
        header: As received.
        data: The tensors, of which those in the batch are views.
        client: Who sent it, if the header does not say so.

    Raises:
        InvalidArgumentError: Header or data are malformed, or do not fit each other.
        DecodeError: The header is no message.
    """
    sequence, start = 0, 0
    if header and header[0] == _REQUEST_SEQUENCE:
        sequence, start = decode_varint(header, 1) or (0, 0)  # nothing is kept under what begins so
    template = _templates.get(header[start:])
    if template is not None and template.data_bytes == len(data) and template.mutates is bool(sequence):
        operations = tuple([make(data) for make in template.makers]) or template.operations
        return Batch(client, template.store, sequence, operations)
    message = batch_pb2.BatchRequest.FromString(header)
    names_client = bool(message.client_incarnation)
    if not names_client:
        message.client_incarnation = client.bytes
    batch = message_codec.decode_batch_of(message, data)
    if template is None and not names_client and len(header) <= _MAX_KEPT_BYTES:
        _keep(header[start:], message, batch, len(data))
    return batch


def _keep(key: bytes, message: batch_pb2.BatchRequest, batch: Batch, data_bytes: int) -> None:
    if not all(map(_may_come_again, batch.operations)):
        return
    if batch_pb2.BatchRequest.FromString(key).sequence:
        return  # a field that is there twice counts as it is the last time
    layouts = iter(message_codec.request_layouts(message))
    makers: list[Callable[[memoryview], Operation]] = []
    offset = 0
    for operation in batch.operations:
        match operation:
            case Read() | Describe():
                makers.append(_constant(operation))
            case Update():
                layout = next(layouts)
                makers.append(_update_maker(operation, layout, offset))
                offset += layout.size_bytes
            case Scatter():
                indices, updates = next(layouts), next(layouts)
                makers.append(_scatter_maker(operation, indices, updates, offset))
                offset += indices.size_bytes + updates.size_bytes
            case Gather():
                layout = next(layouts)
                makers.append(_gather_maker(operation, layout, offset))
                offset += layout.size_bytes
    size_bytes = len(key) + _ENTRY_BYTES * (1 + len(makers))
    if offset:
        _templates.put(key, _Template(batch.store, batch.mutates, (), tuple(makers), data_bytes), size_bytes)
    elif not data_bytes:
        _templates.put(key, _Template(batch.store, batch.mutates, batch.operations, (), 0), size_bytes)


def _may_come_again(operation: Operation) -> bool:
    """Whether its like is worth being kept: a version that a read names is soon an old one."""
    if isinstance(operation, Read):
        return operation.unless_version is None
    if isinstance(operation, Update | Scatter):
        return operation.wire is _EXACT
    return isinstance(operation, Gather | Describe)


def _constant(operation: Operation) -> Callable[[memoryview], Operation]:
    return lambda _: operation


def _update_maker(like: Update, layout: TensorLayout, offset: int) -> Callable[[memoryview], Operation]:
    name, rule, dtype, shape = like.name, like.rule, layout.dtype, layout.shape
    return lambda data: Update(name, rule, np.ndarray(shape, dtype, data, offset))


def _scatter_maker(
    like: Scatter, indices: TensorLayout, updates: TensorLayout, offset: int
) -> Callable[[memoryview], Operation]:
    name, rule, depth, between = like.name, like.rule, like.index_depth, offset + indices.size_bytes
    return lambda data: Scatter(
        name,
        rule,
        np.ndarray(indices.shape, indices.dtype, data, offset),
        np.ndarray(updates.shape, updates.dtype, data, between),
        depth,
    )


def _gather_maker(like: Gather, layout: TensorLayout, offset: int) -> Callable[[memoryview], Operation]:
    name, depth, wire = like.name, like.index_depth, like.wire
    return lambda data: Gather(name, np.ndarray(layout.shape, layout.dtype, data, offset), depth, wire)


# -- replies ------------------------------------------------------------------------------------

_tensor_fields: Final[_Table[bytes]] = _Table()
_tensor_layouts: Final[_Table[TensorLayout]] = _Table()


def encode_answer(reply: BatchReply, operations: Sequence[Operation]) -> tuple[bytes, list[memoryview]]:
    """Returns the header of a reply and the bytes of its tensors, as ``message_codec.encode_reply``."""
    fields: list[bytes] = []
    buffers: list[memoryview] = []
    for result, operation in zip(reply.replies, operations, strict=False):
        if isinstance(result, ShardscopeError) or result.spec is not None or not result.initialized:
            break
        tensor = result.tensor
        if tensor is None:
            data = b""
        elif isinstance(operation, READS) and operation.wire is not _EXACT:
            break
        else:
            data = _tensor_field(tensor)
            buffers.append(tensor_codec.contiguous_bytes(tensor))
        version = b"\x10" + encode_varint(result.version) if result.version else b""
        data = version + _REPLY_INITIALIZED + data
        fields.append(b"\x0a" + encode_varint(len(data)) + data)
    if len(fields) == len(reply.replies):
        return b"".join(fields), buffers
    message, buffers = message_codec.encode_reply(reply, operations)
    return message.SerializeToString(), buffers


def _tensor_field(tensor: Array) -> bytes:
    key = (tensor.dtype, tensor.shape)
    field = _tensor_fields.get(key)
    if field is None:
        header = TensorHeader()
        tensor_codec.encode_into(header, tensor)
        data = header.SerializeToString()
        field = b"\x22" + encode_varint(len(data)) + data
        _tensor_fields.put(key, field, len(field) + _ENTRY_BYTES)
    return field


def decode_single_answer(header: bytes, data: memoryview, operations: Sequence[Operation]) -> BatchReply | None:
    """Returns the reply to a batch of one operation, whose small tensor is a copy; None if it takes ``message_codec``.

    Args:
        header: As received.
        data: The bytes of the tensor, if any.
        operations: Of the batch.
    """
    size = len(header)
    if len(operations) != 1 or not 2 < size < 130 or header[0] != _REPLY or header[1] != size - 2:
        return None
    version, start = 0, 2
    if header[2] == _REPLY_VERSION:
        version, start = decode_varint(header, 3) or (0, size)
    if header[start : start + 2] != _REPLY_INITIALIZED:
        return None
    start += 2
    if start == size:
        return None if data else BatchReply((Result(version, True),))
    operation = operations[0]
    if header[start] != _REPLY_TENSOR or (isinstance(operation, READS) and operation.out is not None):
        return None
    layout = _tensor_layout(header[start:])
    if layout is None or layout.size_bytes != len(data):
        return None
    return BatchReply((Result(version, True, np.ndarray(layout.shape, layout.dtype, data).copy()),))


def _tensor_layout(field: bytes) -> TensorLayout | None:
    layout = _tensor_layouts.get(field)
    if layout is None:
        # As the only field of a reply that has one: so the generated parser says whether it is well-formed.
        reply = batch_pb2.OperationReply.FromString(field)
        if [known.name for known, _ in reply.ListFields()] != ["tensor"]:
            return None
        layout = tensor_codec.parse_header(reply.tensor)
        if layout.wire is not _EXACT:
            return None
        _tensor_layouts.put(field, layout, len(field) + _ENTRY_BYTES)
    return layout
