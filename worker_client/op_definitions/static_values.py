"""What is known about the values of tensors while a graph is built: those of constants and of what is made of them.

As in TensorFlow, this serves shapes: ``reshape(x, shape(y))`` has the shape of ``y`` as far as that is known.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np

from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from worker_client.graph.computation import Constant, Kernel
from worker_client.graph.operation import Operation, Tensor
from worker_client.values.shapes import TensorShape

_MANY_ELEMENTS: Final = 1 << 10
"""More than this are not computed: no shape is that long."""
_DEPTH: Final = 24
"""How many operations are followed back."""

_Found: TypeAlias = dict[Operation, "Array | None"]


def constant_value(tensor: Tensor) -> Array | None:
    """Returns the value of a tensor if it can be known now; None if not."""
    return _value(tensor, {}, _DEPTH)


def _value(tensor: Tensor, found: _Found, depth: int) -> Array | None:
    operation = tensor.op
    computation = operation.computation
    if isinstance(computation, Constant):
        return computation.value
    if tensor.value_index or not isinstance(computation, Kernel) or not computation.folds or not depth:
        return None
    if operation.type == "PlaceholderWithDefault":  # a run may be fed another value
        return None
    if operation not in found:
        found[operation] = _computed(operation, computation, found, depth - 1)
    return found[operation]


def _computed(operation: Operation, kernel: Kernel, found: _Found, depth: int) -> Array | None:
    if len(operation.outputs) != 1 or (operation.outputs[0].shape.num_elements() or _MANY_ELEMENTS) >= _MANY_ELEMENTS:
        return None
    if operation.type == "Shape" and operation.operands[0].shape.is_fully_defined():
        return np.array(operation.operands[0].shape.as_tuple(), operation.outputs[0].dtype)
    values = []
    for operand in operation.operands:
        if (operand.shape.num_elements() or 0) > _MANY_ELEMENTS:
            return None
        value = _value(operand, found, depth)
        if value is None:
            return None
        values.append(value)
    try:
        return np.asarray(kernel.function(*values))
    except Exception as error:  # noqa: BLE001 - it is reported when a session computes it
        raise_interrupt(error)
        return None


def known_sizes(tensor: Tensor) -> TensorShape:
    """Returns the shape that a tensor of sizes stands for, as far as it is known; less than 0 is not known."""
    return TensorShape(_sizes(tensor, _DEPTH))


def _sizes(tensor: Tensor, depth: int) -> list[int | None] | None:
    value = constant_value(tensor)
    if value is not None:
        return [int(each) if each >= 0 else None for each in np.ravel(value)]
    sizes = _sizes_of_parts(tensor.op, depth - 1) if depth else None
    if sizes is None and tensor.shape.ndims == 1 and tensor.shape.size(0) is not None:
        return [None] * (tensor.shape.size(0) or 0)
    return sizes


def _sizes_of_parts(operation: Operation, depth: int) -> list[int | None] | None:
    """Returns what is known about the sizes that an operation puts together from others."""
    operands: tuple[Tensor, ...] = operation.operands
    match operation.type:
        case "Shape":
            return operands[0].shape.as_list() if operands[0].shape.ndims is not None else None
        case "Cast" | "Identity" if operands:  # a variable's read has none
            return _sizes(operands[0], depth)
        case "Pack" if all(each.shape.ndims == 0 for each in operands):
            return [_size(each, depth) for each in operands]
        case "ConcatV2":
            together: list[int | None] = []
            for each in operands[:-1]:
                part = _sizes(each, depth)
                if part is None:
                    return None
                together += part
            return together
        case "StridedSlice":
            return _strided_sizes(operation, depth)
    return None


def _size(tensor: Tensor, depth: int) -> int | None:
    """Returns the size that a scalar stands for."""
    sizes = _sizes(tensor, depth)
    return sizes[0] if sizes else None


def _strided_sizes(operation: Operation, depth: int) -> list[int | None] | None:
    sizes = _sizes(operation.operands[0], depth)
    key = [constant_value(each) for each in operation.operands[1:]]
    computation: Any = operation.computation
    if sizes is None or any(each is None for each in key):
        return None
    numbers = np.array([-1 if size is None else size for size in sizes])
    try:
        taken = computation.function(numbers, *key)
    except Exception as error:  # noqa: BLE001 - as above
        raise_interrupt(error)
        return None
    return [int(each) if each >= 0 else None for each in np.ravel(taken)]
