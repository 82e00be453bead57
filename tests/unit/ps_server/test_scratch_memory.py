from __future__ import annotations

import numpy as np
import pytest

from ps_server.scratch_memory import ScratchPool, aligned_bytes


def test_arrays_are_cut_one_after_the_other() -> None:
    scratch = ScratchPool().take(aligned_bytes(3 * 4) + aligned_bytes(2 * 8) + aligned_bytes(0))
    first = scratch.array((3,), np.dtype(np.float32))
    second = scratch.array((1, 2), np.dtype(np.int64))
    empty = scratch.array((0, 5), np.dtype(np.int64))
    first[:] = 1
    second[:] = 2
    assert first.tolist() == [1, 1, 1]
    assert second.tolist() == [[2, 2]]
    assert empty.shape == (0, 5)
    assert (second.ctypes.data - first.ctypes.data) % 64 == 0


def test_more_than_was_taken_is_refused() -> None:
    scratch = ScratchPool().take(64)
    with pytest.raises(TypeError, match="too small"):
        scratch.array((10**6,), np.dtype(np.float64))


def test_memory_given_back_is_given_out_again() -> None:
    pool = ScratchPool()
    taken = [pool.take(100_000), pool.take(100_000)]
    assert not np.shares_memory(taken[0].memory, taken[1].memory)
    pool.give_back(taken[0])
    assert pool.idle_bytes >= 100_000
    again = pool.take(99_000)
    assert again.memory is taken[0].memory
    assert again.array((100_000,), np.dtype(np.uint8)).ctypes.data == again.memory.ctypes.data
    assert pool.idle_bytes == 0


def test_what_is_kept_has_a_limit() -> None:
    pool = ScratchPool(limit_bytes=300_000)
    taken = [pool.take(140_000) for _ in range(4)]
    for each in taken:
        pool.give_back(each)
    assert 140_000 <= pool.idle_bytes <= 300_000
    pool.give_back(pool.take(10_000_000))
    assert pool.idle_bytes <= 300_000


def test_sizes_that_are_no_longer_used_make_way() -> None:
    pool = ScratchPool(limit_bytes=300_000)
    for each in [pool.take(100_000) for _ in range(2)]:
        pool.give_back(each)
    taken = pool.take(200_000)
    pool.give_back(taken)
    assert pool.idle_bytes <= 300_000
    assert pool.take(200_000).memory is taken.memory


@pytest.mark.parametrize("size_bytes", [0, 1, 4095, 4096, 4097, 32_769, 1_048_576, 1_048_577, 5_000_000])
def test_sizes_are_rounded_up_by_a_quarter_or_a_page_at_most(size_bytes: int) -> None:
    taken = ScratchPool().take(size_bytes).memory.size
    assert size_bytes <= taken <= 1.25 * size_bytes + 4096  # a page at least
