from __future__ import annotations

import errno
import importlib.util
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ps_protocol.operations import Array, ScatterRule, VariableSpec
from ps_server.background.loops import OF_PROCESS
from ps_server.rules import compiled_row_kernels
from ps_server.rules.background_compiler import BackgroundCompiler
from ps_server.rules.compiled_row_kernels import (
    CompiledScatter,
    KernelCompiler,
    RowKernel,
    compile_when_used,
    compiled_kernel,
    has_kernel,
)
from ps_server.rules.row_rules import plan_scatter
from ps_server.rules.row_schedule import Rows

FLOAT32 = np.dtype(np.float32)
TIMEOUT_S = 30.0


class GatedCompiler:
    """Compiles nothing, and not before it is told to."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.asked: list[tuple[ScatterRule, np.dtype[Any]]] = []
        self.fails = False

    def __call__(self, rule: ScatterRule, dtype: np.dtype[Any]) -> RowKernel:
        self.asked.append((rule, dtype))
        assert self.may_go_on.wait(TIMEOUT_S)
        if self.fails:
            raise OSError("no compiler today")
        return add_in_python


def add_in_python(matrix: Array, rows: Rows, updates: Array) -> None:
    for row, update in zip(rows, updates, strict=True):
        matrix[row] += update


@pytest.fixture
def gated() -> Iterator[GatedCompiler]:
    compiler = GatedCompiler()
    yield compiler
    compiler.may_go_on.set()


def test_nobody_waits_for_the_compiler(gated: GatedCompiler) -> None:
    compiler = KernelCompiler(gated)
    assert compiler.find(ScatterRule.ADD, FLOAT32) is None
    assert compiler.find(ScatterRule.ADD, FLOAT32) is None
    gated.may_go_on.set()
    assert compiler.wait(TIMEOUT_S)
    assert compiler.find(ScatterRule.ADD, FLOAT32) is add_in_python
    assert gated.asked == [(ScatterRule.ADD, FLOAT32)]


def test_it_says_when_nothing_is_left_to_compile(gated: GatedCompiler) -> None:
    idle: queue.Queue[int] = queue.Queue()
    compiler = KernelCompiler(gated, when_idle=lambda: idle.put(len(gated.asked)))
    compiler.find(ScatterRule.ADD, FLOAT32)
    compiler.find(ScatterRule.SUB, FLOAT32)
    assert idle.empty()
    gated.may_go_on.set()
    assert idle.get(timeout=TIMEOUT_S) == 2
    assert idle.empty()


def test_several_kernels_are_compiled_one_after_the_other(gated: GatedCompiler) -> None:
    compiler = KernelCompiler(gated)
    wanted = [(ScatterRule.ADD, FLOAT32), (ScatterRule.SUB, FLOAT32), (ScatterRule.ADD, np.dtype(np.int32))]
    for each in wanted:
        compiler.find(*each)
    assert not compiler.wait(0)
    gated.may_go_on.set()
    assert compiler.wait(TIMEOUT_S)
    assert sorted(gated.asked, key=str) == sorted(wanted, key=str)
    compiler.find(ScatterRule.MUL, FLOAT32)
    assert compiler.wait(TIMEOUT_S)
    assert compiler.find(ScatterRule.MUL, FLOAT32) is add_in_python


def test_a_system_without_threads_scatters_all_the_same(
    gated: GatedCompiler, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = KernelCompiler(gated)
    gated.may_go_on.set()

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as without_threads:
        without_threads.setattr(threading.Thread, "start", fail)
        assert compiler.find(ScatterRule.ADD, FLOAT32) is None
    assert "can't start new thread" in caplog.text
    assert compiler.find(ScatterRule.SUB, FLOAT32) is None
    assert compiler.wait(TIMEOUT_S)
    assert compiler.find(ScatterRule.ADD, FLOAT32) is add_in_python


def test_a_compiler_that_fails_is_not_asked_again(gated: GatedCompiler, caplog: pytest.LogCaptureFixture) -> None:
    compiler = KernelCompiler(gated)
    gated.fails = True
    gated.may_go_on.set()
    for _ in range(3):
        assert compiler.find(ScatterRule.ADD, FLOAT32) is None
        assert compiler.wait(TIMEOUT_S)
    assert len(gated.asked) == 1
    assert "no compiled scatter_add for float32, NumPy does it: OSError('no compiler today')" in caplog.text


def test_a_kernel_is_tried_again_that_could_not_be_compiled_for_want_of_descriptors() -> None:
    now_s, failures = 0.0, [OSError(errno.EMFILE, "Too many open files"), MemoryError()]

    def compiled(key: str) -> str:
        if failures:
            raise failures.pop()
        return f"kernel of {key}"

    compiler = BackgroundCompiler(compiled, str, clock=lambda: now_s)
    for _ in range(2):
        assert compiler.get("add") is None
        assert compiler.wait(TIMEOUT_S)
        assert any("compiling kernels" in reason for reason in OF_PROCESS.reasons())
        assert compiler.get("add") is None
        assert compiler.wait(TIMEOUT_S)
        now_s += 1000
    assert not failures
    assert compiler.get("add") is None
    assert compiler.wait(TIMEOUT_S)
    assert compiler.get("add") == "kernel of add"
    assert not OF_PROCESS.reasons()


@pytest.mark.parametrize(
    ("rule", "dtype"),
    [
        (ScatterRule.UPDATE, np.float32),
        (ScatterRule.DIV, np.int32),
        (ScatterRule.ADD, np.float16),
        (ScatterRule.MUL, np.complex64),
    ],
)
def test_what_has_no_kernel_asks_for_none(gated: GatedCompiler, rule: ScatterRule, dtype: Any) -> None:
    assert not has_kernel(rule, np.dtype(dtype))
    compiler = KernelCompiler(gated)
    assert compiler.find(rule, np.dtype(dtype)) is None
    assert compiler.wait(0)
    assert not gated.asked


def test_a_process_that_does_not_allow_it_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_row_kernels, "_compiler", None)
    updates = np.ones((100, 64), np.float32)
    assert compiled_row_kernels.plan(ScatterRule.ADD, np.arange(100), updates) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert not compile_when_used()
    assert compiled_row_kernels._compiler is None


def test_large_scatters_use_the_kernel_once_it_is_there(monkeypatch: pytest.MonkeyPatch, gated: GatedCompiler) -> None:
    compiler = KernelCompiler(gated)
    monkeypatch.setattr(compiled_row_kernels, "_compiler", compiler)
    value = np.zeros((50, 3, 64), np.float32)
    spec = VariableSpec("w", FLOAT32, value.shape)
    indices = np.arange(100, dtype=np.int32) % 30
    updates = np.ones((100, 3, 64), np.float32)
    first = plan_scatter(spec, ScatterRule.ADD, indices, updates)
    gated.may_go_on.set()
    assert compiler.wait(TIMEOUT_S)
    second = plan_scatter(spec, ScatterRule.ADD, indices, updates)
    assert not isinstance(first, CompiledScatter)
    assert isinstance(second, CompiledScatter)
    first.apply(value)
    second.apply(value)
    np.testing.assert_array_equal(value[:, 0, 0], [8] * 10 + [6] * 20 + [0] * 20)
    few = plan_scatter(spec, ScatterRule.ADD, indices[:2], updates[:2])
    scalar = plan_scatter(spec, ScatterRule.ADD, indices, np.array(1, np.float32))
    assert not isinstance(few, CompiledScatter)
    assert not isinstance(scalar, CompiledScatter)


def test_operands_in_any_layout_reach_the_kernel_in_c_order(
    monkeypatch: pytest.MonkeyPatch, gated: GatedCompiler
) -> None:
    compiler = KernelCompiler(gated)
    gated.may_go_on.set()
    compiler.find(ScatterRule.ADD, FLOAT32)
    assert compiler.wait(TIMEOUT_S)
    monkeypatch.setattr(compiled_row_kernels, "_compiler", compiler)
    packed = np.zeros(100 * 64 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(100, 64)
    assert not packed.flags.aligned
    for updates in (packed, np.ones((64, 100), np.float32).T):
        plan = compiled_row_kernels.plan(ScatterRule.ADD, np.arange(100), updates)
        assert plan is not None
        assert plan.updates.flags.aligned
        assert plan.updates.flags.c_contiguous


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba, of the extra `fast`, is not installed")
def test_kernels_work_where_nothing_can_be_kept_on_disk(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    numba: Any = importlib.import_module("numba")
    njit = numba.njit

    def njit_without_a_disk(signatures: Any, *, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(signatures, **options)

    monkeypatch.setattr(numba, "njit", njit_without_a_disk)
    caplog.set_level("INFO")
    value = np.zeros((3, 2), np.float32)
    compiled_kernel(ScatterRule.ADD, FLOAT32)(value, np.array([2, 0, 2]), np.ones((3, 2), np.float32))
    assert value.tolist() == [[1, 1], [0, 0], [2, 2]]
    assert "not kept on disk" in caplog.text
