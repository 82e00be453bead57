"""Adds up the gradients that reach a tensor from all operations that use it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.computed import computed
from worker_client.graph.operation import Tensor
from worker_client.values.conversion import IndexedSlices

Gradient: TypeAlias = Tensor | IndexedSlices
"""Of a tensor: of its shape, or rows of it."""


def total(gradients: Sequence[Gradient]) -> Gradient | None:
    """Returns the sum of gradients: rows if all are rows, one behind the other; None if there is none."""
    if len(gradients) < 2:
        return gradients[0] if gradients else None
    slices = [each for each in gradients if isinstance(each, IndexedSlices)]
    if len(slices) == len(gradients):
        return IndexedSlices(
            _behind_each_other([each.values for each in slices]),
            _behind_each_other([each.indices for each in slices]),
            slices[0].dense_shape,
        )
    tensors = [dense(each) for each in gradients]
    found: Tensor = computed("AddN", _sum, [tensors])
    return found


def dense(gradient: Gradient) -> Tensor:
    """Returns a gradient as a tensor of the whole shape."""
    if not isinstance(gradient, IndexedSlices):
        return gradient
    whole: Tensor = Tensor.arithmetic.dense(gradient)
    if not whole.shape.is_fully_defined():
        whole.set_shape(gradient.shape)
    return whole


def _behind_each_other(tensors: Sequence[object]) -> Tensor:
    found: Tensor = computed("ConcatV2", _concatenated, [tensors, 0], name="concat")
    return found


def _concatenated(*values: Array) -> Array:
    return np.concatenate(values[:-1], axis=0)


def _sum(first: Array, *others: Array) -> Array:
    if not others:
        return first
    result: Array = np.add(first, others[0])
    for other in others[1:]:
        result = np.add(result, other, out=result if isinstance(result, np.ndarray) else None)
    return result
