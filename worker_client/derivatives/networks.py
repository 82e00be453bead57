"""Rules of functions of neural networks: shares, biases, losses of logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import autograd.numpy as anp
import numpy as np

from worker_client.derivatives.registry import Derivative, each

RULES: Final[dict[str, Derivative]] = {}
"""By the type of the operation."""

RULES["Softmax"] = each(lambda ans, x: lambda g: (g - anp.sum(g * ans, axis=-1, keepdims=True)) * ans)
RULES["LogSoftmax"] = each(lambda ans, x: lambda g: g - anp.exp(ans) * anp.sum(g, axis=-1, keepdims=True))


def _bias(ans: Any, value: Any, bias: Any, is_second: bool) -> Callable[[Any], Any]:
    rank = anp.ndim(value)
    axes = tuple(axis for axis in range(rank) if axis != (1 if is_second else rank - 1))
    return lambda g: anp.sum(g, axis=axes)


RULES["BiasAdd"] = each(lambda ans, value, bias, is_second: lambda g: g, _bias)


def _log_shares(logits: Any) -> Any:
    below = logits - anp.max(logits, axis=-1, keepdims=True)
    return below - anp.log(anp.sum(anp.exp(below), axis=-1, keepdims=True))


def _logits(ans: Any, logits: Any, labels: Any) -> Callable[[Any], Any]:
    return lambda g: g[:, None] * (anp.exp(_log_shares(logits)) - labels)  # as TensorFlow, also if their sum is not 1


RULES["SoftmaxCrossEntropyWithLogits"] = each(
    _logits, lambda ans, logits, labels: lambda g: -g[:, None] * _log_shares(logits)
)


def _logits_of_classes(ans: Any, logits: Any, labels: Any) -> Callable[[Any], Any]:
    rows = np.arange(len(labels))
    is_label = np.zeros(anp.shape(logits), bool)
    is_label[rows, labels] = True
    return lambda g: g[:, None] * (anp.exp(_log_shares(logits)) - is_label)


RULES["SparseSoftmaxCrossEntropyWithLogits"] = each(_logits_of_classes)
