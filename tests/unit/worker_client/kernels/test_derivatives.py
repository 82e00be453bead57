"""The derivatives of kernels, first and second, are those that differences of their values show, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from autograd.test_util import check_grads

from worker_client.kernels import convolution, normalization, pooling
from worker_client.kernels.windows import Windows

SLIDES = [
    Windows((1, 1), "SAME"),
    Windows((1, 1), "VALID"),
    Windows((2, 1), "SAME"),
    Windows((2, 3), "VALID"),
    Windows((1, 1), "SAME", (2, 1)),
    Windows((1, 1), ((2, 0), (1, 3))),
    Windows((2, 2), ((0, 1), (2, 1)), channels_first=True),
    Windows((1, 1), "SAME", channels_first=True),
    Windows((3, 3), "VALID"),
]


def values(*shape: int, seed: int = 7) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def images(windows: Windows, channels: int = 2) -> Any:
    made = values(2, 5, 6, channels)
    return np.moveaxis(made, -1, 1).copy() if windows.channels_first else made


@pytest.mark.parametrize("windows", SLIDES, ids=str)
@pytest.mark.parametrize("outputs", [3, 7])
def test_convolutions(windows: Windows, outputs: int) -> None:
    given, filters = images(windows), values(3, 2, 2, outputs, seed=8)
    check_grads(lambda x, f: convolution.conv2d(x, f, windows), modes=["rev"], order=2)(given, filters)
    made = convolution.conv2d(given, filters, windows)
    check_grads(lambda g, f: convolution.conv2d_of_gradient(given.shape, f, g, windows), modes=["rev"], order=2)(
        made, filters
    )
    check_grads(lambda x, g: convolution.conv2d_of_filters(x, filters.shape, g, windows), modes=["rev"], order=2)(
        given, made
    )


@pytest.mark.parametrize("windows", SLIDES, ids=str)
def test_depthwise_convolutions(windows: Windows) -> None:
    given, filters = images(windows), values(3, 2, 2, 2, seed=8)
    check_grads(lambda x, f: convolution.depthwise_conv2d(x, f, windows), modes=["rev"], order=2)(given, filters)


@pytest.mark.parametrize("windows", SLIDES, ids=str)
@pytest.mark.parametrize("pool", [pooling.max_pool, pooling.avg_pool], ids=lambda pool: pool.__name__)
def test_pools(windows: Windows, pool: Callable[..., Any]) -> None:
    if isinstance(windows.padding, tuple):
        windows = Windows(windows.strides, ((0, 1), (1, 1)), channels_first=windows.channels_first)
    check_grads(lambda x: pool(x, (3, 2), Windows(windows.strides, windows.padding)), modes=["rev"], order=2)(
        values(2, 5, 6, 2)
    )


def test_local_response_normalisation() -> None:
    def normalized(x: Any) -> Any:
        return normalization.local_response_normalization(x, 2, 1.5, 0.3, 0.7)

    check_grads(normalized, modes=["rev"], order=2)(values(4, 5) * 4)


@pytest.mark.parametrize("channels_first", [False, True])
def test_normalisation_of_batches(channels_first: bool) -> None:
    x, scale, offset = values(3, 2, 4, 2), values(2, seed=1), values(2, seed=2)

    def of_batch(x: Any, scale: Any, offset: Any) -> Any:
        return normalization.batch_norm(x, scale, offset, 0.01, channels_first)

    def by_given(x: Any, scale: Any, offset: Any, mean: Any, variance: Any) -> Any:
        return normalization.scaled_norm(x, scale, offset, mean, variance, 0.01, channels_first)

    check_grads(of_batch, modes=["rev"], order=2)(x, scale, offset)
    check_grads(by_given, modes=["rev"], order=2)(x, scale, offset, values(2, seed=3), np.array([0.5, 2.0]))
