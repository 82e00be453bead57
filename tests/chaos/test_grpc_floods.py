"""Floods over gRPC, and a well-behaved client meanwhile: it is refused nothing, and the flood does take place."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest

import shardscope as ss
from benchmarks.flood_kinds import grpc as floods
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.codec.fast import request_bytes
from ps_protocol.codec.fast.request_bytes import encode_request
from ps_protocol.codec.limits import MAX_TAKEN_BYTES
from ps_protocol.codec.message_codec import RequestHead
from ps_protocol.errors import ErrorCode, NotFoundError, ResourceExhaustedError, ShardscopeError
from ps_protocol.grpc_edge import status
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, Declare, Describe, Read, Result, VariableSpec
from ps_protocol.service_types import Placement, Proposal
from ps_server.batches.update_ledger import LedgerLimits
from ps_server.cluster.membership import Membership
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import MemoryState
from ps_server.log.state_parts import StateParts
from ps_server.process.server import PsServer
from ps_server.transport.grpc.lanes import Lane
from tests.conftest import Eventually
from worker_client.transport.selection import TransportChoice, connect_endpoint

pytestmark = pytest.mark.chaos

TIMEOUT_S = 60.0
MAX_CONCURRENT = 4
CONTROL_THREADS = 4
MAX_CLIENTS = 32
FLOOD = 24
"""More than there are threads and places in any lane."""


class Ps:
    """A ps task in this process, with few threads, whose insides can be looked at."""

    def __init__(self, message_timeout_s: float) -> None:
        spec = ClusterSpec({"ps": ["localhost:1"]})
        state = MemoryState(StateParts(spec, 0, ledger_limits=LedgerLimits(clients=MAX_CLIENTS, unused_after_s=1.0)))
        self.core = ParameterServer(cluster_spec=spec, task_index=0, state=state)
        self.core._membership = Membership(MAX_CLIENTS)
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
        eventually(lambda: lane.num_ended > MAX_CONCURRENT, message="more are ended than there are threads")
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
        eventually(lambda: lane.num_ended > MAX_CONCURRENT, message="more are ended than there are threads")
    assert flood.count > MAX_CONCURRENT


def test_replies_that_nobody_reads_are_dropped(ps: Ps, eventually: Eventually) -> None:
    lane = ps.server.lanes.control
    work(ps, "before")
    with floods.Flood(floods.unread_replies, ps.address, number=FLOOD, time_s=TIMEOUT_S) as flood:
        work(ps, "during")
        eventually(lambda: lane.num_ended > CONTROL_THREADS, message="more are ended than there are threads")
    assert flood.count > CONTROL_THREADS


def test_calls_that_are_reset_make_no_more_work_than_a_connection_may_have_calls(
    ps: Ps, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Lane] = []
    admit = Lane.admit

    def admitted(lane: Lane) -> bool:
        seen.append(lane)
        return admit(lane)

    monkeypatch.setattr(Lane, "admit", admitted)
    with floods.Flood(floods.reset_calls, ps.address, number=20_000, time_s=TIMEOUT_S) as flood:
        work(ps, "during")
        flood.wait()
    assert flood.count >= 20_000
    assert len(seen) < flood.count / 10, "gRPC drops the others"
    work(ps, "after")


@pytest.mark.parametrize("flood", [floods.hellos, floods.joins])
def test_clients_that_come_and_send_nothing_keep_no_worker_out(ps: Ps, flood: Callable[..., int]) -> None:
    many = 100
    with ss.connect({"ps": [ps.address]}, transport="grpc", operation_timeout_s=TIMEOUT_S):
        counter = ss.get_variable("counter", [], initializer=ss.zeros_initializer())
        counter.assign_add(1.0)
        with floods.Flood(flood, ps.address, number=many, time_s=TIMEOUT_S) as running:
            work(ps, "during")
            running.wait()
        assert running.count >= many > MAX_CLIENTS
        assert ps.core.status(timeout_s=0).num_clients <= MAX_CLIENTS
        assert len(ps.core.list_members(timeout_s=0)) <= MAX_CLIENTS
        counter.assign_add(1.0)
        assert counter.numpy() == 2.0
        work(ps, "after")


@pytest.mark.parametrize("ps", [30.0], indirect=True)
def test_headers_of_many_operations_are_refused_before_they_are_decoded(
    ps: Ps, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []
    parse = request_bytes.parse_request

    def parse_request(header: bytes, *args: Any) -> RequestHead:
        decoded.append(len(header))
        return parse(header, *args)

    monkeypatch.setattr("ps_server.transport.grpc.data.parse_request", parse_request)
    with floods.Flood(floods.many_operations, ps.address, number=4, operations=300_000) as flood:
        work(ps, "during")
        flood.wait()
    assert flood.count == 4
    assert decoded
    assert max(decoded) < 100_000
    assert ps.server.staging.used_bytes == 0


@pytest.mark.parametrize("ps", [30.0], indirect=True)
def test_large_messages_without_meaning_are_refused_and_kept_by_nobody(ps: Ps) -> None:
    with floods.Flood(floods.messages_without_meaning, ps.address, number=8, size_bytes=16 * 2**20) as flood:
        work(ps, "during")
        flood.wait()
    assert flood.count == 8
    assert ps.server.staging.used_bytes == 0
    assert ps.server.lanes.data.num_large == 0, "gRPC refuses them; no thread of Python's has copied one"


def test_a_batch_with_a_larger_header_than_a_message_may_be_is_carried_out(ps: Ps) -> None:
    names = [f"{index}/{'scope/' * 5_000}" for index in range(200)]
    client, spec = uuid4(), VariableSpec("counter", np.dtype(np.float32), ())
    with closing(connect_endpoint(ps.address, "ps:0", TransportChoice.GRPC)) as endpoint:
        store = endpoint.hello(client, "worker:0", timeout_s=TIMEOUT_S).store
        declare = Declare(spec, InitializerSpec(ConstantKind(1)))
        batch = Batch(client, store, 1, (*[Describe(name) for name in names], declare, Read("counter")))
        assert len(encode_request(batch, names_client=True)[0]) > MAX_TAKEN_BYTES
        replies = endpoint.transport.exchange(batch, timeout_s=TIMEOUT_S).replies
        assert [type(reply) for reply in replies[:-2]] == [NotFoundError] * len(names)
        assert isinstance(replies[-1], Result)
        assert replies[-1].tensor == 1
        line = endpoint.transport.line(threading.Lock(), timeout_s=TIMEOUT_S)
        assert line is not None
        with pytest.raises(ResourceExhaustedError, match="does not go in one message"):
            line.send(batch, timeout_s=TIMEOUT_S)  # the handle then exchanges it, as above


def test_many_placements_go_in_several_messages(ps: Ps) -> None:
    specs = [VariableSpec(f"{'scope/' * 100}{index}", np.dtype(np.float32), ()) for index in range(10_000)]
    with closing(connect_endpoint(ps.address, "ps:0", TransportChoice.GRPC)) as endpoint:
        endpoint.hello(uuid4(), "worker:0", timeout_s=TIMEOUT_S)
        placements = endpoint.service.place([Proposal(spec, 0) for spec in specs], timeout_s=TIMEOUT_S)
    assert [each.spec.name for each in placements if isinstance(each, Placement)] == [spec.name for spec in specs]
