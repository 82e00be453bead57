"""Pools: the greatest element of each window, or the mean of those of it that lie inside the image."""

from __future__ import annotations

from typing import Any

import numpy as np
from autograd.extend import defvjp

from worker_client.derivatives.primitives import primitive
from worker_client.kernels.windows import Array, Pair, Windows


def _least(dtype: np.dtype[Any]) -> float:
    return float("-inf") if dtype.kind not in "iu" else int(np.iinfo(dtype).min)


@primitive
def max_pool(images: Array, taps: Pair, windows: Windows) -> Array:
    """Returns the greatest element of each window: shape ``[batch, down, across, channels]``."""
    given = windows.images(images)
    places = windows.places((given.shape[1], given.shape[2]), taps)
    greatest = np.full((given.shape[0], *places, given.shape[3]), _least(given.dtype), given.dtype)
    for _, _, shown in windows.taps(windows.padded(given, taps, _least(given.dtype)), taps, places):
        np.maximum(greatest, shown, out=greatest)
    return windows.result(greatest)


@primitive
def sent_to_greatest(gradient: Array, images: Array, taps: Pair, windows: Windows) -> Array:
    """Returns the gradient of images from that of their ``max_pool``: the first greatest element gets it."""
    given, sent = windows.images(images), windows.images(gradient)
    padded = windows.padded(given, taps, _least(given.dtype))
    greatest = windows.images(max_pool(images, taps, windows))
    found = windows.padded_zeros(given.shape, taps, sent.dtype)
    places = (sent.shape[1], sent.shape[2])
    is_open = np.ones(sent.shape, np.bool_)
    pairs = zip(windows.taps(padded, taps, places), windows.taps(found, taps, places), strict=True)
    for (_, _, shown), (_, _, target) in pairs:
        is_it = is_open & (shown == greatest)
        target[...] += sent * is_it
        is_open &= ~is_it
    return windows.result(windows.without_margins(found, (given.shape[1], given.shape[2]), taps))


@primitive
def taken_from_greatest(values: Array, images: Array, taps: Pair, windows: Windows) -> Array:
    """Returns for each window the element of ``values`` where that of ``images`` is the (first) greatest."""
    given, wanted = windows.images(images), windows.images(values)
    padded = windows.padded(given, taps, _least(given.dtype))
    greatest = windows.images(max_pool(images, taps, windows))
    places = (greatest.shape[1], greatest.shape[2])
    taken = np.zeros(greatest.shape, wanted.dtype)
    is_open = np.ones(greatest.shape, np.bool_)
    pairs = zip(
        windows.taps(padded, taps, places), windows.taps(windows.padded(wanted, taps), taps, places), strict=True
    )
    for (_, _, shown), (_, _, value) in pairs:
        is_it = is_open & (shown == greatest)
        taken += value * is_it
        is_open &= ~is_it
    return windows.result(taken)


defvjp(max_pool, lambda _, images, taps, windows: lambda g: sent_to_greatest(g, images, taps, windows))
defvjp(
    sent_to_greatest,
    lambda _, gradient, images, taps, windows: lambda g: taken_from_greatest(g, images, taps, windows),
    lambda _, gradient, images, taps, windows: lambda g: np.zeros(images.shape, g.dtype),
)
defvjp(
    taken_from_greatest,
    lambda _, values, images, taps, windows: lambda g: sent_to_greatest(g, images, taps, windows),
    lambda _, values, images, taps, windows: lambda g: np.zeros(images.shape, g.dtype),
)


def _counts(sizes: Pair, taps: Pair, windows: Windows, dtype: np.dtype[Any]) -> Array:
    """Returns how many elements of each window lie inside images of this height and width: ``[down, across, 1]``."""
    lines = []
    margins, places = windows.margins(sizes, taps), windows.places(sizes, taps)
    for axis in (0, 1):
        starts = np.arange(places[axis]) * windows.strides[axis] - margins[axis][0]
        inside = np.minimum(starts + taps[axis], sizes[axis]) - np.maximum(starts, 0)
        lines.append(inside.astype(dtype))
    counts: Array = np.multiply.outer(*lines)[..., np.newaxis]
    return counts


@primitive
def avg_pool(images: Array, taps: Pair, windows: Windows) -> Array:
    """Returns the mean of each window, without its taps in the margins: ``[batch, down, across, channels]``."""
    given = windows.images(images)
    sizes = (given.shape[1], given.shape[2])
    places = windows.places(sizes, taps)
    total = np.zeros((given.shape[0], *places, given.shape[3]), given.dtype)
    for _, _, shown in windows.taps(windows.padded(given, taps), taps, places):
        total += shown
    return windows.result(total / _counts(sizes, taps, windows, given.dtype))


@primitive
def sent_to_all(gradient: Array, shape: tuple[int, ...], taps: Pair, windows: Windows) -> Array:
    """Returns the gradient of images of a shape, from that of their ``avg_pool``."""
    sizes, sent = windows.image_sizes(shape), windows.images(gradient)
    inner = (sizes[1], sizes[2])
    shares = sent / _counts(inner, taps, windows, sent.dtype)
    found = windows.padded_zeros(sizes, taps, sent.dtype)
    for _, _, target in windows.taps(found, taps, (sent.shape[1], sent.shape[2])):
        target[...] += shares
    return windows.result(windows.without_margins(found, inner, taps))


defvjp(avg_pool, lambda _, images, taps, windows: lambda g: sent_to_all(g, images.shape, taps, windows))
defvjp(sent_to_all, lambda _, gradient, shape, taps, windows: lambda g: avg_pool(g, taps, windows))
