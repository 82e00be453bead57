"""The operands of an operation that wants all of one dtype, brought to it as TensorFlow does.

Tensors and variables keep theirs and must agree. Numbers and arrays take the dtype of the tensors, if that keeps their
kind: 0.5 becomes a float64 beside a float64 tensor, and is refused beside an integer one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.dtype_traits import dtype_category
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.deferred.call import deferred_call, is_deferred, tensor_or_none
from worker_client.deferred.conversion import tensor_value
from worker_client.graph.operation import Tensor
from worker_client.values.array_likes import ValueRangeError, array_of
from worker_client.values.dtypes import as_dtype, string

_PYTHONS_OWN: Final = (list, tuple, int, float, complex, str, bytes)
"""What takes the dtype of other operands."""


def of_one_dtype(operation: str, values: Sequence[Any]) -> list[Any]:
    """Returns values of one dtype: deferred ones as tensors, the others as arrays.

    Args:
        operation: What they are for, for errors.
        values: Tensors, variables, arrays, numbers, lists of numbers.

    Raises:
        TypeError: Tensors differ in dtype, or a constant is of another kind.
    """
    operands = [_operand(operation, value) for value in values]
    leader = _leader(operation, operands)
    return [
        each if isinstance(each, Tensor) else _constant(operation, each, leader)
        for each in (_checked(operation, each, leader) for each in operands)
    ]


def _leader(operation: str, operands: Sequence[Any]) -> Tensor | Array:
    """Returns the operand whose dtype the others must have: a tensor, else an array, else the first."""
    for kind in (Tensor, np.ndarray):
        for each in operands:
            if isinstance(each, kind):
                return each
    return tensor_value(operands[0], operation)


def constant_array(value: Any, dtype: Any, what: str) -> Array:
    """Returns a value as a new array; without a dtype Python's numbers become float32 or int32, as in TensorFlow.

    Raises:
        TypeError: The value is of another kind of elements, or a deferred tensor.
        ValueError: An element is out of the dtype's range.
    """
    if tensor_or_none(value) is not None:
        raise TypeError(f"{what} needs a value that is known now, not the deferred {value!r}")
    wanted = None if dtype is None else as_dtype(dtype)
    if wanted is not None and wanted == string.dtype:  # of whatever length
        wanted = np.asarray(value, dtype=np.bytes_).dtype
    try:
        array = tensor_value(value, what, wanted)
    except ValueRangeError:
        raise
    except InvalidArgumentError as error:
        raise TypeError(
            f"{what}: {value!r} is not {'a constant' if wanted is None else wanted.name}: {error}"
        ) from error
    return np.asarray(array)


def _operand(operation: str, value: Any) -> Any:
    tensor = tensor_or_none(value)
    if tensor is not None:
        return tensor
    if isinstance(value, list | tuple) and any(is_deferred(each) for each in value):
        return deferred_call(np.stack, [of_one_dtype(operation, value)], op_type="Pack", name="packed")
    return value if isinstance(value, _PYTHONS_OWN) else array_of(value, operation)


def _checked(operation: str, value: Any, leader: Tensor | Array) -> Any:
    if isinstance(value, Tensor) and value.dtype != leader.dtype:
        raise TypeError(f"{operation} needs operands of one dtype: {_named(leader)} and {_named(value)}; cast one")
    return value


def _constant(operation: str, value: Any, leader: Tensor | Array) -> Array:
    array = array_of(value, operation, dtype=leader.dtype)
    if array.dtype == leader.dtype:
        return array
    if array.size and not _keeps_kind(array.dtype, leader.dtype):
        raise TypeError(
            f"{operation} needs operands of one dtype: {_named(leader)} and {value!r} ({array.dtype.name}); cast one"
        )
    try:
        return np.asarray(value, dtype=leader.dtype)
    except OverflowError as error:
        raise TypeError(f"{operation}: {value!r} does not fit into the dtype of {_named(leader)}") from error


def _keeps_kind(source: np.dtype[Any], target: np.dtype[Any]) -> bool:
    if source.kind in "US" or target.kind in "US":
        return source.kind in "US" and target.kind in "US"
    return dtype_category(source) <= dtype_category(target)


def _named(value: Tensor | Array) -> str:
    if isinstance(value, Tensor):
        return f"{value.name} ({value.dtype.name})"
    return f"a constant ({value.dtype.name})"
