"""Combined futures: results in order, errors to whoever waits."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor, as_completed, wait
from types import FrameType

import pytest

from ps_protocol import errors
from worker_client.connection.forgotten_failures import ForgottenFailures
from worker_client.connection.futures import OperationFuture, failed, gathered, mapped

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


# -- failures that nobody asks for ------------------------------------------------------------


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What has been logged of forgotten failures, without the help of the garbage collector."""
    gc.disable()
    with caplog.at_level(logging.ERROR):
        yield lambda: [each.getMessage() for each in caplog.records]
    gc.enable()


def failure() -> OperationFuture[int]:
    future: OperationFuture[int] = OperationFuture(["v"])
    future.set_exception(errors.NotFoundError("gone", task="ps:0"))
    return future


TOLD = ["an operation on v has failed, and nobody asked for its outcome: NotFoundError: [ps:0] gone"]


def test_a_failure_that_is_forgotten_is_told(told: Callable[[], list[str]]) -> None:
    future = failure()
    assert told() == []
    del future
    assert told() == TOLD


@pytest.mark.parametrize("combined", ["mapped", "gathered", "both", "broken function"])
def test_of_combined_futures_only_what_was_handed_out_is_told(told: Callable[[], list[str]], combined: str) -> None:
    source: OperationFuture[int] = OperationFuture(["v"])
    outcome: Future[object]
    match combined:
        case "mapped":
            outcome = mapped(source, lambda value: value)
        case "gathered":
            outcome = gathered([source, failure(), failure()])  # type: ignore[assignment] # of whatever they give
        case "both":
            outcome = mapped(gathered([failure(), source]), lambda values: values)
        case _:
            outcome = mapped(source, lambda _: failure().result())
    if combined == "broken function":
        source.set_result(1)
    else:
        source.set_exception(errors.NotFoundError("gone", task="ps:0"))
    del source
    assert outcome.done()
    assert told() == []
    del outcome
    assert told() == TOLD


@pytest.mark.parametrize("ask", [OperationFuture.exception, OperationFuture.result])
def test_a_failure_that_was_asked_for_is_not_told(
    told: Callable[[], list[str]], ask: Callable[[OperationFuture[int]], object]
) -> None:
    future = failure()
    with contextlib.suppress(errors.NotFoundError):
        ask(future)
    del future
    assert told() == []


@pytest.mark.parametrize("is_settled", [False, True])
def test_a_failure_of_what_was_let_go_is_not_told(told: Callable[[], list[str]], *, is_settled: bool) -> None:
    future = failure() if is_settled else OperationFuture[int](["v"])
    future.let_go()
    if not is_settled:
        future.set_exception(errors.NotFoundError("gone", task="ps:0"))
    del future
    assert told() == []


def test_a_failure_after_a_wait_that_was_too_short_is_told(told: Callable[[], list[str]]) -> None:
    future: OperationFuture[int] = OperationFuture(["v"])
    with pytest.raises(TimeoutError):
        future.result(0)
    future.set_exception(errors.NotFoundError("gone", task="ps:0"))
    del future
    assert told() == TOLD


def test_what_close_has_given_up_is_not_told_again(told: Callable[[], list[str]]) -> None:
    future = failed(errors.CancelledError("closed"))
    del future
    assert told() == []


def test_failures_alike_are_counted(told: Callable[[], list[str]]) -> None:
    now_s = [0.0]
    forgotten = ForgottenFailures(lambda: now_s[0])
    gone, lost = errors.NotFoundError("gone", task="ps:0"), errors.StateLostError("lost", task="ps:0")
    for _ in range(1000):
        forgotten.add(gone, ["v"])
    assert told() == TOLD
    now_s[0] = 1.5
    forgotten.add(gone, ["v"])
    forgotten.add(gone, ["v"])
    forgotten.add(lost, ["a", "b", "b", "c", "d", "e"])
    forgotten.flush()
    assert told() == [
        *TOLD,
        "999 more such operations have failed with NotFoundError",
        *TOLD,
        "1 more such operations have failed with NotFoundError",
        "an operation on a, b, c and 2 others has failed, and nobody asked for its outcome: "
        "StateLostError: [ps:0] lost",
    ]


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
