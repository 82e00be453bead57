"""Regularizers: losses that keep variables small, as in TensorFlow 1's ``contrib.layers``.

A regularizer is a function of a variable. Of a deferred variable it makes a tensor; of any other it returns a number,
computed from the present value.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

from worker_client.graph.blocks import name_scope
from worker_client.graph.definition import Regularizer
from worker_client.graph.keys import GraphKeys
from worker_client.ops.collections import add_to_collection, get_collection
from worker_client.ops.constant_ops import constant
from worker_client.ops.math_ops import abs as absolute
from worker_client.ops.math_ops import add_n, l2_loss, multiply, reduce_sum
from worker_client.scopes.regularization import RegularizationLoss
from worker_client.values.dtypes import as_dtype


def l1_regularizer(scale: float, scope: str | None = None) -> Regularizer:
    """Returns a regularizer that makes ``scale * sum(abs(weights))``.

    Args:
        scale: A floating-point number, or a scalar tensor; 0 for no loss at all.
        scope: Of the names of its operations; "l1_regularizer" if not given.

    Raises:
        ValueError: ``scale`` is an integer, or less than 0.
    """
    return _scaled(scale, scope, "l1_regularizer", lambda weights: reduce_sum(absolute(weights)))


def l2_regularizer(scale: float, scope: str | None = None) -> Regularizer:
    """Returns a regularizer that makes ``scale * sum(weights ** 2) / 2``; otherwise as ``l1_regularizer``."""
    return _scaled(scale, scope, "l2_regularizer", l2_loss)


def l1_l2_regularizer(scale_l1: float = 1.0, scale_l2: float = 1.0, scope: str | None = None) -> Regularizer:
    """Returns a regularizer that makes the sum of both losses."""
    for scale in (scale_l1, scale_l2):
        _check_scale(scale, "l1_l2_regularizer")
    scope = scope or "l1_l2_regularizer"
    if scale_l1 == 0.0:
        return l2_regularizer(scale_l2, scope)
    if scale_l2 == 0.0:
        return l1_regularizer(scale_l1, scope)
    return _summed([l1_regularizer(scale_l1), l2_regularizer(scale_l2)], scope)


def sum_regularizer(regularizer_list: Sequence[Regularizer | None], scope: str | None = None) -> Regularizer | None:
    """Returns a regularizer that makes the sum of what several make; None if there is none among them."""
    given = [regularizer for regularizer in regularizer_list if regularizer is not None]
    return _summed(given, scope) if given else None


def apply_regularization(regularizer: Regularizer, weights_list: Sequence[Any] | None = None) -> Any:
    """Makes the losses of some variables, and collects their sum as a regularization loss.

    Args:
        regularizer: Makes a scalar of each.
        weights_list: The variables; by default those of the collection ``GraphKeys.WEIGHTS``.

    Returns:
        The sum.

    Raises:
        ValueError: There are no variables, or a loss is not a scalar.
    """
    weights = list(weights_list or get_collection(GraphKeys.WEIGHTS))
    if not weights:
        raise ValueError(f"no variables to regularize: none are given, and the collection {GraphKeys.WEIGHTS} is empty")
    with name_scope(None, "get_regularization_penalty", weights) as scope:
        losses = [regularizer(each) for each in weights]
        losses = [constant(0.0) if loss is None else loss for loss in losses]
        for variable, loss in zip(weights, losses, strict=True):
            if tuple(loss.shape) != ():
                raise ValueError(f"the regularization loss of {variable.name} should be a scalar, not {loss.shape}")
        total = add_n(losses, name=scope)
        add_to_collection(GraphKeys.REGULARIZATION_LOSSES, total)
    return total


def get_regularization_losses(scope: str | None = None) -> list[Any]:
    """Returns the regularization losses of the default graph; ``scope`` as in ``get_collection``."""
    return get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(scope: str | None = None, name: str = "total_regularization_loss") -> Any:
    """Returns the sum of the regularization losses of the default graph, 0 if there are none.

    Args:
        scope: As in ``get_collection``.
        name: Of the operation.

    Returns:
        A tensor in a deferred graph; elsewhere a number, computed from the present values.
    """
    losses = [loss() if isinstance(loss, RegularizationLoss) else loss for loss in get_regularization_losses(scope)]
    return add_n(losses, name=name) if losses else constant(0.0)


def _scaled(scale: Any, scope: str | None, default_name: str, loss: Callable[[Any], Any]) -> Regularizer:
    _check_scale(scale, default_name)
    if isinstance(scale, numbers.Real) and scale == 0:
        return lambda _: None

    def regularizer(weights: Any) -> Any:
        with name_scope(scope, default_name, [weights]) as name:
            my_scale = constant(scale, as_dtype(weights.dtype), name="scale") if _is_number(scale) else scale
            return multiply(my_scale, loss(weights), name=name)

    return regularizer


def _check_scale(scale: Any, what: str) -> None:
    if isinstance(scale, numbers.Integral):
        raise ValueError(  # noqa: TRY004 - as TensorFlow
            f"the scale of {what} should be a floating-point number, not the integer {scale!r}"
        )
    if _is_number(scale) and not scale >= 0:
        raise ValueError(f"the scale of {what} should not be less than 0, as {scale!r} is")


def _is_number(scale: Any) -> bool:
    return isinstance(scale, numbers.Real)


def _summed(regularizers: Sequence[Regularizer], scope: str | None) -> Regularizer:
    def regularizer(weights: Any) -> Any:
        with name_scope(scope, "sum_regularizer", [weights]) as name:
            losses = [loss for each in regularizers if (loss := each(weights)) is not None]
            return add_n(losses, name=name) if losses else None

    return regularizer
