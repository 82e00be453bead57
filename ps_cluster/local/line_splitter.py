"""Cuts what a process prints into lines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_LINE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class OutputLine:
    """A line of output.

    Attributes:
        text: Without its end.
        transient: Whether it ended in a carriage return, as the states of a progress bar do: what follows
            is meant to be written over it.
    """

    text: str
    transient: bool = False


class LineSplitter:
    """Takes bytes as they come and gives lines; a line above ``MAX_LINE_BYTES`` is cut. Not thread-safe."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> Iterator[OutputLine]:
        """Yields the lines that ``data`` completes; empty transient ones are left out."""
        self._pending += data
        start = 0
        while (end := self._find_end(start)) >= 0:
            is_newline = self._pending[end] == ord("\n")
            line = self._pending[start:end]
            if not is_newline and self._pending[end + 1] == ord("\n"):
                is_newline, end = True, end + 1
            start = end + 1
            if line or is_newline:
                yield OutputLine(_decode(line), transient=not is_newline)
        del self._pending[:start]
        while len(self._pending) > MAX_LINE_BYTES:
            yield OutputLine(_decode(self._pending[:MAX_LINE_BYTES]))
            del self._pending[:MAX_LINE_BYTES]

    def flush(self) -> Iterator[OutputLine]:
        """Yields what is left when the output has ended in the middle of a line."""
        if rest := self._pending.rstrip(b"\r"):
            yield OutputLine(_decode(rest))
        self._pending.clear()

    def _find_end(self, start: int) -> int:
        r"""Index of the first "\n" or "\r" from ``start``, or -1; a "\r" at the very end may be half a "\r\n"."""
        newline = self._pending.find(b"\n", start)
        carriage_return = self._pending.find(b"\r", start, newline if newline >= 0 else len(self._pending) - 1)
        return carriage_return if carriage_return >= 0 else newline


def _decode(line: bytearray) -> str:
    return line.decode("utf-8", errors="replace")
