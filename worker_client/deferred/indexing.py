"""Elements and slices of deferred tensors."""

from __future__ import annotations

from typing import Any

import numpy as np

from worker_client.deferred.call import deferred_call
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.shapes import TensorShape


def item(tensor: Tensor, key: Any) -> Tensor:
    """Adds an operation that makes ``tensor[key]``; in the key there may be tensors and arrays, as in NumPy."""
    output = _output(tensor, key)
    return deferred_call(_item, [tensor, key], op_type="strided_slice", output=output, is_view=True)


def _item(array: Any, key: Any) -> Any:
    return array[key]


def _output(tensor: Tensor, key: Any) -> OutputSpec | None:
    """Returns what is known about an element or slice of a tensor of which not all sizes are; None to find it out."""
    shape = tensor.shape
    keys = key if type(key) is tuple else (key,)
    if shape.ndims is None or shape.is_fully_defined() or not all(_is_basic(each) for each in keys):
        return None
    missing = shape.ndims - sum(each is not None and each is not Ellipsis for each in keys)
    keys = keys if Ellipsis in keys else (*keys, Ellipsis)
    at = keys.index(Ellipsis)
    sizes: list[int | None] = []
    unread = iter(shape)
    for each in [*keys[:at], *[slice(None)] * missing, *keys[at + 1 :]]:
        size = 1 if each is None else next(unread, None)
        if isinstance(each, slice) and size is not None:
            size = len(range(*each.indices(size)))
        if each is None or isinstance(each, slice):
            sizes.append(size)
    return OutputSpec(tensor.dtype, TensorShape(sizes)) if missing >= 0 and keys.count(Ellipsis) == 1 else None


def _is_basic(key: Any) -> bool:
    """Whether a part of an index is a number, or a slice of numbers, so that no tensor nor array is in it."""
    if isinstance(key, slice):
        return all(bound is None or isinstance(bound, int | np.integer) for bound in (key.start, key.stop, key.step))
    return key is None or key is Ellipsis or (isinstance(key, int | np.integer) and not isinstance(key, bool))
