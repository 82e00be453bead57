from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import pytest

from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import Array, Initialize, PsOperation, Read, Scatter, ScatterRule, Update, UpdateRule
from ps_server.memory.operand_ownership import can_become_value, share_memory

SIZE = 100_000


def floats() -> Array:
    return np.zeros(SIZE, np.float32)


def read_only() -> Array:
    array = floats()
    array.flags.writeable = False
    return array


TAKEN: dict[str, Callable[[], Array]] = {
    "an array's own memory": floats,
    "all of another array": lambda: floats().view(np.int32).reshape(100, -1),
    "nearly all of another array": lambda: np.zeros(SIZE + 1000, np.float32)[:SIZE],
    "a bytearray": lambda: np.frombuffer(bytearray(4 * SIZE), np.float32),
    "a part of a memoryview of nearly its size": lambda: np.frombuffer(
        memoryview(bytearray(4 * SIZE + 64))[64:], np.float32
    ),
}
COPIED: dict[str, Callable[[], Array]] = {
    "not in C order": lambda: np.zeros((100, 200)).T,
    "read-only": read_only,
    "of bytes": lambda: np.frombuffer(bytes(4 * SIZE), np.float32),
    "a slice of a larger array": lambda: np.zeros(3 * SIZE, np.float32)[SIZE : 2 * SIZE],
    "a slice of a larger bytearray": lambda: np.frombuffer(memoryview(bytearray(9 * SIZE))[: 4 * SIZE], np.float32),
    "not aligned": lambda: np.frombuffer(bytearray(4 * SIZE + 1), np.float32, offset=1),
    "mapped memory": lambda: np.frombuffer(mmap.mmap(-1, 4 * SIZE), np.float32),
    "of a subclass": lambda: floats().view(np.recarray),
}


@pytest.mark.parametrize("make", TAKEN.values(), ids=TAKEN.keys())
def test_an_operand_with_memory_of_its_own_can_become_a_value(make: Callable[[], Array]) -> None:
    assert can_become_value(make())


@pytest.mark.parametrize("make", COPIED.values(), ids=COPIED.keys())
def test_other_operands_cannot(make: Callable[[], Array]) -> None:
    assert not can_become_value(make())


def assign(name: str, value: Array) -> Update:
    return Update(name, UpdateRule.ASSIGN, value)


def test_operands_that_come_from_the_same_memory_are_noticed() -> None:
    one, other, content = floats(), floats(), bytearray(8 * SIZE)
    halves = np.frombuffer(content, np.float32)[:SIZE], np.frombuffer(memoryview(content)[4 * SIZE :], np.float32)
    indices = np.zeros(1, np.int64)
    shared: list[list[PsOperation]] = [
        [assign("a", one), assign("b", one)],
        [assign("a", one[:3]), Read("a"), assign("b", one.reshape(2, -1))],
        [assign("a", halves[0]), assign("b", halves[1])],
        [assign("a", one), Initialize("b", InitializerSpec(ValueKind(one)))],
        [Scatter("a", ScatterRule.ADD, indices, one), assign("b", one)],
    ]
    for operations in shared:
        assert share_memory(operations)
    assert not share_memory([assign("a", one), assign("b", other), Scatter("a", ScatterRule.ADD, indices, floats())])
