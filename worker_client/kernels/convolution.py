"""Convolutions of images with filters, as matrix products over what the filters' taps show.

The three functions of each kind are linear in both of their arrays, and the derivatives of each are the other two.
Filters have the shape ``[height, width, channels, outputs]``, of depthwise convolutions ``[height, width, channels,
multiplier]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from autograd.extend import defvjp

from worker_client.derivatives.primitives import primitive
from worker_client.kernels.windows import Array, Pair, Windows, blocks, reach

Sizes: TypeAlias = Array | Sequence[int]


def _inner(shape: tuple[int, ...]) -> Pair:
    return shape[1], shape[2]


def _shape(sizes: Sizes) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)


def _check_places(sent: Array, places: Pair, shape: tuple[int, ...]) -> None:
    if _inner(sent.shape) != places:
        raise ValueError(
            f"a convolution has {list(places)} places on images of the shape {list(shape)}, not {list(sent.shape[1:3])}"
        )


@primitive
def conv2d(images: Array, filters: Array, windows: Windows) -> Array:
    """Returns at each place what the taps show times the filters, summed: shape ``[batch, down, across, outputs]``."""
    given = windows.images(images)
    height, width, channels, outputs = filters.shape
    down, across = windows.places(_inner(given.shape), (height, width))
    matrix = filters.reshape(height * width * channels, outputs)
    result = np.empty((given.shape[0], down, across, outputs), np.result_type(given, filters))
    for block in blocks(given.shape[0], down * across * matrix.shape[0] * given.itemsize):
        found = result[block]
        np.matmul(windows.columns(given[block], (height, width)), matrix, out=found.reshape(-1, outputs))
    return windows.result(result)


@primitive
def conv2d_of_gradient(sizes: Sizes, filters: Array, gradient: Array, windows: Windows) -> Array:
    """Returns the gradient of images of some sizes, from that of what ``conv2d`` makes of them."""
    shape, sent = _shape(sizes), windows.images(gradient)
    own = windows.image_sizes(shape)
    height, width, channels, outputs = filters.shape
    inner, taps = _inner(own), (height, width)
    _check_places(sent, windows.places(inner, taps), shape)
    margins = windows.margins(inner, taps)
    if windows.strides == (1, 1) and outputs <= 2 * channels:  # else there is less to move the other way
        around = tuple(
            (reach(count, dilation) - 1 - before, reach(count, dilation) - 1 - behind)
            for count, dilation, (before, behind) in zip(taps, windows.dilations, margins, strict=True)
        )
        if min(min(around)) >= 0:
            there = Windows(padding=(around[0], around[1]), dilations=windows.dilations)
            turned = np.ascontiguousarray(filters[::-1, ::-1].swapaxes(2, 3))
            return windows.result(conv2d(sent, turned, there))
    padded = windows.padded_zeros(own, taps, np.result_type(sent, filters))
    each_bytes = sent[:1].size // max(1, outputs) * height * width * channels * padded.itemsize
    for block in blocks(sent.shape[0], each_bytes):
        shares = sent[block].reshape(-1, outputs) @ filters.reshape(-1, outputs).T
        shares = shares.reshape(*sent[block].shape[:3], height, width, channels)
        for i, j, shown in windows.taps(padded[block], taps, _inner(sent.shape)):
            shown[...] += shares[:, :, :, i, j]
    return windows.result(windows.without_margins(padded, inner, taps))


@primitive
def conv2d_of_filters(images: Array, sizes: Sizes, gradient: Array, windows: Windows) -> Array:
    """Returns the gradient of filters of some sizes, from that of what ``conv2d`` makes with them."""
    shape, sent = _shape(sizes), windows.images(gradient)
    given, number = windows.images(images), shape[0] * shape[1] * shape[2]
    total = np.zeros((number, shape[3]), np.result_type(given, sent))
    for block in blocks(given.shape[0], sent.shape[1] * sent.shape[2] * number * given.itemsize):
        columns = windows.columns(given[block], (shape[0], shape[1]))
        total += columns.T @ sent[block].reshape(columns.shape[0], shape[3])
    return total.reshape(shape)


defvjp(
    conv2d,
    lambda _, images, filters, windows: lambda g: conv2d_of_gradient(images.shape, filters, g, windows),
    lambda _, images, filters, windows: lambda g: conv2d_of_filters(images, filters.shape, g, windows),
)
defvjp(
    conv2d_of_gradient,
    None,
    lambda _, sizes, filters, gradient, windows: lambda g: conv2d_of_filters(g, filters.shape, gradient, windows),
    lambda _, sizes, filters, gradient, windows: lambda g: conv2d(g, filters, windows),
)
defvjp(
    conv2d_of_filters,
    lambda _, images, sizes, gradient, windows: lambda g: conv2d_of_gradient(images.shape, g, gradient, windows),
    None,
    lambda _, images, sizes, gradient, windows: lambda g: conv2d(images, g, windows),
)


@primitive
def depthwise_conv2d(images: Array, filters: Array, windows: Windows) -> Array:
    """Returns what a convolution of each channel with filters of its own makes.

    Returns:
        Shape ``[batch, down, across, channels * multiplier]``.
    """
    given = windows.images(images)
    taps = filters.shape[:2]
    places = windows.places(_inner(given.shape), taps)
    total = np.zeros((given.shape[0], *places, *filters.shape[2:]), np.result_type(given, filters))
    for i, j, shown in windows.taps(windows.padded(given, taps), taps, places):
        total += shown[..., np.newaxis] * filters[i, j]
    return windows.result(total.reshape(*total.shape[:3], -1))


@primitive
def depthwise_of_gradient(sizes: Sizes, filters: Array, gradient: Array, windows: Windows) -> Array:
    """Returns the gradient of images of some sizes, from that of what ``depthwise_conv2d`` makes of them."""
    shape, sent = _shape(sizes), windows.images(gradient)
    sent = sent.reshape(*sent.shape[:3], *filters.shape[2:])
    own, taps = windows.image_sizes(shape), filters.shape[:2]
    _check_places(sent, windows.places(_inner(own), taps), shape)
    padded = windows.padded_zeros(own, taps, np.result_type(sent, filters))
    for i, j, shown in windows.taps(padded, taps, _inner(sent.shape)):
        shown[...] += np.sum(sent * filters[i, j], axis=-1)
    return windows.result(windows.without_margins(padded, _inner(own), taps))


@primitive
def depthwise_of_filters(images: Array, sizes: Sizes, gradient: Array, windows: Windows) -> Array:
    """Returns the gradient of filters of some sizes, from that of what ``depthwise_conv2d`` makes with them."""
    given, sent, shape = windows.images(images), windows.images(gradient), _shape(sizes)
    sent = sent.reshape(*sent.shape[:3], *shape[2:])
    found = np.empty(shape, np.result_type(given, sent))
    taps = (shape[0], shape[1])
    for i, j, shown in windows.taps(windows.padded(given, taps), taps, _inner(sent.shape)):
        found[i, j] = np.sum(shown[..., np.newaxis] * sent, axis=(0, 1, 2))
    return found


defvjp(
    depthwise_conv2d,
    lambda _, images, filters, windows: lambda g: depthwise_of_gradient(images.shape, filters, g, windows),
    lambda _, images, filters, windows: lambda g: depthwise_of_filters(images, filters.shape, g, windows),
)
defvjp(
    depthwise_of_gradient,
    None,
    lambda _, sizes, filters, gradient, windows: lambda g: depthwise_of_filters(g, filters.shape, gradient, windows),
    lambda _, sizes, filters, gradient, windows: lambda g: depthwise_conv2d(g, filters, windows),
)
defvjp(
    depthwise_of_filters,
    lambda _, images, sizes, gradient, windows: lambda g: depthwise_of_gradient(images.shape, g, gradient, windows),
    None,
    lambda _, images, sizes, gradient, windows: lambda g: depthwise_conv2d(images, g, windows),
)
