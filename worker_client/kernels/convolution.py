"""Convolutions of images with filters, as matrix products over what the filters' taps show.

The three functions of each kind are linear in both of their arrays, and the derivatives of each are the other two.
Filters have the shape ``[height, width, channels, outputs]``, of depthwise convolutions ``[height, width, channels,
multiplier]``.
"""

from __future__ import annotations

import numpy as np

from worker_client.kernels.differentiable import derivatives, differentiable
from worker_client.kernels.windows import Array, Pair, Windows, reach


def _inner(shape: tuple[int, ...]) -> Pair:
    return shape[1], shape[2]


def _check_places(sent: Array, places: Pair, shape: tuple[int, ...]) -> None:
    if _inner(sent.shape) != places:
        raise ValueError(
            f"a convolution has {list(places)} places on images of the shape {list(shape)}, not {list(sent.shape[1:3])}"
        )


@differentiable
def conv2d(images: Array, filters: Array, windows: Windows) -> Array:
    """Returns at each place what the taps show times the filters, summed: shape ``[batch, down, across, outputs]``."""
    given = windows.images(images)
    height, width, channels, outputs = filters.shape
    down, across = windows.places(_inner(given.shape), (height, width))
    product = windows.columns(given, (height, width)) @ filters.reshape(height * width * channels, outputs)
    return windows.result(product.reshape(given.shape[0], down, across, outputs))


@differentiable
def conv2d_of_gradient(gradient: Array, filters: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """Returns the gradient of images of a shape, from that of what ``conv2d`` makes of them."""
    sent = windows.images(gradient)
    sizes = windows.image_sizes(shape)
    height, width, channels, outputs = filters.shape
    inner, taps = _inner(sizes), (height, width)
    _check_places(sent, windows.places(inner, taps), shape)
    margins = windows.margins(inner, taps)
    if windows.strides == (1, 1) and outputs <= 2 * channels:  # else there is less to move the other way
        around = tuple(
            (reach(count, dilation) - 1 - before, reach(count, dilation) - 1 - behind)
            for count, dilation, (before, behind) in zip(taps, windows.dilations, margins, strict=True)
        )
        if min(min(around)) >= 0:
            there = Windows(padding=(around[0], around[1]), dilations=windows.dilations)
            turned = filters[::-1, ::-1].swapaxes(2, 3).reshape(height * width * outputs, channels)
            return windows.result((there.columns(sent, taps) @ turned).reshape(sizes))
    shares = sent.reshape(-1, outputs) @ filters.reshape(-1, outputs).T
    shares = shares.reshape(*sent.shape[:3], height, width, channels)
    padded = windows.padded_zeros(sizes, taps, shares.dtype)
    for i, j, shown in windows.taps(padded, taps, _inner(sent.shape)):
        shown[...] += shares[:, :, :, i, j]
    return windows.result(windows.without_margins(padded, inner, taps))


@differentiable
def conv2d_of_filters(images: Array, gradient: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """Returns the gradient of filters of a shape, from that of what ``conv2d`` makes with them."""
    sent = windows.images(gradient)
    columns = windows.columns(windows.images(images), (shape[0], shape[1]))
    return (columns.T @ sent.reshape(columns.shape[0], shape[3])).reshape(shape)


derivatives(
    conv2d,
    lambda _, images, filters, windows: lambda g: conv2d_of_gradient(g, filters, images.shape, windows),
    lambda _, images, filters, windows: lambda g: conv2d_of_filters(images, g, filters.shape, windows),
)
derivatives(
    conv2d_of_gradient,
    lambda _, gradient, filters, shape, windows: lambda g: conv2d(g, filters, windows),
    lambda _, gradient, filters, shape, windows: lambda g: conv2d_of_filters(g, gradient, filters.shape, windows),
)
derivatives(
    conv2d_of_filters,
    lambda _, images, gradient, shape, windows: lambda g: conv2d_of_gradient(gradient, g, images.shape, windows),
    lambda _, images, gradient, shape, windows: lambda g: conv2d(images, g, windows),
)


@differentiable
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


@differentiable
def depthwise_of_gradient(gradient: Array, filters: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """Returns the gradient of images of a shape, from that of what ``depthwise_conv2d`` makes of them."""
    sent = windows.images(gradient)
    sent = sent.reshape(*sent.shape[:3], *filters.shape[2:])
    sizes, taps = windows.image_sizes(shape), filters.shape[:2]
    _check_places(sent, windows.places(_inner(sizes), taps), shape)
    padded = windows.padded_zeros(sizes, taps, np.result_type(sent, filters))
    for i, j, shown in windows.taps(padded, taps, _inner(sent.shape)):
        shown[...] += np.einsum("nhwcm,cm->nhwc", sent, filters[i, j])
    return windows.result(windows.without_margins(padded, _inner(sizes), taps))


@differentiable
def depthwise_of_filters(images: Array, gradient: Array, shape: tuple[int, ...], windows: Windows) -> Array:
    """Returns the gradient of filters of a shape, from that of what ``depthwise_conv2d`` makes with them."""
    given, sent = windows.images(images), windows.images(gradient)
    sent = sent.reshape(*sent.shape[:3], *shape[2:])
    found = np.empty(shape, np.result_type(given, sent))
    taps = (shape[0], shape[1])
    for i, j, shown in windows.taps(windows.padded(given, taps), taps, _inner(sent.shape)):
        found[i, j] = np.einsum("nhwc,nhwcm->cm", shown, sent)
    return found


derivatives(
    depthwise_conv2d,
    lambda _, images, filters, windows: lambda g: depthwise_of_gradient(g, filters, images.shape, windows),
    lambda _, images, filters, windows: lambda g: depthwise_of_filters(images, g, filters.shape, windows),
)
derivatives(
    depthwise_of_gradient,
    lambda _, gradient, filters, shape, windows: lambda g: depthwise_conv2d(g, filters, windows),
    lambda _, gradient, filters, shape, windows: lambda g: depthwise_of_filters(g, gradient, filters.shape, windows),
)
derivatives(
    depthwise_of_filters,
    lambda _, images, gradient, shape, windows: lambda g: depthwise_of_gradient(gradient, g, images.shape, windows),
    lambda _, images, gradient, shape, windows: lambda g: depthwise_conv2d(images, g, windows),
)
