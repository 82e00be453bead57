"""Layers that pool lines and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from worker_client.layers.base import Layer, one_of_words, pair
from worker_client.ops.array_ops import expand_dims, squeeze
from worker_client.ops.nn.pools import avg_pool, max_pool


class Pooling(Layer):
    """A pool over lines ``[batch, width, channels]`` or images ``[batch, height, width, channels]``.

    Args:
        pool_size: Size of the windows: a number for each inner dimension, or one for all.
        strides: Steps from place to place, likewise.
        padding: "valid" or "same".
        data_format: "channels_last", or "channels_first" if the channels are second.
        name: As ``Layer``'s.
        **kwargs: As ``Layer``'s.
    """

    _inner: ClassVar[int]
    _function: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        pool_size: Any,
        strides: Any,
        padding: str = "valid",
        data_format: str = "channels_last",
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.pool_size = pair(pool_size, f"layer {self.name}: pool_size", self._inner)
        self.strides = pair(strides, f"layer {self.name}: strides", self._inner)
        self.padding = one_of_words(padding, ["valid", "same"], f"layer {self.name}: padding")
        words = ["channels_last", "channels_first"]
        self.data_format = one_of_words(data_format, words, f"layer {self.name}: data_format")

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        del kwargs
        self.check_rank(inputs, self._inner + 2)
        is_second = self.data_format == "channels_first"
        axis = 3 if is_second else 2  # of the dimension that makes lines images
        inner = [list(each) + [1] * (2 - self._inner) for each in (self.pool_size, self.strides)]
        windows, steps = ([1, 1, *each] if is_second else [1, *each, 1] for each in inner)
        images = expand_dims(inputs, axis) if self._inner == 1 else inputs
        layout = "NCHW" if is_second else "NHWC"
        outputs = type(self)._function(images, windows, steps, self.padding.upper(), layout)
        return squeeze(outputs, [axis]) if self._inner == 1 else outputs


class MaxPooling1D(Pooling):
    """The greatest element of each window of lines; see ``Pooling``."""

    _inner, _function = 1, max_pool


class MaxPooling2D(Pooling):
    """The greatest element of each window of images; see ``Pooling``."""

    _inner, _function = 2, max_pool


class AveragePooling1D(Pooling):
    """The mean of each window of lines; see ``Pooling``."""

    _inner, _function = 1, avg_pool


class AveragePooling2D(Pooling):
    """The mean of each window of images; see ``Pooling``."""

    _inner, _function = 2, avg_pool


def max_pooling1d(
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> Any:
    """Returns the outputs of a ``MaxPooling1D`` layer."""
    return MaxPooling1D(pool_size, strides, padding, data_format, name)(inputs)


def max_pooling2d(
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> Any:
    """Returns the outputs of a ``MaxPooling2D`` layer."""
    return MaxPooling2D(pool_size, strides, padding, data_format, name)(inputs)


def average_pooling1d(
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> Any:
    """Returns the outputs of an ``AveragePooling1D`` layer."""
    return AveragePooling1D(pool_size, strides, padding, data_format, name)(inputs)


def average_pooling2d(
    inputs: Any,
    pool_size: Any,
    strides: Any,
    padding: str = "valid",
    data_format: str = "channels_last",
    name: str | None = None,
) -> Any:
    """Returns the outputs of an ``AveragePooling2D`` layer."""
    return AveragePooling2D(pool_size, strides, padding, data_format, name)(inputs)
