"""Adds up the gradients of rows that are there several times, always in the order in which they come."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps_protocol.errors import ShapeMismatchError
from ps_protocol.operations import Array
from worker_client.deferred.call import call_for_several
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.conversion import IndexedSlices
from worker_client.values.shapes import TensorShape


def summed_rows(gradient: IndexedSlices) -> IndexedSlices:
    """Returns the same rows, each once, as tensors of the graph.

    Raises:
        TypeError: The row indices are no integers.
        ValueError: There are not as many of them as there are rows.
    """
    values: Any = gradient.values
    indices: Any = gradient.indices
    if indices.dtype.kind not in "iu":
        raise TypeError(f"the row indices {indices.name} of a gradient are {indices.dtype.name}; integers are needed")
    numbers = indices.shape.with_rank(1) if indices.shape.ndims in (None, 1) else None
    if numbers is None or not values.shape[:1].is_compatible_with(numbers):
        raise _other_shapes(values.shape, indices.shape)
    row = TensorShape(None) if values.shape.ndims is None else TensorShape([None, *values.shape[1:]])
    outputs = [OutputSpec(values.dtype, row), OutputSpec(indices.dtype, TensorShape([None]))]
    summed: list[Tensor] = call_for_several(_summed, [values, indices], outputs, op_type="Unique", name="Unique")
    return IndexedSlices(summed[0], summed[1], gradient.dense_shape)


def _other_shapes(values: TensorShape, indices: TensorShape) -> ShapeMismatchError:
    return ShapeMismatchError(
        f"a gradient of rows has values of the shape {values} and row indices of the shape {indices}; give values "
        f"[rows, ...] and indices [rows]"
    )


def _summed(values: Array, indices: Array) -> tuple[Array, Array]:
    if indices.ndim != 1 or values.shape[:1] != indices.shape:
        raise _other_shapes(TensorShape(values.shape), TensorShape(indices.shape))
    if len(indices) < 2:
        return values, indices
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if len(starts) == len(indices):
        return values[order], ordered
    return np.add.reduceat(values[order], starts, axis=0), ordered[starts]
