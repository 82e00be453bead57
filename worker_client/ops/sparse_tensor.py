"""Tensors of which only some elements are listed."""

from __future__ import annotations

from typing import Any

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import tensor_or_none
from worker_client.graph.operation import Tensor
from worker_client.values.array_likes import array_of
from worker_client.values.shapes import TensorShape


class SparseTensor:
    """The elements of a tensor that are given, and where they are; all others are left out.

    Args:
        indices: Place of each element; shape ``[number, rank]``, in the order of the rows.
        values: The elements; shape ``[number]``.
        dense_shape: Shape of the whole.

    Raises:
        ValueError: The shapes do not fit each other.

    Attributes:
        indices: As a deferred tensor, or an int64 array.
        values: As a deferred tensor, or an array.
        dense_shape: As a deferred tensor, or an int64 array.
    """

    def __init__(self, indices: Any, values: Any, dense_shape: Any):
        self.indices = _tensor(indices, np.int64)
        self.values = _tensor(values, None)
        self.dense_shape = _tensor(dense_shape, np.int64)
        number = TensorShape(self.values.shape)
        places = TensorShape(self.indices.shape)
        sizes = TensorShape(self.dense_shape.shape)
        if number.ndims not in (1, None) or places.ndims not in (2, None) or sizes.ndims not in (1, None):
            raise ValueError(f"a sparse tensor has values [n], indices [n, rank] and dense_shape [rank], not {self!r}")
        if places.ndims and not (
            places[:1].is_compatible_with(number if number.ndims else [None])
            and places[1:].is_compatible_with(sizes if sizes.ndims else [None])
        ):
            raise ValueError(f"the numbers of values, indices and sizes of a sparse tensor differ: {self!r}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        dtype: np.dtype[Any] = self.values.dtype
        return dtype

    def __repr__(self) -> str:
        shapes = [TensorShape(each.shape) for each in (self.indices, self.values, self.dense_shape)]
        return f"<SparseTensor indices={shapes[0]} values={shapes[1]} dense_shape={shapes[2]} dtype={self.dtype.name}>"


def _tensor(value: Any, dtype: Any) -> Tensor | Array:
    tensor = tensor_or_none(value)
    return np.asarray(array_of(value, "SparseTensor"), dtype) if tensor is None else tensor
