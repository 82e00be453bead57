"""Ordinary gRPC, made with the generated classes alone, on the other side of the ps and of the client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Final
from uuid import UUID, uuid4

import grpc
import numpy as np
import pytest

from ps_protocol.codec import message_codec
from ps_protocol.codec.limits import UNARY_LIMIT_BYTES
from ps_protocol.errors import (
    CancelledError,
    DeadlineExceededError,
    InternalError,
    InvalidArgumentError,
    ShardscopeError,
    StateLostError,
    UnavailableError,
)
from ps_protocol.grpc_edge.channel_options import server_options
from ps_protocol.grpc_edge.chunk_frames import data_frame
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import (
    Batch,
    BatchReply,
    Declare,
    Gather,
    PsOperation,
    Read,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.v1 import batch_pb2, data_pb2, data_pb2_grpc
from ps_server.core.parameter_server import ParameterServer
from ps_server.process.server import PsServer
from tests.conftest import Eventually
from tests.contract.conftest import CLUSTER, TIMEOUT_S
from worker_client.transport import grpc as grpc_transport
from worker_client.transport import grpc_stream
from worker_client.transport.grpc import GrpcPsService
from worker_client.transport.grpc_stream import MAX_STREAMS

CLIENT: Final = UUID(int=5)
LARGE: Final = VariableSpec("large", np.dtype(np.float32), (3, 1_000_001))
SMALL: Final = VariableSpec("small", np.dtype(np.int64), (7,))
assert LARGE.size_bytes > UNARY_LIMIT_BYTES
ONES: Final = InitializerSpec(ConstantKind(1))


@pytest.fixture
def core() -> ParameterServer:
    core = ParameterServer(cluster_spec=CLUSTER, task_index=0)
    core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
    declarations = (Declare(LARGE, ONES), Declare(SMALL, ONES))
    core.exchange(Batch(CLIENT, core.store_incarnation, 1, declarations), timeout_s=TIMEOUT_S)
    return core


def batch_for(core: ParameterServer, *operations: PsOperation, sequence: int = 0) -> Batch:
    return Batch(CLIENT, core.store_incarnation, sequence, operations)


def tensor_of(reply: BatchReply, position: int = 0) -> Any:
    result = reply.replies[position]
    assert isinstance(result, Result)
    assert result.tensor is not None
    return result.tensor


# -- a plain client -----------------------------------------------------------------------------


@pytest.fixture
def stub(core: ParameterServer, resources: ExitStack) -> data_pb2_grpc.DataStub:
    """The generated stub, on a channel without options."""
    server = PsServer(core, host="127.0.0.1", port=0, max_concurrent=4)
    port = server.start()
    resources.callback(server.stop, "the test is over", timeout_s=TIMEOUT_S)
    return data_pb2_grpc.DataStub(resources.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}")))


def test_a_plain_client_exchanges_small_batches(core: ParameterServer, stub: data_pb2_grpc.DataStub) -> None:
    add = Update("small", UpdateRule.ASSIGN_ADD, np.arange(7))
    header, buffers = message_codec.encode_batch(batch_for(core, add, Read("small"), sequence=2))
    request = data_pb2.ExchangeRequest(header=header, buffers=[bytes(each) for each in buffers])
    reply = stub.Exchange(request, timeout=TIMEOUT_S)
    np.testing.assert_array_equal(
        tensor_of(message_codec.reply_head(reply.header).reply(reply.buffers), 1), np.arange(7) + 1
    )


@pytest.mark.parametrize("chunk_bytes", [99_991, 3_000_000])
def test_a_plain_client_streams_large_batches(
    core: ParameterServer, stub: data_pb2_grpc.DataStub, chunk_bytes: int
) -> None:
    delta = np.arange(3_000_003, dtype=np.float32).reshape(LARGE.shape)
    header, (buffer,) = message_codec.encode_batch(
        batch_for(core, Update("large", UpdateRule.ASSIGN_ADD, delta), Read("large"), sequence=2)
    )

    def frames() -> Iterator[data_pb2.RequestFrame]:
        yield data_pb2.RequestFrame(header=header)
        for start in range(0, len(buffer), chunk_bytes):
            yield data_pb2.RequestFrame(data=bytes(buffer[start : start + chunk_bytes]))

    first, *rest = stub.ExchangeStream(frames(), timeout=TIMEOUT_S)
    assert first.WhichOneof("frame") == "header"
    assert all(frame.WhichOneof("frame") == "data" for frame in rest)
    reply = message_codec.reply_head(first.header).reply([b"".join(frame.data for frame in rest)])
    np.testing.assert_array_equal(tensor_of(reply, 1), delta + 1)


def test_a_plain_client_says_hello_and_goodbye(core: ParameterServer, stub: data_pb2_grpc.DataStub) -> None:
    client = uuid4()
    request = data_pb2.HelloRequest(client_incarnation=client.bytes, task="worker:1", protocol_version=1)
    assert stub.Hello(request, timeout=TIMEOUT_S).store_incarnation == core.store_incarnation.bytes
    stub.Goodbye(data_pb2.GoodbyeRequest(client_incarnation=client.bytes), timeout=TIMEOUT_S)


def test_a_message_that_is_none_is_refused_with_a_reason(
    core: ParameterServer, stub: data_pb2_grpc.DataStub, resources: ExitStack
) -> None:
    server = PsServer(core, host="127.0.0.1", port=0, max_concurrent=4)
    channel = resources.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.start()}"))
    resources.callback(server.stop, "the test is over", timeout_s=TIMEOUT_S)
    unary: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/ps_protocol.v1.Data/Exchange")
    stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/ps_protocol.v1.Data/ExchangeStream")
    with pytest.raises(grpc.RpcError) as refused:
        unary(b"\xff\xff", timeout=TIMEOUT_S)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as refused:
        next(stream(iter([b"\xff\xff"]), timeout=TIMEOUT_S))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_every_method_of_the_service_is_offered(stub: data_pb2_grpc.DataStub) -> None:
    for method in data_pb2.DESCRIPTOR.services_by_name["Data"].methods:
        request = getattr(data_pb2, method.input_type.name)()
        call = getattr(stub, method.name)
        argument = iter([request]) if method.client_streaming else request
        with pytest.raises(grpc.RpcError) as refused:
            list(call(argument, timeout=TIMEOUT_S))
        assert refused.value.code() is not grpc.StatusCode.UNIMPLEMENTED, method.name


# -- a plain server -----------------------------------------------------------------------------


class Servicer(data_pb2_grpc.DataServicer):
    """Offers nothing."""

    def Hello(self, request: data_pb2.HelloRequest, context: grpc.ServicerContext) -> data_pb2.HelloReply:
        raise NotImplementedError

    def Goodbye(self, request: data_pb2.GoodbyeRequest, context: grpc.ServicerContext) -> data_pb2.GoodbyeReply:
        raise NotImplementedError

    def Exchange(self, request: data_pb2.ExchangeRequest, context: grpc.ServicerContext) -> data_pb2.ExchangeReply:
        raise NotImplementedError

    def ExchangeMany(
        self, request_iterator: Iterator[data_pb2.ExchangeRequest], context: grpc.ServicerContext
    ) -> Iterator[data_pb2.ExchangeReply]:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "as a ps from before there was this method")


class PlainServicer(Servicer):
    """The service as anybody would write it with the generated classes; cuts replies into odd chunks."""

    def __init__(self, core: ParameterServer, chunk_bytes: int = 77_777):
        self.core = core
        self.chunk_bytes = chunk_bytes
        self.calls: list[str] = []

    def Exchange(self, request: data_pb2.ExchangeRequest, context: grpc.ServicerContext) -> data_pb2.ExchangeReply:
        self.calls.append("Exchange")
        batch = message_codec.MessageRequest(request.header).batch(request.buffers)
        header, buffers = message_codec.encode_reply(self.core.exchange(batch, timeout_s=TIMEOUT_S), batch.operations)
        return data_pb2.ExchangeReply(header=header, buffers=[bytes(each) for each in buffers])

    def ExchangeStream(
        self, request_iterator: Iterator[data_pb2.RequestFrame], context: grpc.ServicerContext
    ) -> Iterator[data_pb2.ReplyFrame]:
        self.calls.append("ExchangeStream")
        request = next(request_iterator).header
        data, buffers = b"".join(frame.data for frame in request_iterator), []
        for layout in message_codec.MessageRequest(request).layouts:
            buffers.append(data[: layout.size_bytes])
            data = data[layout.size_bytes :]
        batch = message_codec.MessageRequest(request).batch(buffers)
        header, replies = message_codec.encode_reply(self.core.exchange(batch, timeout_s=TIMEOUT_S), batch.operations)
        yield data_pb2.ReplyFrame(header=header)
        content = b"".join(replies)
        for start in range(0, len(content), self.chunk_bytes):
            yield data_pb2.ReplyFrame(data=content[start : start + self.chunk_bytes])


class ManyServicer(PlainServicer):
    """One that has streams for small batches.

    Args:
        core: Carries the batches out.
        most: How many batches it answers on one stream.
        instead: Called instead of answering, if given.

    Attributes:
        ended: Set when a stream has ended.
    """

    def __init__(
        self, core: ParameterServer, most: int = 1000, instead: Callable[[grpc.ServicerContext], None] | None = None
    ):
        super().__init__(core)
        self.most = most
        self.instead = instead
        self.ended = threading.Event()

    def ExchangeMany(
        self, request_iterator: Iterator[data_pb2.ExchangeRequest], context: grpc.ServicerContext
    ) -> Iterator[data_pb2.ExchangeReply]:
        self.calls.append("ExchangeMany")
        context.add_callback(self.ended.set)
        for number, request in enumerate(request_iterator, start=1):
            if self.instead is not None:
                self.instead(context)
            yield self.Exchange(request, context)
            if number == self.most:
                return


Served = Callable[[data_pb2_grpc.DataServicer], GrpcPsService]


@pytest.fixture
def served(resources: ExitStack) -> Served:
    """Serves a servicer, and returns a client of it."""

    def serve(servicer: data_pb2_grpc.DataServicer) -> GrpcPsService:
        executor = resources.enter_context(ThreadPoolExecutor(4))
        server = grpc.server(executor, options=server_options())
        data_pb2_grpc.add_DataServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        resources.callback(lambda: server.stop(None).wait(TIMEOUT_S))
        service = grpc_transport.connect(f"127.0.0.1:{port}", task="ps:0")
        resources.callback(service.close)
        return service

    return serve


def test_the_client_exchanges_small_batches_with_a_plain_server(core: ParameterServer, served: Served) -> None:
    servicer = PlainServicer(core)
    add = Update("small", UpdateRule.ASSIGN_ADD, np.arange(7))
    reply = served(servicer).exchange(
        batch_for(core, add, Gather("small", np.array([6, 0])), Read("v"), sequence=2), timeout_s=TIMEOUT_S
    )
    assert isinstance(reply.replies[2], ShardscopeError)
    assert servicer.calls == ["ExchangeStream"]  # how large the reply will be is not said
    read = Batch(CLIENT, core.store_incarnation, 0, (Read("small"),), SMALL.size_bytes)
    tensor = tensor_of(served(servicer).exchange(read, timeout_s=TIMEOUT_S))
    assert servicer.calls[1:] == ["Exchange"]
    tensor += 1  # it is the caller's own
    np.testing.assert_array_equal(tensor, np.arange(7) + 2)
    np.testing.assert_array_equal(tensor_of(reply, 1), [7, 1])


def test_the_client_streams_large_batches_to_a_plain_server(core: ParameterServer, served: Served) -> None:
    service = served(PlainServicer(core))
    delta = np.arange(3_000_003, dtype=np.float32).reshape(LARGE.shape)
    out = np.empty(LARGE.shape, np.float32)
    update, read = Update("large", UpdateRule.ASSIGN_ADD, delta), Read("large", out=out)
    both = service.exchange(batch_for(core, update, Read("large"), sequence=2), timeout_s=TIMEOUT_S)
    only_read = service.exchange(batch_for(core, read), timeout_s=TIMEOUT_S)
    np.testing.assert_array_equal(tensor_of(both, 1), delta + 1)
    assert np.shares_memory(tensor_of(only_read), out)
    np.testing.assert_array_equal(out, delta + 1)


@pytest.mark.parametrize("expected_reply_bytes", [None, SMALL.size_bytes])
def test_tensors_are_put_where_the_caller_says(
    core: ParameterServer, served: Served, expected_reply_bytes: int | None
) -> None:
    out = np.zeros(7, np.int64)
    operations = (Read("small", out=out), Read("small"))
    batch = Batch(CLIENT, core.store_incarnation, 0, operations, expected_reply_bytes)
    reply = served(PlainServicer(core)).exchange(batch, timeout_s=TIMEOUT_S)
    assert np.shares_memory(tensor_of(reply, 0), out)
    np.testing.assert_array_equal(out, np.ones(7))
    assert tensor_of(reply, 1).flags.writeable
    assert not np.shares_memory(tensor_of(reply, 1), out)


# -- streams for small batches ------------------------------------------------------------------


def add_one(core: ParameterServer, sequence: int) -> Batch:
    return batch_for(core, Update("small", UpdateRule.ASSIGN_ADD, np.ones(7, np.int64)), sequence=sequence)


def small_value(core: ParameterServer) -> Any:
    return tensor_of(core.exchange(batch_for(core, Read("small")), timeout_s=TIMEOUT_S))[0]


def test_a_plain_client_exchanges_many_batches_on_one_stream(
    core: ParameterServer, stub: data_pb2_grpc.DataStub
) -> None:
    headers = [message_codec.encode_batch(add_one(core, sequence)) for sequence in (2, 3, 3)]
    requests = [data_pb2.ExchangeRequest(header=header, buffers=map(bytes, buffers)) for header, buffers in headers]
    replies = list(stub.ExchangeMany(iter(requests), timeout=TIMEOUT_S))
    versions = [message_codec.reply_head(each.header).reply(each.buffers).replies[0] for each in replies]
    assert [each.version for each in versions if isinstance(each, Result)] == [1, 2, 2]  # the third was the second
    assert small_value(core) == 3


def test_a_stream_without_deadline_is_refused(core: ParameterServer, stub: data_pb2_grpc.DataStub) -> None:
    with pytest.raises(grpc.RpcError, match="deadline"):
        next(stub.ExchangeMany(iter([data_pb2.ExchangeRequest()])))


def test_small_batches_share_a_stream(core: ParameterServer, served: Served) -> None:
    servicer = ManyServicer(core)
    service = served(servicer)
    for sequence in range(2, 7):
        service.exchange(add_one(core, sequence), timeout_s=TIMEOUT_S)
    assert servicer.calls == ["ExchangeMany"] + 5 * ["Exchange"]
    assert small_value(core) == 6


def test_a_ps_without_such_streams_gets_calls(core: ParameterServer, served: Served) -> None:
    servicer = PlainServicer(core)
    service = served(servicer)
    for sequence in range(2, 5):
        service.exchange(add_one(core, sequence), timeout_s=TIMEOUT_S)
    assert servicer.calls == 3 * ["Exchange"]
    assert service.line(threading.Lock(), timeout_s=TIMEOUT_S) is None


def test_what_a_ps_has_not_read_on_a_stream_that_it_has_ended_goes_in_a_call(
    core: ParameterServer, served: Served
) -> None:
    servicer = ManyServicer(core, most=1)
    service = served(servicer)
    for sequence in range(2, 5):
        service.exchange(add_one(core, sequence), timeout_s=TIMEOUT_S)
    assert servicer.calls == ["ExchangeMany"] + 3 * ["Exchange"]  # and no other stream so soon
    assert small_value(core) == 4


def test_callers_at_the_same_time_have_streams_of_their_own_and_then_calls(
    core: ParameterServer, served: Served
) -> None:
    service = served(ManyServicer(core))
    caller = threading.Lock()
    lines = [service.line(caller, timeout_s=TIMEOUT_S) for _ in range(MAX_STREAMS + 1)]
    assert lines[MAX_STREAMS] is None
    used = [each for each in lines if each is not None]
    assert len(used) == MAX_STREAMS
    for line in used:
        line.send(batch_for(core, Read("small")), timeout_s=TIMEOUT_S)
    for line in used:
        np.testing.assert_array_equal(tensor_of(line.receive()), np.ones(7))
    assert service.line(caller, timeout_s=TIMEOUT_S) is not None


def test_a_stream_without_batches_ends(
    core: ParameterServer, served: Served, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(grpc_stream, "IDLE_S", 0.01)
    servicer = ManyServicer(core)
    service = served(servicer)
    service.exchange(add_one(core, 2), timeout_s=TIMEOUT_S)
    assert servicer.ended.wait(TIMEOUT_S)
    eventually(lambda: not any(each.is_open for each in service.streams._opened))
    service.exchange(add_one(core, 3), timeout_s=TIMEOUT_S)
    assert servicer.calls == ["ExchangeMany", "Exchange", "ExchangeMany", "Exchange"]


def test_a_batch_that_is_not_answered_in_time_ends_its_stream(
    core: ParameterServer, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_stream, "IDLE_S", 0.01)
    servicer = ManyServicer(core)
    servicer.instead = lambda context: wait_for_the_end(context, servicer.ended)
    service = served(servicer)
    with pytest.raises(DeadlineExceededError, match="ps:0 at 127"):
        service.exchange(add_one(core, 2), timeout_s=0.2)
    assert servicer.ended.wait(TIMEOUT_S), "the stream goes on at the ps"
    servicer.instead = None
    service.exchange(add_one(core, 2), timeout_s=TIMEOUT_S)
    assert servicer.calls.count("ExchangeMany") == 2


def test_closing_the_client_ends_its_streams(core: ParameterServer, served: Served) -> None:
    reached = threading.Event()
    servicer = ManyServicer(core)

    def wait(context: grpc.ServicerContext) -> None:
        reached.set()
        wait_for_the_end(context, servicer.ended)

    service = served(servicer)
    service.exchange(add_one(core, 2), timeout_s=TIMEOUT_S)
    servicer.instead = wait
    with ThreadPoolExecutor(1) as executor:
        exchanged = executor.submit(service.exchange, add_one(core, 3), timeout_s=TIMEOUT_S)
        assert reached.wait(TIMEOUT_S)
        service.close()
        with pytest.raises(CancelledError):
            exchanged.result(TIMEOUT_S)
    assert servicer.ended.wait(TIMEOUT_S)


def test_a_refused_batch_ends_its_stream_with_the_reason(core: ParameterServer, served: Served) -> None:
    server = PsServer(core, host="127.0.0.1", port=0, max_concurrent=4)
    service = grpc_transport.connect(f"127.0.0.1:{server.start()}", task="ps:0")
    try:
        unknown = Batch(CLIENT, uuid4(), 0, (Read("small"),), SMALL.size_bytes)
        for _ in range(3):
            with pytest.raises(StateLostError):
                service.exchange(unknown, timeout_s=TIMEOUT_S)
        service.exchange(add_one(core, 2), timeout_s=TIMEOUT_S)
    finally:
        service.close()
        server.stop("the test is over", timeout_s=TIMEOUT_S)


class RawServicer(Servicer):
    """Answers whatever it is told, after it has read one frame."""

    def __init__(self, frames: list[data_pb2.ReplyFrame], then: Callable[[grpc.ServicerContext], None] | None = None):
        self.frames = frames
        self.then = then

    def ExchangeStream(
        self, request_iterator: Iterator[data_pb2.RequestFrame], context: grpc.ServicerContext
    ) -> Iterator[data_pb2.ReplyFrame]:
        next(request_iterator)
        yield from self.frames
        if self.then is not None:
            self.then(context)


def reply_frames(core: ParameterServer) -> list[data_pb2.ReplyFrame]:
    header, (buffer,) = message_codec.encode_reply(
        core.exchange(batch_for(core, Read("small")), timeout_s=TIMEOUT_S), (Read("small"),)
    )
    return [data_pb2.ReplyFrame(header=header), data_pb2.ReplyFrame(data=bytes(buffer))]


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda frames: [], InternalError),
        (lambda frames: frames[1:], InternalError),
        (lambda frames: frames[:1], InternalError),
        (lambda frames: [*frames, data_pb2.ReplyFrame(data=b"x")], InvalidArgumentError),
        (lambda frames: [frames[0], frames[0], frames[1]], InvalidArgumentError),
        (lambda frames: [frames[0], data_pb2.ReplyFrame(), frames[1]], InvalidArgumentError),
    ],
    ids=["nothing", "no header", "no data", "too much", "header twice", "empty frame"],
)
def test_a_reply_that_does_not_fit_its_header_is_an_error(
    core: ParameterServer,
    served: Served,
    spoil: Callable[[list[data_pb2.ReplyFrame]], list[data_pb2.ReplyFrame]],
    error: type[ShardscopeError],
) -> None:
    service = served(RawServicer(spoil(reply_frames(core))))
    for _ in range(3):  # and the channel still works
        with pytest.raises(error):
            service.exchange(batch_for(core, Read("small")), timeout_s=TIMEOUT_S)


def test_a_header_alone_may_promise_what_nobody_has_memory_for(core: ParameterServer, served: Served) -> None:
    header = batch_pb2.BatchReply(replies=[batch_pb2.OperationReply()])
    header.replies[0].tensor.dtype = "float64"
    header.replies[0].tensor.shape.extend([2**29, 2**29])
    service = served(RawServicer([data_pb2.ReplyFrame(header=header)]))
    with pytest.raises(ShardscopeError, match="no memory"):
        service.exchange(batch_for(core, Read("small")), timeout_s=TIMEOUT_S)


# -- time and cancellation ----------------------------------------------------------------------


@pytest.mark.parametrize("with_data", [False, True])
def test_a_ps_that_stops_in_the_middle_is_not_waited_for_beyond_the_deadline(
    core: ParameterServer, served: Served, with_data: bool
) -> None:
    ended = threading.Event()
    frames = reply_frames(core)[:1]
    service = served(RawServicer(frames, lambda context: wait_for_the_end(context, ended)))
    indices = Gather("large", np.zeros(UNARY_LIMIT_BYTES // 8 + 1, np.int64))
    with pytest.raises(DeadlineExceededError):
        service.exchange(batch_for(core, indices if with_data else Read("small")), timeout_s=3.0)
    assert ended.wait(TIMEOUT_S), "the call goes on at the ps"


@pytest.mark.parametrize("with_data", [False, True])
def test_closing_the_client_ends_what_is_on_its_way(core: ParameterServer, served: Served, with_data: bool) -> None:
    reached, ended = threading.Event(), threading.Event()

    def wait(context: grpc.ServicerContext) -> None:
        reached.set()
        wait_for_the_end(context, ended)

    service = served(RawServicer(reply_frames(core)[:1], wait))
    indices = Gather("large", np.zeros(UNARY_LIMIT_BYTES // 8 + 1, np.int64))
    batch = batch_for(core, indices if with_data else Read("small"))
    with ThreadPoolExecutor(1) as executor:
        exchanged = executor.submit(service.exchange, batch, timeout_s=TIMEOUT_S)
        assert reached.wait(TIMEOUT_S)
        service.close()
        with pytest.raises(CancelledError):
            exchanged.result(TIMEOUT_S)
    assert ended.wait(TIMEOUT_S)


@pytest.mark.parametrize("method", ["Exchange", "ExchangeMany", "ExchangeStream"])
def test_a_call_that_a_ps_gives_up_as_it_ends_may_be_repeated(
    core: ParameterServer, served: Served, method: str
) -> None:
    def give_up(context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")  # as gRPC for a call that nobody has taken yet

    class Ending(RawServicer):
        def Exchange(self, request: data_pb2.ExchangeRequest, context: grpc.ServicerContext) -> data_pb2.ExchangeReply:
            give_up(context)
            raise AssertionError

    servicer = ManyServicer(core, instead=give_up) if method == "ExchangeMany" else Ending([], give_up)
    size_bytes = None if method == "ExchangeStream" else SMALL.size_bytes
    batch = Batch(CLIENT, core.store_incarnation, 0, (Read("small"),), size_bytes)
    with pytest.raises(UnavailableError, match=r"ps:0.*ended before it took the call") as raised:
        served(servicer).exchange(batch, timeout_s=TIMEOUT_S)
    assert raised.value.retryable


def wait_for_the_end(context: grpc.ServicerContext, ended: threading.Event) -> None:
    if not context.add_callback(ended.set):
        ended.set()
    ended.wait(TIMEOUT_S)


def test_what_is_sent_does_not_run_ahead_of_what_the_ps_takes(
    core: ParameterServer, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_bytes = 0

    def counting(parts: list[memoryview]) -> bytes:
        nonlocal made_bytes
        made_bytes += sum(map(len, parts))
        return data_frame(parts)

    monkeypatch.setattr(grpc_transport, "data_frame", counting)
    taken = threading.Event()

    class Slow(Servicer):
        def ExchangeStream(
            self, request_iterator: Iterator[data_pb2.RequestFrame], context: grpc.ServicerContext
        ) -> Iterator[data_pb2.ReplyFrame]:
            next(request_iterator)
            next(request_iterator)
            taken.set()
            context.abort(grpc.StatusCode.UNAVAILABLE, "enough")
            yield data_pb2.ReplyFrame()

    delta = np.zeros(64 * 2**20, np.uint8)
    with pytest.raises(ShardscopeError):
        served(Slow()).exchange(
            batch_for(core, Update("large", UpdateRule.ASSIGN, delta), sequence=2), timeout_s=TIMEOUT_S
        )
    assert taken.is_set()
    assert 0 < made_bytes < delta.nbytes // 2
