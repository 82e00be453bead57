"""TensorFlow 1's functions that pick elements by a condition or by segments, and put them together again."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import call, is_deferred
from worker_client.deferred.computed import all_computed, computed
from worker_client.deferred.operands import of_one_dtype
from worker_client.derivatives.registry import SELECTING, differentiable
from worker_client.graph.blocks import name_scope
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.op_definitions.op_def import Output
from worker_client.ops.array_ops import concat, gather, reshape, squeeze, where
from worker_client.ops.constant_ops import convert_to_tensor, ones, rank
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.math_ops import divide, maximum, reduce_prod, sqrt
from worker_client.values.dtypes import DType, as_dtype, int32
from worker_client.values.made_functions import named
from worker_client.values.shapes import TensorShape

__all__ = [
    "boolean_mask",
    "confusion_matrix",
    "dynamic_partition",
    "dynamic_stitch",
    "scatter_nd",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_prod",
    "segment_sum",
    "setdiff1d",
    "tensor_scatter_add",
    "tensor_scatter_nd_add",
    "tensor_scatter_nd_max",
    "tensor_scatter_nd_min",
    "tensor_scatter_nd_sub",
    "tensor_scatter_nd_update",
    "tensor_scatter_sub",
    "tensor_scatter_update",
    "unique",
    "unique_with_counts",
    "unsorted_segment_max",
    "unsorted_segment_mean",
    "unsorted_segment_min",
    "unsorted_segment_prod",
    "unsorted_segment_sqrt_n",
    "unsorted_segment_sum",
    "where_v2",
]

# -- by a condition -------------------------------------------------------------------------------


def boolean_mask(tensor: Any, mask: Any, name: str | None = "boolean_mask", axis: int | None = None) -> Any:
    """Returns the elements for which a mask is true.

    Args:
        tensor: Shape ``[..., *mask.shape, ...]``.
        mask: Truth values; of a rank that is known.
        name: Of the scope.
        axis: The dimension of ``tensor`` where the mask begins; the first if not given.

    Returns:
        A tensor in whose shape one dimension stands for those of the mask.

    Raises:
        ValueError: The mask is a scalar or of unknown rank, or does not fit.
    """
    with name_scope(name, "boolean_mask", [tensor, mask]):
        operand, test, at = convert_to_tensor(tensor, name="tensor"), convert_to_tensor(mask, name="mask"), axis or 0
        shape, masked = TensorShape(operand.shape), TensorShape(test.shape)
        if not masked.ndims:
            raise ValueError(f"boolean_mask: the mask should have one dimension or more, known now, not {masked}")
        end = at + masked.ndims
        if not shape[at:end].is_compatible_with(masked):
            raise ValueError(f"boolean_mask: the mask {masked} does not fit {shape} at dimension {at}")
        number = reduce_prod(shape_tensor(operand)[at:end], [0])
        sizes = concat([shape_tensor(operand)[:at], [number], shape_tensor(operand)[end:]], 0)
        flat = reshape(operand, sizes)
        if isinstance(flat, Tensor) and shape.ndims is not None:
            flat.set_shape([*shape[:at], shape[at:end].num_elements(), *shape[end:]])
        places = squeeze(where(reshape(test, [-1])), [1])
        return gather(flat, places, axis=at)


def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Any:
    """Returns elements of ``x`` where the condition holds and of ``y`` elsewhere, of any shapes that fit each other.

    Without ``x`` and ``y`` it returns the places where the condition holds, as ``where``.

    Raises:
        ValueError: Only one of them is given, or the shapes do not fit.
    """
    if x is None and y is None:
        return where(condition, name=name)
    if x is None or y is None:
        raise ValueError("where_v2 needs both x and y, or neither")
    return computed("SelectV2", np.where, [condition, x, y], name=name)


# -- different elements ---------------------------------------------------------------------------

Unique = namedtuple("Unique", ["y", "idx"])
UniqueWithCounts = namedtuple("UniqueWithCounts", ["y", "idx", "count"])
ListDiff = namedtuple("ListDiff", ["out", "idx"])


def unique(x: Any, out_idx: Any = int32, name: str | None = None) -> Unique:
    """Returns the different elements of a vector in the order in which they come, and which of them each element is."""
    return Unique(*_different(x, out_idx, "Unique", name)[:2])


def unique_with_counts(x: Any, out_idx: Any = int32, name: str | None = None) -> UniqueWithCounts:
    """Returns what ``unique`` does, and how often each of the different elements is there."""
    return UniqueWithCounts(*_different(x, out_idx, "UniqueWithCounts", name))


def _different(x: Any, out_idx: Any, op_type: str, name: str | None) -> list[Any]:
    number, index_type = 2 if op_type == "Unique" else 3, as_dtype(out_idx)

    def places(array: Array) -> tuple[Array, ...]:
        elements, *numbers = _first_places(array)[:number]
        return elements, *(each.astype(index_type) for each in numbers)

    dtypes: Output = ("T", index_type) if number == 2 else ("T", index_type, index_type)
    attributes = {"out_idx": DType.of(index_type)}
    return all_computed(op_type, places, [x], name=name, dtype=dtypes, attributes=attributes)


def _first_places(array: Array) -> tuple[Array, ...]:
    elements, first, inverse, counts = np.unique(array, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    return elements[order], np.argsort(order)[inverse], counts[order]


def setdiff1d(x: Any, y: Any, index_dtype: Any = int32, name: str | None = None) -> ListDiff:
    """Returns the elements of a vector ``x`` that are not in ``y``, in their order, and their places in ``x``."""
    wanted = as_dtype(index_dtype)

    def left(one: Array, two: Array) -> tuple[Array, Array]:
        places = np.flatnonzero(~np.isin(one, two))
        return one[places], places.astype(wanted)

    attributes = {"out_idx": DType.of(wanted)}
    return ListDiff(*all_computed("ListDiff", left, [x, y], name=name, dtype=("T", wanted), attributes=attributes))


# -- segments -------------------------------------------------------------------------------------


class _Segment(Protocol):
    def __call__(self, data: Any, segment_ids: Any, name: str | None = None) -> Any: ...


class _UnsortedSegment(Protocol):
    def __call__(self, data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Any: ...


def _gathered(function: np.ufunc, first: Any, data: Array, ids: Array, number: int) -> Array:
    """Returns for each segment what a ufunc makes of ``first`` and its elements; negative ids are left out."""
    rows = data.reshape(ids.size, *data.shape[ids.ndim :])
    places = ids.reshape(-1)
    result = np.full((number, *rows.shape[1:]), first, data.dtype)
    if places.size and places.max() >= number:
        raise IndexError(f"segment {places.max()} is not in [0, {number})")
    function.at(result, places[places >= 0], rows[places >= 0])
    return result


def _least(dtype: np.dtype[Any]) -> Any:
    return np.finfo(dtype).min if dtype.kind == "f" else np.iinfo(dtype).min


def _greatest(dtype: np.dtype[Any]) -> Any:
    return np.finfo(dtype).max if dtype.kind == "f" else np.iinfo(dtype).max


_Neutral = Callable[[np.dtype[Any]], Any]


def _segment(
    public_name: str, function: np.ufunc, neutral: _Neutral, op_type: str, what: str, *, is_mean: bool = False
) -> _Segment:
    def compute(data: Array, ids: Array) -> Array:
        if ids.ndim != 1 or len(ids) != len(data):
            raise ValueError(f"segment ids of the shape {list(ids.shape)} do not fit data of {list(data.shape)}")
        if ids.size and (ids[0] < 0 or np.any(np.diff(ids) < 0)):
            raise ValueError(
                f"segment ids should be in their order, as {ids.tolist()} are not; use unsorted_{public_name}"
            )
        number = int(ids[-1]) + 1 if ids.size else 0
        result = _gathered(function, neutral(data.dtype), data, ids, number)
        counts = np.bincount(ids, minlength=number).reshape(number, *[1] * (data.ndim - 1))
        if is_mean:
            result = result / np.maximum(counts, 1).astype(data.dtype)
        return np.where(counts == 0, data.dtype.type(0), result).astype(data.dtype)

    def operation(data: Any, segment_ids: Any, name: str | None = None) -> Any:
        return computed(op_type, compute, [data, segment_ids], name=name)

    doc = f"Returns the {what} of the rows of each segment; 0 where it has none. ``segment_ids``, one a row, ascend."
    return named(operation, public_name, doc)


def _unsorted(public_name: str, function: np.ufunc, neutral: _Neutral, op_type: str, what: str) -> _UnsortedSegment:
    def compute(data: Array, ids: Array, number: Any) -> Array:
        return _gathered(function, neutral(data.dtype), data, ids, int(number))

    def operation(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Any:
        return computed(op_type, compute, [data, segment_ids, num_segments], name=name)

    doc = f"Returns the {what} of the elements of each of ``num_segments`` segments; negative ids are left out."
    return named(operation, public_name, doc)


def _always(value: Any) -> _Neutral:
    return lambda _: value


segment_sum = _segment("segment_sum", np.add, _always(0), "SegmentSum", "sum")
segment_prod = _segment("segment_prod", np.multiply, _always(1), "SegmentProd", "product")
segment_max = _segment("segment_max", np.maximum, _least, "SegmentMax", "greatest")
segment_min = _segment("segment_min", np.minimum, _greatest, "SegmentMin", "least")
segment_mean = _segment("segment_mean", np.add, _always(0), "SegmentMean", "mean", is_mean=True)
unsorted_segment_sum = _unsorted("unsorted_segment_sum", np.add, _always(0), "UnsortedSegmentSum", "sum")
unsorted_segment_prod = _unsorted("unsorted_segment_prod", np.multiply, _always(1), "UnsortedSegmentProd", "product")
unsorted_segment_max = _unsorted("unsorted_segment_max", np.maximum, _least, "UnsortedSegmentMax", "greatest")
unsorted_segment_min = _unsorted("unsorted_segment_min", np.minimum, _greatest, "UnsortedSegmentMin", "least")


def unsorted_segment_mean(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Any:
    """Returns the mean of the elements of each segment, 0 of one without; otherwise as ``unsorted_segment_sum``."""
    with name_scope(name, "UnsortedSegmentMean"):
        operand, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        number = _numbers(operand, ids, num_segments)
        return divide(unsorted_segment_sum(operand, ids, num_segments), number)


def unsorted_segment_sqrt_n(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Any:
    """Returns the sum of each segment divided by the square root of its size; as ``unsorted_segment_mean``."""
    with name_scope(name, "UnsortedSegmentSqrtN"):
        operand, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        number = _numbers(operand, ids, num_segments)
        return divide(unsorted_segment_sum(operand, ids, num_segments), sqrt(number))


def _numbers(data: Any, ids: Any, num_segments: Any) -> Any:
    """Returns how many elements each segment has, at least 1, in a shape that divides the segments' sums."""
    count = convert_to_tensor(num_segments)
    number = unsorted_segment_sum(ones(shape_tensor(ids), as_dtype(data.dtype)), ids, count)
    inner = ones([rank(data) - rank(ids)], as_dtype(count.dtype))
    return maximum(reshape(number, concat([count[np.newaxis], inner], 0)), 1)


# -- putting together -----------------------------------------------------------------------------


def dynamic_partition(data: Any, partitions: Any, num_partitions: int, name: str | None = None) -> list[Any]:
    """Returns ``num_partitions`` tensors: for each the rows of ``data`` whose number in ``partitions`` it has.

    Raises:
        InvalidArgumentError: When it runs: there is another number in ``partitions``.
    """

    def parts(array: Array, numbers: Array) -> tuple[Array, ...]:
        if numbers.size and not (numbers.min() >= 0 and numbers.max() < num_partitions):
            raise IndexError(f"partitions should be in [0, {num_partitions}), not {numbers.tolist()}")
        return tuple(array[numbers == each] for each in range(num_partitions))

    attributes = {"num_partitions": num_partitions}
    return all_computed("DynamicPartition", parts, [data, partitions], name=name, attributes=attributes)


def dynamic_stitch(indices: Sequence[Any], data: Sequence[Any], name: str | None = None) -> Any:
    """Returns one tensor of the rows of several, each put where ``indices`` says; of one given twice the last stays."""
    return computed("DynamicStitch", _stitched, [list(indices), list(data)], name=name)


@differentiable(SELECTING)
def _stitched(*operands: Array) -> Array:
    places, rows = operands[: len(operands) // 2], operands[len(operands) // 2 :]
    inner = rows[0].shape[places[0].ndim :]
    size = max((int(each.max()) + 1 for each in places if each.size), default=0)
    result = np.zeros((size, *inner), rows[0].dtype)
    for place, row in zip(places, rows, strict=True):
        result[place.reshape(-1)] = row.reshape(-1, *inner)
    return result


def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Any:
    """Returns a tensor of zeros to which values are added at some places.

    Args:
        indices: Shape ``[..., depth]``: each names a box by its place in the first ``depth`` dimensions.
        updates: Shape ``[*indices.shape[:-1], *shape[depth:]]``.
        shape: Of the result; may be a tensor.
        name: "ScatterNd" if not given.

    Raises:
        InvalidArgumentError: When it runs: a place is out of range.
    """
    return computed("ScatterNd", _scattered, [indices, updates, shape], name=name)


def _scattered(places: Array, values: Array, shape: Any) -> Array:
    result = np.zeros(tuple(int(each) for each in np.ravel(shape)), values.dtype)
    return _put(np.add.at, result, places, values)


def _put(put: Callable[..., None], result: Array, places: Array, values: Array) -> Array:
    depth = places.shape[-1]
    if np.any((places < 0) | (places >= np.asarray(result.shape[:depth]))):
        raise IndexError(f"the places {places.tolist()} are not all in the shape {list(result.shape)}")
    put(result, tuple(np.moveaxis(places, -1, 0)), values)
    return result


class _TensorScatter(Protocol):
    def __call__(self, tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Any: ...


def _tensor_scatter(public_name: str, put: Callable[..., None], op_type: str, verb: str) -> _TensorScatter:
    def compute(array: Array, places: Array, values: Array) -> Array:
        return _put(put, array.copy(), places, values)

    def operation(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Any:
        return computed(op_type, compute, [tensor, indices, updates], name=name)

    return named(operation, public_name, f"Returns a tensor with elements or boxes {verb}; ``scatter_nd`` says which.")


tensor_scatter_nd_update = _tensor_scatter(
    "tensor_scatter_nd_update", np.ndarray.__setitem__, "TensorScatterUpdate", "replaced"
)
tensor_scatter_nd_add = _tensor_scatter("tensor_scatter_nd_add", np.add.at, "TensorScatterAdd", "added to")
tensor_scatter_nd_sub = _tensor_scatter("tensor_scatter_nd_sub", np.subtract.at, "TensorScatterSub", "subtracted from")
tensor_scatter_nd_max = _tensor_scatter("tensor_scatter_nd_max", np.maximum.at, "TensorScatterMax", "raised")
tensor_scatter_nd_min = _tensor_scatter("tensor_scatter_nd_min", np.minimum.at, "TensorScatterMin", "lowered")
tensor_scatter_update, tensor_scatter_add = tensor_scatter_nd_update, tensor_scatter_nd_add
tensor_scatter_sub = tensor_scatter_nd_sub


def confusion_matrix(
    labels: Any,
    predictions: Any,
    num_classes: Any = None,
    dtype: Any = int32,
    name: str | None = None,
    weights: Any = None,
) -> Any:
    """Returns how often each label (a row) was predicted as each (a column), or the sum of the weights of those.

    Args:
        labels: Integers; shape ``[n]``.
        predictions: Integers; shape ``[n]``.
        num_classes: How many there are; one more than the greatest if not given.
        dtype: Of the result.
        name: Of the scope; "confusion_matrix" if not given.
        weights: Shape ``[n]``; 1 if not given.
    """
    with name_scope(name, "confusion_matrix", [labels, predictions, num_classes, weights]):
        (rows,), (columns,) = of_one_dtype("ScatterNd", [labels]), of_one_dtype("ScatterNd", [predictions])
        known = None if num_classes is None or is_deferred(num_classes) else int(num_classes)
        if known is None and not is_deferred(rows) and not is_deferred(columns) and num_classes is None:
            known = 1 + max(int(np.max(rows)), int(np.max(columns)))
        arguments = [rows, columns, num_classes, as_dtype(dtype), weights]
        return call(
            _confusions, arguments, op_type="ScatterNd", output=OutputSpec(as_dtype(dtype), TensorShape([known] * 2))
        )


def _confusions(rows: Array, columns: Array, number: Any, dtype: np.dtype[Any], weights: Any) -> Array:
    classes = int(number) if number is not None else 1 + int(max(rows.max(initial=-1), columns.max(initial=-1)))
    places = np.stack([rows, columns], axis=-1)
    values = np.ones(rows.shape, dtype) if weights is None else np.asarray(weights, dtype)
    return _put(np.add.at, np.zeros((classes, classes), dtype), places, values)
