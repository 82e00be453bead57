"""Combined futures: results in order, errors to whoever waits."""

from __future__ import annotations

from concurrent.futures import CancelledError, Future

import pytest

from worker_client.connection.futures import gathered, mapped


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
