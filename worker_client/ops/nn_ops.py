"""TensorFlow 1's functions of neural networks that need no derivatives: activations, biases, losses of logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ps_protocol.operations import Array
from worker_client.deferred.call import is_deferred
from worker_client.deferred.computed import all_computed, computed
from worker_client.deferred.operands import of_one_dtype
from worker_client.graph.blocks import name_scope
from worker_client.graph.operation import Tensor
from worker_client.ops.array_ops import cast, concat, reshape, transpose, where
from worker_client.ops.array_ops import slice as slice_
from worker_client.ops.constant_ops import constant, convert_to_tensor, ones_like, rank, zeros_like
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.elementwise_ops import log1p, rsqrt, softplus, stop_gradient
from worker_client.ops.math_ops import abs as absolute
from worker_client.ops.math_ops import (
    add,
    divide,
    exp,
    greater_equal,
    less_equal,
    log,
    logical_and,
    matmul,
    multiply,
    negative,
    sigmoid,
    subtract,
    unary,
)
from worker_client.ops.random_ops import random_uniform
from worker_client.ops.selection_ops import where_v2
from worker_client.values.dtypes import DType, as_dtype, float32
from worker_client.values.extremes import greatest
from worker_client.values.made_functions import named, one_of
from worker_client.values.shapes import TensorShape

__all__ = [
    "batch_normalization",
    "bias_add",
    "crelu",
    "dropout",
    "elu",
    "leaky_relu",
    "log_poisson_loss",
    "log_softmax",
    "relu",
    "relu6",
    "relu_layer",
    "selu",
    "sigmoid_cross_entropy_with_logits",
    "silu",
    "softmax",
    "softmax_cross_entropy_with_logits",
    "softmax_cross_entropy_with_logits_v2",
    "softplus",
    "softsign",
    "sparse_softmax_cross_entropy_with_logits",
    "swish",
    "weighted_cross_entropy_with_logits",
    "xw_plus_b",
]

# -- activations ----------------------------------------------------------------------------------

_SELU_SCALE = 1.0507009873554805
_SELU_ALPHA = 1.6732632423543772


class _Activation(Protocol):
    def __call__(self, features: Any, name: str | None = None) -> Any: ...


def _activation(public_name: str, function: Callable[..., Any], op_type: str, doc: str) -> _Activation:
    activated = unary(public_name, function, op_type, doc)

    def operation(features: Any, name: str | None = None) -> Any:
        return activated(features, name)

    return named(operation, public_name, doc)


def _relu(x: Array) -> Any:
    return np.maximum(x, x.dtype.type(0))


def _relu6(x: Array) -> Any:
    return np.clip(x, x.dtype.type(0), x.dtype.type(6))


def _elu(x: Array) -> Any:
    return np.where(x < 0, np.expm1(np.minimum(x, x.dtype.type(0))), x)


def _selu(x: Array) -> Any:
    return (_SELU_SCALE * np.where(x < 0, _SELU_ALPHA * np.expm1(np.minimum(x, x.dtype.type(0))), x)).astype(x.dtype)


def _softsign(x: Array) -> Any:
    return x / (1 + np.abs(x))


relu = _activation("relu", _relu, "Relu", "Returns the elements, 0 instead of those below 0.")
relu6 = _activation(
    "relu6", _relu6, "Relu6", "Returns the elements, 0 instead of those below 0 and 6 of those above 6."
)
elu = _activation("elu", _elu, "Elu", "Returns the elements, ``exp(x) - 1`` instead of those below 0.")
selu = _activation("selu", _selu, "Selu", "Returns scaled elements, below 0 scaled ``exp(x) - 1``.")
softsign = _activation("softsign", _softsign, "Softsign", "Returns ``x / (1 + abs(x))``.")


def leaky_relu(features: Any, alpha: float = 0.2, name: str | None = None) -> Any:
    """Returns the elements, those below 0 multiplied by ``alpha``; integers as float32."""
    slope = float(alpha)

    def leaky(x: Array) -> Any:
        return np.where(x < 0, x * x.dtype.type(slope), x)

    with name_scope(name, "LeakyRelu", [features]) as scope:
        operand = convert_to_tensor(features, name="features")
        operand = cast(operand, float32) if DType(as_dtype(operand.dtype)).is_integer else operand
        return computed("LeakyRelu", leaky, [operand], name=scope, attributes={"alpha": slope})


def crelu(features: Any, name: str | None = None, axis: int = -1) -> Any:
    """Returns ``relu`` of the elements and behind it that of their negatives."""
    with name_scope(name, "CRelu", [features]):
        operand = convert_to_tensor(features, name="features")
        return relu(concat([operand, negative(operand)], axis))


def swish(features: Any, beta: float = 1.0) -> Any:
    """Returns ``x * sigmoid(beta * x)``."""
    operand = convert_to_tensor(features, name="features")
    return multiply(operand, sigmoid(operand if beta == 1.0 else multiply(operand, beta)))


silu = swish


# -- shares ---------------------------------------------------------------------------------------


def softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Any:
    """Returns positive numbers with the sum 1 along a dimension, proportional to ``exp(logits)``.

    Args:
        logits: Of floats.
        axis: The dimension; the last if not given.
        name: Of the operation; "Softmax" if not given.
        dim: Older name of ``axis``.

    Raises:
        ValueError: There is no such dimension.
    """
    return _along(_soft, "Softmax", logits, one_of("softmax", axis=axis, dim=dim), name)


def log_softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Any:
    """Returns the logarithms of what ``softmax`` returns, without overflow."""
    return _along(_log_soft, "LogSoftmax", logits, one_of("log_softmax", axis=axis, dim=dim), name)


def _along(function: Callable[..., Array], op_type: str, logits: Any, axis: Any, name: str | None) -> Any:
    operand = convert_to_tensor(logits)
    ndims = TensorShape(operand.shape).ndims
    if axis is None or int(axis) == -1 or (ndims is not None and int(axis) == ndims - 1):
        return computed(op_type, function, [operand], name=name)
    if ndims is None or not -ndims <= int(axis) < ndims:
        raise ValueError(f"{op_type}: there is no dimension {axis} in the shape {operand.shape}")
    order = _last(int(axis) % ndims, ndims)
    return transpose(_along(function, op_type, transpose(operand, order), None, name), order)


def _last(axis: int, ndims: int) -> list[int]:
    """Returns the order of dimensions in which one has changed places with the last."""
    order = list(range(ndims))
    order[axis], order[-1] = order[-1], order[axis]
    return order


def _soft(array: Array) -> Array:
    raised = np.exp(array - greatest(array, axis=-1, keepdims=True))
    return np.asarray(raised / np.sum(raised, axis=-1, keepdims=True))


def _log_soft(array: Array) -> Array:
    below = array - greatest(array, axis=-1, keepdims=True)
    return np.asarray(below - np.log(np.sum(np.exp(below), axis=-1, keepdims=True)))


# -- biases ---------------------------------------------------------------------------------------

_CHANNELS_SECOND = {"NCHW", "NCDHW", "NCW"}


def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Any:
    """Returns a tensor with a bias for each channel added.

    Args:
        value: Shape ``[..., channels]``, two dimensions or more.
        bias: Shape ``[channels]``.
        data_format: One that begins with "NC", such as "NCHW", if the channels are the second dimension.
        name: "BiasAdd" if not given.

    Raises:
        ValueError: The format is another word, or the shapes do not fit.
    """
    is_second = data_format is not None and data_format.startswith("NC")
    if data_format is not None and not (is_second or (data_format[:1] == "N" and data_format[-1:] == "C")):
        raise ValueError(f'bias_add: data_format should be "NHWC" or "NCHW", not {data_format!r}')
    with name_scope(name, "BiasAdd", [value, bias]) as scope:
        operand = convert_to_tensor(value, name="input")
        added = convert_to_tensor(bias, dtype=operand.dtype, name="bias")
        attributes = {"data_format": b"NCHW" if is_second else b"NHWC"}
        return computed("BiasAdd", _Biased(is_second), [operand, added], name=scope, attributes=attributes)


@dataclass(frozen=True, slots=True)
class _Biased:
    """Adds a bias for each channel, which are the second dimension or the last."""

    is_second: bool

    def __call__(self, array: Array, bias: Array) -> Array:
        return np.asarray(array + (bias.reshape(-1, *[1] * (array.ndim - 2)) if self.is_second else bias))


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Any:
    """Returns ``x @ weights + biases``."""
    with name_scope(name, "xw_plus_b", [x, weights, biases]) as scope:
        return bias_add(matmul(x, weights), biases, name=scope)


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Any:
    """Returns ``relu(x @ weights + biases)``."""
    with name_scope(name, "relu_layer", [x, weights, biases]) as scope:
        return relu(bias_add(matmul(x, weights), biases), name=scope)


def batch_normalization(
    x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: Any, name: str | None = None
) -> Any:
    """Returns ``(x - mean) / sqrt(variance + variance_epsilon) * scale + offset``; the last two may be None."""
    with name_scope(name, "batchnorm", [each for each in (x, mean, variance, scale, offset) if each is not None]):
        factor = rsqrt(variance + variance_epsilon)
        factor = factor if scale is None else factor * scale
        return x * factor + (-mean * factor if offset is None else offset - mean * factor)


def dropout(
    x: Any,
    keep_prob: Any = None,
    noise_shape: Any = None,
    seed: int | None = None,
    name: str | None = None,
    rate: Any = None,
) -> Any:
    """Returns the elements, a random part of them as 0 and the others larger, so that the sum stays about the same.

    Args:
        x: Of floats.
        keep_prob: What part stays; older form of ``rate``.
        noise_shape: Shape of the choices; dimensions of size 1 are chosen together. That of ``x`` if not given.
        seed: Makes every session draw the same sequence of choices.
        name: Of the scope; "dropout" if not given.
        rate: What part becomes 0; in [0, 1), or a tensor.

    Raises:
        ValueError: ``x`` holds no floats, or the part is not given, or not in the range.
    """
    share = one_of("dropout", rate=rate, keep_prob=None if keep_prob is None else 1 - keep_prob)
    if share is None or (not is_deferred(share) and not 0 <= share < 1):
        raise ValueError(
            f"dropout: rate should be a number in [0, 1), not {rate if keep_prob is None else 1 - keep_prob}"
        )
    with name_scope(name, "dropout", [x]):
        operand = convert_to_tensor(x, name="x")
        if not DType(as_dtype(operand.dtype)).is_floating:
            raise ValueError(f"dropout takes floats, not {operand.dtype.name}")
        if not is_deferred(share) and share == 0:
            return operand
        shape = shape_tensor(operand) if noise_shape is None else noise_shape
        kept = greater_equal(random_uniform(shape, seed=seed, dtype=operand.dtype), share)
        factor = (
            divide(1.0, subtract(1.0, share)) if is_deferred(share) else constant(1.0 / (1.0 - share), operand.dtype)
        )
        result = where_v2(kept, multiply(operand, factor), constant(0, operand.dtype))
        if isinstance(result, Tensor):
            result.set_shape(operand.shape)
        return result


# -- losses of logits -----------------------------------------------------------------------------


def softmax_cross_entropy_with_logits_v2(
    labels: Any, logits: Any, axis: Any = None, name: str | None = None, dim: Any = None
) -> Any:
    """Returns ``-sum(labels * log_softmax(logits))`` along a dimension: how badly logits foretell likelihoods.

    Args:
        labels: Likelihoods, of the shape and dtype of ``logits``.
        logits: Of floats.
        axis: The dimension of the classes; the last if not given.
        name: Of the scope; "softmax_cross_entropy_with_logits" if not given.
        dim: Older name of ``axis``.

    Returns:
        A tensor without that dimension.

    Raises:
        ValueError: One of both is missing, or their shapes differ.
    """
    at = one_of("softmax_cross_entropy_with_logits_v2", axis=axis, dim=dim)
    return _cross_entropy(labels, logits, -1 if at is None else at, name, "softmax_cross_entropy_with_logits")


def softmax_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, dim: Any = -1, name: str | None = None, axis: Any = None
) -> Any:
    """Does what ``softmax_cross_entropy_with_logits_v2`` does; no gradient passes the labels."""
    at = dim if axis is None else axis
    _require("softmax_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "softmax_cross_entropy_with_logits_sg", [logits, labels]) as scope:
        given = stop_gradient(labels, name="labels_stop_gradient")
        return _cross_entropy(given, logits, at, scope, "")


def _cross_entropy(labels: Any, logits: Any, axis: Any, name: str | None, default_name: str) -> Any:
    _require("softmax_cross_entropy_with_logits", labels, logits)
    with name_scope(name, default_name, [logits, labels]) as scope:
        scores, shares = of_one_dtype("SoftmaxCrossEntropyWithLogits", [convert_to_tensor(logits), labels])
        ndims = TensorShape(scores.shape).ndims
        if int(axis) != -1 and ndims is not None and int(axis) % ndims != ndims - 1:
            order = _last(int(axis) % ndims, ndims)
            scores, shares = transpose(scores, order), transpose(shares, order)
        shape = TensorShape(scores.shape).merge_with(shares.shape)
        outer = shape[:-1] if shape.ndims else TensorShape(None)
        ndims, sizes = rank(scores), shape_tensor(scores)
        flat = [_flat(scores, shape), _flat(shares, shape)]
        losses = all_computed("SoftmaxCrossEntropyWithLogits", _cross_entropies, flat, name=scope)[0]
        shaped = reshape(losses, slice_(sizes, [0], [subtract(ndims, 1)]))
        if isinstance(shaped, Tensor):
            shaped.set_shape(outer)
        return shaped


def _flat(tensor: Any, shape: TensorShape) -> Any:
    """Returns a tensor with all its dimensions but the last as one."""
    ndims = rank(tensor)
    last = slice_(shape_tensor(tensor), [subtract(ndims, 1)], [1])
    flat = reshape(tensor, concat([[-1], last], 0))
    rows = shape[:-1].num_elements() if shape.ndims else None
    if isinstance(flat, Tensor) and rows is not None:
        flat.set_shape([rows, shape.size(-1)])
    return flat


def _cross_entropies(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Returns the losses, and their gradients by the logits."""
    logarithms = _log_soft(logits)
    losses = np.asarray(-np.sum(labels * logarithms, axis=-1), logits.dtype)
    return losses, np.asarray(np.exp(logarithms) - labels, logits.dtype)


def sparse_softmax_cross_entropy_with_logits(labels: Any = None, logits: Any = None, name: str | None = None) -> Any:
    """Returns ``-log_softmax(logits)[labels]``: how badly logits foretell one class each.

    Args:
        labels: Integers in ``[0, classes)``, of the shape of ``logits`` without its last dimension.
        logits: Of floats; shape ``[..., classes]``.
        name: Of the scope; "SparseSoftmaxCrossEntropyWithLogits" if not given.

    Raises:
        ValueError: One of both is missing, or their shapes do not fit.
        TypeError: The labels are no integers.
        InvalidArgumentError: When it runs: a label is out of range.
    """
    _require("sparse_softmax_cross_entropy_with_logits", labels, logits)
    op_type = "SparseSoftmaxCrossEntropyWithLogits"
    with name_scope(name, op_type, [labels, logits]):
        places, scores = convert_to_tensor(labels), convert_to_tensor(logits)
        if not DType(as_dtype(places.dtype)).is_integer:
            raise TypeError(f"{op_type}: labels are integers, not {places.dtype.name}")
        shape, inner = TensorShape(scores.shape), TensorShape(places.shape)
        if shape.ndims == 0 or (shape.ndims is not None and not shape[:-1].is_compatible_with(inner)):
            raise ValueError(f"{op_type}: labels of the shape {inner} do not fit logits of the shape {shape}")
        sizes = shape_tensor(places)
        if shape.ndims == 2:
            return all_computed(op_type, _losses_of_classes, [scores, places], name=name)[0]
        flat = [_flat(scores, shape), reshape(places, [-1])]
        shaped = reshape(all_computed(op_type, _losses_of_classes, flat, name=name)[0], sizes)
        if isinstance(shaped, Tensor):
            shaped.set_shape(inner)
        return shaped


def _losses_of_classes(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Returns the losses, and their gradients by the logits."""
    wrong = labels[(labels < 0) | (labels >= logits.shape[-1])]
    if wrong.size:
        raise IndexError(f"the label {wrong[0]} is not in [0, {logits.shape[-1]})")
    logarithms, rows = _log_soft(logits), np.arange(len(labels))
    gradients = np.exp(logarithms)
    gradients[rows, labels] -= 1
    return np.asarray(-logarithms[rows, labels]), gradients


def sigmoid_cross_entropy_with_logits(labels: Any = None, logits: Any = None, name: str | None = None) -> Any:
    """Returns for each element how badly its logit foretells a likelihood, each a matter of its own.

    Args:
        labels: Likelihoods, of the shape and dtype of ``logits``.
        logits: Of floats.
        name: Of the operation; "logistic_loss" if not given.

    Raises:
        ValueError: One of both is missing, or their shapes differ.
    """
    _require("sigmoid_cross_entropy_with_logits", labels, logits)
    with name_scope(name, "logistic_loss", [logits, labels]) as scope:
        scores, shares = _alike("sigmoid_cross_entropy_with_logits", logits, labels)
        nothing = zeros_like(scores)
        is_positive = greater_equal(scores, nothing)
        above = where(is_positive, scores, nothing)
        below = where(is_positive, negative(scores), scores)
        return add(above - scores * shares, log1p(exp(below)), name=scope)


def weighted_cross_entropy_with_logits(
    labels: Any = None, logits: Any = None, pos_weight: Any = None, name: str | None = None, targets: Any = None
) -> Any:
    """Does what ``sigmoid_cross_entropy_with_logits`` does, with a weight for what should be positive.

    Args:
        labels: Likelihoods, of the shape and dtype of ``logits``.
        logits: Of floats.
        pos_weight: The weight; a number or a tensor that fits.
        name: Of the operation; "logistic_loss" if not given.
        targets: Older name of ``labels``.

    Raises:
        ValueError: One of both is missing, or their shapes differ.
    """
    given = one_of("weighted_cross_entropy_with_logits", labels=labels, targets=targets)
    _require("weighted_cross_entropy_with_logits", given, logits)
    with name_scope(name, "logistic_loss", [logits, given]) as scope:
        scores, shares = _alike("weighted_cross_entropy_with_logits", logits, given)
        weight = add(1.0, multiply(subtract(pos_weight, 1.0), shares))
        rest = add(log1p(exp(negative(absolute(scores)))), relu(negative(scores)))
        return add(multiply(subtract(1.0, shares), scores), multiply(weight, rest), name=scope)


def log_poisson_loss(targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None) -> Any:
    """Returns how badly logarithms of rates foretell counts, with ``compute_full_loss`` the constant term as well."""
    with name_scope(name, "log_poisson_loss", [log_input, targets]):
        rates, counts = _alike("log_poisson_loss", log_input, targets)
        loss = subtract(exp(rates), multiply(rates, counts), name="sub")
        if not compute_full_loss:
            return loss
        term = subtract(multiply(counts, log(counts)), counts)
        term = add(term, multiply(0.5, log(multiply(2 * np.pi, counts))))
        is_small = logical_and(greater_equal(counts, zeros_like(counts)), less_equal(counts, ones_like(counts)))
        return add(loss, where_v2(is_small, zeros_like(counts), term), name="add_1")


def _alike(function: str, logits: Any, labels: Any) -> Sequence[Any]:
    scores, shares = of_one_dtype(function, [convert_to_tensor(logits, name="logits"), labels])
    if not TensorShape(scores.shape).is_compatible_with(shares.shape):
        raise ValueError(f"{function}: the shapes {scores.shape} and {shares.shape} should be the same")
    return scores, shares


def _require(function: str, labels: Any, logits: Any) -> None:
    if labels is None or logits is None:
        raise ValueError(f"{function} needs both labels and logits")
