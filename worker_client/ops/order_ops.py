"""TensorFlow 1's functions that order, repeat, fill up or run along elements."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import call, call_for_several, is_deferred
from worker_client.deferred.computed import all_computed, computed
from worker_client.deferred.operands import of_one_dtype
from worker_client.derivatives import arrays
from worker_client.derivatives.arrays import sorting_rule
from worker_client.derivatives.registry import SELECTING, Traced, differentiable
from worker_client.graph.blocks import name_scope
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.ops.array_ops import cast, expand_dims, reshape
from worker_client.ops.constant_ops import convert_to_tensor, ones_like
from worker_client.ops.constant_ops import range as range_
from worker_client.ops.math_ops import less, multiply, reduce_max
from worker_client.values.dtypes import DType, as_dtype, int32
from worker_client.values.dtypes import bool as bool_
from worker_client.values.made_functions import named
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.text import is_text

__all__ = [
    "argsort",
    "broadcast_dynamic_shape",
    "broadcast_static_shape",
    "broadcast_to",
    "cumprod",
    "cumsum",
    "ensure_shape",
    "identity_n",
    "invert_permutation",
    "lin_space",
    "linspace",
    "meshgrid",
    "pad",
    "repeat",
    "reverse",
    "reverse_sequence",
    "reverse_v2",
    "roll",
    "sequence_mask",
    "sort",
]

# -- running along a dimension --------------------------------------------------------------------


class _Scan(Protocol):
    def __call__(
        self, x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
    ) -> Any: ...


def _scan(public_name: str, function: Callable[..., Array], op_type: str, first: int, what: str) -> _Scan:
    def along(array: Array, axis: Array, exclusive: bool, backwards: bool) -> Array:
        line = np.moveaxis(array, int(axis), 0)
        line = line[::-1] if backwards else line
        result = function(line, axis=0, dtype=array.dtype)
        if exclusive:
            result = np.concatenate([np.full_like(line[:1], first), result[:-1]])
        return np.moveaxis(result[::-1] if backwards else result, 0, int(axis))

    def operation(
        x: Any,
        axis: Any = 0,
        exclusive: bool = False,
        reverse: bool = False,
        name: str | None = None,
    ) -> Any:
        run = partial(along, exclusive=exclusive, backwards=reverse)
        attributes = {"exclusive": exclusive, "reverse": reverse}
        return computed(op_type, run, [x, axis], name=name, attributes=attributes)

    return named(
        operation,
        public_name,
        f"Returns the {what} of each element and those before it along a dimension, or with ``reverse`` behind it; "
        f"with ``exclusive`` without the element itself.",
    )


cumsum = _scan("cumsum", np.cumsum, "Cumsum", 0, "sum")
cumprod = _scan("cumprod", np.cumprod, "Cumprod", 1, "product")

# -- order ----------------------------------------------------------------------------------------


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Any:
    """Returns the elements in the opposite order along the dimensions of the list ``axis``."""
    return computed("ReverseV2", _reversed, [tensor, axis], name=name)


reverse_v2 = reverse


def _reversed(array: Array, axis: Any) -> Array:
    return np.flip(array, _integers(axis))


def reverse_sequence(
    input: Any,
    seq_lengths: Any,
    seq_axis: int | None = None,
    batch_axis: int | None = None,
    name: str | None = None,
    seq_dim: int | None = None,
    batch_dim: int | None = None,
) -> Any:
    """Returns for each ``i`` along ``batch_axis`` the first ``seq_lengths[i]`` elements along ``seq_axis`` reversed."""
    along = int((seq_dim if seq_axis is None else seq_axis) or 0)
    each = int((batch_dim if batch_axis is None else batch_axis) or 0)
    reverse_each = partial(_reversed_beginnings, along=along, each=each)
    attributes = {"seq_dim": along, "batch_dim": each}
    return computed("ReverseSequence", reverse_each, [input, seq_lengths], name=name, attributes=attributes)


def _reversed_beginnings(array: Array, lengths: Array, along: int, each: int) -> Array:
    result = array.copy()
    rows = np.moveaxis(result, (each, along), (0, 1))
    for row, length in zip(rows, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    return result


def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Any:
    """Returns the elements moved along dimensions; those that are moved over the end begin again at the start."""
    return computed("Roll", _rolled, [input, shift, axis], name=name)


def _rolled(array: Array, shift: Any, axis: Any) -> Array:
    return np.roll(array, _integers(shift), _integers(axis))


def sort(values: Any, axis: int = -1, direction: str = "ASCENDING", name: str | None = None) -> Any:
    """Returns the elements sorted along a dimension; ``direction`` may be "DESCENDING".

    Raises:
        ValueError: ``direction`` is another word, or there is no such dimension.
    """
    with name_scope(name, "sort", [values]):
        return _sorted(np.sort, values, axis, direction, None)


def argsort(
    values: Any, axis: int = -1, direction: str = "ASCENDING", stable: bool = False, name: str | None = None
) -> Any:
    """Returns the places in which the elements would be sorted, as int32; those of equal ones stay in their order."""
    del stable  # it always is
    with name_scope(name, "argsort", [values]):
        return _sorted(np.argsort, values, axis, direction, int32)


def _sorted(function: Callable[..., Array], values: Any, axis: int, direction: str, dtype: Any) -> Any:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(f'direction should be "ASCENDING" or "DESCENDING", not {direction!r}')
    (operand,) = of_one_dtype("TopKV2", [values])
    arguments = [operand, axis, direction == "DESCENDING", function]
    output = OutputSpec(as_dtype(dtype or operand.dtype), TensorShape(operand.shape))
    return call(_in_order, arguments, op_type="TopKV2", output=output)


def _places_in_order(array: Array, axis: int, is_descending: bool, function: Callable[..., Array]) -> Array:
    del function
    return _in_order(array, axis, is_descending, np.argsort)


@differentiable(sorting_rule(_places_in_order))
def _in_order(array: Array, axis: int, is_descending: bool, function: Callable[..., Array]) -> Array:
    if not is_descending:
        found = function(array, axis=axis, kind="stable")
    else:  # from the end, so that equal elements stay in their order
        backwards = np.flip(array, axis)
        places = np.flip(np.argsort(backwards, axis=axis, kind="stable"), axis)
        places = array.shape[axis] - 1 - places
        found = places if function is np.argsort else np.take_along_axis(array, places, axis)
    return found.astype(np.int32) if function is np.argsort else found


TopK = namedtuple("TopK", ["values", "indices"])


def top_k(
    input: Any,
    k: int = 1,
    sorted: bool = True,  # noqa: A002 - TensorFlow's name
    index_type: Any = int32,
    name: str | None = None,
) -> TopK:
    """Returns the ``k`` greatest elements of each row in the last dimension, the greatest first, and their places.

    Args:
        input: Shape ``[..., n]``.
        k: How many.
        sorted: No matter to the values, which always are.
        index_type: Of the places.
        name: "TopKV2" if not given.

    Raises:
        ValueError: The rows are shorter than that.
    """
    wanted = as_dtype(index_type)

    def best(array: Array, number: Array) -> tuple[Array, Array]:
        if not 0 <= number <= array.shape[-1]:
            raise ValueError(f"{number} of {array.shape[-1]} elements cannot be taken")
        places = _in_order(array, -1, True, np.argsort)[..., : int(number)]
        return np.take_along_axis(array, places, -1), places.astype(wanted)

    attributes = {"sorted": sorted, "index_type": DType.of(wanted)}
    return TopK(*all_computed("TopKV2", best, [input, k], name=name, dtype=("T", wanted), attributes=attributes))


def in_top_k(predictions: Any, targets: Any, k: int, name: str | None = None) -> Any:
    """Returns whether each row's element number ``targets[row]`` is finite and among the ``k`` greatest of the row."""
    with name_scope(name, "in_top_k"):
        return computed("InTopKV2", _is_among_best, [predictions, targets, k])


def _is_among_best(rows: Array, places: Array, k: Array) -> Array:
    if not rows.shape[1]:
        return np.zeros(len(rows), bool)
    is_valid = (places >= 0) & (places < rows.shape[1])
    theirs = rows[np.arange(len(rows)), np.where(is_valid, places, 0)]
    return np.asarray(is_valid & np.isfinite(theirs) & (np.sum(rows > theirs[:, np.newaxis], axis=1) < k))


def invert_permutation(x: Any, name: str | None = None) -> Any:
    """Returns of the numbers 0, 1, 2, ... in some order where each of them is; InvalidArgumentError if it is none."""
    return computed("InvertPermutation", _inverse, [x], name=name)


def _inverse(order: Array) -> Array:
    if not np.array_equal(np.sort(order), np.arange(order.size)):
        raise ValueError(f"{order.tolist()} are not the numbers below {order.size} in some order")
    return np.argsort(order).astype(order.dtype)


def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = bool_, name: str | None = None) -> Any:
    """Returns for each length a row of ``maxlen`` elements, of which so many are true.

    Args:
        lengths: Integers of any shape.
        maxlen: Length of the rows; the greatest of the lengths if not given.
        dtype: Of the result.
        name: Of the scope; "SequenceMask" if not given.
    """
    with name_scope(name, "SequenceMask", [lengths, maxlen]):
        numbers = convert_to_tensor(lengths)
        limit = reduce_max(numbers) if maxlen is None else cast(convert_to_tensor(maxlen), numbers.dtype)
        places = range_(0, limit, dtype=numbers.dtype)
        mask = less(places, expand_dims(numbers, -1))
        if isinstance(mask, Tensor) and isinstance(maxlen, int) and TensorShape(numbers.shape).ndims is not None:
            mask.set_shape([*TensorShape(numbers.shape), maxlen])
        return mask if as_dtype(dtype) == bool_.dtype else cast(mask, dtype)


# -- more elements --------------------------------------------------------------------------------


def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", name: str | None = None, constant_values: Any = 0) -> Any:
    """Returns a tensor with elements before and behind its own in each dimension.

    Args:
        tensor: The tensor.
        paddings: Shape ``[rank, 2]``: how many before and how many behind.
        mode: "CONSTANT"; "REFLECT" to mirror at the outermost elements, "SYMMETRIC" at their outer edges.
        name: Of the operation; "Pad", "PadV2" or "MirrorPad" if not given.
        constant_values: What to fill up with.

    Raises:
        ValueError: The mode is another word, or ``paddings`` does not fit.
    """
    wanted = str(mode).upper()
    if wanted not in _PADDING_MODES:
        raise ValueError(f'mode should be "CONSTANT", "REFLECT" or "SYMMETRIC", not {mode!r}: Unknown padding mode')
    is_plain = not is_deferred(constant_values) and np.all(constant_values == 0)
    if wanted != "CONSTANT":
        attributes = {"mode": wanted.encode()}
        result = computed("MirrorPad", _mirrored(wanted), [tensor, paddings], name=name, attributes=attributes)
    elif is_plain:
        result = computed("Pad", _padded, [tensor, paddings], name=name)
    else:
        result = computed("PadV2", _padded, [tensor, paddings, constant_values], name=name)
    if isinstance(result, Tensor) and isinstance(paddings, list | tuple):
        result.set_shape(_padded_shape(result.op.inputs[0].shape, paddings))
    return result


_PADDING_MODES = ("CONSTANT", "REFLECT", "SYMMETRIC")


def _padded_shape(shape: TensorShape, paddings: Sequence[Any]) -> TensorShape:
    """Returns what is known of a shape, where some sizes of a list are tensors."""
    if shape.ndims is None:
        return TensorShape(None)
    rows = [None if is_deferred(each) else each for each in paddings]
    return TensorShape(
        None if size is None or each is None or any(map(is_deferred, each)) else size + int(sum(each))
        for size, each in zip(shape, rows, strict=True)
    )


def _padded(array: Array, paddings: Array, element: Any = None) -> Array:
    filling = element
    if element is None:
        filling = b"" if is_text(array.dtype) else array.dtype.type(0)
    result = np.full(_padded_sizes(array, paddings), filling, array.dtype)
    places = zip(array.shape, paddings[:, 0].tolist(), strict=True)
    result[tuple(slice(before, before + size) for size, before in places)] = array
    return result


def _padded_sizes(array: Array, paddings: Array) -> tuple[int, ...]:
    if paddings.shape != (array.ndim, 2) or np.any(paddings < 0):
        raise ValueError(f"paddings {paddings.tolist()} do not fit the shape {list(array.shape)}")
    return tuple(size + int(sum(each)) for size, each in zip(array.shape, paddings, strict=True))


def _mirrored(mode: str) -> Callable[[Array, Array], Array]:
    def mirrored(array: Array, paddings: Array) -> Array:
        _padded_sizes(array, paddings)
        most = np.asarray(array.shape) - (mode == "REFLECT")
        if np.any(paddings > most[:, np.newaxis]):
            raise ValueError(f"paddings {paddings.tolist()} are more than the shape {list(array.shape)} can mirror")
        padded: Array = np.pad(array, paddings.tolist(), mode.lower())  # type: ignore[call-overload]  # one of two words
        return padded

    return mirrored


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Any:
    """Returns the elements repeated along dimensions of size 1 and new ones before the first, up to a shape."""
    return computed("BroadcastTo", _broadcast, [input, shape], name=name)


def _broadcast(array: Array, shape: Array) -> Array:
    return np.broadcast_to(array, _integers(shape))


def broadcast_static_shape(shape_x: ShapeLike, shape_y: ShapeLike) -> TensorShape:
    """Returns the shape that elementwise operations of two shapes have; ValueError if they do not fit."""
    one, two = TensorShape(shape_x), TensorShape(shape_y)
    if one.ndims is None or two.ndims is None:
        return TensorShape(None)
    rank = max(one.ndims, two.ndims)
    pairs = zip([1] * (rank - one.ndims) + one.as_list(), [1] * (rank - two.ndims) + two.as_list(), strict=True)
    sizes: list[int | None] = []
    for left, right in pairs:
        if left is not None and right is not None and left != right and 1 not in (left, right):
            raise ValueError(f"the shapes {one} and {two} do not fit each other")
        known = [size for size in (left, right) if size is not None and size != 1]
        sizes.append(known[0] if known else 1 if left == right == 1 else None)
    return TensorShape(sizes)


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any) -> Any:
    """Returns the shape that elementwise operations of two shapes have, of shapes as tensors."""
    return computed("BroadcastArgs", _common_shape, [shape_x, shape_y])


def _common_shape(one: Array, two: Array) -> Array:
    return np.asarray(np.broadcast_shapes(_integers(one), _integers(two)), one.dtype)


def linspace(start: Any, stop: Any, num: Any, name: str | None = None, axis: int = 0) -> Any:
    """Returns ``num`` numbers at equal distances from ``start`` to ``stop``, both included.

    Args:
        start: The first; a float, or a tensor.
        stop: The last.
        num: How many, at least one.
        name: Of the scope; "linspace" if not given.
        axis: Where the new dimension is.
    """
    with name_scope(name, "linspace", [start, stop]):
        bounds = of_one_dtype(
            "LinSpace", [convert_to_tensor(start, name="start"), convert_to_tensor(stop, name="stop")]
        )
        kind = DType(as_dtype(bounds[0].dtype))
        wanted = as_dtype(np.float64) if kind.is_integer else kind.dtype
        output = None
        if is_deferred(num):
            output = OutputSpec(wanted, TensorShape([None] * (1 + (TensorShape(bounds[0].shape).ndims or 0))))
        return call(_evenly, [*bounds, num, axis, wanted], op_type="Slice", output=output)


lin_space = linspace


@differentiable(Traced(arrays.linspace))
def _evenly(start: Array, stop: Array, num: Any, axis: int, dtype: np.dtype[Any]) -> Array:
    if int(num) < 1:
        raise ValueError(f"linspace needs at least one number, not {num}")
    return np.linspace(start, stop, int(num), axis=axis).astype(dtype)


def meshgrid(*args: Any, **kwargs: Any) -> list[Any]:
    """Returns the coordinates of a grid: for each argument a tensor of the grid's shape.

    Args:
        *args: The coordinates along each dimension.
        **kwargs: ``indexing``: "xy" if not given, with the second argument along the first dimension; or "ij".
            ``name``: of the scope; "meshgrid" if not given.

    Raises:
        TypeError: There is another keyword.
        ValueError: ``indexing`` is another word.
    """
    indexing, name = kwargs.pop("indexing", "xy"), kwargs.pop("name", "meshgrid")
    if kwargs:
        raise TypeError(f"meshgrid knows indexing and name, not {', '.join(sorted(kwargs))}")
    if indexing not in ("xy", "ij"):
        raise ValueError(f'indexing should be "xy" or "ij", not {indexing!r}')
    with name_scope(name, "meshgrid", args):
        lines = [convert_to_tensor(each) for each in args]
        order = list(range(len(lines)))
        if indexing == "xy" and len(lines) > 1:
            order[:2] = [1, 0]
        laid = [reshape(line, [-1 if at == place else 1 for at in order]) for place, line in enumerate(lines)]
        return [_over_all(each, laid) for each in laid]


def _over_all(line: Any, laid: Sequence[Any]) -> Any:
    for other in laid:
        line = multiply(line, ones_like(other, line.dtype))
    return line


def repeat(input: Any, repeats: Any, axis: int | None = None, name: str | None = None) -> Any:
    """Returns each element ``repeats`` times along a dimension, or without ``axis`` all elements in one line."""
    with name_scope(name, "Repeat", [input, repeats]):
        (operand,) = of_one_dtype("Repeat", [input])
        output = None
        if is_deferred(repeats) or not TensorShape(operand.shape).is_fully_defined():
            ndims = 1 if axis is None else TensorShape(operand.shape).ndims
            output = OutputSpec(as_dtype(operand.dtype), TensorShape(None if ndims is None else [None] * ndims))
        return call(_repeated, [operand, repeats, axis], op_type="Reshape", output=output)


@differentiable(SELECTING)
def _repeated(array: Array, repeats: Any, axis: int | None) -> Array:
    return np.repeat(array, np.asarray(repeats), axis=axis)


def identity_n(input: Sequence[Any], name: str | None = None) -> list[Any]:
    """Returns tensors of the same values, which are there when all are."""
    operands = [convert_to_tensor(each) for each in input]
    outputs = [OutputSpec(as_dtype(each.dtype), TensorShape(each.shape)) for each in operands]
    attributes = {"T": [DType.of(each.dtype) for each in outputs]}
    return call_for_several(
        lambda *values: values, operands, outputs, op_type="IdentityN", name=name, attributes=attributes
    )


def ensure_shape(x: Any, shape: ShapeLike, name: str | None = None) -> Any:
    """Returns a tensor as one of a shape that is checked when it runs, as far as it is not known before.

    Raises:
        ValueError: The shape is known to be another.
        InvalidArgumentError: When it runs, it turns out to be another.
    """
    wanted = TensorShape(shape)

    def checked(array: Array) -> Array:
        if not wanted.is_compatible_with(array.shape):
            raise ValueError(f"the shape is {list(array.shape)}, but {wanted} is ensured")
        return array

    return computed("EnsureShape", checked, [x], name=name, attributes={"shape": wanted})


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(int(each) for each in np.ravel(values))
