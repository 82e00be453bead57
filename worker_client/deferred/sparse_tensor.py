"""Tensors of which only some elements are listed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred import elementwise
from worker_client.deferred.building import built_op, constant_op
from worker_client.deferred.call import is_deferred
from worker_client.deferred.computed import deferred_graph
from worker_client.deferred.operands import constant_array, tensor_of
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, Tensor
from worker_client.graph.runners import Runner, runner_for
from worker_client.op_definitions.static_values import known_sizes
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import DType
from worker_client.values.shapes import TensorShape


class SparseTensorValue(NamedTuple):
    """The value of a sparse tensor, as a session returns it.

    Attributes:
        indices: Place of each element, ``[number, rank]``.
        values: The elements, ``[number]``.
        dense_shape: Shape of the whole, ``[rank]``.
    """

    indices: Any
    values: Any
    dense_shape: Any


class SparseTensor:
    """The elements of a tensor that are given, and where they are; all others are left out.

    Args:
        indices: Place of each element; shape ``[number, rank]``, in the order of the rows.
        values: The elements; shape ``[number]``.
        dense_shape: Shape of the whole.

    Raises:
        ValueError: The shapes do not fit each other, or tensors of indices or sizes are not int64.
        TypeError: The indices or the sizes are no integers.

    Attributes:
        indices: An int64 tensor; elsewhere than in a deferred graph an array.
        values: A tensor, or an array.
        dense_shape: An int64 tensor, or an array.
    """

    def __init__(self, indices: Any, values: Any, dense_shape: Any):
        given = {"indices": indices, "values": values, "dense_shape": dense_shape}
        graph = deferred_graph([*given.values()])
        if graph is None:
            members: list[Any] = [constant_array(each, _DTYPES.get(name), name) for name, each in given.items()]
        else:
            with graph.name_scope("SparseTensor"):
                members = [_member(graph, each, name) for name, each in given.items()]
        self.indices, self.values, self.dense_shape = members
        self._check_shapes()

    @classmethod
    def from_value(cls, sparse_tensor_value: SparseTensor | SparseTensorValue) -> SparseTensor:
        """Returns a sparse tensor of a value, or the one given."""
        if isinstance(sparse_tensor_value, SparseTensor):
            return sparse_tensor_value
        return cls(*sparse_tensor_value)

    @property
    def name(self) -> str:
        """That of the values, in a deferred graph."""
        name: str = self.values.name
        return name

    @property
    def op(self) -> Operation:
        """The operation that makes the values, in a deferred graph."""
        operation: Operation = self.values.op
        return operation

    @property
    def graph(self) -> Any:
        """The graph of the values, a deferred one."""
        return self.values.graph

    @property
    def device(self) -> str:
        """Where the values are, in a deferred graph."""
        device: str = self.values.device
        return device

    @property
    def dtype(self) -> DType:
        """Type of the elements."""
        return DType(self.values.dtype)

    @property
    def shape(self) -> TensorShape:
        """Shape of the whole, as far as it is known."""
        if isinstance(self.dense_shape, Tensor):
            return known_sizes(self.dense_shape)
        return TensorShape(self.dense_shape.tolist())

    def get_shape(self) -> TensorShape:
        """Returns the shape of the whole."""
        return self.shape

    def eval(self, feed_dict: Mapping[Any, Any] | None = None, session: Runner | None = None) -> Any:
        """Computes it in a session, by default the default one; returns a ``SparseTensorValue``."""
        return runner_for(self.graph, session, self.name).run(self, feed_dict)

    __array_ufunc__ = None  # so that tensors leave a product with one to it

    def __neg__(self) -> SparseTensor:
        return SparseTensor(self.indices, -self.values, self.dense_shape)

    def __mul__(self, other: Any) -> SparseTensor:
        return self._with_dense("SparseDenseCwiseMul", np.multiply, other, "mul")

    def __rmul__(self, other: Any) -> SparseTensor:
        return self * other if is_deferred(other) else NotImplemented

    def __truediv__(self, other: Any) -> SparseTensor:
        return self._with_dense("SparseDenseCwiseDiv", np.true_divide, other, "truediv")

    def _with_dense(self, op_type: str, function: Callable[..., Any], other: Any, name: str) -> SparseTensor:
        """Returns its elements multiplied or divided by those of a dense tensor in the same places.

        Raises:
            TypeError: The other one is sparse as well, or of another kind of elements.
            ValueError: It is a tensor of another dtype.
        """
        if isinstance(other, SparseTensor):
            raise TypeError(f"{name}: only one of both can be a sparse tensor, as {other!r} is")

        def in_places(places: Array, values: Array, sizes: Array, dense: Array) -> Any:
            return function(values, np.broadcast_to(dense, sizes.tolist())[tuple(np.moveaxis(places, -1, 0))])

        graph = deferred_graph([self.values, other])
        if graph is None:
            dense = constant_array(other, self.dtype, name)
            values = in_places(self.indices, self.values, self.dense_shape, dense)
            return SparseTensor(self.indices, values, self.dense_shape)
        with graph.name_scope(name) as scope:
            dtype = self.dtype.dtype
            tensor = tensor_of(other, dtype, "y")
            if tensor is None:
                tensor = constant_op(graph, constant_array(other, dtype, f"{name}: y"), "y")
            if tensor.dtype != dtype:
                raise ValueError(f"{name}: {tensor.name} is {tensor.dtype.name}, {self.name} {dtype.name}; cast one")
            factors = [self.values, tensor]
            if op_type == "SparseDenseCwiseDiv":
                factors = elementwise.as_floats(graph, factors)
            inputs = [self.indices, factors[0], self.dense_shape, factors[1]]
            values = built_op(graph, op_type, in_places, inputs, name=scope).outputs[0]
        return SparseTensor(self.indices, values, self.dense_shape)

    def _check_shapes(self) -> None:
        number, places, sizes = (TensorShape(each.shape) for each in (self.values, self.indices, self.dense_shape))
        if number.ndims not in (1, None) or places.ndims not in (2, None) or sizes.ndims not in (1, None):
            raise ValueError(f"a sparse tensor has values [n], indices [n, rank] and dense_shape [rank], not {self!r}")
        if places.ndims and not (
            places[:1].is_compatible_with(number if number.ndims else [None])
            and places[1:].is_compatible_with(sizes if sizes.ndims else [None])
        ):
            raise ValueError(f"the numbers of values, indices and sizes of a sparse tensor differ: {self!r}")

    def __repr__(self) -> str:
        shapes = [TensorShape(each.shape) for each in (self.indices, self.values, self.dense_shape)]
        return f"<SparseTensor indices={shapes[0]} values={shapes[1]} dense_shape={shapes[2]} dtype={self.dtype.name}>"


def _member(graph: Graph, value: Any, name: str) -> Tensor:
    wanted = _DTYPES.get(name)
    tensor = tensor_of(value, wanted, name)
    if tensor is None:
        return constant_op(graph, constant_array(value, wanted, name), name)
    if wanted is not None and tensor.dtype != wanted:
        raise ValueError(
            f"the {name} of a sparse tensor should be int64, {tensor.name} is {tensor.dtype.name}; cast it"
        )
    return tensor


def with_values_of(function: Callable[[Any], Any], value: Any) -> Any:
    """Applies a function to the values of a sparse tensor or of ``IndexedSlices``; returns the same with its results.

    Of anything else it returns None.
    """
    if isinstance(value, SparseTensor):
        return SparseTensor(value.indices, function(value.values), value.dense_shape)
    if isinstance(value, IndexedSlices):
        return IndexedSlices(function(value.values), value.indices, value.dense_shape)
    return None


_DTYPES = {"indices": np.dtype(np.int64), "dense_shape": np.dtype(np.int64)}
