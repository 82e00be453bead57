from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.codec import message_codec
from ps_protocol.codec.fast.reply_bytes import encode_answer, parse_reply
from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError
from ps_protocol.memory.regions import ALIGNMENT, INLINE_LIMIT_BYTES, NOWHERE, packed_offsets
from ps_protocol.memory.segment_mapping import IS_SUPPORTED, MappedSegment
from ps_protocol.operations import (
    Array,
    Batch,
    BatchReply,
    Gather,
    PsOperation,
    Read,
    Result,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    WireDType,
)
from ps_server.transport.shared_memory.registry import SegmentRegistry
from worker_client.transport.shared_memory import exchange as shared_exchange
from worker_client.transport.shared_memory.exchange import SharedExchange, share
from worker_client.transport.shared_memory.pool import SegmentPool

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds")

TIMEOUT_S = 20.0
CLIENT = UUID(int=1)
LARGE = INLINE_LIMIT_BYTES // 4  # float32 elements that are worth sharing
DELTA = np.arange(LARGE, dtype=np.float32)


@dataclass
class FakeSource:
    """Gives segments without a connection, if any."""

    registry: SegmentRegistry = field(default_factory=lambda: SegmentRegistry(1024**3))
    is_empty: bool = False

    def request(self, size_bytes: int, *, timeout_s: float) -> MappedSegment:
        if self.is_empty:
            raise ResourceExhaustedError("no memory is left to share", retryable=False)
        with self.registry.grant(CLIENT).new_segment(size_bytes) as (segment, descriptor):
            return MappedSegment(segment.number, descriptor, segment.size_bytes)

    def release(self, number: int, *, timeout_s: float) -> None:
        self.registry.forget(CLIENT, [number])

    def close(self) -> None:
        pass


@pytest.fixture
def source() -> FakeSource:
    return FakeSource()


@pytest.fixture
def pool(source: FakeSource) -> Iterator[SegmentPool]:
    pool = SegmentPool(lambda _: source, task="ps:0")
    yield pool
    pool.close()


def _shared(pool: SegmentPool, *operations: PsOperation, reply_bytes: int | None = None) -> SharedExchange | None:
    batch = Batch(CLIENT, uuid4(), 1, operations, reply_bytes)
    return share(pool, batch, message_codec.encode_batch(batch)[1], timeout_s=TIMEOUT_S)


def _add(array: Array) -> Update:
    return Update("v", UpdateRule.ASSIGN_ADD, array)


def _in_pool(pool: SegmentPool, array: Array) -> Array:
    lease = pool.lease(array.nbytes, timeout_s=TIMEOUT_S)
    assert lease is not None
    placed = lease.array(writable=True).view(array.dtype).reshape(array.shape)
    placed[...] = array
    return placed


# -- requests ----------------------------------------------------------------------------------------------------------


def test_small_batches_travel_on_the_socket(pool: SegmentPool, source: FakeSource) -> None:
    assert _shared(pool, _add(DELTA[:-1]), reply_bytes=INLINE_LIMIT_BYTES - 1) is None
    assert _shared(pool, Read("v")) is None
    assert source.registry.num_segments == 0


def test_tensors_are_copied_side_by_side(pool: SegmentPool, source: FakeSource) -> None:
    indices, empty = np.arange(3, dtype=np.int64), np.empty(0, np.float32)
    shared = _shared(pool, Scatter("v", ScatterRule.ADD, indices, DELTA), _add(empty), _add(DELTA + 1))
    assert shared is not None
    assert shared.room is None
    room, *regions = shared.locations
    assert room == NOWHERE
    assert regions[2] == NOWHERE
    assert [region.offset % ALIGNMENT for region in regions] == [0] * 4
    sent = [bytes(source.registry.bytes_of(CLIENT, region)) for region in regions if region.size_bytes]
    assert sent == [indices.tobytes(), DELTA.tobytes(), (DELTA + 1).tobytes()]


def test_what_lies_in_shared_memory_stays_there(pool: SegmentPool, source: FakeSource) -> None:
    placed = _in_pool(pool, DELTA)
    shared = _shared(pool, _add(placed), _add(DELTA), _add(placed[16:]))
    assert shared is not None
    assert shared.request is not None
    first, second, third = shared.request
    assert (third.segment, third.offset) == (first.segment, first.offset + 64)
    assert second.offset not in range(first.offset, first.end)
    assert bytes(source.registry.bytes_of(CLIENT, second)) == DELTA.tobytes()
    assert _shared(pool, _add(placed)) == SharedExchange(pool.generation, (first,), None, None)


def test_memory_is_held_until_the_exchange_is_over(pool: SegmentPool) -> None:
    shared = _shared(pool, _add(DELTA), reply_bytes=INLINE_LIMIT_BYTES)
    assert shared is not None
    other = _shared(pool, _add(DELTA), reply_bytes=INLINE_LIMIT_BYTES)
    assert other is not None
    held = {*shared.locations, *other.locations}
    assert len(held) == 4
    del shared, other
    gc.collect()
    again = _shared(pool, _add(DELTA), reply_bytes=INLINE_LIMIT_BYTES)
    assert again is not None
    assert set(again.locations) <= held


def test_without_memory_to_share_everything_travels_on_the_socket(pool: SegmentPool, source: FakeSource) -> None:
    source.is_empty = True
    assert _shared(pool, _add(DELTA), reply_bytes=INLINE_LIMIT_BYTES) is None


def test_an_exchange_belongs_to_one_generation(pool: SegmentPool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gives all segments up while tensors are being placed leaves them in memory that may not be named."""
    placed = shared_exchange._placed

    def interrupted(pool: SegmentPool, buffers: Sequence[memoryview], timeout_s: float) -> object:
        found = placed(pool, buffers, timeout_s)
        pool.retire(pool.generation)
        return found

    monkeypatch.setattr(shared_exchange, "_placed", interrupted)
    assert _shared(pool, _add(DELTA)) is None


# -- replies -----------------------------------------------------------------------------------------------------------


def _replied(
    pool: SegmentPool, source: FakeSource, operations: Sequence[PsOperation], tensors: Sequence[Array]
) -> tuple[list[Array], SharedExchange]:
    """Has a reply put into the room as the ps does, and takes it."""
    shared = _shared(pool, *operations, reply_bytes=sum(each.nbytes for each in tensors))
    assert shared is not None
    reply = BatchReply(tuple(Result(1, True, each) for each in tensors))
    header, buffers = encode_answer(reply, operations)
    room = source.registry.bytes_of(CLIENT, shared.locations[0])
    for offset, buffer in zip(packed_offsets(map(len, buffers))[0], buffers, strict=True):
        room[offset : offset + len(buffer)] = buffer
    head = parse_reply(header, operations)
    replies = head.reply(shared.reply_buffers(head)).replies
    taken = [each.tensor for each in replies if isinstance(each, Result) and each.tensor is not None]
    assert len(taken) == len(tensors)
    return taken, shared


def _is_in_pool(pool: SegmentPool, array: Array) -> bool:
    return pool.locate([array.data.cast("B")]) != [None]


def test_tensors_of_a_reply_are_the_receivers_own(pool: SegmentPool, source: FakeSource) -> None:
    indices = np.arange(5)
    taken, _ = _replied(pool, source, [Read("v"), Gather("w", indices)], [DELTA, DELTA[:5]])
    for array, expected in zip(taken, (DELTA, DELTA[:5]), strict=True):
        np.testing.assert_array_equal(array, expected)
        assert array.flags.writeable
        assert not _is_in_pool(pool, array)


def test_a_view_stays_where_the_ps_has_put_it(pool: SegmentPool, source: FakeSource) -> None:
    (view, own), shared = _replied(pool, source, [Read("v", view=True), Read("w")], [DELTA, DELTA + 1])
    place = shared.locations[0]
    del shared
    gc.collect()
    np.testing.assert_array_equal(view, DELTA)
    assert not view.flags.writeable
    assert _is_in_pool(pool, view)
    assert not _is_in_pool(pool, own)
    other = _shared(pool, _add(DELTA), Read("v"), reply_bytes=2 * DELTA.nbytes)
    assert other is not None
    assert place not in other.locations, "the memory of a view is in use"
    np.testing.assert_array_equal(view, DELTA)


def test_tensors_go_straight_into_the_callers_arrays(pool: SegmentPool, source: FakeSource) -> None:
    out = np.zeros_like(DELTA)
    (taken,), _ = _replied(pool, source, [Read("v", out=out)], [DELTA])
    assert taken is out
    np.testing.assert_array_equal(out, DELTA)


@pytest.mark.parametrize("view", [False, True])
def test_lossy_tensors_are_decoded_into_new_memory(view: bool, pool: SegmentPool, source: FakeSource) -> None:
    values = np.arange(2 * LARGE, dtype=np.float32) % 64
    (taken,), _ = _replied(pool, source, [Read("v", wire=WireDType.FLOAT16, view=view)], [values])
    np.testing.assert_array_equal(taken, values)
    assert not _is_in_pool(pool, taken)


def test_a_reply_larger_than_its_room_is_malformed(pool: SegmentPool) -> None:
    shared = _shared(pool, Read("v"), reply_bytes=INLINE_LIMIT_BYTES)
    no_room = _shared(pool, _add(DELTA))
    assert shared is not None
    assert no_room is not None
    header, _ = encode_answer(BatchReply((Result(1, True, np.zeros(2 * LARGE, np.float32)),)), [Read("v")])
    head = parse_reply(header, [Read("v")])
    for exchange in (shared, no_room):
        with pytest.raises(InvalidArgumentError, match="larger than the room"):
            exchange.reply_buffers(head)
