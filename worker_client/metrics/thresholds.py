"""Metrics of likelihoods, which are compared with many thresholds.

Each returns two tensors, as those of ``means`` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from worker_client.metrics.variables import Collections, collected, fitted, metric_variable, spread
from worker_client.ops.array_ops import cast, expand_dims, reshape, tile, transpose, where
from worker_client.ops.check_ops import assert_greater_equal, assert_less_equal
from worker_client.ops.constant_ops import constant, convert_to_tensor, ones_like
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.control_flow import control_dependencies
from worker_client.ops.elementwise_ops import div_no_nan
from worker_client.ops.math_ops import (
    add,
    divide,
    greater,
    log,
    logical_and,
    logical_not,
    maximum,
    minimum,
    multiply,
    reduce_sum,
    subtract,
)
from worker_client.ops.state_ops import assign_add
from worker_client.scopes.variable_scope import variable_scope
from worker_client.values.dtypes import bool as bool_
from worker_client.values.dtypes import float32
from worker_client.values.shapes import TensorShape

__all__ = ["auc", "precision_at_thresholds", "recall_at_thresholds"]

_EDGE: Final = 1e-7
_EPSILON: Final = 1e-6

_Counts = Mapping[str, Any]


def auc(
    labels: Any,
    predictions: Any,
    weights: Any = None,
    num_thresholds: int = 200,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    curve: str = "ROC",
    name: str | None = None,
    summation_method: str = "trapezoidal",
    thresholds: Sequence[float] | None = None,
) -> tuple[Any, Any]:
    """Returns the area under a curve of likelihoods as a test of truth values, worked out from many thresholds.

    Args:
        labels: Truth values, or what is cast to those.
        predictions: Likelihoods in ``[0, 1]``.
        weights: How often each counts; as in ``tf.metrics.mean``.
        num_thresholds: How many thresholds.
        metrics_collections: Keys of collections that the area goes into.
        updates_collections: Keys of collections that the update goes into.
        curve: "ROC" or "PR".
        name: Of the variable scope; "auc" if not given.
        summation_method: "trapezoidal", "minoring", "majoring", or "careful_interpolation" (of "PR").
        thresholds: The thresholds between 0 and 1.

    Returns:
        The area, and an update, which adds a batch and has the area after it.

    Raises:
        ValueError: The shapes do not fit, or a word is another one.
        InvalidArgumentError: When it runs: a prediction is not in ``[0, 1]``.
    """
    if curve not in ("ROC", "PR"):
        raise ValueError(f'auc: curve should be "ROC" or "PR", not {curve!r}')
    if summation_method not in ("trapezoidal", "minoring", "majoring", "careful_interpolation"):
        raise ValueError(f"auc: there is no summation_method {summation_method!r}")
    with variable_scope(name, "auc", [labels, predictions, weights]):
        if thresholds is None:
            inner = [(index + 1) / (num_thresholds - 1) for index in range(num_thresholds - 2)]
        else:
            inner = sorted(thresholds)
        every = [-_EDGE, *inner, 1 + _EDGE]
        values, updates = _confusions(labels, predictions, every, weights, ("tp", "fn", "tn", "fp"))
        value = _area(values, curve, summation_method, "value")
        update = _area(updates, curve, summation_method, "update_op")
        return collected(value, update, metrics_collections, updates_collections)


def precision_at_thresholds(
    labels: Any,
    predictions: Any,
    thresholds: Sequence[float],
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns what part of what is predicted above each threshold is true; arguments as ``auc``'s."""
    with variable_scope(name, "precision_at_thresholds", [predictions, labels, weights]):
        value, update = _shares("precision", "fp", labels, predictions, thresholds, weights)
        return collected(value, update, metrics_collections, updates_collections)


def recall_at_thresholds(
    labels: Any,
    predictions: Any,
    thresholds: Sequence[float],
    weights: Any = None,
    metrics_collections: Collections = None,
    updates_collections: Collections = None,
    name: str | None = None,
) -> tuple[Any, Any]:
    """Returns what part of what is true is predicted above each threshold; arguments as ``auc``'s."""
    with variable_scope(name, "recall_at_thresholds", [predictions, labels, weights]):
        value, update = _shares("recall", "fn", labels, predictions, thresholds, weights)
        return collected(value, update, metrics_collections, updates_collections)


def _shares(
    name: str, others: str, labels: Any, predictions: Any, thresholds: Sequence[float], weights: Any
) -> list[Any]:
    """Returns the share of true positives among those and others at each threshold, and the update of that."""
    return [
        divide(each["tp"], add(_EDGE, add(each["tp"], each[others])), name=f"{name}_{what}")
        for each, what in zip(
            _confusions(labels, predictions, thresholds, weights, ("tp", others)), ("value", "update_op"), strict=True
        )
    ]


_NAMES: Final = {
    "tp": "true_positives",
    "fn": "false_negatives",
    "tn": "true_negatives",
    "fp": "false_positives",
}


def _confusions(
    labels: Any, predictions: Any, thresholds: Sequence[float], weights: Any, wanted: Sequence[str]
) -> tuple[_Counts, _Counts]:
    """Returns for each kind of prediction a variable with its counts at each threshold, and the update of that."""
    given = convert_to_tensor(predictions)
    message = "predictions must be in [0, 1]"
    checks = [
        assert_greater_equal(given, cast(0.0, given.dtype), message=message),
        assert_less_equal(given, cast(1.0, given.dtype), message=message),
    ]
    with control_dependencies([each for each in checks if each is not None]):
        expected, predicted, factors = fitted(cast(convert_to_tensor(labels), bool_), cast(given, float32), weights)
    number = len(thresholds)
    column = reshape(predicted, [-1, 1])
    size = TensorShape(column.shape).size(0)
    size = shape_tensor(column)[0] if size is None else size
    bounds = tile(expand_dims(constant(np.asarray(thresholds, np.float32)), 1), [1, size])
    is_predicted = greater(tile(transpose(column), [number, 1]), bounds)
    is_true = tile(reshape(expected, [1, -1]), [number, 1])
    both = {
        "tp": (is_true, is_predicted),
        "fn": (is_true, logical_not(is_predicted)),
        "tn": (logical_not(is_true), logical_not(is_predicted)),
        "fp": (logical_not(is_true), is_predicted),
    }
    weight = None if factors is None else tile(reshape(spread(factors, predicted), [1, -1]), [number, 1])
    values, updates = {}, {}
    for key in wanted:
        values[key] = metric_variable([number], _NAMES[key])
        ones = cast(logical_and(*both[key]), float32)
        ones = ones if weight is None else multiply(ones, weight)
        updates[key] = assign_add(values[key], reduce_sum(ones, 1))
    return values, updates


def _area(counts: _Counts, curve: str, method: str, name: str) -> Any:
    right, missed, refused, wrong = (convert_to_tensor(counts[key]) for key in ("tp", "fn", "tn", "fp"))
    if curve == "PR" and method == "careful_interpolation":
        return _interpolated(right, wrong, missed)
    found = divide(add(right, _EPSILON), add(add(right, missed), _EPSILON))
    if curve == "ROC":
        x, y = divide(wrong, add(add(wrong, refused), _EPSILON)), found
    else:
        x, y = found, divide(add(right, _EPSILON), add(add(right, wrong), _EPSILON))
    width = subtract(x[:-1], x[1:])
    if method == "minoring":
        height = minimum(y[:-1], y[1:])
    elif method == "majoring":
        height = maximum(y[:-1], y[1:])
    else:
        height = divide(add(y[:-1], y[1:]), 2.0)
    return reduce_sum(multiply(width, height), name=name)


def _interpolated(right: Any, wrong: Any, missed: Any) -> Any:
    """Returns the area under a curve of precision and recall; Davis and Goadrich, 2006, equation 1."""
    rise = subtract(right[:-1], right[1:])
    positives = add(right, wrong)
    slope = div_no_nan(rise, maximum(subtract(positives[:-1], positives[1:]), 0), name="prec_slope")
    intercept = subtract(right[1:], multiply(slope, positives[1:]))
    ratio = div_no_nan(positives[:-1], maximum(positives[1:], 0), name="recall_relative_ratio")
    is_safe = logical_and(greater(positives[:-1], 0), greater(positives[1:], 0))
    ratio = where(is_safe, ratio, ones_like(positives[1:]))
    part = multiply(slope, add(rise, multiply(intercept, log(ratio))))
    found = maximum(add(right[1:], missed[1:]), 0)
    return reduce_sum(div_no_nan(part, found, name="pr_auc_increment"), name="interpolate_pr_auc")
