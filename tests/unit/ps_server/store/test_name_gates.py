from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

from ps_server.store.name_gates import NameGates


def test_a_name_is_held_by_one_at_a_time() -> None:
    gates = NameGates()
    with gates.entered("a", 10) as first:
        assert first
        with ThreadPoolExecutor(1) as pool:
            assert not pool.submit(lambda: _try_to_enter(gates, "a")).result(10)
            assert pool.submit(lambda: _try_to_enter(gates, "b")).result(10)
    assert _try_to_enter(gates, "a")


def test_who_waits_gets_in_when_the_holder_leaves() -> None:
    gates, entered = NameGates(), threading.Event()

    def wait_for_it() -> bool:
        entered.set()
        with gates.entered("a", 10) as held:
            return held

    with ThreadPoolExecutor(1) as pool:
        with gates.entered("a", 10):
            waiting = pool.submit(wait_for_it)
            assert entered.wait(10)
        assert waiting.result(10)


def test_nothing_is_kept_of_names_not_in_use() -> None:
    gates = NameGates()
    assert not gates.is_busy
    with gates.entered("a", 10):
        assert gates.is_busy
        assert not _try_in_thread(gates, "a")
    assert not gates.is_busy


def test_any_timeout_can_be_given() -> None:
    gates = NameGates()
    with gates.entered("a", float("inf")) as held:
        assert held
    with gates.entered("a", -1.0) as held:
        assert held


def _try_to_enter(gates: NameGates, name: str) -> bool:
    with gates.entered(name, 0) as held:
        return held


def _try_in_thread(gates: NameGates, name: str) -> bool:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(_try_to_enter, gates, name).result(10)
