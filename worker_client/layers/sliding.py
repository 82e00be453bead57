"""What layers have in common whose windows slide over lines and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from worker_client.layers.base import Layer, one_of_words, pair


class SlidingLayer(Layer):
    """A layer of lines ``[batch, width, channels]`` or images ``[batch, height, width, channels]``.

    Attributes:
        strides: Steps from place to place, one for each inner dimension.
        padding: "valid" or "same".
        data_format: "channels_last", or "channels_first" if the channels are second.
    """

    _inner: ClassVar[int]

    def _slide(self, strides: Any, padding: Any, data_format: Any) -> None:
        self.strides = self._sizes(strides, "strides")
        self.padding = one_of_words(padding, ["valid", "same"], f"layer {self.name}: padding")
        self.data_format = self.format_of(data_format)

    def _sizes(self, value: Any, what: str) -> tuple[int, ...]:
        """Returns an argument that has a number for each inner dimension, or one for all."""
        return pair(value, f"layer {self.name}: {what}", self._inner)

    @property
    def _is_second(self) -> bool:
        """Whether the channels are second."""
        return self.data_format == "channels_first"

    def _of_all_dimensions(self, inner: Sequence[int]) -> list[int]:
        """Returns what is given for the inner dimensions for all, 1 for the others."""
        return [1, 1, *inner] if self._is_second else [1, *inner, 1]
