"""New values of rows: computed beside the variable's value, then stored by one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Array
from ps_server.memory.spare_arrays import prepared_array
from ps_server.rules.arithmetic import quiet
from ps_server.rules.row_schedule import OrderGiven, Rounds, Rows

Compute = Callable[..., Any]
"""``compute(rows, updates, out=rows)``: a ufunc, or a function that is called like one."""

_MAX_VOID_BYTES: Final = 2**31 - 1
_HOT_CHUNK_BYTES: Final = 256 * 1024
"""Memory for the copies of a scalar that are applied to a hot row at once."""


class _ComputedRows:
    """What both ways of computing share: their memory, and the order take, compute, put."""

    __slots__ = ("_result", "_rows")

    def __init__(self, rows: Rows, result: Array):
        self._rows, self._result = rows, result

    def apply(self, value: Array) -> None:
        """Changes the rows of ``value``."""
        matrix = value.reshape(-1, self._result.shape[1])
        np.take(matrix, self._rows, axis=0, out=self._result, mode="clip")
        quiet.run(self._compute_result)
        put_rows(matrix, self._rows, self._result)

    def _compute_result(self) -> None:
        raise NotImplementedError


class RowsAsGiven(_ComputedRows):
    """Rows of which none or few repeat.

    Args:
        compute: What to do.
        order: The order of the updates.
        updates: ``[n, width]`` or 0-d. Kept until the plan has been applied.
        width: Elements of a row.
    """

    __slots__ = ("_compute", "_corrected", "_corrections", "_single_corrections", "_updates")

    def __init__(self, compute: Compute, order: OrderGiven, updates: Array, width: int):
        corrected = max((each.size for _, each in order.corrections), default=0)
        result, self._corrected = _room((order.rows.size, corrected), width, updates.dtype)
        super().__init__(order.rows, result)
        self._compute, self._updates = compute, updates
        self._corrections = [
            (before, after, updates[after] if updates.ndim else updates) for before, after in order.corrections
        ]
        self._single_corrections = order.single_corrections

    def _compute_result(self) -> None:
        self._compute(self._result, self._updates, out=self._result)
        for before, after, updates in self._corrections:
            rows = self._corrected[: before.size]
            np.take(self._result, before, axis=0, out=rows, mode="clip")
            self._compute(rows, updates, out=rows)
            put_rows(self._result, after, rows)
        for one, next_one in self._single_corrections:
            update = self._updates[next_one] if self._updates.ndim else self._updates
            self._compute(self._result[one], update, out=self._result[next_one])


class RowsInRounds(_ComputedRows):
    """Rows of which many repeat.

    Args:
        compute: What to do; a ufunc if there are hot rows.
        rounds: The order of the updates.
        updates: ``[n, width]`` or 0-d; copied.
        width: Elements of a row.
    """

    __slots__ = ("_compute", "_hot_updates", "_rounds", "_updates")

    def __init__(self, compute: Compute, rounds: Rounds, updates: Array, width: int):
        num_hot = len(rounds.hot_lengths)
        if updates.ndim:
            # Of each hot row one row of room, and then its updates.
            lengths = (rounds.rows.size, rounds.positions.size, num_hot + rounds.hot_positions.size)
        else:
            # The same for all: used as often as needed.
            chunk = max(1, _HOT_CHUNK_BYTES // (width * updates.itemsize))
            lengths = (rounds.rows.size, 0, 1 + min(chunk, max(rounds.hot_lengths)) if num_hot else 0)
        result, self._updates, self._hot_updates = _room(lengths, width, updates.dtype)
        super().__init__(rounds.rows, result)
        self._compute, self._rounds = compute, rounds
        if updates.ndim:
            np.take(updates, rounds.positions, axis=0, out=self._updates, mode="clip")
            self._take_hot_updates(updates)
        else:
            self._updates = updates
            self._hot_updates[...] = updates

    def _take_hot_updates(self, updates: Array) -> None:
        begin = taken = 0
        for length in self._rounds.hot_lengths:
            positions = self._rounds.hot_positions[taken : taken + length]
            np.take(updates, positions, axis=0, out=self._hot_updates[begin + 1 : begin + 1 + length], mode="clip")
            begin, taken = begin + 1 + length, taken + length

    def _compute_result(self) -> None:
        compute, updates, begin = self._compute, self._updates, 0
        for size in self._rounds.sizes:
            rows = self._result[:size]
            compute(rows, updates[begin : begin + size] if updates.ndim else updates, out=rows)
            begin += size
        if self._rounds.hot_lengths:
            self._compute_hot_rows()

    def _compute_hot_rows(self) -> None:
        begin = 0
        for row, length in zip(self._result, self._rounds.hot_lengths, strict=False):
            if self._updates.ndim:
                _apply_one_by_one(self._compute, row, self._hot_updates[begin : begin + 1 + length])
                begin += 1 + length
                continue
            chunk = len(self._hot_updates) - 1
            for done in range(0, length, chunk):
                _apply_one_by_one(self._compute, row, self._hot_updates[: 1 + min(chunk, length - done)])


def _apply_one_by_one(ufunc: Any, row: Array, updates: Array) -> None:
    """Applies ``updates[1:]`` to ``row``, one after the other; ``updates[0]`` is room.

    A reduction over the first axis of several columns goes row by row: NumPy sums pairwise only along the contiguous
    axis. So there must be at least two columns.
    """
    updates[0] = row
    ufunc.reduce(updates, axis=0, dtype=row.dtype, out=row)


def put_rows(matrix: Array, rows: Rows, new: Array) -> None:
    """Stores ``new``, ``[n, width]`` or 0-d, as rows of ``matrix``, one after the other."""
    row_bytes = matrix.shape[1] * matrix.itemsize
    if row_bytes > _MAX_VOID_BYTES:
        matrix[rows] = new
        return
    # One opaque element a row: NumPy then copies whole rows, two to three times as fast as by advanced indexing.
    row_type = np.dtype((np.void, row_bytes))
    if not new.ndim:
        new = np.full((1, matrix.shape[1]), new)
    packed = np.ascontiguousarray(new).view(row_type).reshape(-1)
    np.put(matrix.view(row_type).reshape(-1), rows, packed, mode="clip")


def _room(lengths: tuple[int, ...], width: int, dtype: np.dtype[Any]) -> list[Array]:
    """Returns arrays ``[length, width]`` whose pages are there before the variable is locked."""
    return [prepared_array((length, width), dtype) for length in lengths]
