"""Bodies compiled by numba, where it is installed (the extra ``fast``): one pass over the memory, in place.

As with the kernels for rows, nothing waits for the compiler, a process has to allow it, and what is compiled is kept on
disk. Loops neither check nor allocate.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
import types
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from ps_server.rules.background_compiler import BackgroundCompiler
from ps_server.rules.optimizers import loop_templates
from ps_server.rules.optimizers.prefetching import compiled_prefetch
from ps_server.rules.optimizers.tape import Body

Loop = Callable[..., Any]
"""Takes arrays: those that change, those that are read; then a tuple of constants."""

_LOG = logging.getLogger(__name__)

_OPTIONS: Final = {"nogil": True, "error_model": "numpy"}
"""The error model keeps division from raising."""
_TEMPLATES: Final[dict[tuple[int, int], Loop]] = {
    (1, 1): loop_templates.one_changes,
    (2, 1): loop_templates.two_change,
    (3, 1): loop_templates.three_change,
    (4, 1): loop_templates.four_change,
    (1, 2): loop_templates.one_changes_by_two,
}
_ROW_TEMPLATES: Final[dict[int, Loop]] = {
    1: loop_templates.rows_of_one,
    2: loop_templates.rows_of_two,
    3: loop_templates.rows_of_three,
    4: loop_templates.rows_of_four,
}


class LoopKey(NamedTuple):
    """One loop.

    Attributes:
        body: What it does.
        targets: How many arrays it changes.
        reads: How many arrays it only reads; for rows the gradients.
        constants: How many constants the body has.
        dtype: Of all arrays and constants.
        by_rows: Whether it changes given rows of matrices; rows come after the gradient.
    """

    body: Body
    targets: int
    reads: int
    constants: int
    dtype: np.dtype[Any]
    by_rows: bool = False

    def __str__(self) -> str:
        return f"{self.body.__name__} of {'rows' if self.by_rows else 'all elements'} for {self.dtype.name}"


class SumKey(NamedTuple):
    """The loop that adds up the gradients of each row, ``loop_templates.sum_by_row``."""

    dtype: np.dtype[Any]

    def __str__(self) -> str:
        return f"sums by row for {self.dtype.name}"


def compiled_loop(key: LoopKey | SumKey) -> Loop:
    """Compiles a loop, or loads it from numba's cache. Takes a second or two the first time.

    Raises:
        ImportError: numba is not installed.
    """
    numba: Any = importlib.import_module("numba")
    if isinstance(key, SumKey):
        element, index = numba.from_dtype(key.dtype), numba.intp
        matrix = numba.types.Array(element, 2, "C", readonly=True)
        arrays = [(index, 1), (numba.int32, 1), (index, 1), (element, 2)]
        rows, *room = (numba.types.Array(each, ndim, "C") for each, ndim in arrays)
        return _kept(loop_templates.sum_by_row, index(rows, matrix, *room))
    template = _ROW_TEMPLATES[key.targets] if key.by_rows else _TEMPLATES[key.targets, key.reads]
    function = _copied(template, key.body, numba.njit(**_OPTIONS)(key.body))
    element, index = numba.from_dtype(key.dtype), numba.types.Array(numba.intp, 1, "C")
    ndim = 2 if key.by_rows else 1
    targets = [numba.types.Array(element, ndim, "C")] * key.targets
    reads = [numba.types.Array(element, ndim, "C", readonly=True)] * key.reads
    rows = [index] if key.by_rows else []
    return _kept(function, numba.void(*targets, *reads, *rows, numba.types.UniTuple(element, key.constants)))


def _kept(function: Any, signature: Any) -> Loop:
    """Compiles a function, or loads it from the disk."""
    numba: Any = importlib.import_module("numba")
    try:
        loop: Loop = numba.njit([signature], cache=True, **_OPTIONS)(function)
    except Exception as error:  # noqa: BLE001 - no directory may be written to, the disk is full, a file is damaged
        _LOG.info("compiled optimizer loops are not kept on disk: %r", error)
        loop = numba.njit([signature], **_OPTIONS)(function)
    return loop


def _copied(template: Any, body: Body, compiled_body: Any) -> Any:
    """Returns the template with its body, under a name that numba's cache knows this version of the body by."""
    code: Any = body.__code__
    digest = hashlib.blake2b(repr((code.co_code, code.co_consts, code.co_names)).encode(), digest_size=6).hexdigest()
    name = f"{template.__name__}_{body.__name__}_{digest}"
    names = {**vars(loop_templates), "body": compiled_body, "prefetch": compiled_prefetch()}
    function = types.FunctionType(template.__code__, names, name)
    function.__qualname__, function.__module__ = name, template.__module__
    return function


_compiler: BackgroundCompiler[LoopKey | SumKey] | None = None


def compile_when_used(when_idle: Callable[[], None] | None = None) -> bool:
    """Allows this process to compile loops that are used.

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
        _compiler = BackgroundCompiler(compiled_loop, str, when_idle=when_idle)
    return True


def find(key: LoopKey | SumKey) -> Loop | None:
    """Returns a loop if it is ready; otherwise asks for it in the background, if that is allowed, and returns None."""
    if _compiler is None:
        return None
    loop: Loop | None = _compiler.get(key)
    return loop


def wait(timeout_s: float) -> bool:
    """Waits until what was asked for is ready or has failed; returns whether that was in time."""
    return _compiler is None or _compiler.wait(timeout_s)
