"""Metrics that are means over all batches.

Each returns two tensors: the mean as it is, and an update, which adds a batch and has the mean after it. Both are of
local variables (``GraphKeys.LOCAL_VARIABLES``), which ``local_variables_initializer`` sets to zero.
"""

from __future__ import annotations

from typing import Any

from worker_client.metrics.variables import Collections, as_dtype_of, collected, fitted, metric_variable, spread
from worker_client.ops.array_ops import cast
from worker_client.ops.constant_ops import convert_to_tensor, zeros_like
from worker_client.ops.constant_ops import size as size_of
from worker_client.ops.control_flow import control_dependencies
from worker_client.ops.elementwise_ops import div_no_nan, squared_difference
from worker_client.ops.math_ops import abs as absolute
from worker_client.ops.math_ops import divide, equal, less, maximum, multiply, reduce_sum, sqrt, subtract
from worker_client.ops.selection_ops import where_v2
from worker_client.ops.state_ops import assign_add
from worker_client.scopes.variable_scope import variable_scope
from worker_client.values.dtypes import float32

__all__ = [
    "accuracy",
    "mean",
    "mean_absolute_error",
    "mean_relative_error",
    "mean_squared_error",
    "percentage_below",
    "root_mean_squared_error",
]


def mean(
    values: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns the mean of all elements of all batches.

    Args:
        values: Of any shape.
        weights: How often each counts: one number, or a tensor of the rank of ``values`` whose sizes are theirs or 1.
        metrics_collections: Keys of collections that the mean goes into.
        updates_collections: Keys of collections that the update goes into.
        name: Of the variable scope; "mean" if not given.

    Returns:
        The mean, and the update.

    Raises:
        ValueError: The weights do not fit.
    """
    with variable_scope(name, "mean", [values, weights]):
        given = cast(convert_to_tensor(values), float32)
        total, count = metric_variable([], "total"), metric_variable([], "count")
        if weights is None:
            number = cast(size_of(given), float32)
        else:
            _, given, weights = fitted(None, given, weights)
            factors = spread(weights, given)
            given, number = multiply(given, factors), reduce_sum(factors)
        new_total = assign_add(total, reduce_sum(given))
        with control_dependencies([given]):
            new_count = assign_add(count, number)
        value = div_no_nan(total, maximum(count, 0), name="value")
        update = div_no_nan(new_total, maximum(new_count, 0), name="update_op")
        return collected(value, update, metrics_collections, updates_collections)


def accuracy(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns what part of the predictions are equal to their labels; otherwise as ``mean``, named "accuracy"."""
    expected, predicted, factors = fitted(labels, predictions, weights)
    is_correct = cast(equal(as_dtype_of(predicted, expected), expected), float32)
    return mean(is_correct, factors, metrics_collections, updates_collections, name or "accuracy")


def mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns the mean of ``(labels - predictions) ** 2``; otherwise as ``mean``, named "mean_squared_error"."""
    expected, predicted, factors = fitted(labels, predictions, weights)
    errors = squared_difference(expected, predicted)
    return mean(errors, factors, metrics_collections, updates_collections, name or "mean_squared_error")


def root_mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns the square root of ``mean_squared_error``; named "root_mean_squared_error"."""
    expected, predicted, factors = fitted(labels, predictions, weights)
    value, update = mean_squared_error(expected, predicted, factors, None, None, name or "root_mean_squared_error")
    return collected(sqrt(value), sqrt(update), metrics_collections, updates_collections)


def mean_absolute_error(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns the mean of ``abs(predictions - labels)``; otherwise as ``mean``, named "mean_absolute_error"."""
    expected, predicted, factors = fitted(labels, predictions, weights)
    errors = absolute(subtract(predicted, expected))
    return mean(errors, factors, metrics_collections, updates_collections, name or "mean_absolute_error")


def mean_relative_error(
    labels: Any,
    predictions: Any,
    normalizer: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns the mean of ``abs(labels - predictions) / normalizer``, 0 where that is 0; "mean_relative_error"."""
    expected, predicted, factors = fitted(labels, predictions, weights)
    predicted, divisor = fitted(predicted, normalizer, None)[:2]
    errors = divide(absolute(subtract(expected, predicted)), divisor)
    errors = where_v2(equal(divisor, 0.0), zeros_like(expected), errors)
    return mean(errors, factors, metrics_collections, updates_collections, name or "mean_relative_error")


def percentage_below(
    values: Any,
    threshold: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns what part of the values are below a threshold; as ``mean``, named "percentage_below_threshold"."""
    is_below = cast(less(convert_to_tensor(values), threshold), float32)
    return mean(is_below, weights, metrics_collections, updates_collections, name or "percentage_below_threshold")
