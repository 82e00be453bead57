from __future__ import annotations

import gc
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.codec import error_codec, message_codec
from ps_protocol.codec.fast.request_bytes import parse_request
from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError, ShardscopeError, UnavailableError
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.memory.regions import ALIGNMENT, NOWHERE, Region, decode_regions, encode_regions
from ps_protocol.memory.segment_mapping import IS_SUPPORTED, MappedSegment
from ps_protocol.operation_kinds import tensors_of
from ps_protocol.operations import (
    Apply,
    Array,
    Batch,
    BatchReply,
    Declare,
    Describe,
    Gather,
    Initialize,
    PsOperation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    WireDType,
)
from ps_protocol.service_types import FastPathKind
from ps_protocol.sockets.frames import (
    FLAG_CLOSING,
    FLAG_SHARED,
    LOCATION_BYTES,
    PREFIX_BYTES,
    FrameKind,
    encode_prefix,
    parse_prefix,
)
from ps_protocol.v1 import batch_pb2, errors_pb2
from ps_server.memory.byte_budget import ByteBudget
from ps_server.memory.staging import StagingRoom
from ps_server.transport.shared_memory import batches as shared_batches
from ps_server.transport.shared_memory.batches import (
    SharedBatches,
    private_bytes,
    put_reply,
    with_private_operands,
)
from ps_server.transport.shared_memory.registry import SegmentRegistry
from tests.conftest import Eventually
from tests.unit.ps_server.transport.socket_clients import Client, Ps, running_ps

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds")

MIB = 1024**2
ROWS = 50_000  # of float32, enough to be worth sharing
FLOAT = np.dtype(np.float32)


# -- operands ----------------------------------------------------------------------------------------------------------


def _batch(*operations: PsOperation) -> Batch:
    return Batch(uuid4(), uuid4(), 1, operations)


def _value(array: Array) -> InitializerSpec:
    return InitializerSpec(ValueKind(array))


INDICES = np.arange(4, dtype=np.int64)
FLOATS = np.ones(4, np.float32)
INTEGERS = np.ones(4, np.int32)


@pytest.mark.parametrize(
    ("operation", "private"),
    [
        (Update("v", UpdateRule.ASSIGN, FLOATS), [False]),
        (Update("v", UpdateRule.ASSIGN_ADD, FLOATS.astype(ml_dtypes.bfloat16)), [False]),
        (Update("v", UpdateRule.ASSIGN_ADD, FLOATS.astype(np.complex64)), [False]),
        (Update("v", UpdateRule.ASSIGN_ADD, INTEGERS), [True]),
        (Update("v", UpdateRule.ASSIGN, INTEGERS.astype(np.bool_)), [True]),
        (Update("v", UpdateRule.ASSIGN, np.zeros(4, "S3")), [True]),
        (Scatter("v", ScatterRule.ADD, INDICES, FLOATS), [True, False]),
        (Scatter("v", ScatterRule.DIV, INDICES, INTEGERS), [True, True]),
        (Apply("v", "adam", ("v/m", "v/v"), "v/step", (FLOATS,), np.empty(0)), [False]),
        (Apply("v", "adam", ("v/m", "v/v"), "v/step", (INDICES, FLOATS), np.ones(7)), [True, False, True]),
        (Apply("v", "of_a_team", (), "", (FLOATS,), np.empty(0)), [True]),
        (Gather("v", INDICES), [True]),
        (Initialize("v", _value(FLOATS)), [True]),
        (Declare(VariableSpec("v", FLOAT, (4,)), _value(FLOATS)), [True]),
        (Declare(VariableSpec("v", FLOAT, (4,))), []),
        (Read("v"), []),
        (Describe("v"), []),
    ],
)
def test_what_is_checked_before_it_is_used_is_copied(operation: PsOperation, private: list[bool]) -> None:
    batch = _batch(operation)
    before = tensors_of(operation)
    (safe,) = with_private_operands(batch).operations
    after = tensors_of(safe)
    assert type(safe) is type(operation)
    assert [not np.shares_memory(old, new) for old, new in zip(before, after, strict=True)] == private
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert private_bytes(batch) == sum(old.nbytes for old, copied in zip(before, private, strict=True) if copied)


def test_what_is_kept_is_copied_whole() -> None:
    operations = (Update("v", UpdateRule.ASSIGN_ADD, FLOATS), Scatter("v", ScatterRule.ADD, INDICES, FLOATS))
    batch = _batch(*operations)
    safe = with_private_operands(batch, is_kept=True)
    tensors = [tensor for operation in safe.operations for tensor in tensors_of(operation)]
    assert not any(np.shares_memory(tensor, FLOATS) or np.shares_memory(tensor, INDICES) for tensor in tensors)
    assert private_bytes(batch, is_kept=True) == sum(tensor.nbytes for tensor in tensors)


def test_copies_need_room() -> None:
    registry, client = SegmentRegistry(8 * MIB), uuid4()
    shared = SharedBatches(registry, client)
    segment, descriptor = registry.create(client, MIB)
    os.close(descriptor)
    header, buffers = message_codec.encode_batch(_batch(Gather("v", np.zeros(1000, np.int64))))
    header.sequence = 0
    head = parse_request(header.SerializeToString(), None)
    operands = shared.operands(head.layouts, [Region(segment.number, 0, len(buffers[0]))])
    with StagingRoom(ByteBudget(1000)) as room, pytest.raises(ResourceExhaustedError, match="copies"):
        operands.batch(head, room)
    with StagingRoom(ByteBudget(8000)) as room:
        assert len(operands.batch(head, room).operations) == 1


# -- replies -----------------------------------------------------------------------------------------------------------


def _room(size_bytes: int) -> memoryview:
    return np.zeros(size_bytes, np.uint8).data


def test_tensors_of_a_reply_are_put_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_batches, "INLINE_LIMIT_BYTES", 1)
    room = _room(4 * ALIGNMENT)
    assert put_reply([memoryview(b"abc"), memoryview(b""), memoryview(b"x" * 65), memoryview(b"last")], room)
    assert bytes(room[:3]) == b"abc"
    assert bytes(room[ALIGNMENT : ALIGNMENT + 65]) == b"x" * 65
    assert bytes(room[3 * ALIGNMENT : 3 * ALIGNMENT + 4]) == b"last"


@pytest.mark.parametrize("size_bytes", [0, ALIGNMENT, 2 * ALIGNMENT - 1])
def test_a_reply_that_does_not_fit_is_not_put(size_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_batches, "INLINE_LIMIT_BYTES", 1)
    room = _room(size_bytes)
    assert not put_reply([memoryview(b"a"), memoryview(b"b")], room)
    assert not any(room)


def test_a_small_reply_is_not_put() -> None:
    assert not put_reply([memoryview(b"small")], _room(MIB))


# -- frames ------------------------------------------------------------------------------------------------------------


@dataclass
class Sharer:
    """A client on a Unix socket that asks for memory and says where its tensors are, byte by byte."""

    client: Client

    def segment(self, size_bytes: int) -> MappedSegment:
        self.ask(Region(0, 0, size_bytes))
        data, descriptors, _, _ = socket.recv_fds(self.client.sock, PREFIX_BYTES, 4, socket.MSG_CMSG_CLOEXEC)
        try:
            prefix = parse_prefix(data)
            if prefix.kind is FrameKind.ERROR:
                raise _error(self._rest(prefix.header_bytes))
            assert prefix.kind is FrameKind.SEGMENT_REPLY
            (region,) = decode_regions(self._rest(LOCATION_BYTES * prefix.num_locations))
            (descriptor,) = descriptors
            return MappedSegment(region.segment, descriptor, region.size_bytes)
        finally:
            for each in descriptors:
                os.close(each)

    def ask(self, region: Region) -> None:
        prefix = encode_prefix(FrameKind.SEGMENT_REQUEST, header_bytes=0, num_locations=1)
        self.client.send(prefix + encode_regions([region]))

    def send(self, batch: Batch, regions: Sequence[Region], *, inline: bytes = b"") -> None:
        message, _ = message_codec.encode_batch(batch)
        header = message.SerializeToString()
        prefix = encode_prefix(
            FrameKind.REQUEST,
            header_bytes=len(header),
            buffer_bytes=len(inline),
            timeout_ms=20_000,
            num_locations=len(regions),
        )
        self.client.send(prefix + header + encode_regions(regions) + inline)

    def reply(self, segment: MappedSegment, room: Region, operations: Sequence[PsOperation]) -> BatchReply:
        """Receives the reply, of at most one tensor, which must be in the room."""
        prefix, header, data = self.client.receive_frame()
        if prefix.kind is FrameKind.ERROR:
            raise _error(header)
        assert not data
        message = batch_pb2.BatchReply.FromString(header)
        layouts = message_codec.reply_head(message).layouts
        assert bool(prefix.flags & FLAG_SHARED) == bool(layouts)
        buffers = [segment.bytes_of(Region(room.segment, room.offset, layout.size_bytes)) for layout in layouts]
        return message_codec.reply_head(message, operations).reply(buffers)

    def run(self, operation: PsOperation, segment: MappedSegment, *regions: Region, room: Region = NOWHERE) -> Result:
        self.send(self.client.batch(operation), [room, *regions])
        (reply,) = self.reply(segment, room, [operation]).replies
        if isinstance(reply, Result):
            return reply
        raise reply

    def _rest(self, size_bytes: int) -> bytes:
        return self.client.sock.recv(size_bytes, socket.MSG_WAITALL) if size_bytes else b""


def _error(header: bytes) -> ShardscopeError:
    return error_codec.decode_error(errors_pb2.Error.FromString(header))


@pytest.fixture
def registry() -> SegmentRegistry:
    return SegmentRegistry(64 * MIB)


@pytest.fixture
def ps(registry: SegmentRegistry) -> Iterator[Ps]:
    with running_ps(segments=registry) as ps:
        ps.declare("v", ROWS)
        yield ps


@pytest.fixture
def sharer(ps: Ps) -> Iterator[Sharer]:
    client = ps.client(FastPathKind.UNIX)
    yield Sharer(client)
    client.close()


def _put(segment: MappedSegment, offset: int, array: Array) -> Region:
    region = Region(segment.number, offset, array.nbytes)
    segment.bytes_of(region)[:] = np.ascontiguousarray(array).view(np.uint8).data
    return region


def test_updates_and_reads_go_by_shared_memory(sharer: Sharer) -> None:
    segment = sharer.segment(2 * MIB)
    delta = np.arange(ROWS, dtype=np.float32)
    place = _put(segment, 4096, delta)
    room = Region(segment.number, MIB, ROWS * 4)
    assert sharer.run(Update("v", UpdateRule.ASSIGN_ADD, delta), segment, place).version == 1
    tensor = sharer.run(Read("v"), segment, room=room).tensor
    assert tensor is not None
    np.testing.assert_array_equal(tensor, delta + 1)
    assert not np.shares_memory(tensor, segment.bytes_of(place))


def test_one_batch_may_name_the_same_memory_often(sharer: Sharer) -> None:
    segment = sharer.segment(MIB)
    delta = np.full(ROWS, 2.0, np.float32)
    place = _put(segment, 0, delta)
    add = Update("v", UpdateRule.ASSIGN_ADD, delta)
    sharer.send(sharer.client.batch(add, add, add), [NOWHERE, place, place, place])
    assert [reply.version for reply in sharer.reply(segment, NOWHERE, []).replies if isinstance(reply, Result)] == [
        1,
        2,
        3,
    ]
    tensor = sharer.client.run(Read("v")).tensor
    assert tensor is not None
    assert set(tensor) == {7.0}


def test_lossy_tensors_go_by_shared_memory(sharer: Sharer) -> None:
    segment = sharer.segment(2 * MIB)
    delta = np.full(ROWS, 0.5, np.float32)
    update = Update("v", UpdateRule.ASSIGN_ADD, delta, WireDType.BFLOAT16)
    _, (data,) = message_codec.encode_batch(_batch(update))
    place = _put(segment, 0, np.frombuffer(data, np.uint8))
    assert place.size_bytes == 2 * ROWS
    assert sharer.run(update, segment, place).version == 1
    read = Read("v", wire=WireDType.FLOAT16)
    tensor = sharer.run(read, segment, room=Region(segment.number, MIB, MIB)).tensor
    assert tensor is not None
    assert set(tensor) == {1.5}


def test_the_value_never_lies_in_memory_that_a_client_can_write(sharer: Sharer) -> None:
    segment = sharer.segment(MIB)
    value = np.full(ROWS, 3.0, np.float32)
    place = _put(segment, 0, value)
    sharer.run(Update("v", UpdateRule.ASSIGN, value), segment, place)
    initial = Declare(VariableSpec("w", FLOAT, (ROWS,)), _value(value))
    sharer.run(initial, segment, place)
    segment.bytes_of(place)[:] = bytes(place.size_bytes)
    for name in ("v", "w"):
        tensor = sharer.client.run(Read(name)).tensor
        assert tensor is not None
        assert set(tensor) == {3.0}


def test_a_reply_that_does_not_fit_comes_over_the_socket(sharer: Sharer) -> None:
    segment = sharer.segment(MIB)
    sharer.send(sharer.client.batch(Read("v")), [Region(segment.number, 0, ROWS * 4 - 1)])
    (reply,) = sharer.client.receive()
    assert isinstance(reply, Result)
    assert reply.tensor is not None
    assert not any(segment.bytes_of(Region(segment.number, 0, MIB)))


def test_an_error_of_an_operation_leaves_the_connection_as_it_is(sharer: Sharer) -> None:
    segment = sharer.segment(MIB)
    place = _put(segment, 0, np.ones(ROWS + 1, np.float32))
    with pytest.raises(ShardscopeError, match="50001"):
        sharer.run(Update("v", UpdateRule.ASSIGN, np.ones(ROWS + 1, np.float32)), segment, place)
    assert sharer.client.run(Describe("v")).version == 0


FULL = ROWS * 4


@pytest.mark.parametrize(
    ("regions", "reason"),
    [
        ([NOWHERE, Region(99, 0, FULL)], "has no segment 99"),
        ([NOWHERE, Region(0, 0, FULL)], "has no segment 0"),
        ([NOWHERE, Region(1, MIB - FULL + 16, FULL)], "which has 1048576 bytes"),
        ([NOWHERE, Region(1, 2**64 - 64, FULL)], "which has 1048576 bytes"),
        ([NOWHERE, Region(1, 2**64 - FULL, FULL)], "which has 1048576 bytes"),
        ([NOWHERE, Region(1, 4, FULL)], "multiple of 16"),
        ([NOWHERE, Region(1, 0, FULL - 4)], "has 200000 bytes, but its region 199996"),
        ([NOWHERE, Region(1, 0, 2**64 - 1)], "but its region"),
        ([NOWHERE, Region(1, 0, 0)], "but its region 0"),
        ([NOWHERE, Region(1, 0, FULL), Region(1, 0, FULL)], "says of 2 where they are"),
        ([Region(1, MIB, 16), Region(1, 0, FULL)], "which has 1048576 bytes"),
        ([Region(1, 0, 2**64 - 1), Region(1, 0, FULL)], "which has 1048576 bytes"),
        ([Region(77, 0, 16), Region(1, 0, FULL)], "has no segment 77"),
    ],
)
def test_a_client_that_names_other_memory_is_cut_off(
    regions: list[Region], reason: str, ps: Ps, sharer: Sharer, caplog: pytest.LogCaptureFixture
) -> None:
    segment = sharer.segment(MIB)
    regions = [Region(segment.number, *_place(each)) if each.segment == 1 else each for each in regions]
    bystander = ps.client()
    with caplog.at_level(logging.WARNING):
        sharer.send(sharer.client.batch(Update("v", UpdateRule.ASSIGN_ADD, np.ones(ROWS, np.float32))), regions)
        prefix, header, _ = sharer.client.receive_frame()
        assert sharer.client.is_ended()
    assert (prefix.kind, prefix.flags) == (FrameKind.ERROR, FLAG_CLOSING)
    assert reason in _error(header).message
    assert any(str(sharer.client.incarnation) in each.message and reason in each.message for each in caplog.records)
    assert bystander.run(Describe("v")).version == 0, "nothing was applied"
    bystander.close()


def _place(region: Region) -> tuple[int, int]:
    return region.offset, region.size_bytes


def test_memory_of_another_client_cannot_be_named(ps: Ps, sharer: Sharer) -> None:
    segment = sharer.segment(MIB)
    _put(segment, 0, np.full(ROWS, 9.0, np.float32))
    other = Sharer(ps.client(FastPathKind.UNIX))
    other.send(other.client.batch(Read("v")), [Region(segment.number, 0, FULL)])
    with pytest.raises(UnavailableError, match="has no segment"):
        other.client.receive()
    assert set(np.frombuffer(segment.bytes_of(Region(segment.number, 0, FULL)), np.float32)) == {9.0}
    other.client.close()


def test_tensors_cannot_be_in_both_places(sharer: Sharer) -> None:
    segment = sharer.segment(MIB)
    batch = sharer.client.batch(Update("v", UpdateRule.ASSIGN_ADD, np.ones(ROWS, np.float32)))
    sharer.send(batch, [NOWHERE, Region(segment.number, 0, FULL)], inline=bytes(FULL))
    with pytest.raises(InvalidArgumentError, match="behind its header"):
        sharer.client.receive()


@pytest.mark.parametrize("with_segments", [True, False])
def test_no_memory_is_shared_over_tcp(with_segments: bool, registry: SegmentRegistry) -> None:
    with running_ps(segments=registry if with_segments else None) as ps:
        for kind in (FastPathKind.TCP, *([] if with_segments else [FastPathKind.UNIX])):
            sharer = Sharer(ps.client(kind))
            sharer.ask(Region(0, 0, MIB))
            with pytest.raises(InvalidArgumentError, match="shares none"):
                sharer.client.receive()
            sharer.client.close()
        offered = ps.listener.welcome(ps.core.hello(uuid4(), "worker:0", timeout_s=1), uuid4()).fast_paths
        assert [path.shared_memory for path in offered] == [with_segments, False]
    assert registry.num_segments == 0


@pytest.mark.parametrize(
    "frame",
    [
        encode_prefix(FrameKind.SEGMENT_REQUEST, header_bytes=0),
        encode_prefix(FrameKind.SEGMENT_REQUEST, header_bytes=1, num_locations=1) + bytes(25),
        encode_prefix(FrameKind.SEGMENT_REQUEST, header_bytes=0, num_locations=2) + bytes(48),
        encode_prefix(FrameKind.SEGMENT_REQUEST, header_bytes=0, num_locations=1) + bytes(24),
        encode_prefix(FrameKind.SEGMENT_REQUEST, header_bytes=0, num_locations=1) + encode_regions([Region(1, 0, 5)]),
        encode_prefix(FrameKind.SEGMENT_REPLY, header_bytes=0, num_locations=1) + bytes(24),
    ],
)
def test_a_malformed_request_for_memory_ends_the_connection(frame: bytes, ps: Ps, registry: SegmentRegistry) -> None:
    client = ps.client(FastPathKind.UNIX)
    client.send(frame)
    with pytest.raises(InvalidArgumentError):
        client.receive()
    assert client.is_ended()
    assert registry.used_bytes == 0
    client.close()


def test_a_refusal_leaves_the_connection_as_it_is(sharer: Sharer, registry: SegmentRegistry) -> None:
    with pytest.raises(ResourceExhaustedError, match="--shared-memory-limit"):
        sharer.segment(33 * MIB)
    with pytest.raises(ResourceExhaustedError):
        sharer.segment(2**64 - 1)
    assert registry.used_bytes == 0
    assert sharer.segment(32 * MIB).size_bytes == 32 * MIB


def test_memory_is_given_back_when_it_is_released(sharer: Sharer, registry: SegmentRegistry) -> None:
    segment = sharer.segment(MIB)
    sharer.ask(Region(segment.number, 0, 0))
    answer = parse_prefix(sharer.client.sock.recv(PREFIX_BYTES, socket.MSG_WAITALL))
    assert (answer.kind, answer.num_locations) == (FrameKind.SEGMENT_REPLY, 1)
    assert decode_regions(sharer.client.sock.recv(LOCATION_BYTES, socket.MSG_WAITALL)) == [Region(segment.number, 0, 0)]
    gc.collect()
    assert registry.used_bytes == 0


@pytest.mark.parametrize("is_idle", [True, False])
def test_memory_is_given_back_when_the_connection_ends(
    is_idle: bool, ps: Ps, sharer: Sharer, registry: SegmentRegistry, eventually: Eventually
) -> None:
    segment = sharer.segment(MIB)
    if not is_idle:
        sharer.client.send(b"\x53\x50")  # half a frame
    sharer.client.close()
    eventually(lambda: registry.used_bytes == 0, message="the memory is given back")
    assert registry.num_segments == 0
    segment.bytes_of(Region(segment.number, 0, 4))[:] = b"mine"  # the client's own mapping stays


def test_memory_is_given_back_when_the_ps_stops(registry: SegmentRegistry) -> None:
    with running_ps(segments=registry) as ps:
        sharer = Sharer(ps.client(FastPathKind.UNIX))
        sharer.segment(MIB)
        assert registry.used_bytes == MIB
    gc.collect()
    assert registry.used_bytes == 0
    sharer.client.close()
