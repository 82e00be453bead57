"""Reads at the backup of a ps task: whose turn it is, and what becomes of those that it does not answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from uuid import UUID, uuid4

import numpy as np
import pytest

from ps_protocol.cluster_spec import TaskId
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    ResourceExhaustedError,
    ShardscopeError,
    UnavailableError,
)
from ps_protocol.operations import Batch, BatchReply, Read, Update, UpdateRule
from ps_protocol.service_types import Welcome
from tests.conftest import Eventually
from tests.unit.worker_client.connection.test_direct import LineService
from tests.unit.worker_client.fakes import endpoint
from worker_client.connection import backup_reads
from worker_client.connection.backup_reads import PATIENCE_S, BackupReads
from worker_client.connection.fanout import Fanout, Routed
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline, RetryPolicy
from worker_client.connection.settings import Settings
from worker_client.transport.endpoint import PsEndpoint

TASK = TaskId("ps", 0)
PLACES = ("h:1", "h:2")
READ = Read("v")
UPDATE = Update("v", UpdateRule.ASSIGN, np.array(1.0))


class Process(LineService):
    """One of the two processes; it counts who has said hello, and how."""

    def __init__(self, answer: Callable[[Batch], BatchReply] | None = None):
        super().__init__("ps:0", answer)
        self.num_hellos = 0
        self.failure: ShardscopeError | None = None

    def hello(
        self, client: UUID, task: str, *, num_ps_tasks: int = 0, for_reads: bool = False, timeout_s: float
    ) -> Welcome:
        self.num_hellos += 1
        return super().hello(client, task, num_ps_tasks=num_ps_tasks, for_reads=for_reads, timeout_s=timeout_s)

    def exchange(self, batch: Batch, *, timeout_s: float) -> BatchReply:
        if self.failure is not None:
            self.timeout_s = timeout_s
            raise self.failure
        return super().exchange(batch, timeout_s=timeout_s)


class Pair:
    """A handle of the process at h:1, which reads at the one at h:2 too."""

    def __init__(self, resources: ExitStack, eventually: Eventually, *, operation_timeout_s: float = 10.0):
        self.processes = {place: Process() for place in PLACES}
        self.primary, self.backup = self.processes.values()
        self.eventually = eventually
        client = uuid4()
        self.reads = BackupReads(
            PLACES, task=TASK, client=client, client_task="worker:0", reconnect=self._reach, retry=RetryPolicy()
        )
        self.handle = PsHandle(
            endpoint(self.primary, "h:1"),
            task=TASK,
            client=client,
            client_task="worker:0",
            settings=Settings(
                operation_timeout_s=operation_timeout_s, ps_grace_s=0.0, retry=RetryPolicy(sleep=lambda _s: None)
            ),
            backup=self.reads,
        )
        resources.callback(self.handle.close)
        self.handle.connect(Deadline(30.0))
        self.wait_until_read()

    def _reach(self, address: str, task: TaskId) -> PsEndpoint:
        assert task == TASK
        return endpoint(self.processes[address], address)

    def wait_until_read(self) -> None:
        self.eventually(lambda: self.reads._endpoint is not None, message="the backup is read")

    def read(self, times: int = 1) -> None:
        for _ in range(times):
            self.handle.exchange([READ], expected_reply_bytes=8)

    @property
    def counts(self) -> tuple[int, int]:
        """Batches at the primary and at the backup."""
        return len(self.primary.batches), len(self.backup.batches)


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def pair(resources: ExitStack, eventually: Eventually) -> Pair:
    return Pair(resources, eventually)


def test_reads_go_to_both_in_turn_and_updates_to_the_primary(pair: Pair) -> None:
    pair.read(10)
    assert pair.counts == (5, 5)
    for _ in range(10):
        pair.handle.exchange([UPDATE, READ], expected_reply_bytes=8)
    assert pair.counts == (15, 5)
    assert [batch.sequence for batch in pair.backup.batches] == [0] * 5


def test_large_reads_are_shared_out_though_a_small_one_comes_before_each(pair: Pair) -> None:
    sizes = [8, 10_000_000] * 10
    for size in sizes:
        pair.handle.exchange([READ], expected_reply_bytes=size)
    large = [batch for batch in pair.backup.batches if batch.expected_reply_bytes == 10_000_000]
    assert len(large) == 5


def test_a_read_of_unknown_size_goes_to_the_primary(pair: Pair) -> None:
    for _ in range(4):
        pair.handle.exchange([READ])
    assert pair.counts == (4, 0)


def test_a_read_behind_an_update_that_is_not_answered_goes_to_the_primary(
    resources: ExitStack, eventually: Eventually
) -> None:
    pair = Pair(resources, eventually)
    may_answer = threading.Event()
    answer = pair.primary.answer

    def slow(batch: Batch) -> BatchReply:
        if batch.sequence:
            may_answer.wait(10.0)
        return answer(batch)

    pair.primary.answer = slow
    pair.handle.submit([UPDATE], expected_reply_bytes=0)
    reads = [pair.handle.submit([READ], expected_reply_bytes=8) for _ in range(4)]
    assert pair.counts[1] == 0
    may_answer.set()
    for each in reads:
        each.result(10.0)
    assert pair.primary.batches[0].sequence == 1


@pytest.mark.parametrize(
    "failure",
    [
        UnavailableError("it is not the backup any more"),
        DeadlineExceededError("it is stopped"),
        FailedPreconditionError("it does not know the client"),
    ],
)
def test_what_the_backup_does_not_answer_the_primary_does_and_all_reads_until_it_is_welcome_again(
    pair: Pair, failure: ShardscopeError
) -> None:
    pair.backup.hello_errors = [UnavailableError("not yet")] * 2
    pair.backup.failure = failure
    pair.read(10)
    assert pair.counts == (10, 0)
    assert pair.backup.timeout_s == pytest.approx(PATIENCE_S, rel=0.01)
    pair.backup.failure = None
    pair.wait_until_read()
    assert pair.backup.num_hellos == 4
    pair.read(2)
    assert pair.counts == (11, 1)


@pytest.mark.parametrize("failure", [InvalidArgumentError("no such row"), ResourceExhaustedError("it is busy")])
def test_a_refusal_that_says_nothing_about_the_next_read_leaves_it_read(pair: Pair, failure: ShardscopeError) -> None:
    pair.backup.failure = failure
    pair.read(2)
    pair.backup.failure = None
    pair.read(2)
    assert pair.counts == (3, 1)


def test_a_read_leaves_the_primary_half_of_its_time(resources: ExitStack, eventually: Eventually) -> None:
    pair = Pair(resources, eventually, operation_timeout_s=0.5)
    pair.backup.failure = DeadlineExceededError("it is stopped")
    pair.read(2)
    assert pair.backup.timeout_s == 0.25


def test_while_the_primary_is_away_the_backup_answers(resources: ExitStack, eventually: Eventually) -> None:
    pair = Pair(resources, eventually, operation_timeout_s=0.2)
    pair.primary.failure = UnavailableError("connection refused")
    pair.primary.hello_errors = [UnavailableError("connection refused")] * 1_000
    with pytest.raises(DeadlineExceededError):
        pair.handle.exchange([UPDATE], expected_reply_bytes=0)
    pair.read(6)
    assert pair.counts == (0, 6)


def test_when_the_roles_swap_the_other_process_is_read(pair: Pair) -> None:
    pair.reads._primary = lambda: "h:2"  # where the route has gone
    pair.read(2)
    pair.eventually(
        lambda: pair.reads._endpoint is not None and pair.reads._endpoint.address == "h:1", message="h:1 is read"
    )
    assert pair.backup.batches == []


def test_another_task_in_the_place_is_not_read(resources: ExitStack, eventually: Eventually) -> None:
    pair = Pair(resources, eventually)
    pair.backup.task = "ps:1"
    pair.backup.failure = UnavailableError("it has gone")
    num_hellos = pair.backup.num_hellos
    pair.read(2)
    eventually(lambda: pair.backup.num_hellos > num_hellos + 1, message="it was asked twice more")
    assert pair.reads._endpoint is None


def test_small_reads_of_several_tasks_go_to_the_backup_too(pair: Pair) -> None:
    other = LineService("ps:1")
    second = PsHandle(
        endpoint(other), task=TaskId("ps", 1), client=uuid4(), client_task="worker:0", settings=Settings()
    )
    second.connect(Deadline(30.0))
    fanout = Fanout([pair.handle, second], lambda: pair.handle)
    routed = [Routed(0, READ, 8), Routed(1, READ, 8)]
    for _ in range(4):
        fanout.exchange_all(routed)
    assert pair.counts == (2, 2)

    pair.backup.send_error = FailedPreconditionError("it does not know the client")
    fanout.exchange_all(routed)
    fanout.exchange_all(routed)
    assert pair.counts == (4, 2)
    assert len(other.batches) == 6
    second.close()


def test_closing_ends_the_thread_and_what_it_has_opened(resources: ExitStack, eventually: Eventually) -> None:
    pair = Pair(resources, eventually)
    pair.handle.close()
    assert pair.backup.closed
    assert not [each for each in threading.enumerate() if each.name.startswith("shardscope-backup-of-")]


def test_a_thread_that_fails_goes_on(
    resources: ExitStack, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_reads, "_FIRST_PAUSE_S", 0.01)
    pair = Pair(resources, eventually)
    pair.backup.hello_errors = [RuntimeError("a defect")]
    pair.backup.failure = UnavailableError("it has gone")
    pair.read(2)
    pair.wait_until_read()
