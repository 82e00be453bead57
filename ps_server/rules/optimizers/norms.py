"""Sums of squares in an order that is fixed, whatever the machine: in float64, halves added to halves."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from ps_protocol.operations import Array

Doubles = npt.NDArray[np.float64]


def row_sums_of_squares(matrix: Array, room: Doubles) -> Doubles:
    """Returns the sum of the squares of each row of ``matrix``, ``[rows, width]``, as ``[rows]``.

    Args:
        matrix: Of any floats.
        room: As many elements, overwritten; the result lies in it.
    """
    squares = room.reshape(matrix.shape)
    np.copyto(squares, matrix)
    np.multiply(squares, squares, out=squares)
    return folded(squares)


def folded(squares: Doubles) -> Doubles:
    """Returns the sums over the last dimension of ``squares``, ``[..., width]``, in its first elements: overwritten."""
    width = squares.shape[-1]
    while width > 1:
        half = width // 2
        squares[..., :half] += squares[..., width - half : width]
        width -= half
    sums: Doubles = squares[..., 0]
    return sums


def sum_of_squares(block: Array, room: Doubles) -> float:
    """Returns the sum of the squares of ``block``, ``[n]``; ``room`` is as large."""
    return float(row_sums_of_squares(block.reshape(1, -1), room)[0]) if block.size else 0.0


def norm(sums: Iterable[float]) -> float:
    """Returns the root of sums of squares, added up in their order."""
    total = 0.0
    for each in sums:
        total += each
    return float(np.sqrt(total))
