"""Whatever bytes arrive, they are a batch or a ``ShardscopeError``; whatever batch leaves, it arrives."""

from __future__ import annotations

import contextlib
import dataclasses
from uuid import UUID

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from ps_protocol.codec import message_codec
from ps_protocol.codec.tensor_codec import parse_dtype
from ps_protocol.errors import ERROR_TYPES, InvalidArgumentError, ShardscopeError
from ps_protocol.initializer_spec import (
    ConstantKind,
    Distribution,
    FanMode,
    InitializerKind,
    InitializerSpec,
    OrthogonalKind,
    RandomUniformKind,
    ValueKind,
    VarianceScalingKind,
)
from ps_protocol.operations import (
    Array,
    Batch,
    BatchReply,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    PartitionSlice,
    PsOperation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.shared_objects import Act, Look
from ps_protocol.v1 import batch_pb2

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
FLOATS = st.floats(allow_nan=False)
DTYPES = st.sampled_from(["float32", "int64", "bool", "bfloat16", "S3"]).map(parse_dtype)
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    shape, dtype = draw(SHAPES), draw(DTYPES)
    size_bytes = int(np.prod(shape)) * dtype.itemsize
    return np.ndarray(shape, dtype, draw(st.binary(min_size=size_bytes, max_size=size_bytes)))


@st.composite
def specs(draw: st.DrawFn) -> VariableSpec:
    spec = VariableSpec(draw(NAMES), draw(DTYPES), draw(SHAPES))
    if draw(st.booleans()):
        return dataclasses.replace(spec, object_kind=draw(st.sampled_from(["", "barrier"])))
    offset = tuple(draw(st.integers(0, 5)) for _ in spec.shape)
    whole = tuple(start + length + draw(st.integers(0, 5)) for start, length in zip(offset, spec.shape, strict=True))
    return VariableSpec(spec.name, spec.dtype, spec.shape, PartitionSlice(draw(NAMES), whole, offset))


KINDS: st.SearchStrategy[InitializerKind] = st.one_of(
    st.builds(ConstantKind, FLOATS),
    st.builds(RandomUniformKind, FLOATS, FLOATS),
    st.builds(OrthogonalKind, FLOATS),
    st.builds(VarianceScalingKind, FLOATS, st.sampled_from(FanMode), st.sampled_from(Distribution)),
    st.builds(ValueKind, arrays()),
)
INITIALIZERS = st.builds(InitializerSpec, KINDS, st.integers(-(2**63), 2**63 - 1), st.booleans())
EVENTS = st.binary(max_size=40).map(lambda data: np.frombuffer(data, np.uint8))
DEPTHS = st.integers(1, 2**32 - 1)
OPERATIONS: st.SearchStrategy[PsOperation] = st.one_of(
    st.builds(Declare, specs(), st.none() | INITIALIZERS),
    st.builds(Initialize, NAMES, INITIALIZERS, st.booleans()),
    st.builds(Read, NAMES, st.none() | st.integers(0, 2**64 - 1)),
    st.builds(Update, NAMES, st.sampled_from(UpdateRule), arrays()),
    st.builds(Scatter, NAMES, st.sampled_from(ScatterRule), arrays(), arrays(), DEPTHS),
    st.builds(CountUpTo, NAMES, st.integers(-(2**63), 2**63 - 1)),
    st.builds(Gather, NAMES, arrays(), DEPTHS),
    st.builds(Act, NAMES, NAMES, EVENTS, st.lists(arrays(), max_size=2).map(tuple)),
    st.builds(Look, NAMES, NAMES, EVENTS, st.integers(0, 2**32 - 1).map(lambda wait_ms: wait_ms / 1000)),
    st.builds(Describe, NAMES),
)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    operations = tuple(draw(st.lists(OPERATIONS, max_size=5)))
    client, store = draw(st.uuids()), draw(st.uuids())
    mutates = Batch(client, store, 0, operations).mutates
    return Batch(client, store, draw(st.integers(1, 2**64 - 1)) if mutates else 0, operations)


RESULTS = st.builds(Result, st.integers(0, 2**64 - 1), st.booleans(), st.none() | arrays(), st.none() | specs())
ERRORS: st.SearchStrategy[ShardscopeError] = st.builds(
    lambda error_type, message: error_type(message), st.sampled_from(list(ERROR_TYPES.values())), NAMES
)
REPLIES: st.SearchStrategy[BatchReply] = st.builds(
    BatchReply, st.lists(st.one_of(RESULTS, ERRORS), max_size=5).map(tuple)
)


@given(batches())
def test_a_batch_arrives_as_it_left(batch: Batch) -> None:
    header, buffers = message_codec.encode_batch(batch)
    received = batch_pb2.BatchRequest.FromString(header.SerializeToString())
    layouts = message_codec.MessageRequest(received).layouts
    assert [layout.size_bytes for layout in layouts] == [len(buffer) for buffer in buffers]
    decoded = message_codec.MessageRequest(received).batch([bytes(buffer) for buffer in buffers])
    # The representation shows every field; arrays know no equality of their own.
    assert repr(decoded) == repr(batch)
    header_again, buffers_again = message_codec.encode_batch(decoded)
    assert (header_again, buffers_again) == (header, buffers)


@given(REPLIES)
def test_a_reply_arrives_as_it_left(reply: BatchReply) -> None:
    header, buffers = message_codec.encode_reply(reply)
    received = batch_pb2.BatchReply.FromString(header.SerializeToString())
    layouts = message_codec.reply_head(received).layouts
    assert [layout.size_bytes for layout in layouts] == [len(buffer) for buffer in buffers]
    decoded = message_codec.reply_head(received).reply([bytes(buffer) for buffer in buffers])
    assert repr(decoded) == repr(reply)
    assert message_codec.encode_reply(decoded) == (header, buffers)


BUFFERS = st.lists(st.binary(max_size=9), max_size=4)


def decode_batch_or_refuse(data: bytes, buffers: list[bytes]) -> None:
    try:
        header = batch_pb2.BatchRequest.FromString(data)
    except DecodeError:
        return  # gRPC refuses it before it gets here
    # Anything else than a batch or this error is a defect.
    with contextlib.suppress(InvalidArgumentError):
        assert isinstance(message_codec.MessageRequest(header).batch(buffers), Batch)
    with contextlib.suppress(InvalidArgumentError):
        message_codec.MessageRequest(header)


def decode_reply_or_refuse(data: bytes, buffers: list[bytes]) -> None:
    try:
        header = batch_pb2.BatchReply.FromString(data)
    except DecodeError:
        return  # gRPC refuses it before it gets here
    with contextlib.suppress(InvalidArgumentError):
        assert isinstance(message_codec.reply_head(header).reply(buffers), BatchReply)
    with contextlib.suppress(InvalidArgumentError):
        message_codec.reply_head(header)


@given(st.binary(max_size=200), BUFFERS)
@example(b"", [])
@example(batch_pb2.BatchRequest(client_incarnation=UUID(int=1).bytes).SerializeToString(), [])
def test_any_bytes_are_a_batch_or_refused(data: bytes, buffers: list[bytes]) -> None:
    decode_batch_or_refuse(data, buffers)


@given(st.binary(max_size=200), BUFFERS)
@example(b"", [])
def test_any_bytes_are_a_reply_or_refused(data: bytes, buffers: list[bytes]) -> None:
    decode_reply_or_refuse(data, buffers)


@st.composite
def mutations(draw: st.DrawFn, valid: bytes) -> bytes:
    """A few bytes of a valid message replaced, taken out or put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 3)))
        data[start:stop] = draw(st.binary(max_size=3))
    return bytes(data)


@given(st.data(), batches())
def test_a_mutated_batch_is_a_batch_or_refused(data: st.DataObject, batch: Batch) -> None:
    header, buffers = message_codec.encode_batch(batch)
    decode_batch_or_refuse(data.draw(mutations(header.SerializeToString())), [bytes(buffer) for buffer in buffers])


@given(st.data(), REPLIES)
def test_a_mutated_reply_is_a_reply_or_refused(data: st.DataObject, reply: BatchReply) -> None:
    header, buffers = message_codec.encode_reply(reply)
    decode_reply_or_refuse(data.draw(mutations(header.SerializeToString())), [bytes(buffer) for buffer in buffers])
