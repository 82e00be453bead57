"""Floods over gRPC, and a well-behaved client meanwhile: it is refused nothing, and the flood does take place."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import grpc
import numpy as np
import pytest

import shardscope as ss
from benchmarks.floods import grpc as floods
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import ErrorCode, ShardscopeError
from ps_protocol.grpc_edge import status
from ps_server.core.parameter_server import ParameterServer
from ps_server.process.server import PsServer
from ps_server.transport.grpc.lanes import Lane
from tests.conftest import Eventually

pytestmark = pytest.mark.chaos

TIMEOUT_S = 60.0
MAX_CONCURRENT = 4
CONTROL_THREADS = 4
FLOOD = 24
"""More than there are threads and places in any lane."""


class Ps:
    """A ps task in this process, with few threads, whose insides can be looked at."""

    def __init__(self, message_timeout_s: float) -> None:
        self.core = ParameterServer(cluster_spec=ClusterSpec({"ps": ["localhost:1"]}), task_index=0)
        self.server = PsServer(
            self.core,
            host="127.0.0.1",
            port=0,
            max_concurrent=MAX_CONCURRENT,
            control_threads=CONTROL_THREADS,
            message_timeout_s=message_timeout_s,
        )
        self.address = f"127.0.0.1:{self.server.start()}"

    def close(self) -> None:
        assert self.server.stop("the test is over", timeout_s=TIMEOUT_S)


@pytest.fixture
def ps(request: pytest.FixtureRequest) -> Iterator[Ps]:
    with closing(Ps(getattr(request, "param", 0.5))) as ps:
        yield ps


def work(ps: Ps, name: str) -> None:
    """Does all that a client does, over gRPC alone; raises what is refused."""
    with ss.connect({"ps": [ps.address]}, transport="grpc", operation_timeout_s=TIMEOUT_S) as client:
        small = ss.get_variable(name, [], initializer=ss.zeros_initializer())
        large = ss.get_variable(f"{name}/large", [1_000_000], initializer=ss.zeros_initializer())
        for _ in range(3):
            small.assign_add(1.0)
        large.assign_add(np.ones(1_000_000, np.float32))  # on a stream of its own
        assert small.numpy() == 3.0
        assert large.numpy()[-1] == 1.0
        client.report_step(3)
    with grpc.insecure_channel(ps.address) as channel:
        check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(floods.HEALTH)
        assert check(b"", timeout=TIMEOUT_S) == b"\x08\x01"  # SERVING
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(floods.LIST_VARIABLES)
        assert name.encode() in ask(b"", timeout=TIMEOUT_S)


def lanes(ps: Ps) -> dict[str, Lane]:
    return {
        floods.EXCHANGE_STREAM: ps.server.lanes.streams,
        floods.EXCHANGE: ps.server.lanes.data,
        floods.HELLO: ps.server.lanes.control,
        floods.LIST_VARIABLES: ps.server.lanes.control,
    }


@pytest.mark.parametrize("path", [floods.EXCHANGE_STREAM, floods.EXCHANGE, floods.HELLO])
def test_silent_calls_end_and_keep_nobody_out(ps: Ps, path: str, eventually: Eventually) -> None:
    lane = lanes(ps)[path]
    with floods.Flood(floods.silent_streams, ps.address, number=FLOOD, time_s=TIMEOUT_S, path=path) as flood:
        work(ps, "during")
        eventually(lambda: lane.num_ended >= lane.limit, message="all that were let in are ended")
        work(ps, "after")
    assert flood.count == FLOOD


@pytest.mark.parametrize("ps", [3600.0], indirect=True)
def test_a_silent_call_ends_at_once_when_its_thread_is_needed(ps: Ps) -> None:
    for path in (floods.EXCHANGE_STREAM, floods.EXCHANGE, floods.HELLO):
        with floods.Flood(floods.silent_streams, ps.address, number=MAX_CONCURRENT, time_s=TIMEOUT_S, path=path):
            work(ps, path.rpartition("/")[2])
        assert lanes(ps)[path].num_ended


def refusal(call: Iterator[bytes]) -> ShardscopeError:
    with pytest.raises(grpc.RpcError) as refused:
        next(call)
    return status.from_rpc_error(refused.value, task="")


@pytest.mark.parametrize("ps", [3600.0], indirect=True)
def test_streams_beyond_the_limit_are_refused_with_a_hint_and_a_client_tries_again(ps: Ps) -> None:
    released = threading.Event()

    def nothing() -> Iterator[bytes]:
        released.wait(TIMEOUT_S)
        return
        yield b""

    with grpc.insecure_channel(ps.address) as channel:
        open_stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(floods.EXCHANGE_STREAM)
        calls = [open_stream(nothing(), timeout=TIMEOUT_S) for _ in range(FLOOD)]
        refusals = [refusal(call) for call in calls[ps.server.lanes.streams.limit :]]
        work(ps, "during")
        released.set()
        for call in calls:
            call.cancel()
    assert {refusal.code for refusal in refusals} == {ErrorCode.RESOURCE_EXHAUSTED}
    assert all(refusal.retryable and refusal.retry_after_s and refusal.task == "ps:0" for refusal in refusals)


def test_calls_of_each_kind_have_threads_of_their_own(ps: Ps) -> None:
    work(ps, "before")
    names = {thread.name.rpartition("_")[0] for thread in threading.enumerate()}
    assert {"rpc-control", "rpc-data", "rpc-stream"} <= names


@pytest.mark.parametrize("path", [floods.EXCHANGE, floods.EXCHANGE_STREAM, floods.HELLO])
def test_messages_that_drip_are_given_up(ps: Ps, path: str, eventually: Eventually) -> None:
    lane = lanes(ps)[path]
    with floods.Flood(floods.dripping_messages, ps.address, number=FLOOD, time_s=TIMEOUT_S, path=path) as flood:
        work(ps, "during")
        eventually(lambda: lane.num_ended >= lane.limit, message="all that were let in are ended")
    assert flood.count >= lane.limit


def test_replies_that_nobody_reads_are_dropped(ps: Ps, eventually: Eventually) -> None:
    lane = ps.server.lanes.control
    work(ps, "before")
    with floods.Flood(floods.unread_replies, ps.address, number=FLOOD, time_s=TIMEOUT_S) as flood:
        work(ps, "during")
        eventually(lambda: lane.num_ended >= lane.limit, message="all that were let in are ended")
    assert flood.count >= lane.limit
