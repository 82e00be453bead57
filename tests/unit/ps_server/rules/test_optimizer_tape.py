"""Bodies as tapes: in place, in few registers; and compiled loops only where a process allows them."""

from __future__ import annotations

import importlib.util
import inspect
from typing import Any

import numpy as np
import pytest

from ps_server.rules.optimizers import blocks, bodies, compiled_loops
from ps_server.rules.optimizers.compiled_loops import LoopKey, compile_when_used
from ps_server.rules.optimizers.tape import Body, recorded

FLOAT32 = np.dtype(np.float32)
BODIES = dict(inspect.getmembers(bodies, inspect.isfunction))


def targets_of(body: Body) -> int:
    """How many arrays a body gives, found by running it on numbers."""
    count = len(inspect.signature(body).parameters)
    return len(body(*[np.float64(0.5)] * count))


@pytest.mark.parametrize("name", BODIES)
def test_a_workspace_has_the_registers_that_a_body_needs(name: str) -> None:
    body = BODIES[name]
    tape = recorded(body, targets_of(body), len(inspect.signature(body).parameters))
    workspace = blocks.Workspace(FLOAT32, 8)
    assert len(workspace.registers(tape.num_registers, (8,), 8)) == tape.num_registers


@pytest.mark.parametrize("name", BODIES)
def test_a_body_stays_in_the_dtype_of_its_operands(name: str) -> None:
    body = BODIES[name]
    count = len(inspect.signature(body).parameters)
    assert {np.asarray(each).dtype for each in body(*[np.float32(0.5)] * count)} == {FLOAT32}


def test_a_value_is_replaced_only_when_nobody_needs_the_old_one() -> None:
    def swapped(value: Any, slot: Any, gradient: Any) -> Any:
        new = value + gradient
        return new * slot, new + value

    value, slot, gradient = (np.array(each, np.float32) for each in ([1, 2], [3, 4], [10, 20]))
    tape = recorded(swapped, 2, 3)
    tape.run([value, slot, gradient], [np.empty(2, np.float32) for _ in range(tape.num_registers)])
    np.testing.assert_array_equal(value, [33, 88])
    np.testing.assert_array_equal(slot, [12, 24])


def test_a_body_may_not_reduce() -> None:
    with pytest.raises(TypeError, match="a body may call add only plainly"):
        recorded(lambda value, _gradient: (np.add.reduce(value),), 1, 2)


def test_a_body_gives_what_it_changes() -> None:
    with pytest.raises(TypeError, match="adam gives 3 arrays, not 2"):
        recorded(bodies.adam, 2, 8)


def test_a_process_that_does_not_allow_it_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_loops, "_compiler", None)
    assert compiled_loops.find(LoopKey(bodies.gradient_descent, 1, 1, 1, FLOAT32)) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert not compile_when_used()
    assert compiled_loops._compiler is None
    assert compiled_loops.wait(0)


@pytest.fixture
def nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has numba find no directory for its cache."""
    numba = pytest.importorskip("numba", reason="numba, of the extra `fast`, is not installed")
    compile_function = numba.njit

    def njit(*arguments: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache: no locator available")
        return compile_function(*arguments, **options)

    monkeypatch.setattr(numba, "njit", njit)


@pytest.mark.usefixtures("nothing_is_kept")
def test_loops_work_where_nothing_can_be_kept_on_disk() -> None:
    loop = compiled_loops.compiled_loop(LoopKey(bodies.gradient_descent, 1, 1, 1, FLOAT32))
    value = np.ones(5, np.float32)
    loop(value, np.arange(5, dtype=np.float32), (np.float32(2),))
    np.testing.assert_array_equal(value, [1, -1, -3, -5, -7])


@pytest.mark.usefixtures("nothing_is_kept")  # numba shows the code only of what it has compiled itself
def test_loops_for_rows_fetch_rows_of_value_and_slots_before_they_need_them() -> None:
    loop: Any = compiled_loops.compiled_loop(LoopKey(bodies.momentum, 2, 1, 2, FLOAT32, by_rows=True))
    (code,) = loop.inspect_llvm().values()
    assert code.count("call void @llvm.prefetch") >= 2
    for width in (1, 3, 100):
        rows = np.arange(20)[::-1].copy()
        value, momentum = np.ones((20, width), np.float32), np.zeros((20, width), np.float32)
        gradient = np.repeat(np.arange(20, dtype=np.float32), width).reshape(20, width)
        loop(value, momentum, gradient, rows, (np.float32(2), np.float32(0.5)))
        np.testing.assert_array_equal(momentum, gradient[::-1])
        np.testing.assert_array_equal(value, 1 - 2 * gradient[::-1])
