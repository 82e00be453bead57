"""What counts as a thread that a test has left."""

from __future__ import annotations

import threading

import pytest

from ps_protocol.interrupts import SHELTER
from tests import conftest


@pytest.mark.parametrize(
    ("others", "num_sheltering", "num_idle", "expected"),
    [
        ([], 0, 0, 1),
        ([], 2, 2, 1),
        ([], 2, 1, 2),
        (["kernels"], 1, 1, 1),
        (["mine", "kernels"], 0, 0, 2),
        ([], 0, 1, 1),  # it began after the threads were looked at
        (["mine"], 1, 2, 2),
    ],
)
def test_threads_with_nothing_to_do_never_make_others_fewer(
    others: list[str], num_sheltering: int, num_idle: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["MainThread", *others, *[SHELTER] * num_sheltering]
    threads = [threading.Thread(name=each) for each in names]
    monkeypatch.setattr(conftest, "num_idle_threads", lambda: num_idle)
    with monkeypatch.context() as patch:
        patch.setattr(threading, "enumerate", lambda: threads)
        found = conftest._num_threads()
    assert found == expected
