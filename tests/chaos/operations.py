"""What a client does while things go wrong, and what must have come of it: each operation counted exactly once.

Each is a generator in three steps: it makes its variables, does its work, and checks the result. Faults are to be
injected in the second step alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final

import numpy as np

import worker_client as ss
from worker_client.ops.state_ops import count_up_to

ROWS: Final = 64
COLUMNS: Final = 1024
"""A variable of 256 KiB: over gRPC it travels in several chunks of ``CHUNK_BYTES``, on one host in shared memory."""

CHUNK_BYTES: Final = 64 * 1024
"""What a test is to set chunks and the limit of single messages to."""

WINDOW: Final = 10
WINDOW_ELEMENTS: Final = 20_000
"""80 kB: too large to share a batch with others, so that every update is one batch."""

Operation = Callable[[ss.Client, str], Iterator[None]]


def assign(client: ss.Client, name: str) -> Iterator[None]:
    variable = _variable(name, (ROWS, COLUMNS))
    value = _numbers(ROWS, COLUMNS)
    yield
    variable.assign(value)
    yield
    _check(variable, value, updates=1)


def assign_add(client: ss.Client, name: str) -> Iterator[None]:
    variable = _variable(name, (ROWS, COLUMNS))
    delta = _numbers(ROWS, COLUMNS)
    yield
    variable.assign_add(delta)
    variable.assign_add(delta)
    yield
    _check(variable, 2 * delta, updates=2)


def small_assign_add(client: ss.Client, name: str) -> Iterator[None]:
    variable = _variable(name, (2, 3))
    yield
    variable.assign_add(_numbers(2, 3))
    yield
    _check(variable, _numbers(2, 3), updates=1)


def scatter_add(client: ss.Client, name: str) -> Iterator[None]:
    variable = _variable(name, (ROWS, 4))
    rows = np.array([3, 7, 3, ROWS - 1])
    expected = np.zeros((ROWS, 4), np.float32)
    np.add.at(expected, rows, np.float32(1))
    yield
    variable.scatter_add(rows, np.ones((4, 4), np.float32))
    yield
    _check(variable, expected, updates=1)


def counting(client: ss.Client, name: str) -> Iterator[None]:
    counter = ss.get_variable(name, (), np.int64, initializer=ss.zeros_initializer())
    yield
    assert [count_up_to(counter, 3) for _ in range(3)] == [0, 1, 2]
    yield
    _check(counter, np.array(3), updates=3)


def two_tasks(client: ss.Client, name: str) -> Iterator[None]:
    """One call, of which each ps task gets a part."""
    variables = []
    for index in range(len(client.cluster_spec.ps_addresses())):
        with ss.device(f"/job:ps/task:{index}"):
            variables.append(_variable(f"{name}_{index}", (ROWS, COLUMNS)))
    delta = _numbers(ROWS, COLUMNS)
    yield
    client.assign_add_all([(variable, delta) for variable in variables])
    yield
    for variable in variables:
        _check(variable, delta, updates=1)


def window(client: ss.Client, name: str) -> Iterator[None]:
    """Many updates that are on their way at a time, each of which depends on the order."""
    variable = _variable(name, (WINDOW_ELEMENTS,))
    yield
    futures: list[Future[Any]] = []
    for number in range(WINDOW):
        futures.append(variable.assign(np.full(WINDOW_ELEMENTS, number, np.float32), wait=False))
        futures.append(variable.assign_add(np.full(WINDOW_ELEMENTS, 100, np.float32), wait=False))
    for future in futures:
        future.result(60)
    yield
    _check(variable, np.full(WINDOW_ELEMENTS, WINDOW - 1 + 100, np.float32), updates=2 * WINDOW)


def optimizer_steps(client: ss.Client, name: str) -> Iterator[None]:
    """One of the whole variable and one of some rows, each with a slot and the count."""
    variable, optimizer = _variable(name, (ROWS, COLUMNS)), ss.train.Momentum(1.0, 0.5)
    slots = optimizer.slots(variable)
    gradient, rows = _numbers(ROWS, COLUMNS), np.array([3, 7, 3])
    yield
    optimizer.apply_gradients([(gradient, variable)])
    optimizer.apply_gradients([(ss.IndexedSlices(np.ones((3, COLUMNS), np.float32), rows), variable)])
    yield
    momentum = gradient.copy()
    momentum[3], momentum[7] = gradient[3] / 2 + 2, gradient[7] / 2 + 1
    expected = -gradient
    expected[[3, 7]] -= momentum[[3, 7]]
    _check(variable, expected, updates=2)
    _check(slots["momentum"], momentum, updates=2)
    _check(slots["step"], np.array(2), updates=2)


def pulls_behind_steps(client: ss.Client, name: str) -> Iterator[None]:
    """Steps that bring the value back: each the one that it has made, also if it was sent again."""
    variable, optimizer = _variable(name, (ROWS, COLUMNS)), ss.train.GradientDescent(1.0)
    optimizer.slots(variable)
    mirror, gradient = client.mirror([variable]), _numbers(ROWS, COLUMNS)
    yield
    for number in range(1, 4):
        optimizer.apply_gradients([(gradient, variable)], pull=mirror)
        np.testing.assert_array_equal(mirror.values[0], -number * gradient)
    yield
    _check(variable, -3 * gradient, updates=3)


def read(client: ss.Client, name: str) -> Iterator[None]:
    variable = _variable(name, (ROWS, COLUMNS))
    variable.assign(_numbers(ROWS, COLUMNS))
    yield
    value = variable.read_value()
    yield
    np.testing.assert_array_equal(value, _numbers(ROWS, COLUMNS))
    _check(variable, value, updates=1)


OPERATIONS: Final[tuple[Operation, ...]] = (
    assign,
    assign_add,
    small_assign_add,
    scatter_add,
    counting,
    two_tasks,
    window,
    optimizer_steps,
    pulls_behind_steps,
    read,
)


def _variable(name: str, shape: tuple[int, ...]) -> ss.Variable:
    variable = ss.get_variable(name, shape, np.float32, initializer=ss.zeros_initializer())
    assert isinstance(variable, ss.Variable)
    return variable


def _numbers(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Whole numbers, whose sums are exact."""
    return (np.arange(np.prod(shape)) % 1021).reshape(shape).astype(np.float32)


def _check(variable: Any, expected: Any, *, updates: int) -> None:
    np.testing.assert_array_equal(variable.read_value(), expected)
    assert variable.version == updates
