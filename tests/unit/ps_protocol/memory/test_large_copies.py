from __future__ import annotations

import threading

import numpy as np
import pytest

from ps_protocol.memory import large_copies
from ps_protocol.memory.large_copies import copy_bytes


@pytest.mark.parametrize("num_processors", [1, 2])
@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 8192, 100_001])
def test_every_byte_is_copied(size: int, num_processors: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_copies, "TWO_THREADS_FROM_BYTES", 2)
    monkeypatch.setattr(large_copies, "_NUM_PROCESSORS", num_processors)
    source = np.random.default_rng(0).integers(0, 256, size + 2, np.uint8)
    target = np.zeros_like(source)
    copy_bytes(target[1:-1], source[1:-1])
    np.testing.assert_array_equal(target[1:-1], source[1:-1])
    assert (target[0], target[-1]) == (0, 0)


def test_a_system_without_threads_copies_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[str] = []

    def fail(thread: threading.Thread) -> None:
        failures.append(thread.name)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(large_copies, "TWO_THREADS_FROM_BYTES", 2)
    monkeypatch.setattr(large_copies, "_NUM_PROCESSORS", 2)
    monkeypatch.setattr(threading.Thread, "start", fail)
    source, target = np.arange(100, dtype=np.uint8), np.zeros(100, np.uint8)
    copy_bytes(target, source)
    np.testing.assert_array_equal(target, source)
    assert failures == ["copy"]


def test_no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_copies, "TWO_THREADS_FROM_BYTES", 2)
    monkeypatch.setattr(large_copies, "_NUM_PROCESSORS", 2)
    before = set(threading.enumerate())
    copy_bytes(np.zeros(10_000, np.uint8), np.zeros(10_000, np.uint8))
    assert set(threading.enumerate()) <= before  # those of earlier tests may end meanwhile
