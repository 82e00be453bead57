"""Elements and slices of tensors, as Python's brackets ask for them: TensorFlow's ``StridedSlice``."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.building import built_op, constant_op
from worker_client.deferred.call import deferred_call, is_deferred
from worker_client.deferred.operands import cast_to, tensor_of
from worker_client.graph.default_graph import graph_of
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Tensor
from worker_client.op_definitions.op_def import SHORT_INDICES
from worker_client.values.dtypes import as_dtype, int16, int32, int64

_MASKS: Final = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


@dataclass(slots=True)
class _Bounds:
    """An index taken apart, with one entry for each of its parts."""

    begin: list[Any] = field(default_factory=list)
    end: list[Any] = field(default_factory=list)
    strides: list[Any] = field(default_factory=list)
    masks: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_MASKS, 0))

    def add(self, begin: Any, end: Any, stride: Any, *masks: str) -> None:
        for mask in masks:
            self.masks[mask] |= 1 << len(self.begin)
        self.begin.append(begin)
        self.end.append(end)
        self.strides.append(stride)


def item(tensor: Tensor, key: Any) -> Tensor:
    """Returns an element or a slice; a list or tuple has an index for each dimension.

    Arrays and tensors with dimensions take elements as in NumPy.

    Raises:
        TypeError: An index is neither an integer, nor a slice of integers, nor an ellipsis, nor None.
        ValueError: An index is out of range, or there are more than the tensor has dimensions.
    """
    keys = list(key) if isinstance(key, list | tuple) else [key]
    if any(_takes_elements(each) for each in keys):
        return deferred_call(_elements, [tensor, key], op_type="strided_slice", is_view=True)
    bounds_given = [
        bound for each in keys for bound in ([each.start, each.stop, each.step] if isinstance(each, slice) else [each])
    ]
    graph: Graph = graph_of([tensor, *(each for each in bounds_given if is_deferred(each))])
    bounds = _bounds(graph, keys)
    if not keys:
        bounds.begin, bounds.end, bounds.strides = [], [], []
    masks = bounds.masks
    if masks["ellipsis_mask"].bit_count() > 1:
        raise ValueError(f"an index of {tensor.name} has several ellipses; one is allowed")
    with graph.name_scope("strided_slice") as scope:
        packed = [_stacked(graph, each) for each in (bounds.begin, bounds.end, bounds.strides)]
        widest = max((each.dtype for each in packed), key=lambda dtype: dtype.itemsize)
        packed = [
            each if each.dtype == widest else built_op(graph, "Cast", cast_to(widest), [each], dtype=widest).outputs[0]
            for each in packed
        ]
        inputs = [tensor, *packed]
        return built_op(graph, "StridedSlice", StridedSlice(masks), inputs, name=scope, attributes=masks).outputs[0]


def _elements(array: Array, key: Any) -> Any:
    return array[key]


def _takes_elements(key: Any) -> bool:
    """Whether it is NumPy's advanced indexing, by truth values or by several indices at once."""
    if isinstance(key, bool | np.bool_):
        return True
    return (is_deferred(key) or isinstance(key, np.ndarray)) and (
        as_dtype(key.dtype) == np.bool_ or key.shape.ndims != 0 if is_deferred(key) else key.ndim > 0
    )


def _bounds(graph: Graph, keys: Sequence[Any]) -> _Bounds:
    bounds = _Bounds()
    for key in keys:
        if isinstance(key, slice):
            _add_slice(bounds, graph, key)
        elif key is Ellipsis:
            bounds.add(0, 0, 1, "ellipsis_mask")
        elif key is None:
            bounds.add(0, 0, 1, "new_axis_mask")
        else:
            _check_index(key)
            dtype = as_dtype(key.dtype) if is_deferred(key) else None
            one = constant_op(graph, np.ones((), dtype), "Const") if dtype in (int16, int64) else 1
            bounds.add(key, key + 1, one, "shrink_axis_mask")
    return bounds


def _add_slice(bounds: _Bounds, graph: Graph, key: slice) -> None:
    given = (key.start, key.stop, key.step)
    for bound in given:
        if bound is not None:
            _check_index(bound)
    dtypes = [as_dtype(each.dtype) for each in given if is_deferred(each)]
    widest = max(dtypes, key=lambda dtype: dtype.itemsize) if dtypes else None
    filled = [
        bound
        if bound is not None
        else default
        if widest is None
        else constant_op(graph, np.array(default, widest), "Const")
        for bound, default in zip(given, (0, 0, 1), strict=True)
    ]
    open_ends = [mask for mask, bound in zip(_MASKS, given[:2], strict=False) if bound is None]
    begin, end, stride = filled
    bounds.add(begin, end, stride, *open_ends)


def _check_index(index: Any) -> None:
    if isinstance(index, numbers.Integral):
        return
    if not is_deferred(index) or as_dtype(index.dtype) not in SHORT_INDICES:
        raise TypeError(
            f"{index!r} cannot be an index of a tensor; use integers, slices of integers, `...`, None, or tensors of "
            f"int32 or int64"
        )


def _stacked(graph: Graph, values: Sequence[Any]) -> Tensor:
    tensor = tensor_of(list(values), None, "stack")
    if tensor is not None:
        return tensor
    dtype = int32.dtype if all(-(2**31) <= each < 2**31 for each in values) else int64.dtype
    return constant_op(graph, np.array(values, dtype), "stack")


class StridedSlice:
    """Indexes an array by the numbers that it is given."""

    __slots__ = ("_masks",)

    def __init__(self, masks: Mapping[str, int]):
        self._masks = [masks[name] for name in _MASKS]

    def __call__(self, array: Array, begin: Array, end: Array, strides: Array) -> Any:
        return array[self.key(begin, end, strides)]

    def key(self, begin: Array, end: Array, strides: Array) -> tuple[Any, ...]:
        """Returns the index that some bounds stand for, as NumPy takes it."""
        open_begin, open_end, ellipsis, new_axis, single = self._masks
        key: list[Any] = []
        for place, (start, stop, step) in enumerate(zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)):
            bit = 1 << place
            if ellipsis & bit:
                key.append(Ellipsis)
            elif new_axis & bit:
                key.append(None)
            elif single & bit:
                key.append(start)
            else:
                key.append(slice(None if open_begin & bit else start, None if open_end & bit else stop, step))
        return tuple(key)
