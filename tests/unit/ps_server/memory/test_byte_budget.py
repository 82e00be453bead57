from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ps_server.memory.byte_budget import ByteBudget, readable_bytes


def test_takes_up_to_the_limit() -> None:
    budget = ByteBudget(10)
    assert budget.try_take(4)
    assert budget.try_take(6)
    assert not budget.try_take(1)
    assert budget.used_bytes == 10
    budget.give_back(4)
    assert budget.try_take(3)
    assert budget.used_bytes == 9


def test_without_limit_everything_fits() -> None:
    budget = ByteBudget()
    assert budget.try_take(2**70)
    assert budget.used_bytes == 2**70


def test_threads_together_never_take_too_much() -> None:
    budget, barrier = ByteBudget(100), threading.Barrier(8)

    def take() -> int:
        barrier.wait(10)
        return sum(budget.try_take(1) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        taken = [future.result(10) for future in [pool.submit(take) for _ in range(8)]]
    assert sum(taken) == budget.used_bytes == 100


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 * 1024**3, "5.0 GiB"),
        (2**62, "4.0 EiB"),
        (2**80, "1048576.0 EiB"),
    ],
)
def test_sizes_are_readable(size: int, text: str) -> None:
    assert readable_bytes(size) == text
