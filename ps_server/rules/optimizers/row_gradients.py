"""Gradients for some rows: which rows there are, and the sum of what each gets, in the order of occurrence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ps_protocol.operations import Array
from ps_server.rules.arithmetic import quiet
from ps_server.rules.optimizers import compiled_loops
from ps_server.rules.optimizers.blocks import spare_memory
from ps_server.rules.optimizers.compiled_loops import Loop, SumKey
from ps_server.rules.row_schedule import Rows, cheapest_rounds, sorted_with_positions


@dataclass(frozen=True, slots=True)
class RowGradients:
    """Gradients by row.

    Attributes:
        rows: Each once, in any order, ``[u]``.
        sums: What each gets, in the dtype of the computation, ``[u, width]``.
        memory: What ``sums`` lies in; to be given back to ``spare_memory``.
    """

    rows: Rows
    sums: Array
    memory: Array

    def ascending(self) -> RowGradients:
        """Returns the same with the rows in order, ``sums`` copied."""
        order = np.argsort(self.rows)
        return RowGradients(self.rows[order], self.sums[order], self.memory)


def row_gradients(rows: Rows, gradient: Array, num_rows: int) -> RowGradients:
    """Returns gradients by row; the same bits whether compiled or not.

    Args:
        rows: In ``[0, num_rows)``, ``[n]``.
        gradient: ``[n, width]``, aligned and in C order.
        num_rows: Rows of the variable.
    """
    memory = spare_memory.take(gradient.nbytes)
    room = memory[: gradient.nbytes].view(gradient.dtype).reshape(gradient.shape)
    loop = compiled_loops.find(SumKey(gradient.dtype))
    if loop is not None:
        return _compiled(loop, rows, gradient, room, memory)
    if not gradient.size:
        found = np.unique(rows)
        return RowGradients(found, room[: found.size], memory)
    found = quiet.run(_sum_by_row, rows, gradient, num_rows, room)
    return RowGradients(found, room[: found.size], memory)


def _compiled(loop: Loop, rows: Rows, gradient: Array, room: Array, memory: Array) -> RowGradients:
    numbers = np.full(1 << (rows.size + rows.size // 2).bit_length(), -1, np.int32)
    found = np.empty(rows.size, np.intp)
    count = loop(rows, gradient, numbers, found, room)
    return RowGradients(found[:count], room[:count], memory)


def _sum_by_row(rows: Rows, gradient: Array, num_rows: int, sums: Array) -> Rows:
    """Fills ``sums`` and returns their rows, the most frequent first.

    The k-th gradients of all rows that have so many are added at once. What is left of the hottest rows is added row by
    row, as in ``row_schedule``.
    """
    ordered, positions = sorted_with_positions(rows, num_rows)
    is_first = np.ones(rows.size, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    starts = np.flatnonzero(is_first)
    counts = np.diff(starts, append=rows.size)
    if starts.size < rows.size:
        by_count = np.argsort(-counts, kind="stable")
        starts, counts = starts[by_count], counts[by_count]
    np.take(gradient, positions[starts], axis=0, out=sums[: starts.size], mode="clip")
    num_repeated = int(np.searchsorted(-counts, -1, side="left"))
    if num_repeated:
        _add_further(gradient, positions, starts[:num_repeated], counts[:num_repeated], sums)
    return ordered[starts]


def _add_further(gradient: Array, positions: Rows, starts: Rows, counts: Rows, sums: Array) -> None:
    width = gradient.shape[1]
    # A reduction of several columns goes row by row; of one it would be pairwise.
    num_rounds = cheapest_rounds(counts) if width > 1 else int(counts[0])
    sizes = np.searchsorted(-counts, -np.arange(num_rounds), side="left").tolist()
    room = np.empty((sizes[1] if num_rounds > 1 else 0, width), gradient.dtype)
    for k in range(1, num_rounds):
        further = room[: sizes[k]]
        np.take(gradient, positions[starts[: sizes[k]] + k], axis=0, out=further, mode="clip")
        sums[: sizes[k]] += further
    hot = int(np.searchsorted(-counts, -num_rounds, side="left"))
    for number, (start, count) in enumerate(zip(starts[:hot].tolist(), counts[:hot].tolist(), strict=True)):
        own: Any = np.empty((1 + count - num_rounds, width), gradient.dtype)
        own[0] = sums[number]
        np.take(gradient, positions[start + num_rounds : start + count], axis=0, out=own[1:], mode="clip")
        np.add.reduce(own, axis=0, out=sums[number])
