"""Checks an array that a value is to be put into: in the client, in the transports and on the ps."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Array, VariableSpec


def misfit(
    out: Array, dtype: np.dtype[Any], shape: tuple[int, ...], in_order: bool
) -> tuple[type[InvalidArgumentError], str] | None:
    """Returns the kind of error and what is wrong, if a value cannot be put into an array.

    Args:
        out: The array.
        dtype: Of the value; that of the array must be exactly the same.
        shape: Of the value.
        in_order: Whether the array must be in C order.
    """
    if out.dtype != dtype:
        return DTypeMismatchError, f"has the dtype {out.dtype}, but it should be {dtype}"
    if out.shape != shape:
        return ShapeMismatchError, f"has the shape {list(out.shape)}, but it should be {list(shape)}"
    if not out.flags.writeable:
        return InvalidArgumentError, "is read-only"
    if in_order and not out.flags.c_contiguous:
        return InvalidArgumentError, "is not in C order"
    return None


def check_out(out: Array, spec: VariableSpec, shape: tuple[int, ...] | None = None, *, in_order: bool = False) -> None:
    """Makes sure that a value of a variable can be read into an array.

    Args:
        out: What the caller gave.
        spec: Of the variable.
        shape: Of what will be read, if that is not the whole value.
        in_order: Whether the array must be in C order.

    Raises:
        InvalidArgumentError: It is no NumPy array or a masked one, cannot be written, is not in C order, or has
            elements that share their memory, as repeated ones do.
        DTypeMismatchError: Its dtype is not exactly the variable's.
        ShapeMismatchError: Its shape is another.
    """
    shape = spec.shape if shape is None else shape
    if isinstance(out, np.ndarray):
        wrong = misfit(out, spec.dtype, shape, in_order)
        if wrong is None and type(out) is not np.ndarray and hasattr(out, "mask"):
            wrong = InvalidArgumentError, "is masked"
        elif wrong is None and not out.flags.c_contiguous and _overlaps_itself(out):
            wrong = InvalidArgumentError, "has elements that share their memory"
    else:
        wrong = InvalidArgumentError, f"is no NumPy array but {type(out).__name__}"
    if wrong is not None:
        kind, text = wrong
        remedy = f"make it with np.empty({list(shape)}, {spec.dtype.name!r})"
        raise kind(f"variable {spec.name}: `out` {text}; {remedy}", variable=spec.name)


def _overlaps_itself(array: Array) -> bool:
    """Whether elements may share memory: sorted by their strides, a dimension steps over less than the ones before."""
    extent = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1 and stride < extent:
            return bool(array.size)
        extent += stride * (size - 1)
    return False
