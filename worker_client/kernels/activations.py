"""Activations of neural networks, with TensorFlow's derivatives where they have a bend."""

from __future__ import annotations

from typing import Any, Final

import autograd.numpy as anp
import numpy as np

from worker_client.kernels.differentiable import derivatives, differentiable
from worker_client.kernels.windows import Array

SELU_SCALE: Final = 1.0507009873554805
SELU_ALPHA: Final = 1.6732632423543772


@differentiable
def relu(x: Array) -> Any:
    """The elements, 0 instead of those below 0."""
    return np.maximum(x, x.dtype.type(0))


@differentiable
def relu6(x: Array) -> Any:
    """The elements, 0 instead of those below 0 and 6 of those above 6."""
    return np.clip(x, x.dtype.type(0), x.dtype.type(6))


@differentiable
def leaky_relu(x: Array, alpha: float) -> Any:
    """The elements, those below 0 times ``alpha``."""
    return np.where(x > 0, x, x * x.dtype.type(alpha))


@differentiable
def elu(x: Array) -> Any:
    """The elements, ``exp(x) - 1`` instead of those below 0."""
    return np.where(x < 0, np.expm1(np.minimum(x, x.dtype.type(0))), x)


@differentiable
def selu(x: Array) -> Any:
    """Scaled elements, below 0 scaled ``exp(x) - 1``."""
    return (SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.expm1(np.minimum(x, x.dtype.type(0))), x)).astype(x.dtype)


@differentiable
def softsign(x: Array) -> Any:
    """``x / (1 + abs(x))``."""
    return x / (1 + np.abs(x))


@differentiable
def softplus(x: Array) -> Any:
    """``log(1 + exp(x))``, without overflow."""
    return np.maximum(x, x.dtype.type(0)) + np.log1p(np.exp(-np.abs(x)))


@differentiable
def l2_loss(x: Array) -> Any:
    """Half the sum of the squares of all elements."""
    return np.sum(np.square(x), dtype=x.dtype) / x.dtype.type(2)


derivatives(relu, lambda _, x: lambda g: g * (x > 0))
derivatives(relu6, lambda _, x: lambda g: g * ((x > 0) & (x < 6)))
derivatives(leaky_relu, lambda _, x, alpha: lambda g: anp.where(x > 0, g, g * alpha))
derivatives(elu, lambda result, x: lambda g: anp.where(x < 0, g * (result + 1), g))
derivatives(
    selu,
    lambda result, x: lambda g: anp.where(x < 0, g * (result + SELU_SCALE * SELU_ALPHA), g * SELU_SCALE),
)
derivatives(softsign, lambda _, x: lambda g: g / anp.square(1 + anp.abs(x)))
derivatives(softplus, lambda _, x: lambda g: g * anp.exp(anp.minimum(x, 0) - softplus(-anp.abs(x))))
derivatives(l2_loss, lambda _, x: lambda g: g * x)
