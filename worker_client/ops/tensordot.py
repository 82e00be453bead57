"""TensorFlow 1's ``tensordot``: sums of products over some dimensions, as one matrix product."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from worker_client.graph.blocks import name_scope
from worker_client.graph.operation import Tensor
from worker_client.ops.array_ops import concat, gather, reshape, stack, transpose
from worker_client.ops.constant_ops import convert_to_tensor, rank
from worker_client.ops.constant_ops import range as range_
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.math_ops import add, greater_equal, matmul, reduce_prod, subtract
from worker_client.ops.selection_ops import setdiff1d, where_v2
from worker_client.values.dtypes import int32
from worker_client.values.shapes import TensorShape

__all__ = ["tensordot"]

_LISTS: Final = (list, tuple)


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Any:
    """Returns the sum of products over some dimensions of two tensors.

    Args:
        a: A tensor.
        b: Another.
        axes: How many of the last of ``a`` and the first of ``b``; or two lists of them, or a tensor of two rows.
        name: Of the scope; "Tensordot" if not given.

    Raises:
        ValueError: The sizes of the dimensions differ, or there are not as many for both.
    """
    with name_scope(name, "Tensordot", [a, b]) as scope:
        one, two = convert_to_tensor(a, name="a"), convert_to_tensor(b, name="b")
        first, second = _axes(one, axes)
        left, left_free, left_known = _as_matrix(one, first, flipped=False)
        right, right_free, right_known = _as_matrix(two, second, flipped=True)
        product = matmul(left, right)
        if isinstance(left_free, list) and isinstance(right_free, list):
            sizes = left_free + right_free
            return product if list(TensorShape(product.shape)) == sizes else reshape(product, sizes, name=scope)
        frees = [convert_to_tensor(each, dtype=int32) for each in (left_free, right_free)]
        result = reshape(product, concat(frees, 0), name=scope)
        if isinstance(result, Tensor) and left_known is not None and right_known is not None:
            result.set_shape(left_known + right_known)
        return result


def _axes(one: Any, axes: Any) -> tuple[Any, Any]:
    """Returns the dimensions of both tensors to be summed over: lists, or tensors."""
    ndims = TensorShape(one.shape).ndims
    if isinstance(axes, int):
        if axes < 0 or (ndims is not None and axes > ndims):
            raise ValueError(f"tensordot: axes should be a number of dimensions of {one.shape}, not {axes}")
        if ndims is None:
            number = rank(one)
            return range_(subtract(number, axes), number, dtype=int32), range_(axes, dtype=int32)
        return list(range(ndims - axes, ndims)), list(range(axes))
    if not isinstance(axes, _LISTS):
        both = convert_to_tensor(axes, dtype=int32, name="axes")
        return both[0], both[1]
    if len(axes) != 2:
        raise ValueError(f"tensordot: axes should be a number or two lists, not {axes!r}")
    first, second = ([each] if isinstance(each, int | np.integer) else each for each in axes)
    if isinstance(first, _LISTS) and isinstance(second, _LISTS) and len(first) != len(second):
        raise ValueError(f"tensordot: axes should be as many dimensions of one as of the other, not {axes!r}")
    return first, second


def _as_matrix(tensor: Any, axes: Any, *, flipped: bool) -> tuple[Any, Any, list[int | None] | None]:
    """Returns a tensor as a matrix whose columns (or if flipped, rows) are the dimensions to be summed over.

    Returns:
        The matrix; the sizes of the other dimensions, a list if they are known or a tensor; and what is known of them.
    """
    shape = TensorShape(tensor.shape)
    if shape.ndims is not None and isinstance(axes, _LISTS):
        places = [_place(int(axis), shape) for axis in axes]
        free = [axis for axis in range(shape.ndims) if axis not in places]
        if shape.is_fully_defined():
            return _of_known(tensor, places, free, flipped=flipped)
        known = [shape.size(axis) for axis in free]
        summed, others = convert_to_tensor(places, int32, name="axes"), convert_to_tensor(free, int32, name="free")
        sizes = shape_tensor(tensor)
    else:
        known = None
        sizes, number = shape_tensor(tensor), rank(tensor)
        summed = convert_to_tensor(axes, dtype=int32, name="axes")
        summed = where_v2(greater_equal(summed, 0), summed, add(summed, number))
        others, _ = setdiff1d(range_(number), summed)
    free_sizes, summed_sizes = gather(sizes, others), gather(sizes, summed)
    rows, columns = reduce_prod(free_sizes), reduce_prod(summed_sizes)
    order = concat([summed, others] if flipped else [others, summed], 0)
    size = stack([columns, rows] if flipped else [rows, columns])
    return reshape(transpose(tensor, order), size), free_sizes, known


def _place(axis: int, shape: TensorShape) -> int:
    ndims = len(shape)
    if not -ndims <= axis < ndims:
        raise ValueError(f"tensordot: there is no dimension {axis} in the shape {shape}")
    return axis % ndims


def _of_known(
    tensor: Any, places: Sequence[int], free: Sequence[int], *, flipped: bool
) -> tuple[Any, list[int | None], list[int | None]]:
    sizes = [size or 0 for size in TensorShape(tensor.shape).as_list()]
    known: list[int | None] = [sizes[axis] for axis in free]
    rows, columns = math.prod(sizes[axis] for axis in free), math.prod(sizes[axis] for axis in places)
    order = [*places, *free] if flipped else [*free, *places]
    wanted = [columns, rows] if flipped else [rows, columns]
    turned = tensor if order == list(range(len(sizes))) else transpose(tensor, order)
    matrix = turned if TensorShape(turned.shape).as_list() == wanted else reshape(turned, wanted)
    return matrix, known, known
