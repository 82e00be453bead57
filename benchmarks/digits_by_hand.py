"""The gradients of the example's digit classifier, written by hand: the least that they can cost in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def gradients(parameters: Sequence[Array], images: Array, digits: Array) -> list[Array]:
    """Returns the gradients of ``examples.digits.loss``, one for each parameter."""
    w1, b1, w2, b2 = parameters
    hidden = np.maximum(images @ w1 + b1, 0)
    scores = hidden @ w2 + b2
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    d_scores = exponentials / exponentials.sum(axis=1, keepdims=True)
    d_scores[np.arange(len(digits)), digits] -= 1
    d_scores /= len(digits)
    d_hidden = (d_scores @ w2.T) * (hidden > 0)
    return [images.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_scores, d_scores.sum(axis=0)]
