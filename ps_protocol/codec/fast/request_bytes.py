"""Writes and reads the headers of requests as bytes, without message objects where the same headers come again.

The bytes are those that ``message_codec`` makes: protobuf of ``batch.proto``, which any client may send. A header that
is not known here goes through that module. A training step sends the same operations on the same variables over and
over; only the sequence number and the tensors change. So the bytes of an operation are kept by its kind, names and
shapes. What a header means is kept by its bytes. The sequence number is written and read by hand
(https://protobuf.dev/programming-guides/encoding/). All tables are bounded. All functions are safe to call from many
threads. ``docs/decisions/header-codec.md`` says what this wins.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np

from ps_protocol.codec import tensor_codec
from ps_protocol.codec.fast.bounded_table import ENTRY_BYTES, BoundedTable
from ps_protocol.codec.fast.varints import LENGTH_DELIMITED, VARINT, decode_varint, encode_varint, field_tag
from ps_protocol.codec.message_codec import (
    WHOLE_BYTES,
    CheckTime,
    MessageRequest,
    RequestHead,
    batch_checksum,
    check_number,
    check_size,
)
from ps_protocol.codec.operation_codec import encode_operation_into
from ps_protocol.codec.spec_codec import decode_uuid
from ps_protocol.codec.tensor_codec import Buffer, TensorLayout
from ps_protocol.operation_kinds import KINDS
from ps_protocol.operations import Apply, Batch, Describe, Gather, PsOperation, Read, Scatter, Update, WireDType
from ps_protocol.shared_objects import Act, Look
from ps_protocol.training.round_operations import Commit, Stage
from ps_protocol.v1.batch_pb2 import BatchRequest
from ps_protocol.v1.batch_pb2 import Operation as OperationMessage

_MAX_KEPT_BYTES: Final = 64 * 1024
_UUID_BYTES: Final = 16
_EXACT: Final = WireDType.EXACT
_NOTHING: Final = np.empty(0, np.uint8)

_CLIENT: Final = field_tag(BatchRequest.CLIENT_INCARNATION_FIELD_NUMBER, LENGTH_DELIMITED) + bytes((_UUID_BYTES,))
_SEQUENCE: Final = field_tag(BatchRequest.SEQUENCE_FIELD_NUMBER, VARINT)
_STORE: Final = field_tag(BatchRequest.STORE_INCARNATION_FIELD_NUMBER, LENGTH_DELIMITED) + bytes((_UUID_BYTES,))
_OPERATION: Final = field_tag(BatchRequest.OPERATIONS_FIELD_NUMBER, LENGTH_DELIMITED)
_CLIENT_END: Final = len(_CLIENT) + _UUID_BYTES
_SEQUENCE_BYTE: Final = _SEQUENCE[0]


def _update_key(update: Update) -> Hashable | None:
    value = update.value
    return (update.name, update.rule, value.dtype, value.shape) if update.wire is _EXACT else None


def _read_key(read: Read) -> Hashable | None:
    return (read.name, read.wire) if read.unless_version is None else None  # a version is soon out of date


def _gather_key(gather: Gather) -> Hashable:
    indices = gather.indices
    return (gather.name, indices.dtype, indices.shape, gather.index_depth, gather.wire)


def _scatter_key(scatter: Scatter) -> Hashable | None:
    if scatter.wire is not _EXACT:
        return None
    indices, updates = scatter.indices, scatter.updates
    shapes = (indices.dtype, indices.shape, updates.dtype, updates.shape)
    return (scatter.name, scatter.rule, *shapes, scatter.index_depth)


def _apply_key(apply: Apply) -> Hashable | None:
    if apply.wire is not _EXACT:
        return None
    layouts = [(operand.dtype, operand.shape) for operand in apply.operands]
    return (apply.name, apply.function, apply.slots, apply.state, apply.numbers.shape, *layouts)


def _act_key(act: Act) -> Hashable:
    layouts = [(each.dtype, each.shape) for each in act.tensors]
    return (Act, act.name, act.kind, act.event.dtype, act.event.shape, *layouts)


def _stage_key(stage: Stage) -> Hashable | None:
    if not stage.packs_numbers or [step for step in stage.steps if step.numbers.size]:
        return None
    steps = [
        (step.name, step.function, step.slots, step.state, *[(each.dtype, each.shape) for each in step.operands])
        for step in stage.steps
    ]
    return (Stage, stage.name, stage.stamp, *steps)


def _commit_key(commit: Commit) -> Hashable | None:
    if not commit.decided_by:
        return None
    return (Commit, commit.name, commit.staged, commit.variables, commit.means_of_present_rows, commit.decided_by)


KEYS: Final[dict[type[Any], Callable[[Any], Hashable | None]]] = {
    Update: _update_key,
    Read: _read_key,
    Gather: _gather_key,
    Scatter: _scatter_key,
    Apply: _apply_key,
    Act: _act_key,
    Look: lambda look: (Look, look.name, look.kind, look.question.dtype, look.question.shape, look.wait_s),
    Stage: _stage_key,
    Commit: _commit_key,
    Describe: lambda describe: (describe.name,),
}
"""For each kind that comes again and again: a key of all that the bytes of an operation depend on.

Keys of different kinds differ. The key is None if the operation will not come again. Other kinds work too, but more
slowly.
"""

_fields: Final[BoundedTable[bytes]] = BoundedTable()


# -- written ------------------------------------------------------------------------------------


def encode_request(batch: Batch, *, names_client: bool) -> tuple[bytes, list[memoryview]]:
    """Returns the header of a batch and the bytes of its tensors, as ``message_codec.encode_batch``.

    Args:
        batch: What to send.
        names_client: Whether the header holds the client's incarnation; False if the connection says it.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be sent.
    """
    buffers: list[memoryview] = []
    fields = [operation_field(operation, buffers) for operation in batch.operations]
    client = _CLIENT + batch.client.bytes if names_client else b""
    number = _SEQUENCE + encode_varint(batch.sequence) if batch.sequence else b""
    return b"".join([client, number, _STORE, batch.store.bytes, *fields]), buffers


def operation_field(operation: PsOperation, buffers: list[memoryview]) -> bytes:
    """Returns an operation as a field of a ``BatchRequest``, and appends the bytes of its tensors to ``buffers``.

    Raises:
        InvalidArgumentError: A tensor has a dtype that cannot be sent.
    """
    kind = type(operation)
    key_of = KEYS.get(kind)
    key = None if key_of is None else key_of(operation)
    field = None if key is None else _fields.get(key)
    if field is not None:
        for tensor in KINDS[kind].tensors(operation):
            buffers.append(tensor_codec.contiguous_bytes(tensor))  # noqa: PERF401 - of one or none, a call takes longer
        return field
    message = OperationMessage()
    encode_operation_into(message, operation, buffers)
    data = message.SerializeToString()
    field = _OPERATION + encode_varint(len(data)) + data
    if key is not None:
        _fields.put(key, field, len(field) + ENTRY_BYTES)
    return field


# -- read ---------------------------------------------------------------------------------------

Maker = Callable[[Sequence[Buffer], Sequence[int]], PsOperation]
"""Makes an operation from the buffers of the batch's tensors and the offsets at which the tensors begin in them."""


class _Template(NamedTuple):
    """What a header means, apart from its sequence number and its tensors."""

    store: UUID
    mutates: bool
    operations: tuple[PsOperation, ...]  # if none of them has tensors
    makers: tuple[Maker, ...]  # of the operations, if any has tensors
    layouts: tuple[TensorLayout, ...]
    starts: tuple[int, ...]  # of the tensors if they lie end to end
    at_once: tuple[int, ...]  # and if each has a buffer of its own: zeros
    data_bytes: int


_templates: Final[BoundedTable[_Template]] = BoundedTable()


def parse_request(header: bytes, client: UUID | None, check_time: CheckTime | None = None) -> RequestHead:
    """Returns what the header of a request says.

    Args:
        header: As received.
        client: Incarnation of the sender, if the connection says it; None if the header must say it.
        check_time: Called now and then while many operations are decoded; what it raises ends that.

    Raises:
        InvalidArgumentError: The header is malformed.
        DecodeError: It is no message.
    """
    start = 0
    if header.startswith(_CLIENT) and len(header) >= _CLIENT_END:
        start = _CLIENT_END
        client = decode_uuid(header[len(_CLIENT) : start], "client incarnation")
    sequence = 0
    if start < len(header) and header[start] == _SEQUENCE_BYTE:
        sequence, start = decode_varint(header, start + 1) or (0, 0)  # a malformed number: no key begins with it
    key = header[start:]
    template = _templates.get(key)
    if template is not None and client is not None and template.mutates is bool(sequence):
        return _KnownRequest(template, client, sequence, key)
    message = BatchRequest.FromString(header)
    if client is not None and not message.client_incarnation:
        message.client_incarnation = client.bytes
    if template is None and len(key) <= _MAX_KEPT_BYTES:
        return _NewRequest(message, key, check_time)
    return MessageRequest(message, key, check_time)


class _KnownRequest(RequestHead):
    """A request whose header, apart from its sequence number, has come before."""

    __slots__ = ("_client", "_key", "_sequence", "_template")

    def __init__(self, template: _Template, client: UUID, sequence: int, key: bytes):
        self._template = template
        self._client = client
        self._sequence = sequence
        self._key = key
        self.layouts = template.layouts
        self.data_bytes = template.data_bytes

    def batch(self, buffers: Sequence[Buffer]) -> Batch:
        check_number(buffers, self.layouts)
        checksum = batch_checksum(self._key, buffers, self.data_bytes) if self._sequence else 0
        return self._made(buffers, self._template.at_once, checksum)

    def batch_of(self, data: memoryview) -> Batch:
        check_size(data, self.data_bytes)
        starts = self._template.starts
        checksum = 0
        if self._sequence:
            parts: Sequence[Buffer] = (data,)
            if len(data) > WHOLE_BYTES:
                parts = [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]
            checksum = batch_checksum(self._key, parts, len(data))
        return self._made((data,) * len(starts), starts, checksum)

    def _made(self, buffers: Sequence[Buffer], starts: Sequence[int], checksum: int) -> Batch:
        template = self._template
        operations = tuple([make(buffers, starts) for make in template.makers]) or template.operations
        return Batch(self._client, template.store, self._sequence, operations, None, checksum)


class _NewRequest(MessageRequest):
    """A request that may come again: its meaning is kept once it has been decoded."""

    __slots__ = ()

    def batch(self, buffers: Sequence[Buffer]) -> Batch:
        batch = super().batch(buffers)
        _keep(self._key, batch, self.layouts)
        return batch


def _keep(key: bytes, batch: Batch, layouts: Sequence[TensorLayout]) -> None:
    for operation in batch.operations:
        key_of = KEYS.get(type(operation))
        if key_of is None or key_of(operation) is None:
            return
    rest = BatchRequest.FromString(key)
    if rest.sequence or rest.client_incarnation:
        return  # if a field is there twice, the last one counts
    makers: list[Maker] = []
    taken = 0
    for operation in batch.operations:
        end = taken + len(KINDS[type(operation)].tensors(operation))
        makers.append(operation_maker(operation, layouts[taken:end], taken))
        taken = end
    if taken != len(layouts):
        return  # an older client has sent tensors without elements, which now are left out
    *starts, data_bytes = itertools.accumulate([layout.size_bytes for layout in layouts], initial=0)
    template = _Template(
        store=batch.store,
        mutates=batch.mutates,
        operations=() if taken else batch.operations,
        makers=tuple(makers) if taken else (),
        layouts=tuple(layouts),
        starts=tuple(starts),
        at_once=(0,) * len(layouts),
        data_bytes=data_bytes,
    )
    _templates.put(key, template, len(key) + ENTRY_BYTES * (1 + len(makers)))


def operation_maker(like: PsOperation, layouts: Sequence[TensorLayout], first: int) -> Maker:
    """Returns a function that makes operations like this one, with the batch's tensors from number ``first`` on."""
    if not layouts:
        return lambda _buffers, _starts: like
    with_tensors = KINDS[type(like)].with_tensors
    like = without_tensors(like)  # else the template would keep the tensors' memory
    if len(layouts) == 1:
        shape, dtype = layouts[0].shape, layouts[0].dtype
        return lambda buffers, starts: with_tensors(like, (np.ndarray(shape, dtype, buffers[first], starts[first]),))
    return lambda buffers, starts: with_tensors(
        like,
        [
            np.ndarray(layout.shape, layout.dtype, buffers[index], starts[index])
            for index, layout in enumerate(layouts, first)
        ],
    )


def without_tensors(operation: PsOperation) -> PsOperation:
    """Returns an operation with nothing in the place of its tensors."""
    kind = KINDS[type(operation)]
    tensors = kind.tensors(operation)
    return kind.with_tensors(operation, [_NOTHING] * len(tensors)) if tensors else operation
