from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast
from uuid import UUID

import grpc
import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.codec import message_codec
from ps_protocol.codec.chunks import Assembler, pieces
from ps_protocol.codec.header_bounds import HeaderBounds
from ps_protocol.codec.limits import CHUNK_SIZE_BYTES, MAX_TAKEN_BYTES, UNARY_LIMIT_BYTES
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
)
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import (
    Batch,
    BatchReply,
    Declare,
    Describe,
    PsOperation,
    Read,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.ps_service import PROTOCOL_VERSION
from ps_protocol.v1 import batch_pb2, data_pb2
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget
from ps_server.transport.grpc.data import DataServicer

CLIENT = UUID(int=7)
SPEC = VariableSpec("w", np.dtype(np.float32), (1_000_000,))
ONES = InitializerSpec(ConstantKind(1.0))
DELTA = np.arange(1_000_000, dtype=np.float32)
DELTA_SPEC = (DELTA.dtype, DELTA.shape)


class Aborted(Exception):  # noqa: N818 - what abort raises is no error of ours
    def __init__(self, error: ShardscopeError):
        super().__init__(error)
        self.error = error


class Context:
    def __init__(self, remaining_s: float | None = 30.0):
        self.remaining_s = remaining_s

    def time_remaining(self) -> float | None:
        return self.remaining_s

    def is_active(self) -> bool:
        return True


class Conversation:
    """A client that speaks frames."""

    def __init__(self, staging_limit_bytes: int = 0, max_kept_streams: int = 2):
        self.now_s = 0.0
        self.core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        self.buffers = BufferPool(2**30)
        self.servicer = DataServicer(
            self.core,
            staging=ByteBudget(staging_limit_bytes),
            buffers=self.buffers,
            max_kept_streams=max_kept_streams,
            message_timeout_s=2.0,
            clock=lambda: self.now_s,
        )
        self.core.hello(CLIENT, "worker:0", timeout_s=0)
        self.sequence = 0
        self.core.exchange(self.batch(Declare(SPEC, ONES)), timeout_s=30)

    def batch(self, *operations: PsOperation) -> Batch:
        batch = Batch(CLIENT, self.core.store_incarnation, 0, operations)
        if not batch.mutates:
            return batch
        self.sequence += 1
        return Batch(CLIENT, self.core.store_incarnation, self.sequence, operations)

    def stream(
        self, frames: Iterable[data_pb2.RequestFrame], context: Context | None = None
    ) -> Iterator[data_pb2.ReplyFrame]:
        """What the servicer answers; frames are those of the generated classes, as any gRPC client has them."""
        requests = (frame.SerializeToString() for frame in frames)
        replies = self.servicer.ExchangeStream(requests, cast(grpc.ServicerContext, context or Context()))
        try:
            for reply in replies:
                yield data_pb2.ReplyFrame.FromString(reply)
        finally:
            replies.close()  # type: ignore[attr-defined]  # it is a generator

    def refusal(self, frames: Iterable[data_pb2.RequestFrame], context: Context | None = None) -> ShardscopeError:
        with pytest.raises(Aborted) as aborted:
            list(self.stream(frames, context))
        assert self.servicer.staged_bytes == 0
        return aborted.value.error

    def exchange(self, batch: Batch) -> BatchReply:
        header, buffers = message_codec.encode_batch(batch)
        request = data_pb2.ExchangeRequest(header=header, buffers=[bytes(each) for each in buffers])
        answer = self.servicer.Exchange(request.SerializeToString(), cast(grpc.ServicerContext, Context()))
        reply = data_pb2.ExchangeReply.FromString(answer)
        return message_codec.reply_head(reply.header).reply(reply.buffers)

    @property
    def version(self) -> int:
        return self.core.list_variables(timeout_s=0)[0].version


@pytest.fixture
def conversation(monkeypatch: pytest.MonkeyPatch) -> Conversation:
    def abort(_context: object, error: ShardscopeError) -> None:
        raise Aborted(error)

    monkeypatch.setattr("ps_protocol.grpc_edge.status.abort", abort)
    return Conversation()


def frames_of(batch: Batch, chunk_size_bytes: int = CHUNK_SIZE_BYTES) -> list[data_pb2.RequestFrame]:
    header, buffers = message_codec.encode_batch(batch)
    return [
        data_pb2.RequestFrame(header=header),
        *(data_pb2.RequestFrame(data=b"".join(parts)) for parts in pieces(buffers, chunk_size_bytes)),
    ]


def replies_in(frames: Iterable[data_pb2.ReplyFrame]) -> list[BatchReply]:
    replies: list[BatchReply] = []
    remaining = iter(frames)
    for first in remaining:
        buffers = [memoryview(bytearray(each.size_bytes)) for each in message_codec.reply_head(first.header).layouts]
        assembler = Assembler(buffers)
        while assembler.missing_bytes:
            assembler.feed(memoryview(next(remaining).data))
        replies.append(message_codec.reply_head(first.header).reply(buffers))
    return replies


def add(value: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = DELTA) -> Update:
    return Update("w", UpdateRule.ASSIGN_ADD, value)


# -- streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size_bytes", [100_003, CHUNK_SIZE_BYTES, 10_000_000])
def test_large_tensors_pass_in_both_directions(conversation: Conversation, chunk_size_bytes: int) -> None:
    frames = frames_of(conversation.batch(add(), Read("w")), chunk_size_bytes)
    (reply,) = replies_in(conversation.stream(frames))
    updated, read = reply.replies
    assert updated == Result(1, True)
    assert isinstance(read, Result)
    assert read.tensor is not None
    np.testing.assert_array_equal(read.tensor, DELTA + 1)
    assert conversation.servicer.staged_bytes == 0


def test_replies_come_in_bounded_chunks(conversation: Conversation) -> None:
    first, *rest = conversation.stream(frames_of(conversation.batch(Read("w"))))
    assert first.WhichOneof("frame") == "header"
    assert [len(frame.data) for frame in rest[:-1]] == [CHUNK_SIZE_BYTES] * (len(rest) - 1)
    assert sum(len(frame.data) for frame in rest) == SPEC.size_bytes


def test_one_stream_carries_batch_after_batch(conversation: Conversation) -> None:
    batches = [conversation.batch(add()), conversation.batch(Describe("w")), conversation.batch(add())]
    frames = [frame for batch in batches for frame in frames_of(batch)]
    versions = [reply.replies[0].version for reply in replies_in(conversation.stream(frames)) if reply.replies]  # type: ignore[union-attr]  # an error has none, and fails the test
    assert versions == [1, 1, 2]


def test_the_reply_comes_before_the_next_batch_is_read(conversation: Conversation) -> None:
    read: list[int] = []

    def frames() -> Iterator[data_pb2.RequestFrame]:
        for number in range(2):
            read.append(number)
            yield from frames_of(conversation.batch(Describe("w")))

    stream = conversation.stream(frames())
    next(stream)
    assert read == [0]
    next(stream)
    assert read == [0, 1]


def test_bytes_are_counted(conversation: Conversation) -> None:
    list(conversation.stream(frames_of(conversation.batch(add(), Read("w")))))
    conversation.exchange(conversation.batch(add(np.array(1, np.float32))))
    status = conversation.core.status(timeout_s=0)
    assert (status.bytes_received, status.bytes_sent) == (SPEC.size_bytes + 4, SPEC.size_bytes)


def test_an_error_of_an_operation_is_a_reply(conversation: Conversation) -> None:
    (reply,) = replies_in(conversation.stream(frames_of(conversation.batch(Read("v"), Describe("w")))))
    assert isinstance(reply.replies[0], ShardscopeError)
    assert isinstance(reply.replies[1], Result)


def test_an_error_of_a_batch_ends_the_stream(conversation: Conversation) -> None:
    frames = frames_of(Batch(UUID(int=8), conversation.core.store_incarnation, 1, (add(),)))
    assert isinstance(conversation.refusal(frames), FailedPreconditionError)


# -- bad streams --------------------------------------------------------------------------------


def test_a_stream_that_ends_inside_a_batch_has_changed_nothing(conversation: Conversation) -> None:
    frames = frames_of(conversation.batch(add()))
    error = conversation.refusal(frames[:-1])
    assert isinstance(error, InvalidArgumentError)
    assert "nothing was applied" in error.message
    assert conversation.version == 0


def test_a_batch_whose_tensors_come_too_slowly_is_given_up(conversation: Conversation) -> None:
    first, *rest = frames_of(conversation.batch(add()), 100_000)

    def frames() -> Iterator[data_pb2.RequestFrame]:
        yield first
        for frame in rest:
            conversation.now_s += 1  # less than the ps waits for one message
            yield frame

    error = conversation.refusal(frames())
    assert isinstance(error, DeadlineExceededError)
    assert "--message-timeout" in error.message
    assert conversation.version == 0


def test_a_batch_whose_tensors_come_slowly_but_steadily_is_carried_out(conversation: Conversation) -> None:
    first, *rest = frames_of(conversation.batch(add()))

    def frames() -> Iterator[data_pb2.RequestFrame]:
        yield first
        for frame in rest:
            conversation.now_s += 1
            yield frame

    (reply,) = replies_in(conversation.stream(frames()))
    assert reply.replies == (Result(1, True),)


def test_a_client_that_breaks_off_has_changed_nothing(conversation: Conversation) -> None:
    def frames() -> Iterator[data_pb2.RequestFrame]:
        yield from frames_of(conversation.batch(add()))[:-1]
        raise grpc.RpcError

    with pytest.raises(grpc.RpcError):
        list(conversation.stream(frames()))
    assert conversation.version == 0
    assert conversation.servicer.staged_bytes == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda frames: [*frames[:-1], data_pb2.RequestFrame(data=frames[-1].data + b"x")],
        lambda frames: [*frames, data_pb2.RequestFrame(data=b"x")],
        lambda frames: [frames[0], data_pb2.RequestFrame(data=b""), *frames[1:]],
        lambda frames: [frames[0], frames[0], *frames[1:]],
        lambda frames: frames[1:],
        lambda frames: [data_pb2.RequestFrame(), *frames],
        lambda frames: [frames[0], data_pb2.RequestFrame(), *frames[1:]],
    ],
    ids=["longer frame", "one more frame", "empty frame", "header twice", "no header", "nothing", "nothing inside"],
)
def test_frames_that_do_not_fit_the_header_are_refused(conversation: Conversation, spoil: object) -> None:
    frames = frames_of(conversation.batch(add()))
    assert callable(spoil)
    assert isinstance(conversation.refusal(spoil(frames)), InvalidArgumentError)


def test_a_bad_header_is_refused_before_anything_is_read(conversation: Conversation) -> None:
    header, _ = message_codec.encode_batch(conversation.batch(add()))
    header.operations[0].update.value.shape[0] = -5

    def frames() -> Iterator[data_pb2.RequestFrame]:
        yield data_pb2.RequestFrame(header=header)
        raise AssertionError("read on")

    assert isinstance(conversation.refusal(frames()), InvalidArgumentError)


def test_a_stream_without_deadline_is_refused(conversation: Conversation) -> None:
    error = conversation.refusal(frames_of(conversation.batch(add())), Context(None))
    assert isinstance(error, InvalidArgumentError)
    assert "deadline" in error.message


# -- staging ------------------------------------------------------------------------------------


def test_a_request_beyond_the_staging_limit_is_refused_unread(conversation: Conversation) -> None:
    small = Conversation(staging_limit_bytes=1_000_000)
    header, _ = message_codec.encode_batch(small.batch(add()))

    def frames() -> Iterator[data_pb2.RequestFrame]:
        yield data_pb2.RequestFrame(header=header)
        raise AssertionError("read on")

    error = small.refusal(frames())
    assert isinstance(error, ResourceExhaustedError)
    assert not error.retryable
    assert small.version == 0


def test_a_reply_beyond_the_staging_limit_is_refused_before_anything_is_applied(conversation: Conversation) -> None:
    small = Conversation(staging_limit_bytes=1_000_000)
    error = small.refusal(frames_of(small.batch(add(np.array(1, np.float32)), Read("w"))))
    assert isinstance(error, ResourceExhaustedError)
    assert small.version == 0


def test_a_reply_that_is_not_read_keeps_its_room_and_no_more(conversation: Conversation) -> None:
    small = Conversation(staging_limit_bytes=9 * SPEC.size_bytes // 4)
    unread = small.stream(frames_of(small.batch(add(), Read("w"))))
    next(unread)
    assert small.servicer.staged_bytes == SPEC.size_bytes
    with pytest.raises(Aborted) as aborted:
        list(small.stream(frames_of(small.batch(add(), Read("w")))))
    assert isinstance(aborted.value.error, ResourceExhaustedError)
    assert aborted.value.error.retryable
    assert small.exchange(small.batch(add(np.array(1, np.float32)))).replies == (Result(2, True),)
    unread.close()  # type: ignore[attr-defined]  # it is a generator
    assert small.servicer.staged_bytes == 0
    assert len(replies_in(small.stream(frames_of(small.batch(Read("w")))))) == 1


def test_used_buffers_serve_the_next_batch(conversation: Conversation) -> None:
    list(conversation.stream(frames_of(conversation.batch(add()))))
    idle_bytes = conversation.buffers.idle_bytes
    assert idle_bytes >= DELTA.nbytes
    list(conversation.stream(frames_of(conversation.batch(add(-DELTA)))))
    assert conversation.buffers.idle_bytes == idle_bytes
    (read,) = conversation.core.exchange(conversation.batch(Read("w")), timeout_s=30).replies
    assert isinstance(read, Result)
    assert read.tensor is not None
    np.testing.assert_array_equal(read.tensor, np.ones_like(DELTA))


def test_a_buffer_that_became_a_value_is_not_used_again(conversation: Conversation) -> None:
    conversation.core.exchange(conversation.batch(Declare(VariableSpec("v", *DELTA_SPEC), ONES)), timeout_s=30)
    list(conversation.stream(frames_of(conversation.batch(Update("w", UpdateRule.ASSIGN, DELTA)))))
    list(conversation.stream(frames_of(conversation.batch(Update("v", UpdateRule.ASSIGN_ADD, -DELTA)))))
    (reply,) = replies_in(conversation.stream(frames_of(conversation.batch(Read("w"), Read("v")))))
    for answer, value in zip(reply.replies, (DELTA, 1 - DELTA), strict=True):
        assert isinstance(answer, Result)
        assert answer.tensor is not None
        np.testing.assert_array_equal(answer.tensor, value)


def test_buffers_of_a_batch_that_is_broken_off_are_not_kept_by_it(conversation: Conversation) -> None:
    conversation.refusal(frames_of(conversation.batch(add()))[:-1])
    list(conversation.stream(frames_of(conversation.batch(add()))))
    assert conversation.buffers.idle_bytes < 3 * DELTA.nbytes
    assert conversation.version == 1


# -- one message --------------------------------------------------------------------------------


def test_a_reply_too_large_for_one_message_is_refused_before_anything_is_applied(conversation: Conversation) -> None:
    assert SPEC.size_bytes > UNARY_LIMIT_BYTES
    with pytest.raises(Aborted) as aborted:
        conversation.exchange(conversation.batch(add(np.array(1, np.float32)), Read("w")))
    assert isinstance(aborted.value.error, ResourceExhaustedError)
    assert "ExchangeStream" in aborted.value.error.message
    assert not aborted.value.error.retryable
    assert conversation.version == 0


def test_a_message_with_too_few_buffers_is_refused(conversation: Conversation) -> None:
    header, _ = message_codec.encode_batch(conversation.batch(add()))
    with pytest.raises(Aborted) as aborted:
        conversation.servicer.Exchange(
            data_pb2.ExchangeRequest(header=header).SerializeToString(), cast(grpc.ServicerContext, Context())
        )
    assert isinstance(aborted.value.error, InvalidArgumentError)


def test_hello_checks_version_and_incarnation(conversation: Conversation) -> None:
    for request, error in (
        (
            data_pb2.HelloRequest(client_incarnation=CLIENT.bytes, task="w:0", protocol_version=PROTOCOL_VERSION + 1),
            FailedPreconditionError,
        ),
        (
            data_pb2.HelloRequest(
                client_incarnation=CLIENT.bytes, task="w:0", protocol_version=1, required_features=["telepathy"]
            ),
            InvalidArgumentError,
        ),
        (data_pb2.HelloRequest(client_incarnation=b"short", task="w:0", protocol_version=1), InvalidArgumentError),
    ):
        with pytest.raises(Aborted) as aborted:
            conversation.servicer.Hello(request, cast(grpc.ServicerContext, Context()))
        assert isinstance(aborted.value.error, error)


@pytest.mark.parametrize(
    ("oldest", "newest", "chosen"),
    [(1, 0, 1), (1, 1, 1), (1, 2, 2), (2, 0, 2), (PROTOCOL_VERSION, PROTOCOL_VERSION + 7, PROTOCOL_VERSION)],
)
def test_hello_is_answered_in_the_newest_version_that_both_speak(
    oldest: int, newest: int, chosen: int, conversation: Conversation
) -> None:
    hello = data_pb2.HelloRequest(
        client_incarnation=CLIENT.bytes, task="w:0", protocol_version=oldest, newest_protocol_version=newest
    )
    reply = conversation.servicer.Hello(hello, cast(grpc.ServicerContext, Context()))
    assert reply.protocol_version == chosen
    assert (reply.oldest_protocol_version, reply.newest_protocol_version) == (1, PROTOCOL_VERSION)


def test_a_batch_that_needs_what_is_not_known_changes_nothing(conversation: Conversation) -> None:
    header, buffers = message_codec.encode_batch(conversation.batch(Update("w", UpdateRule.ASSIGN_ADD, DELTA[:1])))
    header.required_features.append("squared")
    before = conversation.core.status(timeout_s=30.0)
    message = data_pb2.ExchangeRequest(header=header, buffers=[bytes(each) for each in buffers])
    with pytest.raises(Aborted) as aborted:
        conversation.servicer.Exchange(message.SerializeToString(), cast(grpc.ServicerContext, Context()))
    assert isinstance(aborted.value.error, InvalidArgumentError)
    assert "the batch needs 'squared', which this side does not know" in aborted.value.error.message
    assert conversation.core.status(timeout_s=30.0).operations == before.operations


def test_an_empty_batch_is_answered_empty(conversation: Conversation) -> None:
    header = batch_pb2.BatchRequest(
        client_incarnation=CLIENT.bytes, store_incarnation=conversation.core.store_incarnation.bytes
    )
    assert replies_in(conversation.stream([data_pb2.RequestFrame(header=header)])) == [BatchReply(())]


# -- many small batches on one stream -----------------------------------------------------------


def small_requests(conversation: Conversation, number: int) -> list[bytes]:
    header, buffers = message_codec.encode_batch(conversation.batch(Describe("w")))
    message = data_pb2.ExchangeRequest(header=header, buffers=[bytes(each) for each in buffers])
    return number * [message.SerializeToString()]


def test_a_stream_of_small_batches_goes_on_as_long_as_the_client_sends() -> None:
    conversation = Conversation()
    context = cast(grpc.ServicerContext, Context())
    requests = small_requests(conversation, 5)
    assert len(list(conversation.servicer.ExchangeMany(iter(requests), context))) == 5


def test_if_too_many_are_open_a_stream_ends_behind_a_reply_and_reads_no_more() -> None:
    conversation = Conversation(max_kept_streams=1)
    context = cast(grpc.ServicerContext, Context())
    first, second = (iter(small_requests(conversation, 3)) for _ in range(2))
    kept, ended = (
        conversation.servicer.ExchangeMany(first, context),
        conversation.servicer.ExchangeMany(second, context),
    )
    next(kept)
    assert len(list(ended)) == 1
    assert len(list(second)) == 2  # left to be sent otherwise
    assert len(list(kept)) == 2


# -- a header in parts --------------------------------------------------------------------------


def cut(batch: Batch) -> list[data_pb2.RequestFrame]:
    """The frames of a batch whose header comes operation by operation, as any gRPC client may cut it."""
    header, *data = frames_of(batch)
    operations = list(header.header.operations)
    first = batch_pb2.BatchRequest.FromString(header.header.SerializeToString())
    del first.operations[1:]
    between = [batch_pb2.BatchRequest(operations=[each]) for each in operations[1:-1]]
    last = batch_pb2.BatchRequest(operations=operations[-1:])
    parts = [data_pb2.RequestFrame(header_part=each) for each in (first, *between)]
    return [*parts, data_pb2.RequestFrame(header=last), *data]


def test_a_header_in_parts_is_that_of_one_batch(conversation: Conversation) -> None:
    batch = conversation.batch(Describe("w"), Update("w", UpdateRule.ASSIGN_ADD, DELTA), Read("w"), Describe("w"))
    (reply,) = replies_in(conversation.stream(cut(batch)))
    assert [type(each) for each in reply.replies] == [Result] * 4
    value = reply.replies[2]
    assert isinstance(value, Result)
    np.testing.assert_array_equal(np.asarray(value.tensor), DELTA + 1)
    (again,) = replies_in(conversation.stream(frames_of(batch)))  # the same one, in one piece: it counts once
    assert conversation.version == 1
    assert len(again.replies) == 4
    assert conversation.servicer.staged_bytes == 0


def test_a_header_that_ends_between_its_parts_has_applied_nothing(conversation: Conversation) -> None:
    frames = cut(conversation.batch(Update("w", UpdateRule.ASSIGN_ADD, DELTA), Describe("w"), Describe("w")))
    error = conversation.refusal(frames[:2])
    assert isinstance(error, InvalidArgumentError)
    assert "in the middle of a header" in error.message
    assert "header is missing" in conversation.refusal([frames[0], frames[-1]]).message
    assert conversation.version == 0


def test_parts_of_a_header_are_counted_together_and_as_staged(monkeypatch: pytest.MonkeyPatch) -> None:
    def abort(_context: object, error: ShardscopeError) -> None:
        raise Aborted(error)

    monkeypatch.setattr("ps_protocol.grpc_edge.status.abort", abort)
    part = batch_pb2.BatchRequest(operations=[batch_pb2.Operation(name="n" * 10_000)])
    frame = data_pb2.RequestFrame(header_part=part)
    small = Conversation()
    small.servicer._header_bounds = HeaderBounds(header_bytes=25_000)
    assert "--max-header" in small.refusal(3 * [frame]).message
    assert "--staging-limit" in Conversation(staging_limit_bytes=25_000).refusal(3 * [frame]).message


def test_parts_of_a_header_that_come_too_slowly_are_given_up(conversation: Conversation) -> None:
    def drip() -> Iterator[data_pb2.RequestFrame]:
        while True:
            conversation.now_s += 0.5
            yield data_pb2.RequestFrame(header_part=batch_pb2.BatchRequest(operations=[batch_pb2.Operation(name="n")]))

    error = conversation.refusal(drip())
    assert isinstance(error, DeadlineExceededError)
    assert "--message-timeout" in error.message


def test_a_message_counts_as_staged_while_it_is_carried_out(conversation: Conversation) -> None:
    seen: list[int] = []
    exchange = conversation.core.exchange

    def looked_at(*args: object, **kwargs: object) -> BatchReply:
        seen.append(conversation.servicer.staged_bytes)
        return exchange(*args, **kwargs)  # type: ignore[arg-type]  # what the servicer gives

    conversation.core.exchange = looked_at  # type: ignore[method-assign]
    conversation.exchange(conversation.batch(Update("w", UpdateRule.ASSIGN, DELTA[:0]), Describe("w" * 20_000)))
    assert seen[0] > 20_000
    assert conversation.servicer.staged_bytes == 0


def test_a_client_is_told_how_large_a_message_may_be(conversation: Conversation) -> None:
    request = data_pb2.HelloRequest(client_incarnation=CLIENT.bytes, task="worker:0", protocol_version=PROTOCOL_VERSION)
    reply = conversation.servicer.Hello(request, cast(grpc.ServicerContext, Context()))
    assert reply.max_message_bytes == MAX_TAKEN_BYTES
