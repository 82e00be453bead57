"""Turns that are left by leaving a block, calls by another thread, and errors of signal handlers."""

from __future__ import annotations

import signal
import threading
import weakref
from collections.abc import Iterator
from types import FrameType

import pytest

from ps_protocol.interrupts import Begun, Turn, begun, is_interrupt, sheltered, sheltered_to_the_end

WAIT_S = 10.0
NOTHING: dict[str, int] = {}


class AlarmError(Exception):
    """A handler's."""


class Made:
    """What a call makes."""


class FailureError(Exception):
    """Of a call."""

    def __init__(self, made: Made):
        super().__init__()
        self.made = made


@pytest.fixture(autouse=True)
def _alarms() -> Iterator[None]:
    def handler(number: int, frame: FrameType | None) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, handler)
    yield
    signal.signal(signal.SIGALRM, before)


def test_a_turn_ends_with_the_block() -> None:
    turn, mine, others = Turn(), threading.Lock(), threading.Lock()
    with mine:
        assert turn.take(mine)
        with others:
            assert not turn.take(others)
            assert not turn.wait(others, 0)
    with others:
        assert turn.take(others)
    assert not turn.is_taken


def test_a_turn_can_end_before_its_block() -> None:
    turn, mine, others = Turn(), threading.Lock(), threading.Lock()
    waited: list[bool] = []

    def wait() -> None:
        with others:
            waited.append(turn.wait(others, WAIT_S))

    with mine:
        assert turn.take(mine)
        thread = threading.Thread(target=wait)
        thread.start()
        turn.end(mine)
        thread.join(WAIT_S)
        turn.end(mine)  # it is no longer mine
        assert waited == [True]


def test_one_that_waits_has_the_turn_when_the_other_has_ended() -> None:
    turn, mine = Turn(), threading.Lock()
    waited: list[bool] = []

    def wait() -> None:
        own = threading.Lock()
        with own:
            waited.append(turn.wait(own, WAIT_S))

    with mine:
        assert turn.take(mine)
        thread = threading.Thread(target=wait)
        thread.start()
    thread.join(WAIT_S)
    assert waited == [True]


def test_a_sheltered_call_is_made_by_another_thread_and_gives_what_it_returns_or_raises() -> None:
    main = threading.get_ident()
    assert sheltered(threading.get_ident) != main
    assert sheltered(divmod, 7, 2) == (3, 1)
    with pytest.raises(KeyError, match="a"):
        sheltered(NOTHING.__getitem__, "a")
    assert sheltered(lambda: sheltered(threading.get_ident) == threading.get_ident()), "in shelter there is no other"


def test_an_interrupted_call_goes_on_to_its_end() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def interrupt() -> None:
        begun.wait(WAIT_S)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def work() -> None:
        begun.set()
        may_end.wait(WAIT_S)
        ended.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(AlarmError):
        sheltered(work)
    assert not ended.is_set()
    may_end.set()
    assert ended.wait(WAIT_S)
    thread.join(WAIT_S)


def test_an_interrupt_waits_for_a_call_that_uses_the_callers_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "ps_protocol.interrupts.LINGER_S", WAIT_S
    )  # a machine may stand still for the second that it is
    begun, ended = threading.Event(), threading.Event()

    def interrupt() -> None:
        begun.wait(WAIT_S)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGALRM)

    def work() -> None:
        begun.set()
        thread.join(WAIT_S)
        ended.set()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(AlarmError):
        sheltered_to_the_end(work)
    assert ended.is_set()


def test_a_handlers_exception_is_told_from_others() -> None:
    with pytest.raises(AlarmError) as handlers:
        signal.raise_signal(signal.SIGALRM)
    with pytest.raises(KeyError) as own:
        NOTHING["a"]
    assert is_interrupt(handlers.value)
    assert is_interrupt(KeyboardInterrupt())
    assert not is_interrupt(own.value)
    assert not sheltered(is_interrupt, handlers.value), "no handler runs there"


def test_what_is_begun_goes_on_meanwhile_and_its_outcome_is_waited_for() -> None:
    goes_on, main = threading.Event(), threading.get_ident()

    def function() -> bool:
        assert goes_on.wait(WAIT_S)
        return threading.get_ident() != main

    work = begun(function)
    goes_on.set()
    assert work.outcome()
    with pytest.raises(KeyError, match="missing"):
        begun(lambda: NOTHING["missing"]).outcome()


def test_what_a_call_returned_or_raised_is_its_callers_alone() -> None:
    def fail() -> Made:
        raise FailureError(Made())

    succeeding, failing = begun(Made), begun(fail)  # which their threads may still have when the outcome is there
    made = weakref.ref(succeeding.outcome())
    assert made() is None
    with pytest.raises(FailureError) as failure:
        failing.outcome()
    made = weakref.ref(failure.value.made)
    del failure
    assert made() is None


def test_what_is_given_up_before_it_has_begun_never_is() -> None:
    called: list[int] = []
    work = Begun(lambda: called.append(1))
    work.give_up()
    work.run()  # by a thread that comes to it late
    assert not called
    assert work.is_over
