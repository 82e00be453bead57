"""Metrics of truth values: how many predictions are right and wrong, and what follows from that.

Each returns two tensors, as those of ``means`` do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker_client.graph.operation import Tensor
from worker_client.metrics.variables import Collections, collected, fitted, metric_variable, spread
from worker_client.ops.array_ops import cast, where
from worker_client.ops.constant_ops import convert_to_tensor, zeros_like
from worker_client.ops.math_ops import add, divide, equal, greater, logical_and, multiply, reduce_sum
from worker_client.ops.state_ops import assign_add
from worker_client.scopes.variable_scope import variable_scope
from worker_client.values.dtypes import bool as bool_
from worker_client.values.dtypes import float32

__all__ = ["false_negatives", "false_positives", "precision", "recall", "true_negatives", "true_positives"]


def _counted(
    name: str | None,
    default_name: str,
    labels: Any,
    predictions: Any,
    weights: Any,
    metrics_collections: Collections,
    updates_collections: Collections,
    *,
    label: bool,
    prediction: bool,
) -> tuple[Any, Any]:
    """Counts how often a label of one kind was predicted as another."""
    with variable_scope(name, default_name, [predictions, labels, weights]):
        expected, predicted, factors = _truths(labels, predictions, weights)
        is_it = logical_and(equal(expected, label), equal(predicted, prediction))
        count = metric_variable([], "count")
        ones = cast(is_it, float32)
        if factors is not None:
            ones = multiply(ones, spread(factors, ones))
        value = convert_to_tensor(count)
        update = assign_add(count, reduce_sum(ones))
        return collected(value, update, metrics_collections, updates_collections)


def _truths(labels: Any, predictions: Any, weights: Any) -> tuple[Any, Any, Any]:
    predicted = cast(convert_to_tensor(predictions), bool_)
    return fitted(cast(convert_to_tensor(labels), bool_), predicted, weights)


def true_positives(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns how often what is true was predicted as true.

    Args:
        labels: Truth values, or what is cast to those.
        predictions: Likewise.
        weights: How often each counts; as in ``tf.metrics.mean``.
        metrics_collections: Keys of collections that the count goes into.
        updates_collections: Keys of collections that the update goes into.
        name: Of the variable scope; "true_positives" if not given.

    Returns:
        The count, and an update, which adds a batch and has the count after it.

    Raises:
        ValueError: The shapes do not fit.
    """
    given = (labels, predictions, weights, metrics_collections, updates_collections)
    return _counted(name, "true_positives", *given, label=True, prediction=True)


def false_positives(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns how often what is false was predicted as true; otherwise as ``true_positives``."""
    given = (labels, predictions, weights, metrics_collections, updates_collections)
    return _counted(name, "false_positives", *given, label=False, prediction=True)


def true_negatives(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns how often what is false was predicted as false; otherwise as ``true_positives``."""
    given = (labels, predictions, weights, metrics_collections, updates_collections)
    return _counted(name, "true_negatives", *given, label=False, prediction=False)


def false_negatives(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns how often what is true was predicted as false; otherwise as ``true_positives``."""
    given = (labels, predictions, weights, metrics_collections, updates_collections)
    return _counted(name, "false_negatives", *given, label=True, prediction=False)


def precision(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns what part of what was predicted as true is true, 0 before the first; arguments as ``true_positives``'."""
    given = (labels, predictions, weights, metrics_collections, updates_collections)
    return _share(name, "precision", false_positives, *given)


def recall(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns what part of what is true was predicted as true, 0 before the first; arguments as ``true_positives``'."""
    given = (labels, predictions, weights, metrics_collections, updates_collections)
    return _share(name, "recall", false_negatives, *given)


def _share(
    name: str | None,
    default_name: str,
    others: Callable[..., tuple[Any, Any]],
    labels: Any,
    predictions: Any,
    weights: Any,
    metrics_collections: Collections,
    updates_collections: Collections,
) -> tuple[Any, Any]:
    """Returns the share of true positives among those and others."""
    with variable_scope(name, default_name, [predictions, labels, weights]):
        given = _truths(labels, predictions, weights)
        (right, new_right), (wrong, new_wrong) = true_positives(*given), others(*given)
        value = _ratio(right, wrong, "value")
        update = _ratio(new_right, new_wrong, "update_op")
        return collected(value, update, metrics_collections, updates_collections)


def _ratio(right: Any, wrong: Any, name: str) -> Tensor:
    is_any = greater(add(right, wrong), 0)
    ratio: Tensor = where(is_any, divide(right, add(right, wrong)), zeros_like(right), name)
    return ratio
