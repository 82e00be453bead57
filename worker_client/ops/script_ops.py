"""TensorFlow 1's operations that call functions of Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, Final

from ps_protocol.errors import (
    InvalidArgumentError,
    OutOfRangeError,
    ResourceExhaustedError,
    ShardscopeError,
    UnimplementedError,
    UnknownError,
)
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from worker_client.deferred.call import call_for_several
from worker_client.graph.operation import OutputSpec
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.values.array_likes import array_of
from worker_client.values.dtypes import DType, as_dtype

__all__ = ["numpy_function", "py_func"]

_NUMBERS: Final = count()
"""Of all operations of a process that call functions, for their attribute."""


def py_func(
    func: Callable[..., Any],
    inp: Sequence[Any],
    Tout: Any,  # noqa: N803 - TensorFlow's name
    stateful: bool = True,
    name: str | None = None,
) -> Any:
    """Makes an operation that calls a function in the session's process.

    Args:
        func: Is given NumPy arrays, which it must not change, and returns one array or a list of them.
        inp: Tensors.
        Tout: The dtype of the result, or a list of those of several results.
        stateful: Ignored: it is called once in each run that needs it.
        name: "PyFunc" if not given.

    Returns:
        A tensor of unknown shape, or a list of them.

    Raises:
        InvalidArgumentError: When it runs: the function raises an error, or returns another number of arrays or dtype.
    """
    del stateful
    is_one = not isinstance(Tout, list | tuple)
    wanted = [as_dtype(each) for each in ([Tout] if is_one else Tout)]

    def results(*values: Array) -> tuple[Array, ...]:
        returned = _returned(func, values)
        called = getattr(func, "__name__", str(func))
        found = [array_of(each, called, what="what it returned") for each in ([returned] if is_one else returned or [])]
        dtypes = [each.dtype.newbyteorder("=") for each in found]
        if dtypes != wanted:
            given, asked = ([each.name for each in some] for some in (dtypes, wanted))
            raise InvalidArgumentError(f"{called} returned {given}, but Tout says {asked}")
        return tuple(each.astype(dtype, copy=False) for each, dtype in zip(found, dtypes, strict=True))

    operands = [convert_to_tensor(each) for each in inp]
    attributes = {
        "Tin": [DType.of(as_dtype(each.dtype)) for each in operands],
        "Tout": [DType.of(each) for each in wanted],
        "token": f"pyfunc_{next(_NUMBERS)}".encode(),
    }
    specs = [OutputSpec(each) for each in wanted]
    outputs = call_for_several(results, operands, specs, op_type="PyFunc", name=name, attributes=attributes)
    return outputs[0] if is_one else outputs


def _returned(func: Callable[..., Any], values: Sequence[Array]) -> Any:
    """Calls a function; an error of Python's is what TensorFlow makes of it."""
    try:
        return func(*values)
    except (TypeError, ValueError, ShardscopeError):
        raise
    except Exception as error:
        raise_interrupt(error)
        kinds = {StopIteration: OutOfRangeError, MemoryError: ResourceExhaustedError}
        kind = kinds.get(type(error), UnimplementedError if isinstance(error, NotImplementedError) else UnknownError)
        raise kind(f"{type(error).__name__}: {error}") from error


def numpy_function(
    func: Callable[..., Any],
    inp: Sequence[Any],
    Tout: Any,  # noqa: N803 - TensorFlow's name
    stateful: bool = True,
    name: str | None = None,
) -> Any:
    """Does what ``py_func`` does, under its newer name."""
    return py_func(func, inp, Tout, stateful, name)
