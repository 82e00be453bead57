"""Cuts tensor buffers into the data frames of a stream, and puts them together again.

Both ends of ``ExchangeStream`` use it. Data frames hold the buffers of a message end to end, cut anywhere; what
they add up to is known from the message's header before the first one arrives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from ps_protocol.tensor_codec import TensorLayout, allocate


def cut(buffers: Iterable[memoryview], chunk_size_bytes: int) -> Iterator[bytes]:
    """Yields the buffers as chunks of at most ``chunk_size_bytes``; small neighbours share a chunk."""
    parts: list[memoryview] = []
    room = chunk_size_bytes
    for buffer in buffers:
        start = 0
        while start < len(buffer):
            part = buffer[start : start + room]
            parts.append(part)
            start += len(part)
            room -= len(part)
            if not room:
                yield b"".join(parts)
                parts, room = [], chunk_size_bytes
    if parts:
        yield b"".join(parts)


class Assembler:
    """Fills newly allocated tensors from data frames in the order of their arrival.

    Args:
        layouts: The tensors that the header announces, already checked; they are allocated here.
    """

    def __init__(self, layouts: Sequence[TensorLayout]):
        self.arrays: list[Array] = []
        self.buffers: list[memoryview] = []
        for layout in layouts:
            array, buffer = allocate(layout)
            self.arrays.append(array)
            self.buffers.append(buffer)
        self.missing_bytes = sum(layout.size_bytes for layout in layouts)
        self._current = 0
        self._position = 0

    def feed(self, data: bytes) -> None:
        """Takes one data frame.

        Raises:
            InvalidArgumentError: It is empty, or holds more than the header announced.
        """
        if not data:
            raise InvalidArgumentError("the stream holds an empty data frame; leave it out")
        if len(data) > self.missing_bytes:
            raise InvalidArgumentError(
                f"the stream holds {len(data) - self.missing_bytes} bytes more than the tensor headers announce"
            )
        self.missing_bytes -= len(data)
        view = memoryview(data)
        while view:
            target = self.buffers[self._current]
            taken = min(len(view), len(target) - self._position)
            target[self._position : self._position + taken] = view[:taken]
            self._position += taken
            view = view[taken:]
            if self._position == len(target):
                self._current += 1
                self._position = 0
