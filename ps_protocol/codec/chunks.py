"""Cuts tensor buffers into the chunks of a stream, and puts them together again.

Both ends of ``ExchangeStream`` use it. Data frames hold the buffers of a message end to end, cut anywhere. The
message's header comes before them and says how many bytes they have together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ps_protocol.errors import InvalidArgumentError


def pieces(buffers: Iterable[memoryview], chunk_size_bytes: int) -> Iterator[list[memoryview]]:
    """Yields chunks of at most ``chunk_size_bytes`` as views of the buffers; small neighbours share a chunk."""
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
                yield parts
                parts, room = [], chunk_size_bytes
    if parts:
        yield parts


class Assembler:
    """Fills memory with the content of data frames, in the order of their arrival.

    Args:
        targets: Memory for the tensors that the header announces, in their order and of their sizes.
    """

    def __init__(self, targets: Sequence[memoryview]):
        self.missing_bytes = sum(map(len, targets))
        self._targets = targets
        self._current = 0
        self._position = 0

    def feed(self, data: memoryview) -> None:
        """Takes the content of one data frame.

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
        while data:
            target = self._targets[self._current]
            taken = min(len(data), len(target) - self._position)
            target[self._position : self._position + taken] = data[:taken]
            self._position += taken
            data = data[taken:]
            if self._position == len(target):
                self._current += 1
                self._position = 0
