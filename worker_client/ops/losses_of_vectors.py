"""TensorFlow 1's losses of whole vectors: of their directions, and of the differences inside of them."""

from __future__ import annotations

from typing import Any

from worker_client.graph.blocks import name_scope
from worker_client.graph.keys import GraphKeys
from worker_client.ops.array_ops import cast, where
from worker_client.ops.constant_ops import convert_to_tensor, ones_like, rank, zeros_like
from worker_client.ops.constant_ops import range as range_
from worker_client.ops.elementwise_ops import div_no_nan
from worker_client.ops.losses import Reduction, add_loss, compared, compute_weighted_loss
from worker_client.ops.math_ops import equal, greater, maximum, multiply, reduce_sum, square, subtract
from worker_client.ops.selection_ops import where_v2
from worker_client.values.dtypes import float32
from worker_client.values.made_functions import one_of

__all__ = ["cosine_distance", "mean_pairwise_squared_error"]


def cosine_distance(
    labels: Any,
    predictions: Any,
    axis: int | None = None,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
    reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
    dim: int | None = None,
) -> Any:
    """Returns the mean of 1 - the dot products of vectors of length 1 along a dimension; see ``compute_weighted_loss``.

    Raises:
        ValueError: There is no ``axis`` (older name: ``dim``), or the shapes do not fit.
    """
    along = one_of("cosine_distance", axis=axis, dim=dim)
    if along is None:
        raise ValueError("cosine_distance needs axis, the dimension along which the vectors lie")
    with name_scope(scope, "cosine_distance_loss", _given(predictions, labels, weights)) as full_name:
        expected, predicted = compared(labels, predictions)
        losses = subtract(1.0, reduce_sum(multiply(predicted, expected), axis=[along], keepdims=True))
        return compute_weighted_loss(losses, weights, full_name, loss_collection, reduction)


def mean_pairwise_squared_error(
    labels: Any,
    predictions: Any,
    weights: Any = 1.0,
    scope: str | None = None,
    loss_collection: str | None = GraphKeys.LOSSES,
) -> Any:
    """Returns the mean of how much differences of two predictions of one row miss those of their labels, squared.

    Args:
        labels: Shape ``[batch, ...]``.
        predictions: The same shape.
        weights: One number, or one for each row: shape ``[batch, 1, ...]``.
        scope: Of the names of the operations.
        loss_collection: Key of the collection that the result goes into; None for none.

    Raises:
        ValueError: The shapes do not fit.
    """
    with name_scope(scope, "mean_pairwise_squared_error", _given(predictions, labels, weights)):
        expected, predicted = compared(labels, predictions)
        factors = cast(convert_to_tensor(weights), float32)
        differences = subtract(predicted, expected)
        inner = range_(1, rank(differences))
        present = where_v2(equal(factors, 0.0), zeros_like(factors), ones_like(factors))
        present = multiply(present, ones_like(differences))
        number = reduce_sum(present, axis=inner, keepdims=True)
        squares = reduce_sum(square(differences), axis=inner, keepdims=True)
        total = reduce_sum(differences, axis=inner, keepdims=True)
        one_less = subtract(number, 1.0)
        first = multiply(2.0, div_no_nan(squares, maximum(one_less, 0.0), name="value"))
        pairs = maximum(multiply(number, one_less), 0.0)
        second = multiply(2.0, div_no_nan(square(total), pairs, name="value"))
        loss = reduce_sum(multiply(subtract(first, second), factors))
        result = where(greater(reduce_sum(number), 0.0), loss, zeros_like(loss), name="value")
        add_loss(result, loss_collection)
        return result


def _given(*values: Any) -> list[Any]:
    return [each for each in values if each is not None]
