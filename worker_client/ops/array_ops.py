"""TensorFlow 1's functions that change the shape, order or dtype of tensors, put them together or take from them."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.building import built_op, constant_op
from worker_client.deferred.call import call, is_deferred, tensor_or_none
from worker_client.deferred.computed import all_computed, computed, deferred_graph
from worker_client.deferred.operands import cast_to, constant_array, of_one_dtype, operands_of, stacked, tensor_of
from worker_client.deferred.partitioned import PartitionedDeferredVariable
from worker_client.deferred.sparse_tensor import with_values_of
from worker_client.deferred.variable import DeferredVariable
from worker_client.derivatives.registry import SELECTING, differentiable
from worker_client.graph.blocks import name_scope
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.op_definitions.op_defs import OP_DEFS
from worker_client.ops.constant_ops import constant, convert_to_tensor, identity, rank
from worker_client.ops.constant_ops import range as range_
from worker_client.values.dtypes import DType, as_dtype, int64
from worker_client.values.made_functions import named, one_of
from worker_client.values.shapes import TensorShape
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable

__all__ = [
    "arg_max",
    "arg_min",
    "argmax",
    "argmin",
    "batch_gather",
    "cast",
    "concat",
    "expand_dims",
    "gather",
    "gather_nd",
    "reshape",
    "slice",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
    "unstack",
    "where",
]


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """Returns the elements as another type; a tensor that has it already is returned itself."""
    wanted = as_dtype(dtype)
    if isinstance(x, Tensor) and x.dtype == wanted:
        return x
    sparse = with_values_of(lambda values: cast(values, dtype, name), x)
    if sparse is not None:
        return sparse
    graph = deferred_graph([x])
    if graph is None:
        return cast_to(wanted)(constant_array(x, None, "cast"))[()]
    with graph.name_scope(name or "Cast") as scope:
        (operand,) = operands_of("Cast", OP_DEFS["Cast"], [x], graph)
        if operand.dtype == wanted:
            return operand
        attributes = {"DstT": DType(wanted)}
        return built_op(
            graph, "Cast", cast_to(wanted), [operand], name=scope, dtype=wanted, attributes=attributes
        ).outputs[0]


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Any:
    """Returns the elements in another shape; -1 for one size stands for what is left."""
    return computed("Reshape", _reshaped, [tensor, shape], name=name)


def _reshaped(array: Array, shape: Array) -> Array:
    sizes = shape.tolist()
    if not array.size and 0 in sizes and sizes.count(-1) == 1:  # sizes of 0 leave it open: TensorFlow counts the others
        rest = math.prod([size for size in array.shape if size])
        left = rest // math.prod([size for size in sizes if size > 0])
        sizes = [left if size == -1 else size for size in sizes]
    return np.reshape(array, sizes)


def transpose(a: Any, perm: Any = None, name: str = "transpose", conjugate: bool = False) -> Any:
    """Returns the dimensions in another order, by default the reverse one."""
    op_type = "ConjugateTranspose" if conjugate else "Transpose"
    turned = _conjugate_transposed if conjugate else np.transpose
    graph = deferred_graph([a, perm])
    if graph is None:
        return computed(op_type, turned, [a, np.arange(np.ndim(a))[::-1] if perm is None else perm])
    with graph.name_scope(name or "transpose") as scope:
        a = convert_to_tensor(a, name="a")
        if perm is None:
            perm = _reverse_order(a)
        return computed(op_type, turned, [a, perm], name=scope)


def _conjugate_transposed(array: Array, perm: Array) -> Array:
    conjugate: Array = np.conj(np.transpose(array, perm))
    return conjugate


def _reverse_order(tensor: Tensor) -> Any:
    if tensor.shape.ndims is not None:
        return np.arange(tensor.shape.ndims, dtype=np.int32)[::-1]
    last = computed("Sub", np.subtract, [rank(tensor), 1], name="sub")
    return range_(last, -1, -1, name="Range")


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Any:
    """Returns the tensor with one more dimension, of size 1, before the one at ``axis`` (older name: ``dim``)."""
    at = one_of("expand_dims", axis=axis, dim=dim)
    if at is None:
        raise ValueError("expand_dims needs axis, where the new dimension is to be")
    return computed("ExpandDims", _expanded, [input, _axis("expand_dims(input, axis)", at)], name=name)


def _expanded(array: Array, axis: Any) -> Array:
    return np.expand_dims(array, int(axis))


def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Any:
    """Returns the tensor without its dimensions of size 1, or without those at ``axis`` (older: ``squeeze_dims``)."""
    dims = one_of("squeeze", axis=axis, squeeze_dims=squeeze_dims)
    axes = [] if dims is None else [int(each) for each in np.ravel(dims)]

    def squeezed(array: Array) -> Array:
        return np.squeeze(array, axis=tuple(axes) or None)

    return computed("Squeeze", squeezed, [input], name=name, attributes={"squeeze_dims": axes})


def concat(values: Any, axis: Any, name: str = "concat") -> Any:
    """Returns tensors one behind the other along a dimension that exists.

    Raises:
        ValueError: There are no tensors, ``axis`` is not one number, or the shapes do not fit.
        TypeError: ``axis`` is not an integer, or the dtypes differ.
    """
    if not isinstance(values, list | tuple):
        values = [values]
    if not values:
        raise ValueError("concat needs at least one tensor")
    dimension = _axis("concat(values, axis)", axis)
    if len(values) > 1:
        return computed("ConcatV2", _concatenated, [values, dimension], name=name)
    graph = deferred_graph([values[0], dimension])
    if graph is None:
        return identity(values[0])
    with graph.name_scope(name):
        if not is_deferred(dimension):
            constant_op(graph, np.array(dimension, np.int32), "concat_dim")  # it takes a name
        return identity(values[0], name=name)


def _axis(signature: str, axis: Any) -> Any:
    """Returns the number of a dimension, a tensor or an integer; before TensorFlow 1.0 it came first.

    Raises:
        ValueError: It is not one number.
        TypeError: It is not an integer.
    """
    values = axis if isinstance(axis, list | tuple) else [axis]
    deferred = [each for each in values if is_deferred(each)]
    if axis is None or (deferred and deferred[0] is not axis):
        raise ValueError(f"{signature}: axis should be the number of a dimension, not {axis!r}; it comes last")
    given: Any = tensor_or_none(axis) if deferred else np.asarray(axis)
    if given.dtype.kind not in ("iu" if deferred else "biu"):
        raise TypeError(f"{signature}: axis should be an integer, not {axis!r} ({given.dtype.name})")
    if TensorShape(given.shape).ndims not in (0, None):
        raise ValueError(f"{signature}: axis should be one number, not of the shape {TensorShape(given.shape)}")
    return given if deferred else int(given)


def _concatenated(*values: Array) -> Array:
    return np.concatenate(values[:-1], axis=int(values[-1]))


def stack(values: Any, axis: int = 0, name: str = "stack") -> Any:
    """Returns tensors of one shape beside each other along a new dimension."""
    if axis == 0 and isinstance(values, list | tuple):
        tensor = tensor_of(values, None, name)
        if tensor is not None:
            return tensor
        if values and deferred_graph([]) is not None:
            return constant(np.stack(operands_of("Pack", OP_DEFS["Pack"], [values], None)), name=name)
    return computed("Pack", stacked(axis), [list(values)], name=name, attributes={"axis": axis})


def unstack(value: Any, num: int | None = None, axis: int = 0, name: str = "unstack") -> list[Any]:
    """Returns the tensors that lie beside each other along a dimension, without that dimension.

    Args:
        value: The tensor.
        num: How many there are; needed only where the size of the dimension is not known.
        axis: The dimension.
        name: Of the operation.

    Raises:
        ValueError: The number is not known, or is another one.
    """
    tensor = convert_to_tensor(value)
    number = _size_along("unstack", tensor, axis) if num is None else num

    def unstacked(array: Array) -> tuple[Array, ...]:
        if array.shape[axis] != number:
            raise ValueError(f"dimension {axis} of {list(array.shape)} does not have the size {number}")
        return tuple(np.moveaxis(array, axis, 0))

    return all_computed("Unpack", unstacked, [tensor], name=name, attributes={"axis": axis, "num": number})


def split(value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split") -> list[Any]:
    """Returns a tensor cut into parts along a dimension.

    Args:
        value: The tensor.
        num_or_size_splits: How many parts of the same size, or a list of their sizes, one of which may be -1.
        axis: The dimension.
        num: How many sizes there are; needed only where that is not known.
        name: Of the operation.

    Raises:
        ValueError: The dimension cannot be cut so, or the number of parts is not known.
    """
    if not is_deferred(num_or_size_splits) and np.ndim(num_or_size_splits) == 0:
        num = int(num_or_size_splits)

        def evenly(axis: Array, array: Array) -> tuple[Array, ...]:
            return tuple(np.split(array, num, axis=int(axis)))

        return all_computed("Split", evenly, [axis, value], name=name, attributes={"num_split": num})
    sizes = convert_to_tensor(num_or_size_splits)
    known = TensorShape(sizes.shape).size(0) if TensorShape(sizes.shape).ndims == 1 else None
    sizes_given = known if num is None else num
    if sizes_given is None:
        raise ValueError(f"split: the number of sizes is not known in {num_or_size_splits!r}; give num")
    return all_computed("SplitV", _split_into, [value, sizes, axis], name=name, attributes={"num_split": sizes_given})


def _split_into(array: Array, sizes: Array, axis: Array) -> tuple[Array, ...]:
    at, pieces = int(axis), sizes.tolist()
    length = array.shape[at]
    rest = length - sum(each for each in pieces if each != -1)
    filled = [rest if each == -1 else each for each in pieces]
    if rest < 0 or pieces.count(-1) > 1 or sum(filled) != length:
        raise ValueError(f"dimension {at} of {list(array.shape)} cannot be cut into the sizes {pieces}")
    return tuple(np.split(array, np.cumsum(filled)[:-1], axis=at))


def tile(input: Any, multiples: Any, name: str | None = None) -> Any:
    """Returns the tensor repeated along each dimension as often as ``multiples`` says."""
    return computed("Tile", _tiled, [input, multiples], name=name)


def _tiled(array: Array, multiples: Any) -> Array:
    times = _integers(multiples)
    if len(times) != array.ndim:
        raise ValueError(f"{len(times)} multiples for the {array.ndim} dimensions of {list(array.shape)}")
    return np.tile(array, times)


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Any:
    """Returns elements of ``x`` where the condition holds and of ``y`` elsewhere; without both, where it holds.

    Args:
        condition: Truth values of the shape of ``x``; or one for each row of ``x``.
        x: Of the same shape and dtype as ``y``.
        y: See there.
        name: "Select" if not given; without ``x`` and ``y`` "Where".

    Returns:
        Elements; without ``x`` and ``y`` the places, as an int64 tensor of shape ``[number, rank]``.

    Raises:
        ValueError: Only one of ``x`` and ``y`` is given, or the shapes do not fit.
    """
    if x is None and y is None:
        return computed("Where", np.argwhere, [condition], name=name, dtype=int64.dtype)
    if x is None or y is None:
        raise ValueError("where needs both x and y, or neither")
    return computed("Select", _selected, [condition, x, y], name=name)


def _selected(condition: Array, x: Array, y: Array) -> Array:
    if condition.ndim == 1 and x.ndim > 1:
        condition = condition.reshape(-1, *[1] * (x.ndim - 1))
    return np.where(condition, x, y)


def slice(input_: Any, begin: Any, size: Any, name: str | None = None) -> Any:  # noqa: A001 - TensorFlow's name
    """Returns a box of elements: from ``begin`` on, ``size`` of them along each dimension, with -1 all that follow."""
    return computed("Slice", _box, [input_, begin, size], name=name)


def _box(array: Array, begin: Any, size: Any) -> Array:
    starts, sizes = _integers(begin), _integers(size)
    if not len(starts) == len(sizes) == array.ndim:
        raise ValueError(f"begin {starts} and size {sizes} need one number for each dimension of {list(array.shape)}")
    ends = [length if size == -1 else at + size for at, size, length in zip(starts, sizes, array.shape, strict=True)]
    if any(not 0 <= at <= end <= length for at, end, length in zip(starts, ends, array.shape, strict=True)):
        raise ValueError(f"begin {starts} and size {sizes} exceed the shape {list(array.shape)}")
    return array[tuple(builtins.slice(at, end) for at, end in zip(starts, ends, strict=True))]


def gather(
    params: Any,
    indices: Any,
    validate_indices: bool | None = None,
    name: str | None = None,
    axis: Any = None,
    batch_dims: int = 0,
) -> Any:
    """Returns rows, or what else lies along a dimension, at some indices.

    Of a variable only the rows asked for leave the ps task, if the dimension is the first one.

    Args:
        params: Where to take from; shape ``[..., n, ...]``.
        indices: Integers of any shape, each in ``[0, n)``.
        validate_indices: Ignored; they always are.
        name: "GatherV2" if not given.
        axis: The dimension, by default the first.
        batch_dims: In how many of the first dimensions each entry of ``indices`` is for its own entry of ``params``.

    Returns:
        A tensor in whose shape that of ``indices`` stands instead of the dimension.

    Raises:
        InvalidArgumentError: When a session runs it: an index is out of range. Of an array that is an IndexError.
    """
    del validate_indices
    axis = batch_dims if axis is None else _axis("gather(params, indices, axis=axis)", axis)
    if batch_dims:
        return _gathered_by_batch(params, indices, int(axis), batch_dims, name)
    if not is_deferred(axis) and int(axis) == 0:
        if isinstance(params, DeferredVariable | PartitionedDeferredVariable):
            return params.sparse_read(indices, name)
        if isinstance(params, Variable | PartitionedVariable) and not is_deferred(indices):
            return params.gather(indices)
    return computed("GatherV2", _taken, [params, indices, axis], name=name)


def _gathered_by_batch(params: Any, indices: Any, axis: int, batch_dims: int, name: str | None) -> Any:
    shape, inner = (TensorShape(of_one_dtype("GatherV2", [each])[0].shape) for each in (params, indices))
    at, batches = axis, batch_dims
    if shape.ndims is not None and inner.ndims is not None:
        at, batches = axis % shape.ndims, batch_dims % (inner.ndims + 1)

    def taken(array: Array, indices: Array, axis: Array) -> Array:  # noqa: ARG001 - it is known
        return _taken_by_batch(array, indices, at, batches)

    return computed("GatherV2", taken, [params, indices, axis], name=name, attributes={"batch_dims": batch_dims})


def _taken_by_batch(array: Array, indices: Array, axis: int, batch_dims: int) -> Array:
    if batch_dims == 0:
        return _taken(array, indices, axis)
    return np.stack(
        [_taken_by_batch(part, places, axis - 1, batch_dims - 1) for part, places in zip(array, indices, strict=True)]
    )


def _taken(array: Array, indices: Array, axis: Any) -> Array:
    _check_indices(indices, array.shape[int(axis)], array)
    return np.take(array, indices, axis=int(axis))


def batch_gather(params: Any, indices: Any, name: str | None = None) -> Any:
    """Does what ``gather`` does with as many batch dimensions as ``indices`` have, but one."""
    ndims = TensorShape(of_one_dtype("GatherV2", [indices])[0].shape).ndims
    if not ndims:
        raise ValueError("batch_gather: the rank of the indices should be known, and not 0")
    with name_scope(name, "BatchGather", [params, indices]):
        return gather(params, indices, batch_dims=ndims - 1)


def gather_nd(params: Any, indices: Any, name: str | None = None, batch_dims: int = 0) -> Any:
    """Returns elements or boxes of a tensor; ``[..., k]`` indices each say where in its first k dimensions.

    In the first ``batch_dims`` dimensions each entry of ``indices`` is for its own entry of ``params``.
    Of a variable only those asked for leave the ps task.
    """
    if batch_dims:
        return _gathered_nd_by_batch(params, indices, batch_dims, name)
    if isinstance(params, DeferredVariable | PartitionedDeferredVariable):
        return params.gather_nd(indices, name)
    if isinstance(params, Variable | PartitionedVariable) and not is_deferred(indices):
        return params.gather_nd(indices)
    return computed("GatherNd", _taken_nd, [params, indices], name=name)


def _gathered_nd_by_batch(params: Any, indices: Any, batch_dims: int, name: str | None) -> Any:
    with name_scope(name, "BatchGatherND", [params, indices]):
        (operand,), (places,) = of_one_dtype("GatherNd", [params]), of_one_dtype("GatherNd", [indices])
        shape, inner = TensorShape(operand.shape), TensorShape(places.shape)
        depth = inner.size(-1) if inner.ndims else None
        known = None if shape.ndims is None or depth is None else [*inner[:-1], *shape[batch_dims + depth :]]
        output = OutputSpec(operand.dtype, TensorShape(known))
        return call(_taken_nd_by_batch, [operand, places, batch_dims], op_type="Reshape", output=output)


@differentiable(SELECTING)
def _taken_nd_by_batch(array: Array, indices: Array, batch_dims: int) -> Array:
    if batch_dims == 0:
        return _taken_nd(array, indices)
    return np.stack(
        [_taken_nd_by_batch(part, places, batch_dims - 1) for part, places in zip(array, indices, strict=True)]
    )


def _taken_nd(array: Array, indices: Array) -> Array:
    depth = indices.shape[-1]
    if depth > array.ndim:
        raise ValueError(f"indices of length {depth} for the {array.ndim} dimensions of {list(array.shape)}")
    for dimension in builtins.range(depth):
        _check_indices(indices[..., dimension], array.shape[dimension], array)
    boxes: Array = array[tuple(np.moveaxis(indices, -1, 0))]
    return boxes


def _check_indices(indices: Array, length: int, array: Array) -> None:
    wrong = indices[(indices < 0) | (indices >= length)]
    if wrong.size:
        raise IndexError(f"index {wrong[0]} is not in [0, {length}), in the shape {list(array.shape)}")


class _Extreme(Protocol):
    def __call__(
        self,
        input: Any,
        axis: Any = None,
        name: str | None = None,
        dimension: Any = None,
        output_type: Any = int64,
    ) -> Any: ...


def _extreme(public_name: str, function: Callable[..., Any], op_type: str, doc: str) -> _Extreme:
    def operation(
        input: Any,
        axis: Any = None,
        name: str | None = None,
        dimension: Any = None,
        output_type: Any = int64,
    ) -> Any:
        at = one_of(public_name, axis=axis, dimension=dimension)
        wanted = as_dtype(output_type)
        if wanted.kind not in "iu":
            raise TypeError(f"{op_type} returns integers, not {wanted.name}")

        def place_of(array: Array, axis: Array) -> Array:
            return np.asarray(function(array, axis=int(axis)), wanted)

        attributes = {"output_type": DType(wanted)}
        values = [input, 0 if at is None else at]
        return computed(op_type, place_of, values, name=name, dtype=wanted, attributes=attributes)

    return named(operation, public_name, doc)


def _size_along(function: str, operand: Tensor | Array, axis: int) -> int:
    shape = TensorShape(operand.shape)
    if shape.ndims is not None and not -shape.ndims <= axis < shape.ndims:
        raise ValueError(f"{function}: there is no dimension {axis} in the shape {shape}")
    size: int | None = None if shape.ndims is None else shape.size(axis)
    if size is None:
        raise ValueError(f"{function}: the size of dimension {axis} is not known in {shape}; give num")
    return size


def _integers(values: Any) -> tuple[int, ...]:
    given = np.ravel(values)
    if given.size and given.dtype.kind not in "iu":
        raise TypeError(f"integers are needed, not {given.dtype.name}")
    return tuple(int(each) for each in given)


argmax = _extreme("argmax", np.argmax, "ArgMax", "Returns where the greatest is along a dimension, or the first.")
argmin = _extreme("argmin", np.argmin, "ArgMin", "Returns where the least is along a dimension, or the first.")


def arg_max(input: Any, dimension: Any, output_type: Any = int64, name: str | None = None) -> Any:
    """The older form of ``argmax``, with other names of the arguments."""
    return argmax(input, dimension, output_type=output_type, name=name)


def arg_min(input: Any, dimension: Any, output_type: Any = int64, name: str | None = None) -> Any:
    """The older form of ``argmin``, with other names of the arguments."""
    return argmin(input, dimension, output_type=output_type, name=name)
