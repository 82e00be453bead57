"""What all metrics share: variables with sums over batches, and operands that fit each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from worker_client.graph.definition import VariableAggregation, VariableSynchronization
from worker_client.graph.keys import GraphKeys
from worker_client.ops.array_ops import cast, expand_dims, squeeze
from worker_client.ops.collections import add_to_collections
from worker_client.ops.constant_ops import convert_to_tensor, ones_like, zeros
from worker_client.ops.math_ops import multiply
from worker_client.scopes.creation import new_variable
from worker_client.values.dtypes import as_dtype, float32
from worker_client.values.shapes import TensorShape

Collections = Iterable[str] | None


def metric_variable(shape: list[int], name: str) -> Any:
    """Makes a local variable of zeros, which is in ``METRIC_VARIABLES`` as well."""
    return new_variable(
        lambda: zeros(shape, float32),
        trainable=False,
        collections=[GraphKeys.LOCAL_VARIABLES, GraphKeys.METRIC_VARIABLES],
        name=name,
        synchronization=VariableSynchronization.ON_READ,
        aggregation=VariableAggregation.SUM,
    )


def fitted(labels: Any, predictions: Any, weights: Any) -> tuple[Any, Any, Any]:
    """Returns labels, predictions and weights of one rank; labels and weights may be None.

    Where one of labels and predictions has one dimension more than the other, of size 1, that goes away; weights that
    are no scalar get or lose one likewise.

    Raises:
        ValueError: Labels and predictions differ in shape otherwise.
    """
    predicted = convert_to_tensor(predictions)
    if labels is not None:
        labels = convert_to_tensor(labels)
        difference = _rank_difference(predicted, labels)
        if difference == 1 and TensorShape(predicted.shape)[-1:].is_compatible_with([1]):
            predicted = squeeze(predicted, [-1])
        elif difference == -1 and TensorShape(labels.shape)[-1:].is_compatible_with([1]):
            labels = squeeze(labels, [-1])
        if not TensorShape(predicted.shape).is_compatible_with(labels.shape):
            raise ValueError(f"labels {labels.shape} and predictions {predicted.shape} should have the same shape")
    if weights is None:
        return labels, predicted, None
    weights = convert_to_tensor(weights)
    if TensorShape(weights.shape).ndims != 0:
        difference = _rank_difference(weights, predicted)
        if difference == 1:
            weights = squeeze(weights, [-1])
        elif difference == -1:
            weights = expand_dims(weights, [-1])
    return labels, predicted, weights


def _rank_difference(one: Any, other: Any) -> int | None:
    first, second = TensorShape(one.shape).ndims, TensorShape(other.shape).ndims
    return None if first is None or second is None else first - second


def spread(weights: Any, values: Any) -> Any:
    """Returns a weight for each value, as float32.

    Raises:
        ValueError: Weights are neither one number nor of the rank of the values with their sizes or 1.
    """
    factors = cast(weights, float32)
    own, wanted = TensorShape(factors.shape), TensorShape(values.shape)
    fits = own.ndims in (None, 0) or wanted.ndims is None or own.ndims == wanted.ndims
    if fits and own.ndims and wanted.ndims:
        pairs = zip(own.as_list(), wanted.as_list(), strict=True)
        fits = all(one in (None, 1) or other is None or one == other for one, other in pairs)
    if not fits:
        raise ValueError(f"weights {own} do not fit values {wanted}; each size should be 1 or the same")
    if own.is_fully_defined() and wanted.is_fully_defined() and own == wanted:
        return factors
    return multiply(factors, ones_like(values, dtype=float32))


def collected(value: Any, update: Any, values: Collections, updates: Collections) -> tuple[Any, Any]:
    """Puts both results of a metric into collections, and returns them."""
    if values:
        add_to_collections(values, value)
    if updates:
        add_to_collections(updates, update)
    return value, update


def as_dtype_of(value: Any, other: Any) -> Any:
    """Returns a tensor in the dtype of another."""
    return value if as_dtype(value.dtype) == as_dtype(other.dtype) else cast(value, other.dtype)
