"""The order of records and the wait until they are safe."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

import pytest

from ps_protocol.errors import DeadlineExceededError, ResourceExhaustedError, UnavailableError
from ps_server.log.commit_log import CommitLimits, CommitLog, SinkUnavailableError
from ps_server.log.records import ClientLeft, LoggedRecord, Record
from tests.conftest import Eventually

TIMEOUT_S = 20.0
AT_ONCE_S = 0.01


class FakeSink:
    """Keeps what it is given, once it is let."""

    name = "the journal in /data"

    def __init__(self, *, is_quick: bool = True) -> None:
        self.is_quick = is_quick
        self.groups: list[list[int]] = []
        self.offered = 0
        self.open = threading.Event()
        self.open.set()
        self.passes = 0
        self.errors: list[BaseException] = []
        self.closed = False

    def write(self, records: Sequence[LoggedRecord]) -> None:
        self.offered += 1
        if self.errors:
            raise self.errors.pop(0)
        while not self.passes and not self.open.wait(0.005):
            pass
        self.passes -= bool(self.passes)
        self.groups.append([logged.position for logged in records])

    def pass_one(self) -> None:
        """Lets one group pass, also while it is not open."""
        self.passes += 1

    def close(self) -> None:
        self.closed = True

    @property
    def kept(self) -> list[int]:
        return [position for group in self.groups for position in group]


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def fatal() -> list[BaseException]:
    return []


MakeLog = Callable[..., CommitLog]


@pytest.fixture
def make_log(sink: FakeSink, fatal: list[BaseException]) -> Iterator[MakeLog]:
    with ExitStack() as logs:

        def make(*sinks: FakeSink, last_position: int = 0, limits: CommitLimits | None = None) -> CommitLog:
            log = CommitLog(sinks or (sink,), last_position=last_position, limits=limits, on_fatal=fatal.append)
            logs.callback(log.close, TIMEOUT_S)
            logs.callback(sink.open.set)
            return log

        yield make


def a_record() -> Record:
    return ClientLeft(uuid4(), "has said goodbye")


def append(log: CommitLog, size_bytes: int = 1) -> int:
    with log.reserve(size_bytes, TIMEOUT_S) as room:
        return room.append(a_record())


def test_positions_follow_each_other_from_the_last_one(make_log: MakeLog) -> None:
    log = make_log(last_position=41)
    assert (log.last_position, log.committed_position) == (41, 41)
    assert [append(log) for _ in range(3)] == [42, 43, 44]


def test_what_is_committed_is_in_every_sink_in_order(make_log: MakeLog, sink: FakeSink) -> None:
    second = FakeSink()
    log = make_log(sink, second)
    positions = [append(log) for _ in range(50)]
    log.wait_committed(positions[-1], TIMEOUT_S)
    assert sink.kept == second.kept == positions


def test_records_that_wait_are_committed_together(make_log: MakeLog, sink: FakeSink, eventually: Eventually) -> None:
    log = make_log()
    sink.open.clear()
    append(log)
    eventually(lambda: sink.offered == 1)
    others = [append(log) for _ in range(8)]
    sink.open.set()
    log.wait_committed(others[-1], TIMEOUT_S)
    assert sink.groups == [[1], others]


def test_a_group_is_bounded(make_log: MakeLog, sink: FakeSink, eventually: Eventually) -> None:
    log = make_log(limits=CommitLimits(queued_bytes=1000, group_bytes=10))
    sink.open.clear()
    append(log)
    eventually(lambda: sink.offered == 1)
    for size_bytes in (6, 4, 1, 50, 2):
        append(log, size_bytes)
    sink.open.set()
    log.wait_committed(6, TIMEOUT_S)
    assert sink.groups == [[1], [2, 3], [4], [5], [6]]


def test_nothing_counts_as_committed_before_the_last_sink_has_it(
    make_log: MakeLog, sink: FakeSink, eventually: Eventually
) -> None:
    second = FakeSink()
    log = make_log(second, sink)
    sink.open.clear()
    position = append(log)
    eventually(lambda: second.kept == [position])
    with pytest.raises(DeadlineExceededError, match="not yet on the journal in /data"):
        log.wait_committed(position, AT_ONCE_S)
    assert log.committed_position == 0


def test_each_waits_for_its_own_record_and_no_longer(make_log: MakeLog, sink: FakeSink, eventually: Eventually) -> None:
    log = make_log(limits=CommitLimits(queued_bytes=1000, group_bytes=1))
    sink.open.clear()
    positions = [append(log) for _ in range(3)]
    eventually(lambda: sink.offered == 1, message="the log's own thread leads")
    safe: list[int] = []

    def wait(position: int) -> None:
        log.wait_committed(position, TIMEOUT_S)
        safe.append(position)

    waiters = [threading.Thread(target=wait, args=(position,)) for position in (*positions, positions[0])]
    for waiter in waiters:
        waiter.start()
    eventually(lambda: log.num_waiting == len(waiters))
    sink.pass_one()
    eventually(lambda: safe == [1, 1])
    assert log.num_waiting == 2
    sink.open.set()
    for waiter in waiters:
        waiter.join(TIMEOUT_S)
    assert sorted(safe) == [1, 1, 2, 3]
    assert log.num_waiting == 0


def test_who_has_given_up_is_not_remembered(make_log: MakeLog, sink: FakeSink) -> None:
    log = make_log()
    sink.open.clear()
    position = append(log)
    for timeout_s in (0.0, -1.0, AT_ONCE_S):
        with pytest.raises(DeadlineExceededError):
            log.wait_committed(position, timeout_s)
    assert log.num_waiting == 0
    sink.open.set()
    log.wait_committed(position, float("inf"))


def test_many_who_append_and_wait_at_once(make_log: MakeLog, sink: FakeSink) -> None:
    log = make_log()

    def work() -> None:
        for _ in range(100):
            position = append(log)
            log.wait_committed(position, TIMEOUT_S)
            assert log.committed_position >= position

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work) for _ in range(8)]:
            done.result(TIMEOUT_S)
    assert sink.kept == list(range(1, 801))


def test_the_queue_is_bounded(make_log: MakeLog, sink: FakeSink) -> None:
    log = make_log(limits=CommitLimits(queued_bytes=10))
    sink.open.clear()
    append(log, 8)
    with pytest.raises(ResourceExhaustedError, match="slower than the updates come") as caught:
        log.reserve(3, AT_ONCE_S)
    assert caught.value.retryable
    sink.open.set()
    log.wait_committed(1, TIMEOUT_S)
    assert append(log, 3) == 2


def test_what_is_appended_without_room_counts_as_well(make_log: MakeLog, sink: FakeSink) -> None:
    log = make_log(limits=CommitLimits(queued_bytes=10))
    sink.open.clear()
    assert log.append(a_record(), 20) == 1
    with pytest.raises(ResourceExhaustedError):
        log.reserve(1, AT_ONCE_S)
    sink.open.set()
    log.wait_committed(1, TIMEOUT_S)
    assert append(log, 10) == 2


def test_a_record_larger_than_the_queue_is_let_in_alone(make_log: MakeLog) -> None:
    log = make_log(limits=CommitLimits(queued_bytes=10))
    log.wait_committed(append(log, 1000), TIMEOUT_S)
    log.wait_committed(append(log, 1000), TIMEOUT_S)


def test_room_that_was_not_used_is_given_back(make_log: MakeLog) -> None:
    log = make_log(limits=CommitLimits(queued_bytes=10))
    with pytest.raises(KeyError), log.reserve(10, TIMEOUT_S):
        raise KeyError
    assert append(log, 10) == 1


def test_room_is_for_one_record(make_log: MakeLog) -> None:
    log = make_log()
    with log.reserve(1, TIMEOUT_S) as room:
        room.append(a_record())
        with pytest.raises(RuntimeError, match="used or given back"):
            room.append(a_record())


def test_a_sink_that_is_full_is_asked_again(make_log: MakeLog, sink: FakeSink, eventually: Eventually) -> None:
    sink.errors = [SinkUnavailableError("the disk is full"), SinkUnavailableError("the disk is full")]
    log = make_log()
    position = append(log)
    eventually(lambda: "the disk is full" in log.obstacle)
    log.wait_committed(position, TIMEOUT_S)
    assert (sink.offered, sink.kept, log.obstacle) == (3, [position], "")


def test_an_error_that_nothing_can_be_trusted_after_is_fatal(
    make_log: MakeLog, sink: FakeSink, fatal: list[BaseException], eventually: Eventually
) -> None:
    error = OSError("fsync failed")
    sink.errors = [error]
    log = make_log()
    position = append(log)
    eventually(lambda: fatal == [error])
    with pytest.raises(DeadlineExceededError):
        log.wait_committed(position, AT_ONCE_S)


def test_closing_commits_what_was_appended(make_log: MakeLog, sink: FakeSink) -> None:
    log = make_log()
    positions = [append(log) for _ in range(20)]
    assert log.close(TIMEOUT_S)
    assert sink.kept == positions
    assert sink.closed
    with pytest.raises(UnavailableError, match="the task is ending"):
        log.reserve(1, TIMEOUT_S)


def test_closing_gives_up_on_a_sink_that_takes_nothing(make_log: MakeLog, sink: FakeSink) -> None:
    log = make_log()
    sink.open.clear()
    append(log)
    assert not log.close(AT_ONCE_S)
    assert not sink.closed


def test_without_sinks_everything_is_committed_at_once(fatal: list[BaseException]) -> None:
    log = CommitLog((), on_fatal=fatal.append)
    assert append(log) == 1
    log.wait_committed(1, 0)
    assert log.close(0)


def test_whoever_waits_when_a_log_is_abandoned_learns_why_at_once(
    make_log: MakeLog, sink: FakeSink, eventually: Eventually
) -> None:
    """As when another process goes on with the task: nobody may be told that a record is safe here."""
    log = make_log()
    sink.open.clear()
    position = append(log)
    eventually(lambda: sink.offered == 1, message="it waits for the sink")
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(log.wait_committed, position, TIMEOUT_S)
        eventually(lambda: log.num_waiting == 1)
        log.abandon("ask the other process")
        with pytest.raises(UnavailableError, match="ask the other process"):
            waiting.result(TIMEOUT_S)
    with pytest.raises(UnavailableError, match="ask the other process"):
        log.wait_committed(position, TIMEOUT_S)
    sink.open.set()  # what comes too late changes nothing
    assert log.close(TIMEOUT_S)
    assert log.committed_position < position


class ThreadSink(FakeSink):
    """Keeps too which threads it was called by."""

    def __init__(self, *, is_quick: bool = True) -> None:
        super().__init__(is_quick=is_quick)
        self.threads: list[int] = []

    def write(self, records: Sequence[LoggedRecord]) -> None:
        self.threads.append(threading.get_ident())
        super().write(records)


def append_awaited(log: CommitLog) -> int:
    with log.reserve(1, TIMEOUT_S, is_awaited=True) as room:
        return room.append(a_record())


def test_whoever_waits_for_a_record_commits_it_itself(make_log: MakeLog) -> None:
    sink = ThreadSink()
    log = make_log(sink)
    first = append_awaited(log)
    second = append_awaited(log)
    assert (sink.offered, log.committed_position) == (0, 0), "no other thread was woken"
    log.wait_committed(first, TIMEOUT_S)
    assert sink.groups == [[first, second]]
    assert sink.threads == [threading.get_ident()]
    assert log.committed_position == second


def test_a_sink_that_is_not_quick_keeps_no_caller(make_log: MakeLog) -> None:
    """A disk may hang; who waits for it is told so before its time is over."""
    quick, slow = ThreadSink(), ThreadSink(is_quick=False)
    log = make_log(quick, slow)
    slow.open.clear()
    position = append_awaited(log)
    with pytest.raises(DeadlineExceededError):
        log.wait_committed(position, AT_ONCE_S)
    slow.open.set()
    log.wait_committed(append_awaited(log), TIMEOUT_S)
    assert threading.get_ident() not in quick.threads + slow.threads


def test_what_comes_while_a_caller_leads_is_committed_by_the_thread_of_the_log(
    make_log: MakeLog, eventually: Eventually
) -> None:
    sink = ThreadSink()
    log = make_log(sink)
    sink.open.clear()
    with ThreadPoolExecutor(2) as pool:
        leading = pool.submit(log.wait_committed, append_awaited(log), TIMEOUT_S)
        eventually(lambda: sink.offered == 1)
        waiting = pool.submit(log.wait_committed, append_awaited(log), TIMEOUT_S)
        eventually(lambda: log.num_waiting == 1)
        sink.open.set()
        leading.result(TIMEOUT_S)
        waiting.result(TIMEOUT_S)
    assert sink.groups == [[1], [2]]
    assert len(set(sink.threads)) == 2


def test_with_little_time_left_the_thread_of_the_log_leads(make_log: MakeLog) -> None:
    """A sink may need longer than that, and the caller has to be answered before."""
    sink = ThreadSink()
    log = make_log(sink)
    sink.open.clear()
    position = append_awaited(log)
    with pytest.raises(DeadlineExceededError):
        log.wait_committed(position, AT_ONCE_S)
    sink.open.set()
    log.wait_committed(position, TIMEOUT_S)
    assert threading.get_ident() not in sink.threads


def test_the_time_of_whoever_leads_for_others_goes_on(fatal: list[BaseException]) -> None:
    now_s = [0.0]

    class SlowSink(FakeSink):
        def write(self, records: Sequence[LoggedRecord]) -> None:
            now_s[0] += 1e6
            super().write(records)

    sink = SlowSink()
    sink.open.clear()
    sink.pass_one()
    log = CommitLog([sink], limits=CommitLimits(group_bytes=1), on_fatal=fatal.append, clock=lambda: now_s[0])
    positions = [append_awaited(log) for _ in range(2)]
    with pytest.raises(DeadlineExceededError, match=r"after 100000.0 s it is not yet on the journal"):
        log.wait_committed(positions[-1], 1e5)
    assert sink.kept == [1], "its time was over when it had led for the first record"
    sink.open.set()
    assert log.close(TIMEOUT_S)


def test_a_record_that_nobody_waits_for_after_an_error_is_committed(make_log: MakeLog, eventually: Eventually) -> None:
    sink = ThreadSink()
    log = make_log(sink)

    def fail() -> None:
        with log.reserve(1, TIMEOUT_S, is_awaited=True) as room:
            room.append(a_record())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    eventually(lambda: log.committed_position == 1)


def test_what_a_sink_does_not_take_from_a_caller_is_offered_again_to_that_sink_alone(make_log: MakeLog) -> None:
    first, second = ThreadSink(), ThreadSink()
    second.errors = [SinkUnavailableError("it is silent")]
    log = make_log(first, second)
    log.wait_committed(append_awaited(log), TIMEOUT_S)
    assert (first.offered, second.offered) == (1, 2)
    caller, thread = second.threads
    assert caller == threading.get_ident() != thread


def test_an_error_is_fatal_too_when_a_caller_leads(
    make_log: MakeLog, sink: FakeSink, fatal: list[BaseException], eventually: Eventually
) -> None:
    error = OSError("fsync failed")
    sink.errors = [error]
    log = make_log()
    # Who waits is told that the record is not safe, as if another thread had led.
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(log.wait_committed, append_awaited(log), TIMEOUT_S)
        eventually(lambda: fatal == [error])
        with pytest.raises(DeadlineExceededError):
            log.wait_committed(append_awaited(log), AT_ONCE_S)
        log.abandon("the process ends")
        with pytest.raises(UnavailableError):
            waiting.result(TIMEOUT_S)
    assert (sink.offered, sink.kept) == (1, []), "nothing is written after it"


def test_an_interrupt_of_a_caller_that_leads_is_fatal_and_goes_on(
    make_log: MakeLog, sink: FakeSink, fatal: list[BaseException]
) -> None:
    """Nobody knows how much of the group the sink has."""
    interrupt = KeyboardInterrupt()
    sink.errors = [interrupt]
    log = make_log()
    with pytest.raises(KeyboardInterrupt):
        log.wait_committed(append_awaited(log), TIMEOUT_S)
    assert fatal == [interrupt]
    assert (log.committed_position, sink.kept) == (0, [])


def test_closing_commits_what_nobody_has_waited_for(make_log: MakeLog, sink: FakeSink) -> None:
    log = make_log()
    position = append_awaited(log)
    assert log.close(TIMEOUT_S)
    assert sink.kept == [position]
