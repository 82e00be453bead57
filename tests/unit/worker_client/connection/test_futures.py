"""Combined futures: results in order, errors to whoever waits."""

from __future__ import annotations

import signal
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor, as_completed, wait
from types import FrameType

import pytest

from worker_client.connection.futures import OperationFuture, gathered, mapped

WAIT_S = 10.0


def test_mapped_applies_the_function() -> None:
    source: Future[int] = Future()
    outcome = mapped(source, lambda value: value + 1)
    assert not outcome.done()
    source.set_result(1)
    assert outcome.result(0) == 2


def test_mapped_passes_the_error_on() -> None:
    source: Future[int] = Future()
    outcome = mapped(source, lambda value: value + 1)
    source.set_exception(KeyError("a"))
    with pytest.raises(KeyError):
        outcome.result(0)


def test_mapped_keeps_the_error_of_the_function() -> None:
    source: Future[int] = Future()
    outcome = mapped(source, lambda value: 1 // value)
    source.set_result(0)
    with pytest.raises(ZeroDivisionError):
        outcome.result(0)


def test_gathered_keeps_the_order_given() -> None:
    futures: list[Future[str]] = [Future(), Future()]
    outcome = gathered(futures)
    futures[1].set_result("b")
    assert not outcome.done()
    futures[0].set_result("a")
    assert outcome.result(0) == ["a", "b"]


def test_gathered_is_done_only_when_all_are_and_tells_the_first_error() -> None:
    futures: list[Future[str]] = [Future(), Future(), Future()]
    outcome = gathered(futures)
    futures[2].set_exception(ValueError("third"))
    futures[1].set_exception(KeyError("second"))
    assert not outcome.done()
    futures[0].set_result("a")
    with pytest.raises(KeyError, match="second"):
        outcome.result(0)


def test_gathered_of_nothing_is_done() -> None:
    assert gathered([]).result(0) == []


def test_gathered_is_done_also_if_one_of_them_is_cancelled() -> None:
    futures: list[Future[str]] = [Future(), Future()]
    outcome = gathered(futures)
    futures[0].cancel()
    futures[1].set_result("b")
    assert outcome.done()
    with pytest.raises(CancelledError):
        outcome.result(0)


def test_what_may_be_on_its_way_cannot_be_cancelled() -> None:
    source: Future[int] = Future()
    single, together = mapped(source, lambda value: value + 1), gathered([source])
    assert not single.cancel()
    assert not together.cancel()
    source.set_result(1)
    assert (single.result(0), together.result(0)) == (2, [1])


# -- futures of operations --------------------------------------------------------------------


def test_it_is_settled_once() -> None:
    future: OperationFuture[int] = OperationFuture()
    future.set_result(1)
    with pytest.raises(InvalidStateError):
        future.set_result(2)
    assert future.result(0) == 1
    assert not future.cancel()


def test_a_wait_that_runs_out_of_time_leaves_nothing_behind() -> None:
    future: OperationFuture[int] = OperationFuture()
    with pytest.raises(TimeoutError):
        future.result(0)
    assert not future._sleepers
    with ThreadPoolExecutor() as threads:
        waiting = [threads.submit(future.result, WAIT_S) for _ in range(3)]
        future.set_result(1)
        assert [each.result(WAIT_S) for each in waiting] == [1, 1, 1]


def test_the_functions_of_the_standard_library_wait_for_it() -> None:
    futures: list[Future[int]] = [OperationFuture(), OperationFuture()]
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(wait, futures, WAIT_S)
        for number, each in enumerate(futures):
            each.set_result(number)
        assert not waiting.result(WAIT_S).not_done
    assert {each.result() for each in as_completed([*futures], WAIT_S)} == {0, 1}


def test_it_is_settled_though_a_waiter_was_interrupted_with_its_condition_taken() -> None:
    future: OperationFuture[int] = OperationFuture()
    with ThreadPoolExecutor() as threads:
        threads.submit(future._condition.acquire).result(WAIT_S)  # an RLock, left taken by another thread
        threads.submit(future.set_result, 1).result(WAIT_S)
        assert future.result(0) == 1


def test_callbacks_are_called_once_and_their_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    future: OperationFuture[int] = OperationFuture()
    called: list[str] = []

    def fails(_: Future[int]) -> None:
        called.append("fails")
        raise KeyError("a callback")

    future.add_done_callback(fails)
    future.add_done_callback(lambda _: called.append("before"))
    future.set_result(1)
    future.add_done_callback(lambda _: called.append("after"))
    assert called == ["fails", "before", "after"]
    assert "a callback" in caplog.text


def test_what_a_signal_handler_raises_in_a_function_is_no_outcome() -> None:
    class AlarmError(Exception):
        pass

    def handler(number: int, frame: FrameType | None) -> None:
        raise AlarmError

    def interrupted(_: int) -> None:
        signal.raise_signal(signal.SIGALRM)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        source: OperationFuture[int] = OperationFuture()
        source.set_result(1)
        with pytest.raises(AlarmError):
            mapped(source, interrupted)
        with pytest.raises(AlarmError):
            source.add_done_callback(lambda _: signal.raise_signal(signal.SIGALRM))
    finally:
        signal.signal(signal.SIGALRM, before)
