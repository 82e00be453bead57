"""What a session is fed: values instead of those that tensors would be computed to, brought to the tensors' dtypes.

Values are converted as TensorFlow does, which takes whatever NumPy can make of them: 3.0 for an integer, 1 for a truth
value, the text "3" for a number. An integer of Python's that the dtype cannot hold is refused; NumPy's wrap around.
What would only look like a value is refused here as well: None, a masked array, what is no number, the imaginary part
of a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, integer_limits, is_ml_dtype
from ps_protocol.errors import InvalidArgumentError, ValueRangeError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from worker_client.graph.deferred_array import DeferredValue
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Tensor
from worker_client.sessions.fetches import tensor_of_graph
from worker_client.values.array_likes import array_of
from worker_client.values.text import is_text, text_array
from worker_client.variables.partitioned import PartitionedVariable


def fed_values(graph: Graph, feed_dict: Any) -> dict[Tensor, Array]:
    """Returns the value for each tensor that is fed.

    Args:
        graph: To which the tensors belong.
        feed_dict: Tensors, variables, names of tensors, and tuples of those, each with its value; None for nothing.

    Raises:
        TypeError: It is no mapping, a key is nothing that can be fed in this graph, or a value is of another kind.
        ValueError: A value does not have the tensor's shape, or is no number.
    """
    if isinstance(feed_dict, Mapping):
        return {
            tensor: _converted(tensor, value)
            for key, given in feed_dict.items()
            for tensor, value in _singly(graph, key, given)
        }
    if feed_dict:
        raise TypeError(f"feed_dict should be a dictionary of tensors and their values, not {feed_dict!r}")
    return {}


def _singly(graph: Graph, key: Any, value: Any) -> Iterator[tuple[Tensor, Any]]:
    """Yields the tensors of a key with their values, several if it is a tuple."""
    if isinstance(key, tuple):
        values = list(value.values() if isinstance(value, Mapping) else value)
        if len(values) != len(key):
            raise ValueError(f"{len(values)} values are fed to the {len(key)} tensors {key!r}")
        for each, its_value in zip(key, values, strict=True):
            yield from _singly(graph, each, its_value)
    else:
        yield _tensor(graph, key), value


def _tensor(graph: Graph, key: Any) -> Tensor:
    if isinstance(key, PartitionedVariable):
        raise TypeError(f"partitioned variable {key.name} cannot be fed as a whole; feed its parts")
    try:
        return tensor_of_graph(graph, key, "fed")
    except ValueError as error:  # as of a fetch
        raise_interrupt(error)
        raise TypeError(str(error)) from None


def _converted(tensor: Tensor, value: Any) -> Array:
    if isinstance(value, DeferredValue):
        raise TypeError(f"the value fed to {tensor.name} is a deferred tensor; run that first and feed its value")
    array = _array(tensor, value)
    if array.dtype != tensor.dtype and not is_text(tensor.dtype):
        array = _cast(tensor, array, is_python=not hasattr(value, "dtype"))
    if not tensor.shape.is_compatible_with(array.shape):
        raise ValueError(
            f"cannot feed a value of shape {list(array.shape)} to {tensor.name}, which has shape {tensor.shape}"
        )
    return array


def _array(tensor: Tensor, value: Any) -> Array:
    if is_text(tensor.dtype):
        return text_array(value)
    if type(value) is int and not -(2**63) <= value < 2**64:
        return np.array(value, object)
    try:
        return array_of(value, "Session.run", what=f"the value fed to {tensor.name}", dtype=tensor.dtype)
    except ValueRangeError:
        return np.asarray(value, object)
    except InvalidArgumentError as error:
        raise TypeError(error.message) from None


def _cast(tensor: Tensor, array: Array, *, is_python: bool) -> Array:
    target = tensor.dtype
    kind = dtype_category(target)
    if not _is_numeric(array, kind):
        raise _misfit(tensor, f"is {array.dtype.name}")
    if kind is DTypeCategory.BOOL and is_python and not array.shape and array.dtype.kind in "iuO":
        _check_range(tensor, array, 0, 1)
    elif kind is DTypeCategory.INTEGER and (array.dtype.kind == "f" or (is_python and array.dtype.kind in "iuO")):
        _check_range(tensor, array, *integer_limits(target))
    try:
        with np.errstate(all="ignore"):
            return array.astype(target)
    except OverflowError as error:  # an integer beyond all floats
        raise_interrupt(error)
        raise _misfit(tensor, f"is out of its range: {error}") from error
    except ValueError as error:  # a text that is no number
        raise_interrupt(error)
        raise ValueError(f"the value fed to {tensor.name} is no {target.name}: {error}") from error


def _is_numeric(array: Array, target: DTypeCategory) -> bool:
    """Whether the elements are numbers, of which those of the target's kind can be made without losing a part."""
    if array.dtype.kind in "SU":  # numbers as text
        return target is not DTypeCategory.BOOL
    if array.dtype.kind == "O":
        return all(isinstance(each, int | float | np.number | np.bool) for each in array.flat)
    if array.dtype.kind == "c":
        return target is DTypeCategory.COMPLEX
    return array.dtype.kind in "biuf" or is_ml_dtype(array.dtype)


def _check_range(tensor: Tensor, array: Array, least: int, greatest: int) -> None:
    for each in (array.min(), array.max()) if array.size else ():
        if not least <= each <= greatest:  # as nan is not
            raise _misfit(tensor, f"is out of its range: {each} is not in [{least}, {greatest}]")


def _misfit(tensor: Tensor, what: str) -> TypeError:
    return TypeError(f"the value fed to {tensor.name} {what}, needed is {tensor.dtype.name}")
