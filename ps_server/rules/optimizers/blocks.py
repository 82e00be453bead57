"""Arrays by blocks that stay in the cache, in the dtype of the computation, in memory that each thread keeps.

What is stored in that dtype and lies together is changed where it is. Everything else is copied into a block first and
stored afterwards: rows of a table, and elements of a narrower type, which are rounded to nearest then, or at random
(``stochastic_rounding``).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array
from ps_server.memory.spare_arrays import prepared_array
from ps_server.rules.computed_rows import put_rows
from ps_server.rules.optimizers.stochastic_rounding import Rounding, RoundingRoom
from ps_server.rules.row_schedule import Rows

BLOCK: Final = 64 * 1024
"""Elements of a block: so many that calls of NumPy cost little, so few that half a dozen arrays fit a cache.

Norms are added up block by block: another number changes their last bits.
"""

NUM_TARGETS: Final = 4
"""The value, and at most three slots beside it."""
_MOST_SPARE_BYTES: Final = 32 * 2**20
_MOST_SPARE_PIECES: Final = 4
_NUM_REGISTERS: Final = 4  # the most that a body needs; a test knows
_NUM_SPARE: Final = 2
_MOST_SHAPES: Final = 64  # of which views are kept


class Part(NamedTuple):
    """A part of a variable that is computed at once.

    Attributes:
        begin: The first element, counted in C order; for given rows the number of the first of them.
        end: The one after the last.
        rows: Those rows, if they are given.
    """

    begin: int
    end: int
    rows: Rows | None = None


def stretches(size: int, length: int = BLOCK) -> Iterator[Part]:
    """Yields all elements."""
    for begin in range(0, size, length):
        yield Part(begin, min(begin + length, size))


def groups(rows: Rows, length: int) -> Iterator[Part]:
    """Yields given rows, ``length`` at a time."""
    for begin in range(0, rows.size, length):
        end = min(begin + length, rows.size)
        yield Part(begin, end, rows[begin:end])


class Workspace:
    """Blocks of one dtype. Belongs to one thread.

    Args:
        dtype: Of the computation.
        length: Elements of a block.
    """

    def __init__(self, dtype: np.dtype[Any], length: int):
        self.dtype, self.length = dtype, length
        self._targets = [prepared_array((length,), dtype) for _ in range(NUM_TARGETS)]
        self._registers = [prepared_array((length,), dtype) for _ in range(_NUM_REGISTERS)]
        self._shaped: dict[tuple[int, ...], list[Array]] = {}  # views of the registers
        self._spare = [prepared_array((length,), dtype) for _ in range(_NUM_SPARE)]
        self._gradient = prepared_array((length,), dtype)
        self._raw = prepared_array((length * dtype.itemsize,), np.dtype(np.uint8))
        self._doubles: npt.NDArray[np.float64] | None = None
        self._rounding: RoundingRoom | None = None

    def registers(self, number: int, shape: tuple[int, ...], size: int) -> list[Array]:
        """Returns room for results on the way."""
        shaped = self._shaped.get(shape)
        if shaped is None:
            if len(self._shaped) == _MOST_SHAPES:
                self._shaped.clear()
            shaped = self._shaped[shape] = [each[:size].reshape(shape) for each in self._registers]
        return shaped[:number]

    def spare(self, number: int, size: int) -> Array:
        """Returns room for one more array."""
        return self._spare[number][:size]

    def doubles(self, size: int = 0) -> npt.NDArray[np.float64]:
        """Returns room for numbers of 64 bits. The first call takes memory."""
        if self._doubles is None:
            self._doubles = prepared_array((self.length,), np.dtype(np.float64))
        return self._doubles[:size]

    def rounding(self) -> RoundingRoom:
        """Returns room to round at random. The first call takes memory."""
        if self._rounding is None:
            self._rounding = RoundingRoom(self.length)
        return self._rounding

    def gradient(self, size: int) -> Array:
        """Returns room for a gradient."""
        return self._gradient[:size]

    def load(self, number: int, array: Array, part: Part, width: int) -> Array:
        """Returns a part of an array, ``[n]``: itself if it can be changed in place, otherwise a copy.

        Args:
            number: Which target it is, so that each has its own memory.
            array: C-contiguous.
            part: Which part.
            width: Elements of a row.
        """
        if part.rows is None:
            own = array.reshape(-1)[part.begin : part.end]
            return own if own.dtype == self.dtype else self.converted(own, self._targets[number][: own.size])
        block = self._targets[number][: part.rows.size * width]
        matrix = array.reshape(-1, width)
        if array.dtype == self.dtype:
            np.take(matrix, part.rows, axis=0, out=block.reshape(-1, width), mode="clip")
            return block
        raw = self._raw_block(array.dtype, block.size)
        np.take(matrix, part.rows, axis=0, out=raw.reshape(-1, width), mode="clip")
        return self.converted(raw, block)

    def store(self, array: Array, part: Part, width: int, block: Array, rounding: Rounding | None) -> None:
        """Stores what ``load`` has returned and what was changed since."""
        if part.rows is None:
            own = array.reshape(-1)[part.begin : part.end]
            if own.dtype != self.dtype:
                self._round_into(own, block, rounding, part, width)
            return
        matrix = array.reshape(-1, width)
        if array.dtype == self.dtype:
            put_rows(matrix, part.rows, block.reshape(-1, width))
            return
        raw = self._raw_block(array.dtype, block.size)
        self._round_into(raw, block, rounding, part, width)
        put_rows(matrix, part.rows, raw.reshape(-1, width))

    def converted(self, elements: Array, block: Array) -> Array:
        """Returns a block filled with elements of another dtype."""
        np.copyto(block, elements, casting="unsafe")
        return block

    def _round_into(self, own: Array, block: Array, rounding: Rounding | None, part: Part, width: int) -> None:
        if rounding is None:
            np.copyto(own, block, casting="unsafe")
            return
        room = self.rounding()
        if part.rows is None:
            room.number(part.begin, part.end)
        else:
            room.number_rows(part.rows, width)
        rounding.round_into(own, block, room)

    def _raw_block(self, dtype: np.dtype[Any], size: int) -> Array:
        if dtype.itemsize > self.dtype.itemsize:
            raise TypeError(f"{dtype.name} is wider than {self.dtype.name}")
        return self._raw[: size * dtype.itemsize].view(dtype)


class _Workspaces(threading.local):
    """The workspaces of a thread."""

    def __init__(self) -> None:
        self._kept: dict[np.dtype[Any], Workspace] = {}

    def get(self, dtype: np.dtype[Any], length: int) -> Workspace:
        """Returns a workspace whose blocks have at least so many elements."""
        kept = self._kept.get(dtype)
        if kept is None or kept.length < length:
            kept = self._kept[dtype] = Workspace(dtype, max(length, BLOCK))
        return kept


workspaces = _Workspaces()


class _SpareMemory(threading.local):
    """Memory that a thread has used and uses again: fresh memory costs more than filling it."""

    def __init__(self) -> None:
        self._kept: list[Array] = []

    def take(self, num_bytes: int) -> Array:
        """Returns at least so many bytes, aligned, for the caller to fill; its own until it gives them back."""
        for number, each in enumerate(self._kept):
            if num_bytes <= each.size:
                return self._kept.pop(number)
        return prepared_array((num_bytes,), np.dtype(np.uint8))

    def give(self, memory: Array) -> None:
        """Keeps memory for the next ones; the largest pieces, and not too much."""
        if memory.size > _MOST_SPARE_BYTES:
            return
        self._kept.append(memory)
        self._kept.sort(key=lambda each: each.size)
        while len(self._kept) > _MOST_SPARE_PIECES or sum(each.size for each in self._kept) > _MOST_SPARE_BYTES:
            self._kept.pop(0)


spare_memory = _SpareMemory()


def lie_direct(arrays: Sequence[Array], dtype: np.dtype[Any]) -> bool:
    """Whether arrays that are changed can be so where they are: by compiled loops, or as one block."""
    for each in arrays:  # noqa: SIM110 - a generator would take longer than the arrays
        if each.dtype != dtype or not each.flags.carray:
            return False
    return True
