"""Shares that add up to 1 along the last dimension, and how badly they foretell others."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np

from worker_client.kernels.differentiable import derivatives, differentiable
from worker_client.kernels.windows import Array


@differentiable
def softmax(logits: Array) -> Array:
    """Positive numbers with the sum 1 along the last dimension, proportional to ``exp(logits)``."""
    raised = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return np.asarray(raised / np.sum(raised, axis=-1, keepdims=True))


@differentiable
def log_softmax(logits: Array) -> Array:
    """The logarithms of what ``softmax`` returns, without overflow."""
    below = logits - np.max(logits, axis=-1, keepdims=True)
    return np.asarray(below - np.log(np.sum(np.exp(below), axis=-1, keepdims=True)))


@differentiable
def cross_entropies(logits: Array, labels: Array) -> Array:
    """``-sum(labels * log_softmax(logits))`` along the last dimension.

    The derivative is that for labels with the sum 1, as in TensorFlow.
    """
    return np.asarray(-np.sum(labels * log_softmax(logits), axis=-1), logits.dtype)


@differentiable
def cross_entropies_of_classes(logits: Array, labels: Array) -> Array:
    """``-log_softmax(logits)`` at the class that the label of each row says.

    Raises:
        IndexError: A label is out of range.
    """
    wrong = labels[(labels < 0) | (labels >= logits.shape[-1])]
    if wrong.size:
        raise IndexError(f"the label {wrong[0]} is not in [0, {logits.shape[-1]})")
    return np.asarray(-log_softmax(logits)[np.arange(len(labels)), labels])


def _ones_at(labels: Array, logits: Array) -> Array:
    ones = np.zeros(logits.shape, logits.dtype)
    ones[np.arange(len(labels)), labels] = 1
    return ones


derivatives(softmax, lambda result, _: lambda g: result * (g - anp.sum(g * result, axis=-1, keepdims=True)))
derivatives(log_softmax, lambda _, logits: lambda g: g - softmax(logits) * anp.sum(g, axis=-1, keepdims=True))
derivatives(
    cross_entropies,
    lambda _, logits, labels: lambda g: anp.expand_dims(g, -1) * (softmax(logits) - labels),
    lambda _, logits, labels: lambda g: anp.expand_dims(g, -1) * -log_softmax(logits),
)
derivatives(
    cross_entropies_of_classes,
    lambda _, logits, labels: lambda g: anp.expand_dims(g, -1) * (softmax(logits) - _ones_at(labels, logits)),
)
