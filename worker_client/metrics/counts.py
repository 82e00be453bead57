"""Metrics of truth values: how many predictions are right and wrong, and what follows from that.

Each returns two tensors, as those of ``means`` do.
"""

from __future__ import annotations

from typing import Any, Protocol

from worker_client.graph.operation import Tensor
from worker_client.metrics.variables import Collections, collected, fitted, metric_variable, spread
from worker_client.ops.array_ops import cast, where
from worker_client.ops.constant_ops import convert_to_tensor, zeros_like
from worker_client.ops.math_ops import add, divide, equal, greater, logical_and, multiply, reduce_sum
from worker_client.ops.state_ops import assign_add
from worker_client.scopes.variable_scope import variable_scope
from worker_client.values.dtypes import bool as bool_
from worker_client.values.dtypes import float32
from worker_client.values.made_functions import named

__all__ = ["false_negatives", "false_positives", "precision", "recall", "true_negatives", "true_positives"]


class _Metric(Protocol):
    def __call__(
        self,
        labels: Any,
        predictions: Any,
        weights: Any = None,
        metrics_collections: Collections = None,
        updates_collections: Collections = None,
        name: str | None = None,
    ) -> tuple[Any, Any]: ...


def _count(public_name: str, doc: str, *, label: bool, prediction: bool) -> _Metric:
    """Returns a metric that counts how often a label of one kind was predicted as another."""

    def metric(
        labels: Any,
        predictions: Any,
        weights: Any = None,
        metrics_collections: Collections = None,
        updates_collections: Collections = None,
        name: str | None = None,
    ) -> tuple[Any, Any]:
        with variable_scope(name, public_name, [predictions, labels, weights]):
            expected, predicted, factors = _truths(labels, predictions, weights)
            is_it = logical_and(equal(expected, label), equal(predicted, prediction))
            count = metric_variable([], "count")
            ones = cast(is_it, float32)
            if factors is not None:
                ones = multiply(ones, spread(factors, ones))
            value = convert_to_tensor(count)
            update = assign_add(count, reduce_sum(ones))
            return collected(value, update, metrics_collections, updates_collections)

    return named(metric, public_name, doc)


def _share(public_name: str, doc: str, others: _Metric) -> _Metric:
    """Returns a metric that is the share of true positives among those and others."""

    def metric(
        labels: Any,
        predictions: Any,
        weights: Any = None,
        metrics_collections: Collections = None,
        updates_collections: Collections = None,
        name: str | None = None,
    ) -> tuple[Any, Any]:
        with variable_scope(name, public_name, [predictions, labels, weights]):
            given = _truths(labels, predictions, weights)
            (right, new_right), (wrong, new_wrong) = true_positives(*given), others(*given)
            value = _ratio(right, wrong, "value")
            update = _ratio(new_right, new_wrong, "update_op")
            return collected(value, update, metrics_collections, updates_collections)

    return named(metric, public_name, doc)


def _truths(labels: Any, predictions: Any, weights: Any) -> tuple[Any, Any, Any]:
    predicted = cast(convert_to_tensor(predictions), bool_)
    return fitted(cast(convert_to_tensor(labels), bool_), predicted, weights)


def _ratio(right: Any, wrong: Any, name: str) -> Tensor:
    is_any = greater(add(right, wrong), 0)
    ratio: Tensor = where(is_any, divide(right, add(right, wrong)), zeros_like(right), name)
    return ratio


true_positives = _count(
    "true_positives",
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
    """,
    label=True,
    prediction=True,
)
false_positives = _count(
    "false_positives",
    "Returns how often what is false was predicted as true; otherwise as ``true_positives``.",
    label=False,
    prediction=True,
)
true_negatives = _count(
    "true_negatives",
    "Returns how often what is false was predicted as false; otherwise as ``true_positives``.",
    label=False,
    prediction=False,
)
false_negatives = _count(
    "false_negatives",
    "Returns how often what is true was predicted as false; otherwise as ``true_positives``.",
    label=True,
    prediction=False,
)
precision = _share(
    "precision",
    "Returns what part of what was predicted as true is true, 0 before the first; arguments as ``true_positives``'.",
    false_positives,
)
recall = _share(
    "recall",
    "Returns what part of what is true was predicted as true, 0 before the first; arguments as ``true_positives``'.",
    false_negatives,
)
