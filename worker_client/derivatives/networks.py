"""Rules of functions of neural networks: shares, biases, losses of logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from worker_client.derivatives.plain import namespace
from worker_client.derivatives.registry import Derivative, Vjp, each

RULES: Final[dict[str, Derivative]] = {}
"""By the type of the operation."""


def _sum(array: Any) -> Any:
    return namespace(array).sum(array, axis=-1, keepdims=True)


RULES["Softmax"] = each(lambda ans, x: lambda g: (g - _sum(g * ans)) * ans)
RULES["LogSoftmax"] = each(lambda ans, x: lambda g: g - np.exp(ans) * _sum(g))


def _bias_rule(argnums: Sequence[int], ans: Any, args: Sequence[Any], attributes: Mapping[str, Any]) -> Vjp:
    del ans
    rank = np.ndim(args[0])
    is_second = attributes["data_format"] == b"NCHW"
    axes = tuple(axis for axis in range(rank) if axis != (1 if is_second else rank - 1))
    return lambda g: [namespace(g).sum(g, axis=axes) if argnum else g for argnum in argnums]


RULES["BiasAdd"] = _bias_rule


def _log_shares(logits: Any) -> Any:
    if not np.shape(logits)[-1]:
        return logits
    below = logits - namespace(logits).max(logits, axis=-1, keepdims=True)
    return below - np.log(_sum(np.exp(below)))


def _logits(ans: Any, logits: Any, labels: Any) -> Callable[[Any], Any]:
    return lambda g: g[0][:, None] * (np.exp(_log_shares(logits)) - labels)  # as TensorFlow, also if their sum is not 1


RULES["SoftmaxCrossEntropyWithLogits"] = each(
    _logits, lambda ans, logits, labels: lambda g: -g[0][:, None] * _log_shares(logits)
)


def _logits_of_classes(ans: Any, logits: Any, labels: Any) -> Callable[[Any], Any]:
    rows = np.arange(len(labels))
    is_label = np.zeros(np.shape(logits), bool)
    is_label[rows, labels] = True
    return lambda g: g[0][:, None] * (np.exp(_log_shares(logits)) - is_label)


RULES["SparseSoftmaxCrossEntropyWithLogits"] = each(_logits_of_classes)
