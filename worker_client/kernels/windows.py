"""Windows that slide over the two inner dimensions of images, for convolutions and pools.

Images have the shape ``[batch, height, width, channels]`` here. A window is a box of taps; at each place of it the taps
show one element each. All places are looked at together, through strided views.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Pair: TypeAlias = tuple[int, int]
Padding: TypeAlias = Literal["SAME", "VALID"] | tuple[Pair, Pair]

BLOCK_BYTES: Final = 64 * 2**20
"""How much memory the columns of images may take at a time; a convolution of more goes block by block."""


@dataclass(frozen=True)
class Windows:
    """How windows slide.

    Attributes:
        strides: Steps from one place to the next, down and across.
        padding: "SAME" for as many places as there are steps, "VALID" for those inside the image, or how many rows and
            columns are added before and behind.
        dilations: Steps from one tap to the next.
        channels_first: Whether images come and go as ``[batch, channels, height, width]``.
    """

    strides: Pair = (1, 1)
    padding: Padding = "VALID"
    dilations: Pair = (1, 1)
    channels_first: bool = False

    def images(self, array: Array) -> Array:
        """Returns images with the channels last."""
        return np.moveaxis(array, 1, -1) if self.channels_first else array

    def result(self, array: Array) -> Array:
        """Returns images as they are to go, from those with the channels last."""
        return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if self.channels_first else array

    def image_sizes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns a shape with the channels last."""
        return (shape[0], *shape[2:], shape[1]) if self.channels_first else tuple(shape)

    def margins(self, sizes: Pair, taps: Pair) -> tuple[Pair, Pair]:
        """Returns how many rows and columns are added before and behind images of this height and width."""
        top, left = (margin(self.padding, axis, sizes[axis], taps[axis], *self._steps(axis)) for axis in (0, 1))
        return top, left

    def places(self, sizes: Pair, taps: Pair) -> Pair:
        """Returns how many places windows of these taps have in images of this height and width."""
        down, across = (
            places(size + sum(added), tap, *self._steps(axis))
            for axis, (size, tap, added) in enumerate(zip(sizes, taps, self.margins(sizes, taps), strict=True))
        )
        return down, across

    def _steps(self, axis: int) -> Pair:
        return self.strides[axis], self.dilations[axis]

    def padded(self, images: Array, taps: Pair, value: float = 0) -> Array:
        """Returns images with their margins, which hold ``value``; the images themselves if there are none."""
        margins = self.margins((images.shape[1], images.shape[2]), taps)
        if margins == ((0, 0), (0, 0)):
            return images
        (top, bottom), (left, right) = margins
        batch, height, width, channels = images.shape
        padded = np.full((batch, height + top + bottom, width + left + right, channels), value, images.dtype)
        padded[:, top : top + height, left : left + width] = images
        return padded

    def columns(self, images: Array, taps: Pair) -> Array:
        """Returns what every tap shows at every place: a matrix ``[batch * places, taps * channels]``."""
        down, across = self.places((images.shape[1], images.shape[2]), taps)
        padded = self.padded(images, taps)
        batch, channels = images.shape[0], images.shape[3]
        step, row, column, channel = padded.strides
        shown = as_strided(
            padded,
            (batch, down, across, *taps, channels),
            (
                step,
                row * self.strides[0],
                column * self.strides[1],
                row * self.dilations[0],
                column * self.dilations[1],
                channel,
            ),
            writeable=False,
        )
        return shown.reshape(batch * down * across, taps[0] * taps[1] * channels)

    def taps(self, padded: Array, taps: Pair, places: Pair) -> Iterator[tuple[int, int, Array]]:
        """Yields for each tap its row and column in the window, and a view of what it shows at all places."""
        for i in range(taps[0]):
            for j in range(taps[1]):
                rows = _slice(i * self.dilations[0], places[0], self.strides[0])
                columns = _slice(j * self.dilations[1], places[1], self.strides[1])
                yield i, j, padded[:, rows, columns]

    def without_margins(self, padded: Array, sizes: Pair, taps: Pair) -> Array:
        """Returns the images inside of padded ones."""
        (top, _), (left, _) = self.margins(sizes, taps)
        return padded[:, top : top + sizes[0], left : left + sizes[1]]

    def padded_zeros(self, shape: tuple[int, ...], taps: Pair, dtype: np.dtype[Any]) -> Array:
        """Returns zeros of the shape that images of a shape have with their margins."""
        margins = self.margins((shape[1], shape[2]), taps)
        return np.zeros((shape[0], shape[1] + sum(margins[0]), shape[2] + sum(margins[1]), shape[3]), dtype)


def blocks(number: int, each_bytes: int) -> list[slice]:
    """Returns images in blocks whose columns fit into ``BLOCK_BYTES``, at least one in each, all in one if they fit."""
    size = max(1, BLOCK_BYTES // max(1, each_bytes))
    return [slice(start, start + size) for start in range(0, number, size)]


def _slice(start: int, number: int, step: int) -> slice:
    return slice(start, start + (number - 1) * step + 1 if number else start, step)


def places(padded_size: int, taps: int, stride: int, dilation: int) -> int:
    """Returns how many places a window has along a dimension, at least 0."""
    return max(0, (padded_size - reach(taps, dilation)) // stride + 1)


def reach(taps: int, dilation: int) -> int:
    """Returns how many elements a window spans along a dimension."""
    return (taps - 1) * dilation + 1


def margin(padding: Padding, axis: int, size: int, taps: int, stride: int, dilation: int) -> Pair:
    """Returns how many elements are added before and behind a dimension; the rest of an odd number goes behind."""
    if padding == "VALID":
        return 0, 0
    if padding == "SAME":
        total = max(0, (-(-size // stride) - 1) * stride + reach(taps, dilation) - size)
        return total // 2, total - total // 2
    return padding[axis]
