"""The average of the gradients of a round: the same bits whoever computes it, since the order is that of the seats.

It is the gradient that one worker with all the batches would have: rows that some workers do not have count as zero
there. If asked for, each row is divided by the number of those that have it instead, as TensorFlow 1 does it. The
average of finite gradients is finite, however large they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import ml_dtypes
import numpy as np

from ps_protocol.operations import Array

Gradient: TypeAlias = "tuple[Array, ...]"
"""A dense one, or rows and the gradient of those."""

_BLOCK: Final = 16 * 1024
_FLOAT32: Final = np.dtype(np.float32)


def mean(
    gradients: Sequence[Gradient],
    count: int,
    *,
    of_present: bool = False,
    room: Callable[[Array], Array] = np.empty_like,
) -> Gradient:
    """Returns the average of gradients of one variable, which are not changed.

    Args:
        gradients: At least one, of the same rows' shape and dtype; in their order.
        count: How many there are in the round; those that are not given are zero.
        of_present: Whether a row of a table is divided by the number of gradients that have it, if all are of rows.
        room: Returns memory for the average of dense gradients like this one.

    Raises:
        MemoryError: There is not enough.
    """
    if count == 1:
        return gradients[0]
    dense = [each[0] for each in gradients if len(each) == 1]
    rows = [each for each in gradients if len(each) == 2]
    if not dense:
        indices = np.concatenate([each[0].astype(np.int64, copy=False) for each in rows])
        values = np.concatenate([each[1] for each in rows])
        return indices, _divided_rows(values, indices, rows) if of_present else _divided(values, count)
    total = room(dense[0])
    with np.errstate(over="ignore", invalid="ignore"):
        if not rows:
            _add(total, dense, count)
            return (total,)
        for divisor in (1, count):
            _add(total, dense, divisor)
            for indices, values in rows:
                _add_rows(total, indices, values if divisor == 1 else (values / divisor).astype(values.dtype))
            if divisor == 1 and np.isfinite(total.sum(dtype=_sum_dtype(total.dtype))):
                return (_divided(total, count),)
    return (total,)  # from what each adds, since the sum may be too large


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """That in which numbers are added up: those of 16 bits would lose half of theirs."""
    return _FLOAT32 if dtype.itemsize < _FLOAT32.itemsize else dtype


def _add(total: Array, arrays: Sequence[Array], count: int) -> None:
    """Adds arrays up and divides by ``count``, block by block: each is read once."""
    flat, (first, *rest) = total.reshape(-1), [each.reshape(-1) for each in arrays]
    scratch = np.empty(min(_BLOCK, flat.size), _sum_dtype(total.dtype))
    for begin in range(0, flat.size, _BLOCK):
        part = flat[begin : begin + _BLOCK]
        block = scratch[: part.size]
        block[...] = first[begin : begin + _BLOCK]
        for each in rest:
            block += each[begin : begin + _BLOCK].astype(block.dtype, copy=False)
        if count > 1:
            block /= count
        part[...] = block
        if count > 1 and not np.isfinite(block.sum()):
            _bound(part, [each[begin : begin + _BLOCK] for each in (first, *rest)], count)


def _bound(part: Array, gradients: Sequence[Array], count: int) -> None:
    """Computes the averages of finite numbers whose sum is not finite from what each adds to them."""
    shares, is_finite = np.zeros(part.size, _sum_dtype(part.dtype)), np.ones(part.size, np.bool_)
    for each in gradients:
        shares += each.astype(shares.dtype, copy=False) / count
        is_finite &= np.isfinite(each)
    largest = float(ml_dtypes.finfo(part.dtype).max)
    np.copyto(part, np.clip(shares, -largest, largest).astype(part.dtype), where=is_finite & ~np.isfinite(part))


def _add_rows(total: Array, indices: Array, values: Array) -> None:
    places, of_each = np.unique(indices, return_inverse=True)
    sums = total[places].astype(_sum_dtype(total.dtype))
    np.add.at(sums, of_each.reshape(-1), values.astype(sums.dtype, copy=False))
    total[places] = sums.astype(total.dtype, copy=False)


def _divided(array: Array, count: int) -> Array:
    """Divides in place."""
    _add(array, [array], count)
    return array


def _divided_rows(values: Array, indices: Array, gradients: Sequence[Gradient]) -> Array:
    """Divides rows, in place, by the number of gradients that have them; one that has a row twice counts once."""
    places, of_each = np.unique(indices, return_inverse=True)
    of_each, begin = of_each.reshape(-1), 0
    counts = np.zeros(places.size, np.int64)
    for own, _ in gradients:
        has = np.zeros(places.size, np.bool_)
        has[of_each[begin : begin + own.size]] = True
        counts += has
        begin += own.size
    divisors = counts[of_each].reshape(-1, *[1] * (values.ndim - 1))
    values[...] = (values.astype(_sum_dtype(values.dtype), copy=False) / divisors).astype(values.dtype, copy=False)
    return values
