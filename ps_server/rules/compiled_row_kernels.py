"""The scatter rules compiled by numba, where it is installed (the extra ``fast``): one loop, in place.

Nothing waits for the compiler. When a kernel is first asked for, a background thread compiles it or loads it from
numba's cache on disk. Until then, and where there is no kernel, NumPy does the same work with the same result.
Importing numba takes much memory, so a process has to allow it with ``compile_when_used()``; a ps does.

Kernels neither check nor allocate: rows are in range and do not change any more, and arrays are in C order.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array, ScatterRule
from ps_server.rules.row_schedule import Rows

RowKernel = Callable[[Array, Rows, Array], None]
"""``kernel(matrix, rows, updates)``: changes rows of ``matrix``, ``[rows, width]``, by ``updates``, ``[n, width]``."""

_LOG = logging.getLogger(__name__)

_LEAST_ELEMENTS: Final = 4096
"""Scatters of fewer elements do not ask for a kernel: NumPy takes some ten microseconds for them."""

_REAL: Final = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")


# Plain Python until numba compiles them. Its error model "numpy" keeps division from raising.
def _add(matrix: Any, rows: Any, updates: Any) -> None:
    for i in range(rows.size):
        row = rows[i]
        for j in range(matrix.shape[1]):
            matrix[row, j] += updates[i, j]


def _subtract(matrix: Any, rows: Any, updates: Any) -> None:
    for i in range(rows.size):
        row = rows[i]
        for j in range(matrix.shape[1]):
            matrix[row, j] -= updates[i, j]


def _multiply(matrix: Any, rows: Any, updates: Any) -> None:
    for i in range(rows.size):
        row = rows[i]
        for j in range(matrix.shape[1]):
            matrix[row, j] *= updates[i, j]


def _divide(matrix: Any, rows: Any, updates: Any) -> None:
    for i in range(rows.size):
        row = rows[i]
        for j in range(matrix.shape[1]):
            matrix[row, j] /= updates[i, j]


def _minimum(matrix: Any, rows: Any, updates: Any) -> None:
    for i in range(rows.size):
        row = rows[i]
        for j in range(matrix.shape[1]):
            old, new = matrix[row, j], updates[i, j]
            matrix[row, j] = old if old <= new or old != old else new  # noqa: PLR0124 - only NaN differs from itself


def _maximum(matrix: Any, rows: Any, updates: Any) -> None:
    for i in range(rows.size):
        row = rows[i]
        for j in range(matrix.shape[1]):
            old, new = matrix[row, j], updates[i, j]
            matrix[row, j] = old if old >= new or old != old else new  # noqa: PLR0124 - only NaN differs from itself


_FUNCTIONS: Final[dict[ScatterRule, tuple[RowKernel, tuple[str, ...]]]] = {
    ScatterRule.ADD: (_add, (*_REAL, "c8", "c16")),
    ScatterRule.SUB: (_subtract, (*_REAL, "c8", "c16")),
    ScatterRule.MUL: (_multiply, _REAL),
    ScatterRule.DIV: (_divide, ("f4", "f8")),
    ScatterRule.MIN: (_minimum, _REAL),
    ScatterRule.MAX: (_maximum, _REAL),
}
"""The rules and the dtypes in which their kernel gives what NumPy gives, bit for bit."""

_Key = tuple[ScatterRule, np.dtype[Any]]


@functools.cache
def has_kernel(rule: ScatterRule, dtype: np.dtype[Any]) -> bool:
    """Whether there is a kernel to compile."""
    return rule in _FUNCTIONS and dtype in [np.dtype(each) for each in _FUNCTIONS[rule][1]]


def compiled_kernel(rule: ScatterRule, dtype: np.dtype[Any]) -> RowKernel:
    """Compiles a kernel, or loads it from the cache. Takes a second or two the first time.

    Raises:
        ImportError: numba is not installed.
    """
    numba: Any = importlib.import_module("numba")
    element = numba.from_dtype(dtype)
    signature = numba.void(
        numba.types.Array(element, 2, "C"),
        numba.types.Array(numba.intp, 1, "C"),
        numba.types.Array(element, 2, "C", readonly=True),
    )
    function = _FUNCTIONS[rule][0]
    options = {"nogil": True, "error_model": "numpy"}
    try:
        kernel: RowKernel = numba.njit([signature], cache=True, **options)(function)
    except Exception as error:  # noqa: BLE001 - no directory may be written to, the disk is full, a file is damaged
        _LOG.info("compiled row kernels are not kept on disk: %r", error)
        kernel = numba.njit([signature], **options)(function)
    return kernel


class KernelCompiler:
    """Gets kernels in the background. Thread-safe.

    Args:
        compiled: Compiles one; may take its time, and may fail.
    """

    def __init__(self, compiled: Callable[[ScatterRule, np.dtype[Any]], RowKernel] = compiled_kernel):
        self._compiled = compiled
        # guards: _wanted, _thread, and changes of _kernels. A look into _kernels is atomic and done without it.
        self._lock = threading.Lock()
        self._kernels: dict[_Key, RowKernel | None] = {}
        self._wanted: list[_Key] = []  # each of the few kernels there are at most once
        self._thread: threading.Thread | None = None

    def find(self, rule: ScatterRule, dtype: np.dtype[Any]) -> RowKernel | None:
        """Returns the kernel if it is ready; otherwise asks for it in the background and returns None."""
        key = (rule, dtype)
        try:
            return self._kernels[key]
        except KeyError:
            if has_kernel(rule, dtype):
                self._want(key)
            return None

    def wait(self, timeout_s: float) -> bool:
        """Waits until what was asked for is ready or has failed; returns whether that was in time."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        return thread is None or not thread.is_alive()

    def _want(self, key: _Key) -> None:
        with self._lock:
            if key in self._kernels:
                return
            self._kernels[key] = None
            self._wanted.append(key)
            if self._thread is None:
                # Not a daemon: the interpreter must not end in the middle of the compiler's C++.
                thread = threading.Thread(target=self._compile, name="row-kernels")
                try:
                    thread.start()
                except RuntimeError as error:  # the system has no thread left; the next kernel asked for tries again
                    _LOG.warning("nothing compiles row kernels for now, NumPy does their work: %s", error)
                    return
                self._thread = thread

    def _compile(self) -> None:
        while True:
            with self._lock:
                if not self._wanted:
                    self._thread = None
                    return
                key = self._wanted.pop()
            rule, dtype = key
            started_s = time.monotonic()
            try:
                kernel = self._compiled(rule, dtype)
            except Exception as error:  # noqa: BLE001 - NumPy can do the work
                _LOG.warning("no compiled scatter_%s for %s, NumPy does it: %r", rule.name.lower(), dtype.name, error)
                continue
            with self._lock:
                self._kernels[key] = kernel
            _LOG.info("scatter_%s for %s ready in %.2f s", rule.name.lower(), dtype.name, time.monotonic() - started_s)


_compiler: KernelCompiler | None = None


def compile_when_used() -> bool:
    """Allows this process to compile kernels that are used; returns whether numba is installed."""
    global _compiler  # noqa: PLW0603 - what a process allows itself, set once at its start
    if importlib.util.find_spec("numba") is None:
        return False
    if _compiler is None:
        logging.getLogger("numba").setLevel(logging.WARNING)  # it logs each step of the compiler for debugging
        _compiler = KernelCompiler()
    return True


@dataclass(frozen=True, slots=True)
class CompiledScatter:
    """A scatter by a kernel, which cannot fail once it has begun."""

    kernel: RowKernel
    rows: Rows
    updates: Array

    def apply(self, value: Array) -> None:
        """Changes the rows of ``value`` in place."""
        self.kernel(value.reshape(-1, self.updates.shape[1]), self.rows, self.updates)


def plan(rule: ScatterRule, rows: Rows, updates: Array) -> CompiledScatter | None:
    """Prepares a scatter by a kernel; None if there is none yet, or it would not pay.

    Args:
        rule: What to do; computable in the dtype of ``updates``.
        rows: In range, ``[n]``; they do not change any more.
        updates: ``[n, width]`` or 0-d. Kept until the plan has been applied.
    """
    if _compiler is None or updates.size < _LEAST_ELEMENTS:
        return None
    kernel = _compiler.find(rule, updates.dtype)
    return None if kernel is None else CompiledScatter(kernel, rows, np.require(updates, requirements=["C", "A"]))
