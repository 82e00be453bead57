from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest

from ps_server.memory import buffer_pool
from ps_server.memory.buffer_pool import BufferPool

MIB = 1024**2


def address(buffer: np.ndarray[tuple[int], np.dtype[np.uint8]]) -> int:
    return buffer.__array_interface__["data"][0]  # type: ignore[no-any-return]  # NumPy leaves it untyped


def test_a_buffer_that_nobody_holds_is_used_again() -> None:
    pool = BufferPool(8 * MIB)
    used = [pool.take(MIB)]
    before = address(used[0])
    pool.give_back(used)
    assert used == []
    assert pool.idle_bytes == MIB
    assert address(pool.take(MIB)) == before
    assert pool.idle_bytes == 0


def test_a_buffer_that_a_tensor_is_made_of_is_not() -> None:
    pool = BufferPool(8 * MIB)
    used = [pool.take(MIB), pool.take(MIB)]
    tensor = np.ndarray((MIB // 4,), np.float32, used[0].data[:MIB])
    kept, free = address(used[0]), address(used[1])
    pool.give_back(used)
    assert pool.idle_bytes == MIB
    assert address(pool.take(MIB)) == free
    assert tensor.__array_interface__["data"][0] == kept


def test_interpreters_may_count_their_own_references_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    count = sys.getrefcount
    with monkeypatch.context() as borrowing:  # as a call does that borrows its argument
        borrowing.setattr(sys, "getrefcount", lambda each: count(each) - 2)
        spec = importlib.util.find_spec(buffer_pool.__name__)
        assert spec is not None
        assert spec.loader is not None
        fresh = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(fresh)
        pool: BufferPool = fresh.BufferPool(8 * MIB)
        used = [pool.take(MIB), pool.take(MIB)]
        tensor = used[0][:4]
        pool.give_back(used)
    assert pool.idle_bytes == MIB
    assert tensor.base is not None


def test_a_buffer_is_hardly_larger_than_what_was_asked_for() -> None:
    pool = BufferPool(8 * MIB)
    pool.give_back([pool.take(4 * MIB)])
    taken = pool.take(MIB + 1)
    assert MIB < taken.size <= MIB + 64 * 1024


def test_what_is_kept_is_bounded() -> None:
    pool = BufferPool(2 * MIB)
    used = [pool.take(MIB) for _ in range(4)]
    newest = address(used[-1])
    pool.give_back(used)
    assert pool.idle_bytes == 2 * MIB
    assert address(pool.take(MIB)) == newest


def test_kept_buffers_make_way_for_a_new_one() -> None:
    pool = BufferPool(4 * MIB)
    pool.give_back([pool.take(MIB) for _ in range(3)])
    large = pool.take(3 * MIB)
    assert large.size == 3 * MIB
    assert pool.idle_bytes == MIB


def test_a_buffer_beyond_the_limit_is_not_kept() -> None:
    pool = BufferPool(MIB)
    pool.give_back([pool.take(2 * MIB)])
    assert pool.idle_bytes == 0
