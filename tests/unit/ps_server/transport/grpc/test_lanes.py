"""Lanes on a clock of their own; ``tests/chaos/test_grpc_floods.py`` has them behind a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import grpc
import pytest

from ps_protocol.errors import DeadlineExceededError, ResourceExhaustedError
from ps_protocol.v1 import (
    control_pb2,
    data_pb2,
    directory_pb2,
    inspection_pb2,
    membership_pb2,
    replication_pb2,
)
from ps_server.transport.grpc.lanes import Lane, Lanes, LaneSettings, in_lane

TIMEOUT_S = 10.0
PATIENCE_S = 0.5


class Context:
    """Of a call; gRPC says when it is over."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[], None]] = []
        self.is_cancelled = False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self.callbacks.append(callback)
        return True

    def cancel(self) -> None:
        self.is_cancelled = True

    def is_over(self) -> None:
        for callback in self.callbacks:
            callback()


class Clocked:
    """A lane with two threads and two places to wait."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.lane = Lane(
            "control",
            threads=2,
            waiting=2,
            timeout_s=TIMEOUT_S,
            patience_s=PATIENCE_S,
            task="ps:0",
            clock=lambda: self.now_s,
        )

    def begin(self) -> tuple[Context, Any]:
        context = Context()
        return context, self.lane.begin(cast(grpc.ServicerContext, context))

    def admitted(self) -> tuple[Context, Any]:
        assert self.lane.admit()
        return self.begin()


@pytest.fixture
def clocked(resources: ExitStack) -> Clocked:
    clocked = Clocked()
    resources.callback(clocked.lane.executor.shutdown)
    return clocked


def test_calls_beyond_the_limit_are_refused_with_a_hint(clocked: Clocked) -> None:
    assert [clocked.lane.admit() for _ in range(6)] == [True] * 4 + [False] * 2
    refusal = clocked.lane.refusal()
    assert isinstance(refusal, ResourceExhaustedError)
    assert refusal.retryable
    assert refusal.retry_after_s
    assert "4 control calls" in refusal.message


def test_a_call_whose_peer_is_silent_is_ended_after_the_bound(clocked: Clocked) -> None:
    silent, _ = clocked.admitted()
    busy, call = clocked.admitted()
    call.goes_on()
    clocked.now_s += TIMEOUT_S - 0.1
    clocked.lane.end_silent()
    assert not silent.is_cancelled
    clocked.now_s += 0.2
    clocked.lane.end_silent()
    assert (silent.is_cancelled, busy.is_cancelled) == (True, False)
    assert clocked.lane.num_ended == 1


def test_a_call_that_finds_no_thread_has_the_longest_silent_one_ended(clocked: Clocked) -> None:
    first, _ = clocked.admitted()
    clocked.now_s += 0.1
    second, _ = clocked.admitted()
    clocked.now_s += PATIENCE_S
    assert clocked.lane.admit()
    assert (first.is_cancelled, second.is_cancelled) == (True, False)
    assert clocked.lane.admit()
    assert second.is_cancelled


def test_nobody_is_ended_who_is_at_work_or_was_not_silent_for_long(clocked: Clocked) -> None:
    working, call = clocked.admitted()
    call.goes_on()
    clocked.now_s += 100
    waiting, call = clocked.admitted()
    clocked.lane.came(call)
    call.waits()
    clocked.now_s += PATIENCE_S - 0.1
    assert clocked.lane.admit()
    assert not working.is_cancelled
    assert not waiting.is_cancelled


def test_calls_that_wait_for_a_thread_have_silent_ones_ended_though_no_other_comes(clocked: Clocked) -> None:
    contexts = [clocked.admitted()[0] for _ in range(2)]
    assert clocked.lane.admit()
    clocked.lane.end_silent()
    assert not any(context.is_cancelled for context in contexts)
    clocked.now_s += PATIENCE_S
    clocked.lane.end_silent()
    assert [context.is_cancelled for context in contexts].count(True) == 1


def test_a_call_that_has_waited_for_its_thread_is_left_a_moment_to_be_read(clocked: Clocked) -> None:
    assert clocked.lane.admit()
    clocked.now_s += 60
    context, _ = clocked.begin()
    for _ in range(2):
        assert clocked.lane.admit()
    assert not context.is_cancelled
    clocked.now_s += PATIENCE_S / 5
    clocked.lane.end_silent()
    assert context.is_cancelled


def test_a_call_without_its_first_message_is_ended_sooner_where_those_of_others_come_soon(clocked: Clocked) -> None:
    silent, _ = clocked.admitted()
    at_work, call = clocked.admitted()
    clocked.lane.came(call)
    call.waits()
    clocked.now_s += PATIENCE_S / 2
    assert clocked.lane.admit()
    assert (silent.is_cancelled, at_work.is_cancelled) == (True, False)


def test_first_messages_may_take_longer_where_those_of_others_do(clocked: Clocked) -> None:
    _, slow = clocked.admitted()
    clocked.now_s += 0.1
    clocked.lane.came(slow)
    clocked.lane.finish(slow)
    silent, call = clocked.admitted()
    clocked.admitted()
    clocked.now_s += 0.39
    assert clocked.lane.admit()
    assert not silent.is_cancelled
    call.goes_on()  # it has ended without a message, which says nothing of how long they take
    silent, _ = clocked.admitted()
    clocked.now_s += 11  # after a while without slow ones
    clocked.lane.end_silent()
    assert silent.is_cancelled


def test_a_stream_that_has_waited_for_its_thread_is_not_given_its_whole_time_again(clocked: Clocked) -> None:
    asked: list[float] = []

    class Silent(Iterator[bytes]):
        def __next__(self) -> bytes:
            asked.append(clocked.now_s)
            clocked.now_s += PATIENCE_S / 5
            clocked.lane.end_silent()
            raise StopIteration

    def converse(requests: Iterator[bytes], _context: object) -> Iterator[bytes]:
        yield from requests

    handler = in_lane(grpc.stream_stream_rpc_method_handler(converse), clocked.lane, "/method")
    for _ in range(4):
        assert clocked.lane.admit()
    clocked.now_s += 60
    context = Context()
    behavior: Any = handler.stream_stream
    with pytest.raises(DeadlineExceededError):
        list(behavior(Silent(), cast(grpc.ServicerContext, context)))
    assert asked
    assert context.is_cancelled


def test_replies_that_are_not_read_are_no_calls_and_the_oldest_of_too_many_is_ended(clocked: Clocked) -> None:
    contexts = []
    for _ in range(9):
        context, call = clocked.admitted()
        clocked.lane.finish(call)
        contexts.append(context)
    assert [context.is_cancelled for context in contexts] == [True] + [False] * 8
    assert [clocked.lane.admit() for _ in range(5)] == [True] * 4 + [False]
    clocked.now_s += TIMEOUT_S
    clocked.lane.end_silent()
    assert all(context.is_cancelled for context in contexts)


def test_a_call_that_is_over_makes_room_once(clocked: Clocked) -> None:
    for _ in range(10):
        context, call = clocked.admitted()
        clocked.lane.finish(call)
        context.is_over()
        context, call = clocked.admitted()
        context.is_over()
        clocked.lane.finish(call)
    assert [clocked.lane.admit() for _ in range(5)] == [True] * 4 + [False]


@dataclass
class Details:
    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    lanes = Lanes(LaneSettings(max_concurrent=4), task="ps:0")
    yield lanes
    lanes.shutdown(wait=True)


def test_all_calls_but_those_that_move_data_are_control(lanes: Lanes) -> None:
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    services = {
        **data_pb2.DESCRIPTOR.services_by_name,
        **directory_pb2.DESCRIPTOR.services_by_name,
        **membership_pb2.DESCRIPTOR.services_by_name,
        **inspection_pb2.DESCRIPTOR.services_by_name,
        **control_pb2.DESCRIPTOR.services_by_name,
        **replication_pb2.DESCRIPTOR.services_by_name,
    }
    control = set()
    for service in services.values():
        for method in service.methods:
            found = lanes.intercept_service(lambda _details: handler, Details(f"/{service.full_name}/{method.name}"))
            assert found is not None
            if found.stream_unary.experimental_thread_pool is lanes.control.executor:  # type: ignore[union-attr]
                control.add(f"{service.name}.{method.name}")
    everything = {f"{service.name}.{method.name}" for service in services.values() for method in service.methods}
    assert everything - control == {
        "Data.Exchange",
        "Data.ExchangeMany",
        "Data.ExchangeStream",
        "Directory.Place",
        "Directory.ListPlacements",
        "Replication.Follow",
    }


def test_a_method_that_there_is_not_has_no_lane(lanes: Lanes) -> None:
    assert lanes.intercept_service(lambda _details: None, Details("/none/None")) is None
