"""Changes pass side by side, a cut stands alone."""

from __future__ import annotations

import threading

import pytest

from ps_protocol.errors import DeadlineExceededError, UnavailableError
from ps_server.log.image_gate import ImageGate
from tests.conftest import Eventually

TIMEOUT_S = 20.0
AT_ONCE_S = 0.01


def test_changes_pass_side_by_side() -> None:
    gate = ImageGate()
    with gate.change(AT_ONCE_S), gate.change(AT_ONCE_S):
        pass


def test_a_cut_waits_for_the_changes_inside() -> None:
    gate = ImageGate()
    cut = threading.Event()

    def take() -> None:
        with gate.image(TIMEOUT_S):
            cut.set()

    with gate.change(AT_ONCE_S):
        thread = threading.Thread(target=take)
        thread.start()
        assert not cut.wait(AT_ONCE_S)
    thread.join(TIMEOUT_S)
    assert cut.is_set()


def test_a_cut_that_waits_comes_before_new_changes(eventually: Eventually) -> None:
    gate = ImageGate()
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with gate.change(TIMEOUT_S):
            inside.set()
            assert done.wait(TIMEOUT_S)

    def take() -> None:
        with gate.image(TIMEOUT_S):
            pass

    threads = [threading.Thread(target=hold)]
    threads[0].start()
    assert inside.wait(TIMEOUT_S)
    threads.append(threading.Thread(target=take))
    threads[1].start()

    def is_held_back() -> bool:
        try:
            with gate.change(0):
                return False
        except UnavailableError:
            return True

    eventually(is_held_back)
    done.set()
    for thread in threads:
        thread.join(TIMEOUT_S)
    with gate.change(AT_ONCE_S):
        pass


def test_a_cut_that_ran_out_of_time_holds_nobody_back() -> None:
    gate = ImageGate()
    with gate.change(AT_ONCE_S):
        with pytest.raises(DeadlineExceededError, match="1 changes were still being applied"), gate.image(AT_ONCE_S):
            pytest.fail("a change was inside")
        with gate.change(AT_ONCE_S):
            pass


def test_one_cut_at_a_time() -> None:
    gate = ImageGate()
    with (
        gate.image(AT_ONCE_S),
        pytest.raises(DeadlineExceededError, match="another image"),
        gate.image(AT_ONCE_S),
    ):
        pytest.fail("there was another cut")
