"""Initial values that are computed in the worker: what users give, checked and made arrays of the variable's dtype."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ps_protocol.errors import ShapeMismatchError
from ps_protocol.initial_values.variable_layout import cuts, full_shape, stretches, subject
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array, VariableSpec
from worker_client.values.array_likes import array_of
from worker_client.values.conversion import cast
from worker_client.values.dtypes import DType
from worker_client.values.partition_info import PartitionInfo

_WHAT: Final = "its initial value"
_BLOCK = 1 << 16  # elements filled at a time


def array_value(value: object, variable: VariableSpec) -> Array:
    """Returns a value as a new array of the variable's dtype, of whatever shape it has.

    Numbers may change their type where that keeps their kind and range: integers become floats, int64 becomes uint8 if
    every element fits, float64 becomes float16 unless one would become infinite. Text becomes UTF-8.

    Raises:
        DTypeMismatchError: The value holds another kind of elements, or longer bytes.
        ValueRangeError: An element is out of the dtype's range; it is a ValueError.
    """
    array = array_of(value, variable, what=_WHAT, dtype=variable.dtype)
    if array.dtype.kind == "U":
        array = np.char.encode(array, "utf-8")
    return cast(array, variable, _WHAT)


def part_value(value: object, variable: VariableSpec) -> Array:
    """Returns a value of the whole's shape as a new array for a variable, or for its part.

    Raises:
        ShapeMismatchError: The value has another shape than the whole.
        DTypeMismatchError: As ``array_value``.
        ValueError: As ``array_value``.
    """
    array = array_of(value, variable, what=_WHAT, dtype=variable.dtype)
    _check_shape(array.shape, full_shape(variable), variable)
    return array_value(array[tuple(slice(cut.start, cut.start + cut.size) for cut in cuts(variable))], variable)


def repeated_value(value: object, variable: VariableSpec) -> Array:
    """Returns a variable's value when a list fills the whole in C order and its last element is repeated to the end.

    Raises:
        ValueError: The list is empty or longer than the whole; or as ``array_value``.
        DTypeMismatchError: As ``array_value``.
    """
    elements = array_value(value, variable).reshape(-1)
    needed = math.prod(full_shape(variable))
    if elements.size > needed:
        raise ValueError(f"{subject(variable)}: too many elements provided: {needed} needed, {elements.size} received")
    if needed and not elements.size:
        raise ValueError(f"{subject(variable)}: the constant has no elements; {needed} are needed")
    filled = np.empty(variable.shape, dtype=variable.dtype)
    flat = filled.reshape(-1)
    done = 0
    for stretch in stretches(cuts(variable), _BLOCK):
        rows = stretch.start + stretch.period * np.arange(stretch.rows)
        indices = (rows[:, np.newaxis] + np.arange(stretch.length)).reshape(-1)
        flat[done : done + indices.size] = elements[np.minimum(indices, elements.size - 1)]
        done += indices.size
    return filled


def called_value(initializer: Callable[..., Any], variable: VariableSpec) -> Array:
    """Returns what a function makes of a variable's shape and dtype, as an array of both.

    Args:
        initializer: As for ``call_initializer``.
        variable: The variable, or a part of a partitioned one.

    Raises:
        ShapeMismatchError: The result has another shape.
        DTypeMismatchError: As ``array_value``.
        ValueError: As ``array_value``.
        Exception: Whatever the function raises, with a note that names the variable.
    """
    result = array_of(call_initializer(initializer, variable), variable, what=_WHAT, dtype=variable.dtype)
    _check_shape(result.shape, variable.shape, variable)
    return array_value(result, variable)


def call_initializer(initializer: Callable[..., Any], variable: VariableSpec) -> Any:
    """Returns what a function makes of a variable's shape and dtype, whatever it is.

    Args:
        initializer: Called with the shape, as a list, and the keyword ``dtype``; also with the keyword
            ``partition_info`` if it has a parameter of that name, which of a whole variable is None.
        variable: The variable, or a part of a partitioned one.

    Raises:
        Exception: Whatever the function raises, with a note that names the variable.
    """
    keywords: dict[str, Any] = {"dtype": DType(variable.dtype)}
    if _takes_partition_info(initializer):
        place = variable.slice
        keywords["partition_info"] = place and PartitionInfo(list(place.full_shape), list(place.offset))
    try:
        return initializer(list(variable.shape), **keywords)
    except Exception as error:
        error.add_note(f"while computing the initial value of {subject(variable)}")
        raise


def _takes_partition_info(initializer: Callable[..., Any]) -> bool:
    try:
        return "partition_info" in inspect.signature(initializer).parameters
    except (TypeError, ValueError) as error:  # a function written in C that does not tell
        raise_interrupt(error)
        return False


def _check_shape(shape: tuple[int, ...], expected: tuple[int, ...], variable: VariableSpec) -> None:
    if shape != expected:
        raise ShapeMismatchError(
            f"{subject(variable)}: its initial value has shape {list(shape)}, expected is {list(expected)}",
            variable=variable.name,
        )
