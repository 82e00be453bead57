"""In which order updates of repeated rows are applied many at a time, with the result of one after the other.

Where few rows repeat, all first updates are applied at once in the order given, and the further ones are corrections,
for small batches one by one.

Where many repeat, the k-th updates of all rows make up round k. Within a round no row repeats, so a round is one call
of a ufunc on whole arrays. Rows are sorted by how often they occur, so the rows of a round are always the first few.
The few hottest rows of a skewed distribution would need many rounds that are nearly empty: what is left of those rows
is applied row by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]

_HOT_ROW_COST: Final = 2
"""Cost of a hot row in rounds; both are a few NumPy calls on little data."""
_SMALL_BATCH: Final = 128
"""Up to here Python handles a batch faster than NumPy would sort it."""
_MAX_CORRECTIONS: Final = 4
_LEAST_ROWS_PER_REPEAT: Final = 8


@dataclass(frozen=True, slots=True)
class OrderGiven:
    """All updates at once as they come, and then corrections for rows that repeat.

    Attributes:
        rows: The rows as given, ``[n]``.
        corrections: Pairs of positions, ``[m]`` each: the update at the second is applied to the result at the first,
            and stored at the second. After all of them the last position of a row has its result.
        single_corrections: The same, one pair of positions each.
    """

    rows: Rows
    corrections: tuple[tuple[Rows, Rows], ...] = ()
    single_corrections: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rounds of updates, and then hot rows.

    Attributes:
        rows: The rows that occur, each once, the most frequent first, ``[u]``.
        sizes: How many rows each round has: the first so many of ``rows``.
        positions: Which update each row of each round gets, ``[sum(sizes)]``, round after round.
        hot_lengths: How many updates are left after the rounds for each of the first rows.
        hot_positions: The positions of those updates, ``[sum(hot_lengths)]``, row after row.
    """

    rows: Rows
    sizes: tuple[int, ...]
    positions: Rows
    hot_lengths: tuple[int, ...]
    hot_positions: Rows


def order_of_updates(rows: Rows, num_rows: int, *, allow_hot_rows: bool = True) -> OrderGiven | Rounds:
    """Returns how to apply one update to each of ``rows``.

    Args:
        rows: In ``[0, num_rows)``, at least one.
        num_rows: Rows of the variable.
        allow_hot_rows: Whether hot rows may be applied row by row; otherwise all updates are in rounds.
    """
    if rows.size <= _SMALL_BATCH:
        return OrderGiven(rows, single_corrections=_single_corrections(rows.tolist()))
    ordered, positions = sorted_with_positions(rows, num_rows)
    is_first = np.ones(rows.size + 1, np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:-1])
    repeats = np.flatnonzero(~is_first)
    if _LEAST_ROWS_PER_REPEAT * repeats.size <= rows.size:
        corrections = _corrections(repeats, is_first, positions)
        if corrections is not None:
            return OrderGiven(rows, corrections)
    return _rounds(ordered, positions, np.flatnonzero(is_first[:-1]), allow_hot_rows=allow_hot_rows)


def _single_corrections(rows: list[int]) -> tuple[tuple[int, int], ...]:
    latest: dict[int, int] = {}
    corrections = []
    for position, row in enumerate(rows):
        if row in latest:
            corrections.append((latest[row], position))
        latest[row] = position
    return tuple(corrections)


def _corrections(
    repeats: Rows, is_first: npt.NDArray[np.bool_], positions: Rows
) -> tuple[tuple[Rows, Rows], ...] | None:
    """Corrections for the second, the third ... occurrences of all rows; None if that would be too many."""
    corrections: list[tuple[Rows, Rows]] = []
    occurrences = repeats[is_first[repeats - 1]]
    while occurrences.size:
        if len(corrections) == _MAX_CORRECTIONS:
            return None
        corrections.append((positions[occurrences - 1], positions[occurrences]))
        occurrences = occurrences[~is_first[occurrences + 1]] + 1
    return tuple(corrections)


def _rounds(ordered: Rows, positions: Rows, starts: Rows, *, allow_hot_rows: bool) -> Rounds:
    counts = np.diff(starts, append=ordered.size)
    repeated = np.flatnonzero(counts > 1)
    repeated = repeated[np.argsort(-counts[repeated], kind="stable")]
    starts, repeat_counts = starts[np.concatenate((repeated, np.flatnonzero(counts == 1)))], counts[repeated]
    num_rounds = cheapest_rounds(repeat_counts) if allow_hot_rows else int(repeat_counts[0])
    # Counts descend: so many of them are greater than k.
    sizes = np.searchsorted(-repeat_counts, -np.arange(num_rounds), side="left")
    sizes[0] = starts.size
    num_hot = int(np.searchsorted(-repeat_counts, -num_rounds, side="left"))
    hot_begins, hot_lengths = starts[:num_hot] + num_rounds, repeat_counts[:num_hot] - num_rounds
    in_rounds = [starts[:size] + k for k, size in enumerate(sizes.tolist())]
    in_hot_rows = [np.arange(begin, begin + length) for begin, length in zip(hot_begins, hot_lengths, strict=True)]
    return Rounds(
        rows=ordered[starts],
        sizes=tuple(sizes.tolist()),
        positions=positions[np.concatenate(in_rounds)],
        hot_lengths=tuple(hot_lengths.tolist()),
        hot_positions=positions[np.concatenate(in_hot_rows)] if in_hot_rows else positions[:0],
    )


def sorted_with_positions(rows: Rows, num_rows: int) -> tuple[Rows, Rows]:
    """The rows in order, and where each came from; equal rows stay in the order they had."""
    position_bits = (rows.size - 1).bit_length()
    if position_bits + num_rows.bit_length() > 62:
        positions = np.argsort(rows, kind="stable")
        return rows[positions], positions
    # NumPy sorts integers several times as fast as it finds the order of a stable sort.
    keys = (rows.astype(np.int64) << position_bits) | np.arange(rows.size)
    keys.sort()
    return (keys >> position_bits).astype(np.intp, copy=False), (keys & ((1 << position_bits) - 1)).astype(
        np.intp, copy=False
    )


def cheapest_rounds(counts: Rows) -> int:
    """How many rounds to do before going on row by row, for rows that occur so often (at least twice, descending)."""
    # The i-th entry: as many rounds as the i-th row needs, with the i rows before it treated as hot.
    rounds = np.append(counts, 1)
    return int(rounds[np.argmin(rounds + _HOT_ROW_COST * np.arange(rounds.size))])
