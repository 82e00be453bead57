"""Values that users give, as arrays: which dtype they have, and which they may be brought to."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps_protocol.operations import Array, VariableSpec
from worker_client.graph.operation import Tensor
from worker_client.initializers.arrays import array_value
from worker_client.values.array_likes import array_of


def tensor_value(value: object, name: str, dtype: np.dtype[Any] | None = None) -> Tensor | Array:
    """Returns a value as an array, or a deferred tensor as it is.

    Without a dtype Python's numbers become int32 or float32 where they fit, as in TensorFlow; what has a dtype of its
    own keeps it.

    Raises:
        DTypeMismatchError: The value is not of the kind of elements that ``dtype`` holds.
        ValueError: A deferred tensor has another dtype.
    """
    if isinstance(value, Tensor):
        if dtype is not None and value.dtype != dtype:
            raise ValueError(
                f"the initial value of variable {name} is {value.dtype.name}, but dtype={dtype.name} is asked for; "
                f"leave out dtype, or cast the value"
            )
        return value
    array = array_of(value, VariableSpec(name, np.dtype(np.float32) if dtype is None else dtype, ()), dtype=dtype)
    if dtype is None:
        dtype = array.dtype.newbyteorder("=") if hasattr(value, "dtype") else _python_dtype(array)
    elif hasattr(value, "dtype"):
        array = _losslessly_cast(array, dtype)
    return array_value(array, VariableSpec(name, dtype, array.shape))


def _losslessly_cast(array: Array, dtype: np.dtype[Any]) -> Array:
    """Returns an array in another kind of numbers if no element changes, as the floats of ``np.zeros`` to integers."""
    if array.dtype == dtype or array.dtype.kind not in "biuf" or dtype.kind not in "biuf":
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
    return cast if np.array_equal(cast, array) else array


def _python_dtype(array: Array) -> np.dtype[Any]:
    """The dtype of an array that was made from Python's own numbers and strings."""
    if array.dtype == np.float64:
        return np.dtype(np.float32)
    if array.dtype == np.int64 and np.array_equal(array.astype(np.int32), array):
        return np.dtype(np.int32)
    if array.dtype.kind == "U":
        return np.char.encode(array, "utf-8").dtype
    return array.dtype
