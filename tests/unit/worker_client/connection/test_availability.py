"""A ps that goes away: it is waited for, what was on its way is sent again in order, and there is an end to it."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
    StateLostError,
    UnavailableError,
)
from ps_protocol.operations import Batch, BatchReply, Read, Update, UpdateRule
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import Welcome
from ps_protocol.task_id import TaskId
from tests.unit.worker_client.fakes import PipelinedService, ScriptedService, endpoint, succeed
from worker_client.connection import route as route_module
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline, RetryPolicy
from worker_client.connection.settings import Settings

ADD = Update("v", UpdateRule.ASSIGN_ADD, np.array(1, np.float32))
READ = Read("v")
WAIT_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


class Ps:
    """A scripted ps that is away between two moments of a clock that only sleeping moves.

    Attributes:
        hellos: When hello was said.
        away_from_s: When it goes away; then neither hello nor batches are answered.
        back_at_s: When it is back.
    """

    def __init__(self, service: ScriptedService | None = None, clock: Clock | None = None):
        self.clock = clock or Clock()
        self.service = service or ScriptedService()
        self.hellos: list[float] = []
        self.away_from_s = self.back_at_s = float("inf")
        self.error: Callable[[], ShardscopeError] = lambda: UnavailableError("connection refused. Start it")
        self.service.answer = self._answer
        hello = self.service.hello

        def answered_hello(
            client: UUID, task: str, *, num_ps_tasks: int = 0, for_reads: bool = False, timeout_s: float
        ) -> Welcome:
            self.hellos.append(self.clock.now_s)
            self.check()
            return hello(client, task, timeout_s=timeout_s)

        self.service.hello = answered_hello  # type: ignore[method-assign] # this one service can be away
        self.service.status = self._status  # type: ignore[method-assign] # as above

    def _status(self, *, timeout_s: float) -> None:
        assert timeout_s > 0
        self.check()

    def check(self) -> None:
        if self.away_from_s <= self.clock.now_s < self.back_at_s:
            raise self.error()

    def _answer(self, batch: Batch) -> BatchReply:
        self.check()
        return succeed(batch)

    def handle(self) -> PsHandle:
        retry = RetryPolicy(random=random.Random(0), sleep=self.clock.sleep, clock=self.clock)
        handle = PsHandle(
            endpoint(self.service),
            task=TaskId("ps", 1),
            client=uuid4(),
            client_task="worker:0",
            settings=Settings(operation_timeout_s=2.0, ps_grace_s=30.0, retry=retry),
        )
        handle.connect(Deadline(WAIT_S))
        return handle

    def goes_away(self, for_s: float = float("inf")) -> None:
        self.away_from_s = self.clock.now_s
        self.back_at_s = self.clock.now_s + for_s


def num_lines(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in message for message in caplog.messages)


@pytest.fixture
def ps() -> Ps:
    service = ScriptedService()
    service.task = "ps:1"
    return Ps(service)


def test_an_operation_outlasts_a_restart_that_takes_longer_than_its_timeout(
    ps: Ps, caplog: pytest.LogCaptureFixture
) -> None:
    handle = ps.handle()
    ps.goes_away(for_s=20.0)
    handle.exchange([ADD])
    assert 20 <= ps.clock.now_s < 23
    assert [batch.sequence for batch in ps.service.batches] == [1, 1]
    assert "waiting for ps:1 at h:1, 0 s of up to 30 s: connection refused" in caplog.text
    assert num_lines(caplog, "waiting for ps:1") in range(4, 8)
    assert num_lines(caplog, "ps:1 at h:1 is back after 2") == 1
    handle.close()


def test_nothing_is_sent_before_hello_was_answered(ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away(for_s=5.0)
    handle.exchange([ADD])
    assert len(ps.service.batches) == 2
    assert len(ps.hellos) > 3


def test_a_ps_that_does_not_come_back_is_given_up_with_what_to_do(ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away()
    with pytest.raises(
        DeadlineExceededError, match=r"ps:1 at h:1 has been away for (2[6-9]|30) s \([^()]*\), .*--data-dir"
    ) as given_up:
        handle.exchange([ADD])
    assert "ps_grace_s" in given_up.value.message
    assert isinstance(given_up.value.last_failure, UnavailableError)
    assert "".join(traceback.format_exception(given_up.value)).count("Traceback") == 1
    assert given_up.value.task == "ps:1"
    assert 25 <= ps.clock.now_s <= 30


def test_once_the_grace_is_over_the_next_operation_does_not_wait_again(ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away()
    with pytest.raises(DeadlineExceededError):
        handle.exchange([ADD])
    ps.clock.now_s += 30
    before_s = ps.clock.now_s
    with pytest.raises(DeadlineExceededError, match="away"):
        handle.exchange([READ])
    assert ps.clock.now_s - before_s < 1


def test_when_it_is_back_later_the_next_operation_finds_it(ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away(for_s=100.0)
    with pytest.raises(DeadlineExceededError):
        handle.exchange([ADD])
    ps.clock.now_s = 200.0
    assert handle.exchange([ADD])
    assert [batch.sequence for batch in ps.service.batches] == [1, 2]


def test_a_ps_that_answers_hello_is_not_away_and_the_operation_timeout_counts(ps: Ps) -> None:
    handle = ps.handle()

    def slow(_: Batch) -> BatchReply:
        raise DeadlineExceededError("another batch holds the variable")

    ps.service.answer = slow
    with pytest.raises(DeadlineExceededError, match="gave up after"):
        handle.exchange([ADD])
    assert ps.clock.now_s <= 2


def test_a_ps_that_is_stopped_is_away_too(ps: Ps) -> None:
    handle = ps.handle()
    ps.error = lambda: DeadlineExceededError("did not answer in time")
    ps.goes_away(for_s=20.0)
    handle.exchange([READ])
    assert ps.clock.now_s >= 20


def test_after_its_return_an_operation_has_its_whole_time_again(ps: Ps) -> None:
    handle = ps.handle()
    refusals = [ResourceExhaustedError("busy", retry_after_s=0.5) for _ in range(3)]

    def busy(batch: Batch) -> BatchReply:
        ps.check()
        if refusals:
            raise refusals.pop()
        return succeed(batch)

    ps.service.answer = busy
    ps.goes_away(for_s=20.0)
    assert handle.exchange([ADD])
    assert not refusals


def test_a_ps_that_comes_and_goes_is_not_waited_for_for_ever(ps: Ps) -> None:
    handle = ps.handle()
    hellos = 0

    def flapping(
        client: UUID, task: str, *, num_ps_tasks: int = 0, for_reads: bool = False, timeout_s: float
    ) -> Welcome:
        nonlocal hellos
        hellos += 1
        if hellos % 5:
            raise UnavailableError("away")
        return Welcome("ps:1", uuid4(), job_seed=0)

    def cut(_: Batch) -> BatchReply:
        raise UnavailableError("cut")

    ps.service.hello = flapping  # type: ignore[method-assign] # as above
    ps.service.answer = cut
    with pytest.raises(DeadlineExceededError):
        handle.exchange([ADD])
    assert ps.clock.now_s <= 32 + 1


def test_lost_state_surfaces_at_once(ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away(for_s=3.0)

    def lost(batch: Batch) -> BatchReply:
        ps.check()
        raise StateLostError("started anew 1 s ago", task="ps:1")

    ps.service.answer = lost
    with pytest.raises(StateLostError, match=r"\[ps:1\] started anew"):
        handle.exchange([ADD])
    assert ps.clock.now_s < 6
    assert len(ps.service.batches) == 2


def test_the_store_that_was_told_first_is_still_meant_after_hello_again(ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away(for_s=3.0)
    handle.exchange([ADD])
    first, again = ps.service.batches
    assert first.store == again.store == handle.welcome.store


def test_a_ps_that_has_forgotten_this_client_says_so_at_once(ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away(for_s=3.0)

    def forgotten(
        client: UUID, task: str, *, num_ps_tasks: int = 0, for_reads: bool = False, timeout_s: float
    ) -> Welcome:
        ps.check()
        raise FailedPreconditionError("the client was idle for 900 s and is not known any more")

    ps.service.hello = forgotten  # type: ignore[method-assign] # as above
    with pytest.raises(FailedPreconditionError, match="not known any more"):
        handle.exchange([ADD])
    assert ps.clock.now_s < 6


def test_calls_beside_batches_wait_too(ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away(for_s=20.0)

    def ask(_service: ClusterService, _timeout_s: float) -> int:
        ps.check()
        return 7

    assert handle.call(ask, what="to count") == 7


def test_queued_updates_survive_a_restart_in_order() -> None:
    service = PipelinedService()
    service.task = "ps:1"
    ps = Ps(service)
    handle = ps.handle()
    applied: list[int] = []

    def apply(batch: Batch) -> BatchReply:
        ps.check()
        if batch.sequence not in applied:  # the ledger
            applied.append(batch.sequence)
            if batch.sequence == 5:
                ps.goes_away(for_s=20.0)
                raise UnavailableError("the reply was cut off")
        return succeed(batch)

    service.answer = apply
    futures = [handle.submit([ADD], expected_reply_bytes=0) for _ in range(200)]
    for future in futures:
        assert future.result(WAIT_S)
    assert applied == sorted(applied)
    assert len(applied) >= 5
    assert ps.clock.now_s >= 20
    handle.close()


def test_many_threads_that_wait_are_one_line_in_the_log(caplog: pytest.LogCaptureFixture, ps: Ps) -> None:
    handle = ps.handle()
    ps.goes_away(for_s=3.0)
    ps.clock.sleep = _stepping(ps.clock)  # type: ignore[method-assign, assignment] # many threads share it
    threads = [threading.Thread(target=handle.exchange, args=([READ],)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert not any(thread.is_alive() for thread in threads)
    assert num_lines(caplog, "waiting for ps:1") == 1
    assert num_lines(caplog, "is back") == 1
    handle.close()


def _stepping(clock: Clock) -> Callable[[float], None]:
    lock = threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            clock.now_s += min(seconds, 0.1)

    return sleep


# -- another address ------------------------------------------------------------------------------


class Moving:
    """A ps that is away for good where it was, and answers at other addresses as ``services`` says."""

    def __init__(self, addresses: Sequence[str], services: dict[str, ScriptedService]):
        self.first = ScriptedService("ps:1")
        self.clock = Clock()
        self.asked: list[str] = []
        self._services = services

        def locate(task: TaskId, known: str) -> Sequence[str]:
            assert str(task) == "ps:1"
            self.asked.append(known)
            return addresses

        retry = RetryPolicy(random=random.Random(0), sleep=self.clock.sleep, clock=self.clock)
        self.handle = PsHandle(
            endpoint(self.first, "old:1"),
            task=TaskId("ps", 1),
            client=uuid4(),
            client_task="worker:0",
            settings=Settings(operation_timeout_s=2, ps_grace_s=10, retry=retry),
            locate=locate,
            reconnect=lambda address, _task: endpoint(services[address], address),
        )
        self.handle.connect(Deadline(WAIT_S))

    def leaves(self) -> None:
        def away(*_: object, **__: object) -> Any:
            raise UnavailableError("connection refused")

        self.first.hello = away  # type: ignore[method-assign] # it has left
        self.first.answer = away


def test_a_ps_is_followed_to_another_address(caplog: pytest.LogCaptureFixture) -> None:
    there, gone = ScriptedService("ps:1"), ScriptedService("ps:1")
    gone.hello_errors = [UnavailableError("nobody")]
    moving = Moving(["gone:3", "new:2"], {"gone:3": gone, "new:2": there})
    moving.leaves()
    moving.handle.exchange([ADD])
    assert moving.handle.address == "new:2"
    assert [batch.sequence for batch in there.batches] == [1]
    assert "ps:1 has moved from old:1 to new:2" in caplog.text
    assert gone.closed
    assert moving.asked == ["old:1"]
    moving.handle.close()
    assert moving.first.closed
    assert there.closed


def test_what_is_followed_while_the_connection_is_closed_is_closed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ScriptedService("ps:1")
    moving = Moving(["new:2"], {"new:2": there})
    route = moving.handle._route
    moving.leaves()
    monkeypatch.setattr(route_module._LOG, "warning", lambda *_: route.close())  # as it says that the ps has moved
    route.hello_again()
    assert there.closed
    monkeypatch.undo()
    moving.handle.close()


def test_another_ps_at_the_address_is_not_taken_for_it() -> None:
    other = ScriptedService("ps:0")
    moving = Moving(["new:2"], {"new:2": other})
    moving.leaves()
    with pytest.raises(DeadlineExceededError, match="away"):
        moving.handle.exchange([ADD])
    assert other.batches == []
    assert moving.handle.address == "old:1"
    moving.handle.close()


def test_looking_goes_where_the_ps_is_without_waiting_for_one_that_is_away() -> None:
    there = ScriptedService("ps:1")
    moving = Moving(["new:2"], {"new:2": there})
    moving.handle.look()
    assert moving.handle.address == "old:1"
    moving.leaves()
    moving.handle.look()
    assert moving.handle.address == "new:2"
    assert moving.clock.now_s == 0
    moving.handle.close()


def test_an_error_that_no_restart_mends_is_not_looked_into(ps: Ps) -> None:
    handle = ps.handle()
    said = len(ps.hellos)

    def bad(_: Batch) -> BatchReply:
        raise InvalidArgumentError("bad")

    ps.service.answer = bad
    with pytest.raises(InvalidArgumentError):
        handle.exchange([ADD])
    assert len(ps.hellos) == said


def test_a_ps_that_is_only_busy_keeps_its_connections(ps: Ps) -> None:
    handle = ps.handle()
    said = len(ps.hellos)

    def busy(_: Batch) -> BatchReply:
        raise DeadlineExceededError("did not answer in time")

    ps.service.answer = busy
    with pytest.raises(DeadlineExceededError, match="gave up after"):
        handle.exchange([READ])
    assert len(ps.hellos) == said


def test_a_client_that_starts_after_a_ps_has_moved_finds_it() -> None:
    there = ScriptedService("ps:1")
    gone = ScriptedService("ps:1")
    gone.hello_errors = [UnavailableError("connection refused")]
    handle = PsHandle(
        endpoint(gone, "old:1"),
        task=TaskId("ps", 1),
        client=uuid4(),
        client_task="worker:0",
        settings=Settings(),
        locate=lambda _task, _known: ["new:2"],
        reconnect=lambda address, _task: endpoint(there, address),
    )
    handle.connect(Deadline(WAIT_S))
    assert handle.address == "new:2"
    handle.exchange([ADD])
    assert len(there.batches) == 1
    handle.close()
