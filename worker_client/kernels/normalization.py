"""Normalisation: of each channel over a batch, and of each element by its neighbours in other channels."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp

from worker_client.derivatives.primitives import primitive
from worker_client.kernels.windows import Array


def _around(x: Array, channels_first: bool) -> tuple[int, ...]:
    """Returns the dimensions beside the channels."""
    kept = 1 if channels_first else x.ndim - 1
    return tuple(axis for axis in range(x.ndim) if axis != kept)


def _spread(values: Array, x: Array, channels_first: bool) -> Any:
    """Returns one value for each channel in a shape that broadcasts to images."""
    return anp.reshape(values, (-1, *[1] * (x.ndim - 2))) if channels_first else values


def batch_moments(x: Array, channels_first: bool) -> tuple[Array, Array]:
    """Returns mean and variance of each channel."""
    around = _around(x, channels_first)
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    return anp.mean(wide, axis=around), anp.var(wide, axis=around)


def estimated_moments(x: Array, channels_first: bool) -> tuple[Array, Array]:
    """Returns mean and variance of each channel, as estimated from a sample: divided by one less than its size."""
    mean, variance = batch_moments(x, channels_first)
    number = x.size // max(1, mean.size)
    return mean, variance * variance.dtype.type(number / max(1, number - 1))


@primitive
def batch_norm(x: Array, scale: Array, offset: Array, epsilon: float, channels_first: bool) -> Array:
    """Returns each channel with mean 0 and variance 1, then scaled and moved."""
    mean, variance = batch_moments(x, channels_first)
    return scaled_norm(x, scale, offset, mean, variance, epsilon, channels_first)


@primitive
def scaled_norm(
    x: Array, scale: Array, offset: Array, mean: Array, variance: Array, epsilon: float, channels_first: bool
) -> Array:
    """Returns ``(x - mean) / sqrt(variance + epsilon) * scale + offset`` with one number for each channel."""
    factor = scale / np.sqrt(variance + np.asarray(epsilon, variance.dtype))
    moved = offset - mean * factor
    return np.asarray(x * _spread(factor, x, channels_first) + _spread(moved, x, channels_first), x.dtype)


def _normalized(x: Array, mean: Array, variance: Array, epsilon: float, channels_first: bool) -> Any:
    factor = 1 / anp.sqrt(variance + epsilon)
    return (x - _spread(mean, x, channels_first)) * _spread(factor, x, channels_first)


def _gradient_of_batch(g: Array, x: Array, scale: Array, epsilon: float, channels_first: bool) -> Any:
    mean, variance = batch_moments(x, channels_first)
    normalized = _normalized(x, mean, variance, epsilon, channels_first)
    around = _around(x, channels_first)
    own = anp.mean(g, axis=around, keepdims=True) + normalized * anp.mean(g * normalized, axis=around, keepdims=True)
    return (g - own) * _spread(scale / anp.sqrt(variance + epsilon), x, channels_first)


def _gradient_of_scale(g: Array, x: Array, moments: tuple[Array, Array], epsilon: float, channels_first: bool) -> Any:
    return anp.sum(g * _normalized(x, *moments, epsilon, channels_first), axis=_around(x, channels_first))


defvjp(
    batch_norm,
    lambda _, x, scale, offset, epsilon, first: lambda g: _gradient_of_batch(g, x, scale, epsilon, first),
    lambda _, x, scale, offset, epsilon, first: (
        lambda g: _gradient_of_scale(g, x, batch_moments(x, first), epsilon, first)
    ),
    lambda _, x, scale, offset, epsilon, first: lambda g: anp.sum(g, axis=_around(x, first)),
)
defvjp(
    scaled_norm,
    lambda _, x, scale, offset, mean, variance, epsilon, first: (
        lambda g: g * _spread(scale / anp.sqrt(variance + epsilon), x, first)
    ),
    lambda _, x, scale, offset, mean, variance, epsilon, first: (
        lambda g: _gradient_of_scale(g, x, (mean, variance), epsilon, first)
    ),
    lambda _, x, scale, offset, mean, variance, epsilon, first: lambda g: anp.sum(g, axis=_around(x, first)),
    lambda _, x, scale, offset, mean, variance, epsilon, first: (
        lambda g: -anp.sum(g, axis=_around(x, first)) * scale / anp.sqrt(variance + epsilon)
    ),
    lambda _, x, scale, offset, mean, variance, epsilon, first: (
        lambda g: -0.5 * _gradient_of_scale(g, x, (mean, variance), epsilon, first) * scale / (variance + epsilon)
    ),
)


@primitive
def sum_of_neighbours(x: Array, radius: int) -> Array:
    """Returns the sum of each element and those in so many channels before and behind it."""
    sums = np.zeros(x.shape, x.dtype)
    channels = x.shape[-1]
    for distance in range(-min(radius, channels - 1), min(radius, channels - 1) + 1):
        sums[..., max(0, -distance) : channels - max(0, distance)] += x[
            ..., max(0, distance) : channels - max(0, -distance)
        ]
    return sums


defvjp(sum_of_neighbours, lambda _, x, radius: lambda g: sum_of_neighbours(g, radius))


@primitive
def local_response_normalization(x: Array, radius: int, bias: float, alpha: float, beta: float) -> Array:
    """Returns ``x / (bias + alpha * sum_of_neighbours(x ** 2)) ** beta``."""
    total = bias + alpha * sum_of_neighbours(np.square(x), radius)
    return np.asarray(x * np.power(total, -beta), x.dtype)


def _gradient_of_local(g: Array, x: Array, radius: int, bias: float, alpha: float, beta: float) -> Any:
    total = bias + alpha * sum_of_neighbours(anp.square(x), radius)
    through_others = sum_of_neighbours(g * x * anp.power(total, -beta - 1), radius)
    return g * anp.power(total, -beta) - 2 * alpha * beta * x * through_others


defvjp(
    local_response_normalization,
    lambda _, x, radius, bias, alpha, beta: lambda g: _gradient_of_local(g, x, radius, bias, alpha, beta),
)
