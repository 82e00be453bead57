"""TensorFlow 1's ``losses``: means of what predictions are wrong by, collected in ``GraphKeys.LOSSES``."""

from __future__ import annotations

from typing import Any

from worker_client.graph.blocks import name_scope
from worker_client.graph.keys import GraphKeys
from worker_client.ops.array_ops import cast, squeeze
from worker_client.ops.collections import add_to_collection, get_collection
from worker_client.ops.constant_ops import convert_to_tensor, ones_like
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.constant_ops import size as size_of
from worker_client.ops.elementwise_ops import div_no_nan, squared_difference, stop_gradient
from worker_client.ops.math_ops import abs as absolute
from worker_client.ops.math_ops import add, add_n, log, minimum, multiply, negative, not_equal, reduce_sum, subtract
from worker_client.ops.nn_ops import (
    relu,
    sigmoid_cross_entropy_with_logits,
    softmax_cross_entropy_with_logits_v2,
    sparse_softmax_cross_entropy_with_logits,
)
from worker_client.ops.regularizers import get_regularization_losses
from worker_client.values.dtypes import as_dtype, float32
from worker_client.values.shapes import TensorShape

__all__ = [
    "Reduction",
    "absolute_difference",
    "add_loss",
    "compute_weighted_loss",
    "get_losses",
    "get_total_loss",
    "hinge_loss",
    "huber_loss",
    "log_loss",
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
    "sparse_softmax_cross_entropy",
]


class Reduction:
    """What becomes of the losses of single elements."""

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    MEAN = "weighted_mean"
    SUM_BY_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_OVER_NONZERO_WEIGHTS = SUM_BY_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        """Returns all of them."""
        names = ("NONE", "SUM", "MEAN", "SUM_OVER_BATCH_SIZE", "SUM_OVER_NONZERO_WEIGHTS", "SUM_BY_NONZERO_WEIGHTS")
        return tuple(getattr(cls, name) for name in names)

    @classmethod
    def validate(cls, key: str) -> None:
        """Raises ValueError if ``key`` is none of them."""
        if key not in cls.all():
            raise ValueError(f"a reduction is one of {cls.all()}, not {key!r}")


def compute_weighted_loss(
    losses: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns the sum or mean of losses, each multiplied by a weight.

    Args:
        losses: Of any shape.
        weights: A number, or a tensor of the rank of ``losses`` whose sizes are theirs or 1.
        scope: Of the names of the operations; "weighted_loss" if not given.
        loss_collection: Key of the collection that the result goes into; None for none.
        reduction: One of ``Reduction``: by default the sum is divided by the number of weights that are not 0.

    Raises:
        ValueError: ``reduction`` is another word, or the shapes do not fit.
    """
    return _weighted(lambda: losses, weights, scope, "weighted_loss", [losses], loss_collection, reduction)


def _weighted(
    make: Any,
    weights: Any,
    scope: str | None,
    default_scope: str,
    values: list[Any],
    collection: str | None,
    reduction: str,
) -> Any:
    Reduction.validate(reduction)
    with name_scope(scope, default_scope, [each for each in values if each is not None]):
        losses = convert_to_tensor(make())
        dtype = as_dtype(losses.dtype)
        factors = cast(convert_to_tensor(weights), float32)
        _check_weights(TensorShape(factors.shape), TensorShape(losses.shape))
        weighted = multiply(cast(losses, float32), factors)
        if reduction == Reduction.NONE:
            result = weighted
        else:
            result = reduce_sum(weighted)
            if reduction != Reduction.SUM:
                result = div_no_nan(result, _divisor(reduction, losses, factors), name="value")
        result = cast(result, dtype)
        if collection is not None:
            add_to_collection(collection, result)
        return result


def _divisor(reduction: str, losses: Any, weights: Any) -> Any:
    if reduction == Reduction.SUM_OVER_BATCH_SIZE:
        return cast(size_of(losses), float32)
    spread = multiply(cast(ones_like(losses), float32), weights)
    return reduce_sum(spread if reduction == Reduction.MEAN else cast(not_equal(spread, 0.0), float32))


def _check_weights(weights: TensorShape, losses: TensorShape) -> None:
    if weights.ndims in (None, 0) or losses.ndims is None:
        return
    fits = weights.ndims == losses.ndims and all(
        one in (None, 1) or other is None or one == other for one, other in zip(weights, losses, strict=True)
    )
    if not fits:
        raise ValueError(f"weights {weights} do not fit losses {losses}; each size should be 1 or the same")


def compared(labels: Any, predictions: Any) -> tuple[Any, Any]:
    """Returns labels and predictions as float32; ValueError if one is missing or their shapes differ."""
    if labels is None or predictions is None:
        raise ValueError("both labels and predictions are needed")
    predicted = cast(convert_to_tensor(predictions), float32)
    expected = cast(convert_to_tensor(labels), float32)
    if not TensorShape(predicted.shape).is_compatible_with(expected.shape):
        raise ValueError(f"labels {expected.shape} and predictions {predicted.shape} should have the same shape")
    return expected, predicted


def mean_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns the mean of ``(predictions - labels) ** 2``; see ``compute_weighted_loss``."""

    def losses() -> Any:
        expected, predicted = compared(labels, predictions)
        return squared_difference(predicted, expected)

    values = [predictions, labels, weights]
    return _weighted(losses, weights, scope, "mean_squared_error", values, loss_collection, reduction)


def absolute_difference(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns the mean of ``abs(predictions - labels)``; see ``compute_weighted_loss``."""

    def losses() -> Any:
        expected, predicted = compared(labels, predictions)
        return absolute(subtract(predicted, expected))

    values = [predictions, labels, weights]
    return _weighted(losses, weights, scope, "absolute_difference", values, loss_collection, reduction)


def huber_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    delta: float = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns the mean of half the squared errors, beyond ``delta`` of straight lines."""

    def losses() -> Any:
        expected, predicted = compared(labels, predictions)
        error = absolute(subtract(predicted, expected))
        near = minimum(error, delta)
        return add(multiply(0.5, multiply(near, near)), multiply(delta, subtract(error, near)))

    values = [predictions, labels, weights]
    return _weighted(losses, weights, scope, "huber_loss", values, loss_collection, reduction)


def log_loss(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    epsilon: float = 1e-7,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns how badly predicted likelihoods foretell labels of 0 and 1; see ``compute_weighted_loss``."""

    def losses() -> Any:
        expected, predicted = compared(labels, predictions)
        right = multiply(expected, log(add(predicted, epsilon)))
        return subtract(negative(right), multiply(subtract(1.0, expected), log(add(subtract(1.0, predicted), epsilon))))

    values = [predictions, labels, weights]
    return _weighted(losses, weights, scope, "log_loss", values, loss_collection, reduction)


def hinge_loss(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns the mean of what ``logits`` miss 1 by in the direction of labels of 0 and 1."""

    def losses() -> Any:
        expected, predicted = compared(labels, logits)
        signs = subtract(multiply(2.0, expected), ones_like(expected))
        return relu(subtract(ones_like(expected), multiply(signs, predicted)))

    return _weighted(losses, weights, scope, "hinge_loss", [logits, labels, weights], loss_collection, reduction)


def sigmoid_cross_entropy(
    multi_class_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns the mean of ``sigmoid_cross_entropy_with_logits``; ``label_smoothing`` moves labels towards 1/2."""

    def losses() -> Any:
        given = convert_to_tensor(logits)
        expected = cast(convert_to_tensor(multi_class_labels), given.dtype)
        if label_smoothing:
            expected = expected * (1 - label_smoothing) + 0.5 * label_smoothing
        return sigmoid_cross_entropy_with_logits(expected, given, name="xentropy")

    values = [logits, multi_class_labels, weights]
    return _weighted(losses, weights, scope, "sigmoid_cross_entropy_loss", values, loss_collection, reduction)


def softmax_cross_entropy(
    onehot_labels: Any,
    logits: Any,
    weights: Any = 1.0,
    label_smoothing: Any = 0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns the mean of ``softmax_cross_entropy_with_logits``; labels are moved towards each other if asked for."""

    def losses() -> Any:
        given = convert_to_tensor(logits)
        expected = cast(convert_to_tensor(onehot_labels), given.dtype)
        if label_smoothing:
            classes = cast(shape_tensor(expected)[-1], given.dtype)
            expected = expected * (1 - label_smoothing) + label_smoothing / classes
        expected = stop_gradient(expected, name="labels_stop_gradient")
        return softmax_cross_entropy_with_logits_v2(expected, given, name="xentropy")

    values = [logits, onehot_labels, weights]
    return _weighted(losses, weights, scope, "softmax_cross_entropy_loss", values, loss_collection, reduction)


def sparse_softmax_cross_entropy(
    labels: Any,
    logits: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
) -> Any:
    """Returns the mean of ``sparse_softmax_cross_entropy_with_logits``; labels may have a dimension more, of size 1."""

    def losses() -> Any:
        given, places = convert_to_tensor(logits), convert_to_tensor(labels)
        if len(TensorShape(places.shape)) == len(TensorShape(given.shape)):
            places = squeeze(places, [-1])
        return sparse_softmax_cross_entropy_with_logits(places, given, name="xentropy")

    values = [logits, labels, weights]
    return _weighted(losses, weights, scope, "sparse_softmax_cross_entropy_loss", values, loss_collection, reduction)


def add_loss(loss: Any, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Puts a loss into the collection of losses."""
    if loss_collection is not None:
        add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Any]:
    """Returns the losses that were collected; ``scope`` as in ``get_collection``."""
    return get_collection(loss_collection, scope)


def get_total_loss(add_regularization_losses: bool = True, name: str = "total_loss", scope: str | None = None) -> Any:
    """Returns the sum of all losses that were collected, those of regularizers included if they are not left out.

    Raises:
        ValueError: There is none.
    """
    losses = get_losses(scope)
    if add_regularization_losses:
        losses = losses + get_regularization_losses(scope)
    return add_n(losses, name=name)
