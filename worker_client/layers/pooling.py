"""Layers that pool lines and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

from worker_client.layers.sliding import SlidingLayer
from worker_client.ops.array_ops import expand_dims, squeeze
from worker_client.ops.nn.pools import avg_pool, max_pool
from worker_client.values.made_functions import named


class Pooling(SlidingLayer):
    """A pool over lines ``[batch, width, channels]`` or images ``[batch, height, width, channels]``.

    Args:
        pool_size: Size of the windows: a number for each inner dimension, or one for all.
        strides: Steps from place to place, likewise.
        padding: "valid" or "same".
        data_format: "channels_last", or "channels_first" if the channels are second.
        name: As ``Layer``'s.
        **kwargs: As ``Layer``'s.
    """

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
        self.pool_size = self._sizes(pool_size, "pool_size")
        self._slide(strides, padding, data_format)

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        del kwargs
        self.check_rank(inputs, self._inner + 2)
        axis = 3 if self._is_second else 2  # of the dimension that makes lines images
        ones = [1] * (2 - self._inner)
        windows, steps = (self._of_all_dimensions([*each, *ones]) for each in (self.pool_size, self.strides))
        images = expand_dims(inputs, axis) if self._inner == 1 else inputs
        layout = "NCHW" if self._is_second else "NHWC"
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


class _Function(Protocol):
    def __call__(
        self,
        inputs: Any,
        pool_size: Any,
        strides: Any,
        padding: str = "valid",
        data_format: str = "channels_last",
        name: str | None = None,
    ) -> Any: ...


def _function_of(public_name: str, layer: type[Pooling]) -> _Function:
    def outputs(
        inputs: Any,
        pool_size: Any,
        strides: Any,
        padding: str = "valid",
        data_format: str = "channels_last",
        name: str | None = None,
    ) -> Any:
        return layer(pool_size, strides, padding, data_format, name)(inputs)

    return named(outputs, public_name, f"Returns the outputs of the layer ``{layer.__name__}``.")


max_pooling1d = _function_of("max_pooling1d", MaxPooling1D)
max_pooling2d = _function_of("max_pooling2d", MaxPooling2D)
average_pooling1d = _function_of("average_pooling1d", AveragePooling1D)
average_pooling2d = _function_of("average_pooling2d", AveragePooling2D)
