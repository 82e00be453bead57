"""TensorFlow 1's functions that make tensors.

In a deferred graph they make named operations; otherwise they return NumPy arrays at once.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from ps_protocol.dtype_traits import dtype_category
from ps_protocol.operations import Array
from worker_client.deferred.call import call, deferred_call, is_deferred, itself, tensor_or_none
from worker_client.deferred.operands import constant_array, of_one_dtype, tensor_of
from worker_client.graph.default_graph import get_default_graph, graph_of
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.dtypes import as_dtype, float32, int32, string
from worker_client.values.shapes import ShapeLike, TensorShape

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
        shape: Without one, that of the value. Of a value with fewer elements the last one is repeated.
        name: Of the operation.
        verify_shape: Whether the value must have the shape already.

    Raises:
        TypeError: The value is of another kind than ``dtype``, is a deferred tensor, or does not have the shape that
            ``verify_shape`` asks for.
        ValueError: It has more elements than ``shape``, or none to repeat; or ``name`` is empty.
    """
    if name == "":
        raise ValueError("a constant needs a name that is not empty")
    array = constant_array(value, dtype, name)
    if shape is not None:
        array = _of_shape(array, TensorShape(shape).as_tuple(), name, verify_shape)
    return call(itself, [array], op_type="Const", name=name, output=_spec(array.dtype, array.shape))


def _of_shape(array: Array, shape: tuple[int, ...], name: str, verify_shape: bool) -> Array:
    if array.shape == shape:
        return array
    if verify_shape:
        raise TypeError(f"constant {name}: the value has the shape {list(array.shape)}, expected is {list(shape)}")
    needed = TensorShape(shape).num_elements() or 0
    if array.size > needed or (needed and not array.size):
        raise ValueError(f"constant {name}: {array.size} elements cannot fill the shape {list(shape)}")
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
    return graph.create_op("Placeholder", outputs=[_spec(as_dtype(dtype), shape)], name=name).outputs[0]


def placeholder_with_default(input: Any, shape: ShapeLike, name: str | None = None) -> Tensor:  # noqa: A002 - TensorFlow's name
    """Returns a tensor that has the value of ``input`` unless ``feed_dict`` gives it another of the shape."""
    (operand,) = of_one_dtype("PlaceholderWithDefault", [input])
    if not TensorShape(shape).is_compatible_with(operand.shape):
        raise ValueError(f"placeholder {name or ''}: its default has the shape {list(operand.shape)}, not {shape}")
    output = _spec(operand.dtype, shape)
    return deferred_call(itself, [operand], op_type="PlaceholderWithDefault", name=name, output=output)


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


def identity(input: Any, name: str | None = None) -> Any:  # noqa: A002 - TensorFlow's name
    """Returns a tensor of the same value, of a variable the present one."""
    return call(itself, of_one_dtype("Identity", [input]), op_type="Identity", name=name, is_view=True)


def zeros(shape: Any, dtype: Any = float32, name: str | None = None) -> Any:
    """Returns a tensor of zeros (of strings, empty ones); ``shape`` may be a tensor."""
    return _filled(shape, _zero(as_dtype(dtype)), name or "zeros")


def ones(shape: Any, dtype: Any = float32, name: str | None = None) -> Any:
    """Returns a tensor of ones; ``shape`` may be a tensor."""
    return _filled(shape, np.ones((), as_dtype(dtype)), name or "ones")


def fill(dims: Any, value: Any, name: str | None = None) -> Any:
    """Returns a tensor of the shape ``dims`` in which every element is ``value``; both may be tensors."""
    (element,) = of_one_dtype("Fill", [value])
    if len(element.shape):
        raise ValueError(f"fill needs one element to fill with, not the shape {list(element.shape)}")
    return _filled(dims, element, name or "Fill")


def _filled(shape: Any, element: Any, name: str) -> Any:
    known = shape_of(shape)
    return call(_full, [shape_argument(shape), element], op_type="Fill", name=name, output=_spec(element.dtype, known))


def _full(shape: Any, element: Array) -> Array:
    return np.full(_sizes(shape), element, np.asarray(element).dtype)


def zeros_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Any:
    """Returns zeros in the shape of a tensor, and in its dtype if no other is given."""
    del optimize
    return _like(tensor, dtype, name or "zeros_like", "ZerosLike", is_one=False)


def ones_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Any:
    """Returns ones in the shape of a tensor, and in its dtype if no other is given."""
    del optimize
    return _like(tensor, dtype, name or "ones_like", "OnesLike", is_one=True)


def _like(tensor: Any, dtype: Any, name: str, op_type: str, *, is_one: bool) -> Any:
    (operand,) = of_one_dtype(op_type, [tensor])
    wanted = operand.dtype if dtype is None else as_dtype(dtype)
    element = np.ones((), wanted) if is_one else _zero(wanted)
    return call(_full_like, [operand, element], op_type=op_type, name=name)


def _full_like(array: Array, element: Array) -> Array:
    return np.full(array.shape, element, element.dtype)


def range(  # noqa: A001 - TensorFlow's name
    start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range"
) -> Any:
    """Returns the numbers from ``start``, or with one argument from 0, up to but without ``limit``."""
    if limit is None:
        start, limit = 0, start
    bounds = [start, limit, delta]
    if any(is_deferred(each) for each in bounds):
        bounds = of_one_dtype("Range", bounds)
    dtypes = [each.dtype if isinstance(each, Tensor) else constant_array(each, None, "Range").dtype for each in bounds]
    widest = max(dtypes, key=lambda dtype: (dtype_category(dtype), dtype.itemsize))
    wanted = widest if dtype is None else as_dtype(dtype)
    output = _spec(wanted, [None]) if any(is_deferred(each) for each in bounds) else None
    return call(_arange, [*bounds, wanted], op_type="Range", name=name, output=output)


def _arange(start: Any, limit: Any, delta: Any, dtype: np.dtype[Any]) -> Array:
    return np.arange(start, limit, delta).astype(dtype)


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
    given = [each for each in (on_value, off_value) if each is not None]
    wanted = (
        as_dtype(dtype) if dtype is not None else of_one_dtype("OneHot", given)[0].dtype if given else float32.dtype
    )
    on, off = (1 if on_value is None else on_value), (0 if off_value is None else off_value)
    (rows,) = of_one_dtype("OneHot", [indices])
    output = None
    if is_deferred(depth):
        rank_known = TensorShape(rows.shape).ndims
        output = _spec(wanted, None if rank_known is None else [None] * (rank_known + 1))
    arguments = [rows, depth, on, off, -1 if axis is None else axis, wanted]
    return call(_one_hot, arguments, op_type="OneHot", name=name or "one_hot", output=output)


def _one_hot(indices: Array, depth: Any, on: Any, off: Any, axis: int, dtype: np.dtype[Any]) -> Array:
    is_on = indices[..., np.newaxis] == np.arange(int(depth))
    return np.moveaxis(np.where(is_on, np.asarray(on, dtype), np.asarray(off, dtype)), -1, axis)


def shape(input: Any, name: str | None = None, out_type: Any = int32) -> Any:  # noqa: A002 - TensorFlow's name
    """Returns the shape of a tensor, as a tensor."""
    return _fact(np.shape, "Shape", input, name, out_type)


def size(input: Any, name: str | None = None, out_type: Any = int32) -> Any:  # noqa: A002 - TensorFlow's name
    """Returns the number of elements of a tensor, as a tensor."""
    return _fact(np.size, "Size", input, name, out_type)


def rank(input: Any, name: str | None = None) -> Any:  # noqa: A002 - TensorFlow's name
    """Returns the number of dimensions of a tensor, as a tensor."""
    return _fact(np.ndim, "Rank", input, name, int32)


def _fact(function: Any, op_type: str, value: Any, name: str | None, dtype: Any) -> Any:
    (operand,) = of_one_dtype(op_type, [value])
    known = TensorShape(operand.shape)
    output = _spec(as_dtype(dtype), [known.ndims] if op_type == "Shape" else [])
    if isinstance(operand, Tensor) and known.ndims is None and op_type == "Shape":
        output = _spec(as_dtype(dtype), [None])
    if known.is_fully_defined():
        fact = np.asarray(function(np.broadcast_to(np.zeros(()), known.as_tuple())), as_dtype(dtype))
        with graph_of([operand]).as_default():
            return call(itself, [fact], op_type="Const", name=name or op_type, output=output)
    return call(_fact_of, [operand, function, as_dtype(dtype)], op_type=op_type, name=name, output=output)


def _fact_of(array: Array, function: Any, dtype: np.dtype[Any]) -> Array:
    return np.asarray(function(array), dtype)


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
        return TensorShape([None] * length if (length := _length(argument)) is not None else None)
    return TensorShape(None if is_deferred(each) or each == -1 else each for each in argument)


def _length(tensor: Tensor) -> int | None:
    if tensor.shape.ndims != 1:
        return 1 if tensor.shape.ndims == 0 else None
    length: int | None = tensor.shape.size(0)
    return length


def _sizes(shape: Any) -> builtins.tuple[int, ...]:
    return tuple(int(each) for each in np.ravel(shape))


def _spec(dtype: np.dtype[Any], shape: ShapeLike) -> OutputSpec:
    return OutputSpec(dtype, TensorShape(shape))


def _zero(dtype: np.dtype[Any]) -> Array:
    return np.zeros((), np.dtype("S1") if dtype == string.dtype else dtype)
