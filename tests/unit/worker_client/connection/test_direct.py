"""Small batches to several ps tasks: the caller's own thread sends all of them, then takes all replies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from uuid import uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import TaskId
from ps_protocol.errors import InvalidArgumentError, PermissionDeniedError, ShardscopeError, UnavailableError
from ps_protocol.operations import Batch, BatchReply, Read, Reply, Result, Update, UpdateRule
from ps_protocol.ps_service import Line
from tests.conftest import Eventually
from tests.unit.worker_client.fakes import ScriptedService, endpoint, succeed
from worker_client.connection.direct import MAX_DIRECT_BYTES
from worker_client.connection.fanout import Fanout, Routed
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline
from worker_client.connection.settings import Settings

EVENTS: list[str] = []


class LineService(ScriptedService):
    """One that has a line, unless somebody else has it.

    Attributes:
        is_busy: Whether somebody else has it.
        waits_apart: As of its line.
        send_error: What sending fails with.
    """

    def __init__(self, task: str, answer: Callable[[Batch], BatchReply] | None = None):
        super().__init__(task, answer)
        self.is_busy = self.waits_apart = False
        self.send_error: ShardscopeError | None = None
        self.caller: threading.Lock | None = None

    def line(self, caller: threading.Lock, *, timeout_s: float) -> Line | None:
        assert caller.locked()
        self.caller = caller
        return None if self.is_busy else _Line(self)


class _Line:
    def __init__(self, service: LineService):
        self._service = service
        self.waits_apart = service.waits_apart

    def send(self, batch: Batch, *, timeout_s: float) -> None:
        EVENTS.append(f"send {self._service.task}")
        if self._service.send_error is not None:
            raise self._service.send_error
        self._service.batches.append(batch)
        self._service.threads.append(threading.current_thread().name)

    def wait(self) -> None:
        EVENTS.append(f"wait {self._service.task}")
        self._service.threads.append(threading.current_thread().name)

    def receive(self) -> BatchReply:
        EVENTS.append(f"receive {self._service.task}")
        return self._service.answer(self._service.batches[-1])

    def freed(self) -> None:
        assert self._service.caller is not None
        assert not self._service.caller.locked()
        EVENTS.append(f"freed {self._service.task}")


@pytest.fixture
def services() -> list[LineService]:
    EVENTS.clear()
    return [LineService(f"ps:{index}") for index in range(2)]


@pytest.fixture
def fanout(services: list[LineService]) -> Iterator[Fanout]:
    with _connected(services, may_update=True) as made:
        yield made


class _connected:  # noqa: N801 - used as a function
    def __init__(self, services: Sequence[LineService], *, may_update: bool):
        self._handles = [
            PsHandle(
                endpoint(service, f"h:{index}"),
                task=TaskId("ps", index),
                client=uuid4(),
                client_task="worker:0",
                settings=Settings(operation_timeout_s=10),
                may_update=may_update,
            )
            for index, service in enumerate(services)
        ]

    def __enter__(self) -> Fanout:
        for handle in self._handles:
            handle.connect(Deadline(5))
        return Fanout(self._handles, lambda: self._handles[0])

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.close()


def add(name: str = "v", size: int = 1) -> Update:
    return Update(name, UpdateRule.ASSIGN_ADD, np.ones(size, np.float32))


BOTH = [Routed(0, add()), Routed(1, add())]


def test_all_are_sent_by_this_thread_before_the_first_reply_is_waited_for(
    fanout: Fanout, services: list[LineService]
) -> None:
    assert fanout.exchange_all(BOTH) == [Result(1, True), Result(1, True)]
    assert EVENTS == ["send ps:0", "send ps:1", "receive ps:0", "receive ps:1", "freed ps:0", "freed ps:1"]
    assert [each.threads for each in services] == [[threading.current_thread().name]] * 2


def test_one_other_thread_waits_where_the_main_thread_must_not(fanout: Fanout, services: list[LineService]) -> None:
    for service in services:
        service.waits_apart = True
    assert fanout.exchange_all(BOTH) == [Result(1, True), Result(1, True)]
    assert EVENTS[2:6] == ["wait ps:0", "wait ps:1", "receive ps:0", "receive ps:1"]
    (first,), (second,) = ({*each.threads} - {threading.current_thread().name} for each in services)
    assert first == second


def test_replies_are_in_the_order_of_what_was_asked(fanout: Fanout, services: list[LineService]) -> None:
    for number, service in enumerate(services):
        service.answer = lambda batch, number=number: BatchReply(  # type: ignore[misc]
            tuple(Result(10 * number + place, True) for place in range(len(batch.operations)))
        )
    replies = fanout.exchange_all([Routed(task, Read(f"v{task}")) for task in (1, 0, 1)])
    assert [each.version for each in replies if isinstance(each, Result)] == [10, 0, 11]


def test_if_no_line_is_free_all_are_queued_and_no_number_is_left_out(
    fanout: Fanout, services: list[LineService]
) -> None:
    services[1].is_busy = True
    fanout.exchange_all(BOTH)
    assert EVENTS == ["freed ps:0"]
    services[1].is_busy = False
    fanout.exchange_all(BOTH)
    assert [[each.sequence for each in service.batches] for service in services] == [[1, 2], [1, 2]]


def test_what_is_on_its_way_is_not_overtaken(
    fanout: Fanout, services: list[LineService], eventually: Eventually
) -> None:
    has_begun, go_on = threading.Event(), threading.Event()

    def held(batch: Batch) -> BatchReply:
        has_begun.set()
        assert go_on.wait(10)
        return succeed(batch)

    services[1].answer = held
    queued = fanout.handle(1).submit([add("first")], expected_reply_bytes=None)
    assert has_begun.wait(10)
    both = threading.Thread(target=fanout.exchange_all, args=(BOTH,))
    both.start()
    eventually(lambda: fanout.handle(1)._queue.num_unfinished == 2)
    go_on.set()
    both.join(10)
    assert queued.result(10)
    assert [each.operations[0].name for each in services[1].batches] == ["first", "v"]


def test_whose_turn_it_is_not_waits_for_it(fanout: Fanout, services: list[LineService], eventually: Eventually) -> None:
    mine = threading.Lock()
    with mine:
        assert fanout.handle(1)._order.take(mine)
        both = threading.Thread(target=fanout.exchange_all, args=(BOTH,))
        both.start()
        eventually(lambda: fanout.handle(1)._queue.num_unfinished == 1)
        assert services[1].batches == []
    both.join(10)
    assert EVENTS == ["freed ps:0"]
    assert [len(each.batches) for each in services] == [1, 1]


def test_large_batches_are_queued(fanout: Fanout, services: list[LineService]) -> None:
    fanout.exchange_all([Routed(0, add(size=MAX_DIRECT_BYTES // 4 + 1)), Routed(1, add())])
    fanout.exchange_all([Routed(0, Read("v"), MAX_DIRECT_BYTES + 1), Routed(1, Read("v"), 4)])
    assert EVENTS == []
    assert [len(each.batches) for each in services] == [2, 2]


@pytest.mark.parametrize("when", ["send", "receive"])
def test_what_a_line_loses_is_exchanged_again_with_its_number_when_the_others_have_answered(
    fanout: Fanout, services: list[LineService], when: str
) -> None:
    lost = UnavailableError("the line broke", task="ps:0")
    calls: list[Batch] = []

    def once(batch: Batch) -> BatchReply:
        calls.append(batch)
        if len(calls) == 1 and when == "receive":
            raise lost
        assert "receive ps:1" in EVENTS
        return succeed(batch)

    services[0].answer = once
    services[0].send_error = lost if when == "send" else None
    assert fanout.exchange_all(BOTH) == [Result(1, True), Result(1, True)]
    assert {each.sequence for each in services[0].batches} == {1}
    assert [each.sequence for each in services[1].batches] == [1]


def test_a_task_that_is_tried_again_keeps_nobody_from_the_others(fanout: Fanout, services: list[LineService]) -> None:
    of_others: list[Result] = []

    def lost(batch: Batch) -> BatchReply:
        services[0].answer = answer
        raise UnavailableError("lost", task="ps:0")

    def answer(batch: Batch) -> BatchReply:
        other = threading.Thread(target=lambda: of_others.append(fanout.run(1, add(), expected_reply_bytes=0)))
        other.start()
        other.join(10)
        return succeed(batch)

    services[0].answer = lost
    fanout.exchange_all([Routed(0, add()), Routed(1, add())])
    assert len(of_others) == 1


def test_the_error_of_a_task_is_raised_when_all_have_answered_and_each_is_settled(
    fanout: Fanout, services: list[LineService]
) -> None:
    def refuse(batch: Batch) -> BatchReply:
        raise InvalidArgumentError("no such batch")

    services[0].answer = refuse
    settled: list[tuple[list[int], Sequence[Reply] | None]] = []
    with pytest.raises(InvalidArgumentError, match="no such batch"):
        fanout.exchange_all(BOTH, lambda positions, replies: settled.append((positions, replies)))
    assert "receive ps:1" in EVENTS
    assert settled == [([0], None), ([1], (Result(1, True),))]


def test_who_only_looks_on_is_refused_before_anything_is_sent(services: list[LineService]) -> None:
    settled: list[object] = []
    with _connected(services, may_update=False) as fanout, pytest.raises(PermissionDeniedError):
        fanout.exchange_all([Routed(0, Read("v")), Routed(1, add())], lambda _, replies: settled.append(replies))
    assert settled == [None, None]
    assert EVENTS == ["freed ps:0"]
