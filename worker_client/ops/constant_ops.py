"""TensorFlow 1's functions that make tensors.

In a deferred graph they make named operations; otherwise they return NumPy arrays at once.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.dtype_traits import dtype_category
from ps_protocol.operations import Array
from worker_client.deferred.building import built_op, constant_op
from worker_client.deferred.call import is_deferred, itself, tensor_or_none
from worker_client.deferred.computed import computed, deferred_graph
from worker_client.deferred.operands import cast_to, constant_array, of_one_dtype, operands_of, tensor_of
from worker_client.deferred.sparse_tensor import SparseTensor
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.op_definitions.op_defs import OP_DEFS
from worker_client.op_definitions.static_values import constant_value, known_sizes
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import DType, as_dtype, float32, int32
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.text import STORED, is_text, text_array

__all__ = [
    "constant",
    "convert_to_tensor",
    "fill",
    "identity",
    "one_hot",
    "ones",
    "ones_like",
    "placeholder",
    "placeholder_with_default",
    "range",
    "rank",
    "shape",
    "size",
    "zeros",
    "zeros_like",
]


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str = "Const", verify_shape: bool = False) -> Any:
    """Returns a tensor of a value that is known now.

    Args:
        value: A number, an array or a nested list; it is copied.
        dtype: Without one, Python's numbers become float32 or int32 where they fit; what has a dtype keeps it.
        shape: Without one, that of the value. Of a value with fewer elements the last one is repeated, or if it has
            none 0.
        name: Of the operation.
        verify_shape: Whether the value must have the shape already.

    Raises:
        TypeError: The value is of another kind than ``dtype``, is a deferred tensor, or does not have the shape that
            ``verify_shape`` asks for.
        ValueError: It has more elements than ``shape``; or ``name`` is empty.
    """
    if value is None:
        raise ValueError(f"constant {name}: a value is needed, not None")
    if name == "":
        raise ValueError("a constant needs a name that is not empty")
    sizes = None if shape is None else TensorShape(shape).as_tuple()
    if sizes is not None and 0 in sizes and not hasattr(value, "dtype"):  # TensorFlow does not look at the value
        array = np.empty(sizes, as_dtype(float32 if dtype is None else dtype))
    else:
        array = constant_array(value, dtype, name)
    if sizes is not None:
        array = _of_shape(array, sizes, name, verify_shape)
    graph = get_default_graph()
    return constant_op(graph, array, name) if graph.deferred else array.copy()[()]


def _of_shape(array: Array, shape: tuple[int, ...], name: str, verify_shape: bool) -> Array:
    if array.shape == shape:
        return array
    if verify_shape:
        raise TypeError(f"constant {name}: the value has the shape {list(array.shape)}, expected is {list(shape)}")
    needed = TensorShape(shape).num_elements() or 0
    if array.size > needed:
        raise ValueError(f"constant {name}: {array.size} elements cannot fill the shape {list(shape)}")
    if not array.size:
        return np.full(shape, _zero(array.dtype), array.dtype)
    missing = needed - array.size
    flat = array.reshape(-1)
    return np.concatenate([flat, np.repeat(flat[-1:], missing)]).reshape(shape)


def placeholder(dtype: Any, shape: ShapeLike = None, name: str | None = None) -> Tensor:
    """Returns a tensor that has no value but the one that ``feed_dict`` gives it.

    Args:
        dtype: Of the values.
        shape: Of the values, None where any size will do; by default any shape.
        name: "Placeholder" if not given.

    Raises:
        RuntimeError: The default graph is not a deferred one.
    """
    graph = get_default_graph()
    if not graph.deferred:
        raise RuntimeError("a placeholder needs a graph that a session runs: use `with Graph().as_default():`")
    output = _spec(as_dtype(dtype), shape)
    attributes = {"dtype": DType(output.dtype), "shape": output.shape}
    return graph.create_op("Placeholder", outputs=[output], name=name, attributes=attributes).outputs[0]


def placeholder_with_default(input: Any, shape: ShapeLike, name: str | None = None) -> Tensor:
    """Returns a tensor that has the value of ``input`` unless ``feed_dict`` gives it another of the shape."""
    graph = get_default_graph()
    with graph.name_scope(name or "PlaceholderWithDefault") as scope:
        (operand,) = operands_of("PlaceholderWithDefault", OP_DEFS["PlaceholderWithDefault"], [input], graph)
        attributes = {"shape": TensorShape(shape)}
        op = built_op(graph, "PlaceholderWithDefault", itself, [operand], name=scope, attributes=attributes)
    return op.outputs[0]


def convert_to_tensor(
    value: Any, dtype: Any = None, name: str | None = None, preferred_dtype: Any = None, dtype_hint: Any = None
) -> Any:
    """Returns the tensor that a value stands for: of a variable the one that reads it, of anything else a constant.

    Args:
        value: A tensor, a variable, an array, a number, or a list of those.
        dtype: What it must have.
        name: Of a constant; "Const" if not given.
        preferred_dtype: Of a constant, if it can have it.
        dtype_hint: Newer name of ``preferred_dtype``.

    Raises:
        ValueError: A tensor has another dtype.
        TypeError: A constant cannot have the dtype.
    """
    tensor = tensor_of(value, None if dtype is None else as_dtype(dtype), name or "packed")
    if tensor is not None:
        if dtype is not None and tensor.dtype != as_dtype(dtype):
            raise ValueError(
                f"tensor {tensor.name} is {tensor.dtype.name}, asked for is {as_dtype(dtype).name}; cast it"
            )
        return tensor
    hint = dtype_hint if preferred_dtype is None else preferred_dtype
    if dtype is None and hint is not None:
        try:
            return constant(value, hint, name=name or "Const")
        except (TypeError, ValueError):  # it was only a hint
            pass
    return constant(value, dtype, name=name or "Const")


def identity(input: Any, name: str | None = None) -> Any:
    """Returns a tensor of the same value, of a variable the present one."""
    if isinstance(input, SparseTensor):
        members = (input.indices, input.values, input.dense_shape)
        return SparseTensor(*(identity(each, name) for each in members))
    if isinstance(input, IndexedSlices) and is_deferred(input):
        values, indices = identity(input.values, name), identity(input.indices, name)
        sizes = None if input.dense_shape is None else identity(input.dense_shape, name)
        return IndexedSlices(values, indices, sizes)
    return computed("Identity", itself, [input], name=name)


def zeros(shape: Any, dtype: Any = float32, name: str | None = None) -> Any:
    """Returns a tensor of zeros (of strings, empty ones); ``shape`` may be a tensor."""
    return _full_of(shape, _zero(as_dtype(dtype)), name or "zeros")


def ones(shape: Any, dtype: Any = float32, name: str | None = None) -> Any:
    """Returns a tensor of ones; ``shape`` may be a tensor."""
    return _full_of(shape, np.ones((), _number(as_dtype(dtype), "ones")), name or "ones")


_MOST_IN_A_CONSTANT: Final = 1000
"""Zeros and ones that are less than this many are one constant; of more there are only the shape and the element."""


def _full_of(shape: Any, element: Array, name: str) -> Any:
    graph = deferred_graph([shape])
    if graph is None:
        return np.full(tuple(given_sizes(shape)), element, element.dtype)
    with graph.name_scope(name) as scope:
        return _full_tensor(graph, shape, element, scope)


def _full_tensor(graph: Graph, shape: Any, element: Array, scope: str) -> Tensor:
    sizes = tensor_of(shape, None, "packed")
    if sizes is None:
        given = given_sizes(shape)
        if isinstance(shape, list | builtins.tuple) and math.prod(given) < _MOST_IN_A_CONSTANT:
            return constant_op(graph, np.full(given, element, element.dtype), scope)
        sizes = constant_op(graph, np.array(given, np.int32), "shape_as_tensor")
    if sizes.shape.ndims == 0:
        sizes = built_op(
            graph,
            "Reshape",
            np.reshape,
            [sizes, constant_op(graph, np.array([-1], np.int32), "Reshape/shape")],
        ).outputs[0]
    return built_op(graph, "Fill", _full, [sizes, constant_op(graph, element, "Const")], name=scope).outputs[0]


def fill(dims: Any, value: Any, name: str | None = None) -> Any:
    """Returns a tensor of the shape ``dims`` in which every element is ``value``; both may be tensors."""
    return computed("Fill", _full, [dims, value], name=name)


def _full(shape: Array, element: Array) -> Array:
    if element.ndim:
        raise ValueError(f"one element is needed to fill with, not the shape {list(element.shape)}")
    return np.full(_sizes(shape), element, element.dtype)


def zeros_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Any:
    """Returns zeros in the shape of a tensor, and in its dtype if no other is given."""
    graph = deferred_graph([tensor])
    if graph is None:
        return _like(tensor, dtype, is_one=False)
    with graph.name_scope(name or "zeros_like") as scope:
        operand = _tensor(graph, tensor, "tensor")
        element = _zero(operand.dtype if dtype is None else as_dtype(dtype))
        if optimize and operand.shape.is_fully_defined() and not is_text(element.dtype):
            return _full_tensor(graph, operand.shape.as_tuple(), element, scope)
        if element.dtype != operand.dtype:
            sizes = shape(operand)
            return built_op(graph, "Fill", _full, [sizes, constant_op(graph, element, "Const")], name=scope).outputs[0]
        return built_op(graph, "ZerosLike", lambda array: np.full(array.shape, element), [operand], name=scope).outputs[
            0
        ]


def ones_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Any:
    """Returns ones in the shape of a tensor, and in its dtype if no other is given."""
    graph = deferred_graph([tensor])
    if graph is None:
        return _like(tensor, dtype, is_one=True)
    with graph.name_scope(name or "ones_like") as scope:
        operand = _tensor(graph, tensor, "tensor")
        element = np.ones((), _number(operand.dtype if dtype is None else as_dtype(dtype), "ones_like"))
        if optimize and operand.shape.is_fully_defined():
            sizes = constant_op(graph, np.array(operand.shape.as_tuple(), np.int32), "Shape/shape_as_tensor")
        else:
            sizes = shape(operand)
        return built_op(graph, "Fill", _full, [sizes, constant_op(graph, element, "Const")], name=scope).outputs[0]


def _like(tensor: Any, dtype: Any, *, is_one: bool) -> Array:
    array = constant_array(tensor, None, "ones_like" if is_one else "zeros_like")
    wanted = array.dtype if dtype is None else as_dtype(dtype)
    element = np.ones((), _number(wanted, "ones_like")) if is_one else _zero(wanted)
    return np.full(array.shape, element, element.dtype)


def _number(dtype: np.dtype[Any], what: str) -> np.dtype[Any]:
    if is_text(dtype):
        raise TypeError(f"{what}: there is no text that means one")
    return dtype


def range(  # noqa: A001 - TensorFlow's name
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range"
) -> Any:
    """Returns the numbers from ``start``, or with one argument from 0, up to but without ``limit``."""
    if limit is None:
        start, limit = 0, start
    bounds = [start, limit, delta]
    graph = deferred_graph(bounds)
    if graph is None:
        return _arange(*_of_widest([constant_array(each, dtype, "range") for each in bounds]))
    with graph.name_scope(name) as scope:
        tensors = [
            each.as_graph_tensor() if is_deferred(each) else constant_op(graph, constant_array(each, dtype, name), name)
            for each, name in zip(bounds, ("start", "limit", "delta"), strict=True)
        ]
        wanted = _widest([each.dtype for each in tensors]) if dtype is None else as_dtype(dtype)
        tensors = [_cast(graph, each, wanted) for each in tensors]
        return built_op(graph, "Range", _arange, tensors, name=scope).outputs[0]


def _cast(graph: Graph, tensor: Tensor, dtype: np.dtype[Any]) -> Tensor:
    if tensor.dtype == dtype:
        return tensor
    attributes = {"DstT": DType(dtype)}
    return built_op(graph, "Cast", cast_to(dtype), [tensor], dtype=dtype, attributes=attributes).outputs[0]


def _widest(dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    return max(dtypes, key=lambda dtype: (dtype_category(dtype), dtype.itemsize))


def _of_widest(arrays: Sequence[Array]) -> list[Array]:
    widest = _widest([each.dtype for each in arrays])
    return [each.astype(widest) for each in arrays]


def _arange(start: Array, limit: Array, delta: Array) -> Array:
    bounds: list[Any] = [start, limit, delta]
    made: Array = np.arange(*bounds).astype(start.dtype)
    return made


def one_hot(
    indices: Any,
    depth: Any,
    on_value: Any = None,
    off_value: Any = None,
    axis: int | None = None,
    dtype: Any = None,
    name: str | None = None,
) -> Any:
    """Returns a tensor with one more dimension, in which only the element at each index is ``on_value``.

    Args:
        indices: Integers; where one is not in ``[0, depth)``, all elements are ``off_value``.
        depth: Size of the new dimension.
        on_value: 1 if not given.
        off_value: 0 if not given.
        axis: Where the new dimension is; by default the last.
        dtype: By default that of the values, or float32.
        name: "one_hot" if not given.
    """
    at = -1 if axis is None else axis
    graph = deferred_graph([indices, depth, on_value, off_value])
    given = [each for each in (on_value, off_value) if each is not None]
    wanted = (
        as_dtype(dtype) if dtype is not None else of_one_dtype("OneHot", given)[0].dtype if given else float32.dtype
    )
    function = _OneHot(at)
    if graph is None:
        values = [constant_array(each, wanted, "one_hot") for each in _on_and_off(on_value, off_value, wanted)]
        return computed("OneHot", function, [indices, depth, *values])
    with graph.name_scope(name or "one_hot") as scope:
        names = ("on_value" if on_value is None else "Const", "off_value" if off_value is None else "Const")
        tensors = [
            each.as_graph_tensor()
            if is_deferred(each)
            else constant_op(graph, constant_array(each, wanted, name), name)
            for each, name in zip(_on_and_off(on_value, off_value, wanted), names, strict=True)
        ]
        operands = operands_of("OneHot", OP_DEFS["OneHot"], [indices, depth, *tensors], graph)
        return built_op(graph, "OneHot", function, operands, name=scope, attributes={"axis": at}).outputs[0]


def _on_and_off(on_value: Any, off_value: Any, dtype: np.dtype[Any]) -> list[Any]:
    return [np.ones((), dtype) if on_value is None else on_value, _zero(dtype) if off_value is None else off_value]


class _OneHot:
    """Makes rows of ``off`` with ``on`` where the index says."""

    __slots__ = ("_axis",)

    def __init__(self, axis: int):
        self._axis = axis

    def __call__(self, indices: Array, depth: Array, on: Array, off: Array) -> Array:
        if depth < 0:
            raise ValueError(f"the depth should not be negative, as {depth} is")
        is_on = indices[..., np.newaxis] == np.arange(int(depth))
        return np.moveaxis(np.where(is_on, on, off), -1, self._axis)


def shape(input: Any, name: str | None = None, out_type: Any = int32) -> Any:
    """Returns the shape of a tensor, as a tensor."""
    return _fact(np.shape, "Shape", input, name, out_type)


def size(input: Any, name: str | None = None, out_type: Any = int32) -> Any:
    """Returns the number of elements of a tensor, as a tensor."""
    return _fact(np.size, "Size", input, name, out_type)


def rank(input: Any, name: str | None = None) -> Any:
    """Returns the number of dimensions of a tensor, as a tensor."""
    return _fact(np.ndim, "Rank", input, name, int32)


def _fact(function: Callable[..., Any], op_type: str, value: Any, name: str | None, dtype: Any) -> Any:
    wanted = as_dtype(dtype)
    graph = deferred_graph([value])
    if graph is None:
        return np.asarray(function(value), wanted)[()]
    with graph.name_scope(name or op_type) as scope:
        operand = _tensor(graph, value, "Const")
        known = operand.shape
        if known.is_fully_defined() or (op_type == "Rank" and known.ndims is not None):
            stand_in = np.broadcast_to(np.zeros(()), [1 if size is None else size for size in known])
            return constant_op(graph, np.asarray(function(stand_in), wanted), scope)
        attributes = {} if op_type == "Rank" else {"out_type": DType(wanted)}
        fact = _Fact(function, wanted)
        return built_op(graph, op_type, fact, [operand], name=scope, dtype=wanted, attributes=attributes).outputs[0]


class _Fact:
    """Finds out something about an array."""

    __slots__ = ("_dtype", "_function")

    def __init__(self, function: Callable[..., Any], dtype: np.dtype[Any]):
        self._function = function
        self._dtype = dtype

    def __call__(self, array: Array) -> Array:
        return np.asarray(self._function(array), self._dtype)


def _tensor(graph: Graph, value: Any, name: str) -> Tensor:
    """Returns the tensor of a value, a constant of this name if it is known now."""
    tensor = tensor_of(value, None, name)
    return constant_op(graph, constant_array(value, None, name), name) if tensor is None else tensor


# -- shapes given as arguments ----------------------------------------------------------------------


def shape_argument(given: Any) -> Any:
    """Returns a shape as an argument of an operation: a tensor, or a list of sizes and tensors."""
    tensor = tensor_or_none(given)
    if tensor is not None:
        return tensor
    if isinstance(given, np.ndarray | np.generic | int):
        return [int(each) for each in np.ravel(given)]
    return [each if is_deferred(each) else int(each) for each in given]


def shape_of(given: Any) -> TensorShape:
    """Returns what is known of a shape that is given as an argument; -1 stands for an unknown size."""
    argument = shape_argument(given)
    if isinstance(argument, Tensor):
        return known_sizes(argument)
    sizes = [constant_value(each.as_graph_tensor()) if is_deferred(each) else each for each in argument]
    return TensorShape(None if size is None or size < 0 else int(size) for size in sizes)


def given_sizes(given: Any) -> list[int]:
    """Returns the sizes of a shape that is known now."""
    if given is None:
        raise ValueError("a shape is needed, not None")
    if isinstance(given, str):
        raise TypeError(f"a shape is made of integers, not of {given!r}")
    return [int(each) for each in (np.ravel(given) if isinstance(given, np.ndarray | np.generic | int) else given)]


def _sizes(shape: Any) -> builtins.tuple[int, ...]:
    return tuple(int(each) for each in np.ravel(shape))


def _spec(dtype: np.dtype[Any], shape: ShapeLike) -> OutputSpec:
    return OutputSpec(dtype, TensorShape(shape))


def _zero(dtype: np.dtype[Any]) -> Array:
    if not is_text(dtype):
        return np.zeros((), dtype)
    return text_array(b"") if get_default_graph().deferred else np.zeros((), STORED)
