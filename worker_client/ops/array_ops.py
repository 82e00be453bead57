"""TensorFlow 1's functions that change the shape, order or dtype of tensors, put them together or take from them."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import call, is_deferred, tensor_or_none
from worker_client.deferred.operands import of_one_dtype
from worker_client.deferred.shape_inference import inferred
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.blocks import name_scope
from worker_client.graph.computation import Kernel
from worker_client.graph.default_graph import graph_of
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.ops.constant_ops import identity, shape_argument, shape_of
from worker_client.values.dtypes import as_dtype, int64
from worker_client.values.made_functions import named, one_of
from worker_client.values.shapes import TensorShape
from worker_client.variables.variable import Variable

__all__ = [
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
    (operand,) = of_one_dtype("Cast", [x])
    if operand.dtype == wanted:
        if isinstance(operand, Tensor):
            with name_scope(name, "Cast", [operand]):  # which takes the name, as in TensorFlow
                return operand
        return operand
    return call(_cast, [operand, wanted], op_type="Cast", name=name)


def _cast(array: Array, dtype: np.dtype[Any]) -> Array:
    return (array.real if array.dtype.kind == "c" and dtype.kind != "c" else array).astype(dtype)


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Any:
    """Returns the elements in another shape; -1 for one size stands for what is left."""
    (operand,) = of_one_dtype("Reshape", [tensor])
    known = shape_of(shape)
    argument = shape_argument(shape)
    is_given = not isinstance(argument, Tensor) and not any(is_deferred(each) for each in argument)
    finds_out = is_given and TensorShape(operand.shape).is_fully_defined()
    output = None if finds_out else OutputSpec(operand.dtype, known)
    return call(_reshaped, [operand, argument], op_type="Reshape", name=name, output=output, is_view=True)


def _reshaped(array: Array, shape: Any) -> Array:
    return np.reshape(array, _integers(shape))


def transpose(a: Any, perm: Any = None, name: str = "transpose", conjugate: bool = False) -> Any:
    """Returns the dimensions in another order, by default the reverse one."""
    (operand,) = of_one_dtype("Transpose", [a])
    return call(_transposed, [operand, perm, conjugate], op_type="Transpose", name=name or "transpose", is_view=True)


def _transposed(array: Array, perm: Any, conjugate: bool) -> Array:
    turned = np.transpose(array, None if perm is None else _integers(perm))
    return np.conj(turned) if conjugate else turned


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Any:  # noqa: A002 - TensorFlow's name
    """Returns the tensor with one more dimension, of size 1, before the one at ``axis`` (older name: ``dim``)."""
    at = one_of("expand_dims", axis=axis, dim=dim)
    if at is None:
        raise ValueError("expand_dims needs axis, where the new dimension is to be")
    (operand,) = of_one_dtype("ExpandDims", [input])
    arguments = [operand, _axis("expand_dims(input, axis)", at)]
    return call(_expanded, arguments, op_type="ExpandDims", name=name, is_view=True)


def _expanded(array: Array, axis: Any) -> Array:
    return np.expand_dims(array, int(axis))


def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Any:  # noqa: A002 - TensorFlow's name
    """Returns the tensor without its dimensions of size 1, or without those at ``axis`` (older: ``squeeze_dims``)."""
    dims = one_of("squeeze", axis=axis, squeeze_dims=squeeze_dims)
    (operand,) = of_one_dtype("Squeeze", [input])
    # Unknown sizes might turn out to be 1.
    is_known = TensorShape(operand.shape).is_fully_defined() or dims is not None
    output = None if is_known else OutputSpec(operand.dtype)
    return call(_squeezed, [operand, dims], op_type="Squeeze", name=name, output=output, is_view=True)


def _squeezed(array: Array, dims: Any) -> Array:
    return np.squeeze(array, axis=_integers(dims) if np.size(dims) and dims is not None else None)


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
    if len(values) == 1:
        return identity(values[0], name=name)
    return call(_concatenated, [of_one_dtype("ConcatV2", values), dimension], op_type="ConcatV2", name=name)


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
        raise ValueError(f"{signature}: axis should be one number, not of the shape {list(given.shape)}")
    return given if deferred else int(given)


def _concatenated(values: Sequence[Array], axis: Any) -> Array:
    return np.concatenate(values, axis=int(axis))


def stack(values: Any, axis: int = 0, name: str = "stack") -> Any:
    """Returns tensors of one shape beside each other along a new dimension."""
    return call(np.stack, [of_one_dtype("Pack", values), axis], op_type="Pack", name=name)


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
    (operand,) = of_one_dtype("Unpack", [value])
    number = _size_along("unstack", operand, axis) if num is None else num
    return _several(_unstacked, "Unpack", name, [operand, number, axis], number)


def _unstacked(array: Array, number: int, axis: int) -> tuple[Array, ...]:
    if array.shape[axis] != number:
        raise ValueError(f"dimension {axis} of {list(array.shape)} does not have the size {number}")
    return tuple(np.moveaxis(array, axis, 0))


def split(value: Any, num_or_size_splits: Any, axis: int = 0, num: int | None = None, name: str = "split") -> list[Any]:
    """Returns a tensor cut into parts along a dimension.

    Args:
        value: The tensor.
        num_or_size_splits: How many parts of the same size, or a list of their sizes, one of which may be -1.
        axis: The dimension.
        num: Ignored, since the list has a length.
        name: Of the operation.

    Raises:
        ValueError: The dimension cannot be cut so.
    """
    del num
    (operand,) = of_one_dtype("Split", [value])
    sizes = num_or_size_splits if np.ndim(num_or_size_splits) == 0 else [int(each) for each in num_or_size_splits]
    number = int(sizes) if isinstance(sizes, int | np.integer) else len(sizes)
    return _several(_split, "Split" if number == sizes else "SplitV", name, [operand, sizes, axis], number)


def _split(array: Array, sizes: Any, axis: int) -> tuple[Array, ...]:
    if not isinstance(sizes, list):
        return tuple(np.split(array, sizes, axis=axis))
    length = array.shape[axis]
    rest = length - sum(each for each in sizes if each != -1)
    pieces = [rest if each == -1 else each for each in sizes]
    if rest < 0 or sizes.count(-1) > 1 or sum(pieces) != length:
        raise ValueError(f"dimension {axis} of {list(array.shape)} cannot be cut into the sizes {sizes}")
    return tuple(np.split(array, np.cumsum(pieces)[:-1], axis=axis))


def _several(
    function: Callable[..., tuple[Array, ...]], op_type: str, name: str, arguments: list[Any], number: int
) -> list[Any]:
    """Calls a function with several results; deferred, they are the outputs of one operation."""
    operand, constants = arguments[0], arguments[1:]
    graph = graph_of([operand])
    if not graph.deferred:
        return list(function(*arguments))
    tensor = identity(operand) if not isinstance(operand, Tensor) else operand
    specs = [_output_of(function, tensor, constants, index, op_type) for index in builtins.range(number)]
    kernel = Kernel(lambda value: function(value, *constants))
    return list(graph.create_op(op_type, [tensor], specs, name=name, computation=kernel).outputs)


def _output_of(
    function: Callable[..., tuple[Array, ...]], tensor: Tensor, constants: list[Any], index: int, op_type: str
) -> OutputSpec:
    return inferred(
        lambda value: function(value, *constants)[index],
        [OutputSpec(tensor.dtype, tensor.shape)],
        description=f"{op_type} of {tensor.name} ({tensor.dtype.name}{tensor.shape}) with {constants}",
        may_shrink=False,
        is_view=True,
    )


def tile(input: Any, multiples: Any, name: str | None = None) -> Any:  # noqa: A002 - TensorFlow's name
    """Returns the tensor repeated along each dimension as often as ``multiples`` says."""
    (operand,) = of_one_dtype("Tile", [input])
    output = None
    if is_deferred(multiples):
        ndims = TensorShape(operand.shape).ndims
        output = OutputSpec(operand.dtype, TensorShape(None if ndims is None else [None] * ndims))
    return call(_tiled, [operand, multiples], op_type="Tile", name=name, output=output)


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
    (test,) = of_one_dtype("Where", [condition])
    if x is None and y is None:
        places = OutputSpec(int64.dtype, TensorShape([None, TensorShape(test.shape).ndims]))
        return call(np.argwhere, [test], op_type="Where", name=name, output=places)
    if x is None or y is None:
        raise ValueError("where needs both x and y, or neither")
    return call(_selected, [test, *of_one_dtype("Select", [x, y])], op_type="Select", name=name)


def _selected(condition: Array, x: Array, y: Array) -> Array:
    if condition.ndim == 1 and x.ndim > 1:
        condition = condition.reshape(-1, *[1] * (x.ndim - 1))
    return np.where(condition, x, y)


def slice(input_: Any, begin: Any, size: Any, name: str | None = None) -> Any:  # noqa: A001 - TensorFlow's name
    """Returns a box of elements: from ``begin`` on, ``size`` of them along each dimension, with -1 all that follow."""
    (operand,) = of_one_dtype("Slice", [input_])
    shape = TensorShape(operand.shape)
    output = None
    if is_deferred(begin) or is_deferred(size):
        output = OutputSpec(operand.dtype, TensorShape(None if shape.ndims is None else [None] * shape.ndims))
    elif not shape.is_fully_defined():
        sizes = [
            _left(shape, axis, at) if each == -1 else each
            for axis, (at, each) in enumerate(zip(_integers(begin), _integers(size), strict=True))
        ]
        output = OutputSpec(operand.dtype, TensorShape(sizes))
    return call(_box, [operand, begin, size], op_type="Slice", name=name, output=output, is_view=True)


def _left(shape: TensorShape, axis: int, at: int) -> int | None:
    """Returns how many elements follow along a dimension, None if that is not known."""
    size = shape.size(axis) if shape.ndims is not None else None
    return None if size is None else size - at


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
        if isinstance(params, DeferredVariable):
            return params.sparse_read(indices, name)
        if isinstance(params, Variable) and not is_deferred(indices):
            return params.gather(indices)
    (operand,), (places,) = of_one_dtype("GatherV2", [params]), of_one_dtype("GatherV2", [indices])
    if places.dtype.kind not in "iu":
        raise TypeError(f"gather(params, indices): indices should be integers, not {indices!r} ({places.dtype.name})")
    output = None if is_deferred(axis) else _gathered_output(operand, places, int(axis))
    return call(_taken, [operand, places, axis], op_type="GatherV2", name=name, output=output)


def _gathered_output(operand: Tensor | Array, indices: Tensor | Array, axis: int) -> OutputSpec:
    shape, inner = TensorShape(operand.shape), TensorShape(indices.shape)
    if shape.ndims is None or inner.ndims is None:
        return OutputSpec(operand.dtype)
    if not -shape.ndims <= axis < shape.ndims:
        raise ValueError(f"gather: there is no dimension {axis} in the shape {shape}")
    axis %= shape.ndims
    return OutputSpec(operand.dtype, TensorShape([*shape[:axis], *inner, *shape[axis + 1 :]]))


def _gathered_by_batch(params: Any, indices: Any, axis: int, batch_dims: int, name: str | None) -> Any:
    (operand,), (places,) = of_one_dtype("GatherV2", [params]), of_one_dtype("GatherV2", [indices])
    shape, inner = TensorShape(operand.shape), TensorShape(places.shape)
    known: TensorShape | None = None
    if shape.ndims is not None and inner.ndims is not None:
        axis, batch_dims = axis % shape.ndims, batch_dims % (inner.ndims + 1)
        if batch_dims > axis or not shape[:batch_dims].is_compatible_with(inner[:batch_dims]):
            raise ValueError(f"gather: indices {inner} do not fit {shape} in {batch_dims} batch dimensions")
        known = TensorShape([*shape[:axis], *inner[batch_dims:], *shape[axis + 1 :]])
    output = OutputSpec(operand.dtype, TensorShape(known))
    return call(_taken_by_batch, [operand, places, axis, batch_dims], op_type="GatherV2", name=name, output=output)


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
    """
    if batch_dims:
        return _gathered_nd_by_batch(params, indices, batch_dims, name)
    if isinstance(params, DeferredVariable):
        return params.gather_nd(indices, name)
    (operand,), (places,) = of_one_dtype("GatherNd", [params]), of_one_dtype("GatherNd", [indices])
    shape, inner = TensorShape(operand.shape), TensorShape(places.shape)
    depth = inner.size(-1) if inner.ndims else None
    known = None if shape.ndims is None or depth is None else [*inner[:-1], *shape[depth:]]
    return call(
        _taken_nd,
        [operand, places],
        op_type="GatherNd",
        name=name,
        output=OutputSpec(operand.dtype, TensorShape(known)),
    )


def _gathered_nd_by_batch(params: Any, indices: Any, batch_dims: int, name: str | None) -> Any:
    with name_scope(name, "BatchGatherND", [params, indices]):
        (operand,), (places,) = of_one_dtype("GatherNd", [params]), of_one_dtype("GatherNd", [indices])
        shape, inner = TensorShape(operand.shape), TensorShape(places.shape)
        depth = inner.size(-1) if inner.ndims else None
        known = None if shape.ndims is None or depth is None else [*inner[:-1], *shape[batch_dims + depth :]]
        output = OutputSpec(operand.dtype, TensorShape(known))
        return call(_taken_nd_by_batch, [operand, places, batch_dims], op_type="Reshape", output=output)


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
        input: Any,  # noqa: A002 - TensorFlow's name
        axis: Any = None,
        name: str | None = None,
        dimension: Any = None,
        output_type: Any = int64,
    ) -> Any: ...


def _extreme(public_name: str, function: Callable[..., Any], op_type: str, doc: str) -> _Extreme:
    def operation(
        input: Any,  # noqa: A002 - TensorFlow's name
        axis: Any = None,
        name: str | None = None,
        dimension: Any = None,
        output_type: Any = int64,
    ) -> Any:
        at = one_of(public_name, axis=axis, dimension=dimension)
        (operand,) = of_one_dtype(op_type, [input])
        arguments = [operand, 0 if at is None else at, function, as_dtype(output_type)]
        return call(_place_of, arguments, op_type=op_type, name=name)

    return named(operation, public_name, doc)


def _place_of(array: Array, axis: Any, function: Callable[..., Any], dtype: np.dtype[Any]) -> Array:
    return np.asarray(function(array, axis=int(axis)), dtype)


def _size_along(function: str, operand: Tensor | Array, axis: int) -> int:
    shape = TensorShape(operand.shape)
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
