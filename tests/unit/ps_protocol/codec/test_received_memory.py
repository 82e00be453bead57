"""Memory for what is received, used again when nobody holds it."""

from __future__ import annotations

import gc
import sys

import numpy as np
import pytest

from ps_protocol.codec.received_memory import BLOCK_BYTES, LEAST_BYTES, MOST_BYTES, BlockPool
from ps_protocol.codec.tensor_codec import TensorLayout
from ps_protocol.errors import ResourceExhaustedError


def layouts(*sizes: int) -> list[TensorLayout]:
    return [TensorLayout(np.dtype(np.uint8), (size,), size) for size in sizes]


def address(buffer: memoryview) -> int:
    return int(np.frombuffer(buffer, np.uint8).__array_interface__["data"][0])


def test_each_has_its_own_bytes() -> None:
    sizes = [LEAST_BYTES, 1, MOST_BYTES, LEAST_BYTES + 1, 0, 5 * BLOCK_BYTES, MOST_BYTES, MOST_BYTES - 7]
    buffers = BlockPool().allocate(layouts(*sizes))
    assert list(map(len, buffers)) == sizes
    for number, buffer in enumerate(buffers):
        if buffer:
            np.frombuffer(buffer, np.uint8)[:] = number
    for number, buffer in enumerate(buffers):
        assert set(buffer.tobytes()) <= {number}
        assert not len(buffer) or address(buffer) % 16 == 0


def test_memory_that_nobody_holds_is_used_again() -> None:
    pool = BlockPool()
    wanted = layouts(*[LEAST_BYTES] * (2 * BLOCK_BYTES // LEAST_BYTES))
    first = pool.allocate(wanted)
    places = set(map(address, first))
    assert pool.num_free == 0
    del first
    gc.collect()
    assert pool.num_free == 2
    assert set(map(address, pool.allocate(wanted))) == places


def test_memory_that_an_array_still_lies_in_is_not_used_again() -> None:
    pool = BlockPool()
    wanted = layouts(*[MOST_BYTES] * 4)
    buffers = pool.allocate(wanted)
    held = np.ndarray((4,), np.float32, buffers[1])[2:]
    held[:] = 7
    del buffers
    gc.collect()
    assert pool.num_free == 1, "one block of two"
    others = pool.allocate(wanted)
    while others:
        np.frombuffer(others.pop(), np.uint8)[:] = 0
    assert held.tolist() == [7, 7]
    del held
    gc.collect()
    assert pool.num_free == 3


def test_no_more_is_kept_than_said() -> None:
    pool = BlockPool(kept_blocks=2)
    buffers = pool.allocate(layouts(*[MOST_BYTES] * 10))
    del buffers
    gc.collect()
    assert pool.num_free == 2


def test_no_line_of_python_runs_when_it_comes_back() -> None:
    """What a signal handler raised there would be lost."""
    pool = BlockPool()
    buffers = pool.allocate(layouts(MOST_BYTES, MOST_BYTES))
    called: list[str] = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    buffers.clear()
    sys.setprofile(None)
    assert called == []
    assert pool.num_free == 1


def test_a_little_is_not_worth_a_block() -> None:
    pool = BlockPool()
    buffers = pool.allocate(layouts(LEAST_BYTES, LEAST_BYTES))
    assert list(map(len, buffers)) == [LEAST_BYTES] * 2
    del buffers
    gc.collect()
    assert pool.num_free == 0


def test_no_array_made_of_it_lets_go_of_it() -> None:
    """However an array is derived from the bytes, they are not given to anybody else while it lives."""
    for derive in (
        lambda buffer: np.ndarray((8,), np.float32, buffer),
        lambda buffer: np.frombuffer(buffer, np.float64)[3:5],
        lambda buffer: np.ndarray((2, 4), np.int32, buffer).T,
        lambda buffer: np.asarray(np.ndarray((8,), np.float32, buffer)).view(np.uint8),
        lambda buffer: buffer[8:],
    ):
        pool = BlockPool()
        held = derive(pool.allocate(layouts(MOST_BYTES, MOST_BYTES))[0])
        gc.collect()
        assert pool.num_free == 0
        del held
        gc.collect()
        assert pool.num_free == 1


def test_what_cannot_be_had_is_said() -> None:
    with pytest.raises(ResourceExhaustedError):
        BlockPool().allocate(layouts(2**62))
