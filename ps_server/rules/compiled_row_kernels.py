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
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array, ScatterRule
from ps_server.rules.background_compiler import BackgroundCompiler
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


class KernelCompiler(BackgroundCompiler[_Key]):
    """Gets kernels in the background. Thread-safe.

    Args:
        compiled: Compiles one; may take its time, and may fail.
        when_idle: As of ``BackgroundCompiler``.
    """

    def __init__(
        self,
        compiled: Callable[[ScatterRule, np.dtype[Any]], RowKernel] = compiled_kernel,
        when_idle: Callable[[], None] | None = None,
    ):
        super().__init__(
            lambda key: compiled(*key),
            lambda key: f"scatter_{key[0].name.lower()} for {key[1].name}",
            when_idle=when_idle,
        )

    def find(self, rule: ScatterRule, dtype: np.dtype[Any]) -> RowKernel | None:
        """Returns the kernel if it is ready; otherwise asks for it, if there is one, and returns None."""
        kernel: RowKernel | None = self.get((rule, dtype)) if has_kernel(rule, dtype) else None
        return kernel


_compiler: KernelCompiler | None = None


def compile_when_used(when_idle: Callable[[], None] | None = None) -> bool:
    """Allows this process to compile kernels that are used.

    Args:
        when_idle: As of ``BackgroundCompiler``.

    Returns:
        Whether numba is installed.
    """
    global _compiler  # noqa: PLW0603 - what a process allows itself, set once at its start
    if importlib.util.find_spec("numba") is None:
        return False
    if _compiler is None:
        logging.getLogger("numba").setLevel(logging.WARNING)  # it logs each step of the compiler for debugging
        _compiler = KernelCompiler(when_idle=when_idle)
    return True


def wait(timeout_s: float) -> bool:
    """Waits until what was asked for is ready or has failed; returns whether that was in time."""
    return _compiler is None or _compiler.wait(timeout_s)


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
