"""Combined futures: results in order, errors to whoever waits."""

from __future__ import annotations

import contextlib
import gc
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import pytest

from ps_protocol import errors
from worker_client.connection.forgotten_failures import FORGOTTEN, ForgottenFailures
from worker_client.connection.futures import OperationFuture, failed, gathered, mapped


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
    FORGOTTEN._last = None  # what other tests have left
    FORGOTTEN._num_untold = 0
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
