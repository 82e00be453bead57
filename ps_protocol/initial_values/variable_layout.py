"""Where the elements of a part lie in the whole variable, so that the part can be made without the whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import VariableSpec

_MAX_SIZE = 2**63 - 1


def full_name(spec: VariableSpec) -> str:
    """Returns the name of the whole that a variable is, or is a part of."""
    return spec.slice.full_name if spec.slice else spec.name


def full_shape(spec: VariableSpec) -> tuple[int, ...]:
    """Returns the shape of the whole that a variable is, or is a part of."""
    return spec.slice.full_shape if spec.slice else spec.shape


def subject(spec: VariableSpec) -> str:
    """Returns how an error message calls a variable, which may have no name."""
    return f"variable {spec}" if spec.name else f"a value of {spec.dtype.name}{list(spec.shape)}"


def invalid(spec: VariableSpec, reason: str) -> InvalidArgumentError:
    """Returns the error that says what is wrong with a variable."""
    return InvalidArgumentError(f"{subject(spec)}: {reason}", variable=spec.name)


class Cut(NamedTuple):
    """One dimension of a part.

    Attributes:
        full: Size of the whole.
        size: Size of the part.
        start: Where the part begins.
    """

    full: int
    size: int
    start: int


def cuts(spec: VariableSpec) -> list[Cut]:
    """Returns how each dimension of the whole is cut; the spec must have passed ``check_layout``."""
    return [Cut(*sizes) for sizes in zip(full_shape(spec), spec.shape, _offset(spec), strict=True)]


def check_layout(spec: VariableSpec) -> None:
    """Checks that a variable can exist.

    Raises:
        InvalidArgumentError: Its dtype cannot be held, it does not lie in its whole, or it is larger than any memory.
    """
    if dtype_category(spec.dtype) is DTypeCategory.BYTES and not spec.dtype.itemsize:
        raise invalid(spec, "bytes need a length; give the dtype as 'S16' or the like")
    whole, offset = full_shape(spec), _offset(spec)
    if not len(whole) == len(offset) == len(spec.shape):
        raise invalid(spec, f"its whole {list(whole)} or its offset {list(offset)} has another number of dimensions")
    if any(cut.start < 0 or cut.size < 0 or cut.start + cut.size > cut.full for cut in cuts(spec)):
        raise invalid(spec, f"at offset {list(offset)} it does not lie in its whole {list(whole)}")
    if spec.size_bytes > _MAX_SIZE or math.prod(whole) > _MAX_SIZE:
        raise invalid(spec, f"it or its whole {list(whole)} is larger than any memory")


def _offset(spec: VariableSpec) -> tuple[int, ...]:
    return spec.slice.offset if spec.slice else (0,) * len(spec.shape)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows of equal length that lie at equal distances in the whole, its elements counted in C order.

    Attributes:
        start: Index of the first element.
        rows: Number of rows.
        period: Distance from one row to the next, at least ``length``.
        length: Elements in a row.
    """

    start: int
    rows: int
    period: int
    length: int


def stretches(part: Sequence[Cut], limit: int) -> Iterator[Stretch]:
    """Yields the elements of a part, in its C order.

    Parts that are cut along one dimension come as few and large stretches, whichever dimension it is.

    Args:
        part: How each dimension is cut.
        limit: The most elements of the whole that a stretch may span; several rows count with their whole periods.
    """
    if any(cut.size == 0 for cut in part):
        return
    *outer, rows, columns = [Cut(1, 1, 0)] * 2 + _joined(part)
    period = columns.full
    for index in product(*(range(cut.start, cut.start + cut.size) for cut in outer)):
        above = 0
        for cut, position in zip(outer, index, strict=True):
            above = above * cut.full + position
        start = (above * rows.full + rows.start) * period + columns.start
        if period <= limit:
            group = limit // period
            for row in range(0, rows.size, group):
                yield Stretch(start + row * period, min(group, rows.size - row), period, columns.size)
            continue
        for row in range(rows.size):
            for column in range(0, columns.size, limit):
                yield Stretch(start + row * period + column, 1, period, min(limit, columns.size - column))


def _joined(part: Sequence[Cut]) -> list[Cut]:
    """Returns fewer dimensions that hold the same elements: one that is not cut is joined with the one before."""
    joined: list[Cut] = []
    for cut in part:
        if joined and cut.size == cut.full:
            joined[-1] = Cut(*(length * cut.full for length in joined[-1]))
        else:
            joined.append(cut)
    return joined
