"""Small things that are computed from a whole value. Pure functions over NumPy arrays.

Sums are accumulated in float64 (complex128 for complex numbers, 64-bit integers for integers). Of a partitioned
variable each part gives its own, and the client puts them together: so these are what can be put together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

import numpy as np

from ps_protocol.dtype_traits import NUMBERS, DTypeCategory, dtype_category
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operation_kinds import MAX_REDUCED_BYTES
from ps_protocol.operations import Array, VariableSpec
from ps_server.rules.arithmetic import quiet
from ps_server.rules.operand_checks import ORDERED, refuse_operand

Reduction: TypeAlias = Callable[[VariableSpec, Array, Sequence[Array], Sequence[float]], Array]
"""Computes a small array from a spec, the value, operands and numbers; raises before it computes anything."""


def _total(spec: VariableSpec, value: Array, operands: Sequence[Array], numbers: Sequence[float]) -> Array:
    """The sum of all elements."""
    _check(spec, "sum", NUMBERS, operands, 0, numbers, 0)
    return np.asarray(quiet.run(lambda: value.sum(dtype=_sum_dtype(spec.dtype))))


def _sum_of_squares(spec: VariableSpec, value: Array, operands: Sequence[Array], numbers: Sequence[float]) -> Array:
    """The sum of the squared magnitudes of all elements."""
    _check(spec, "norm", NUMBERS, operands, 0, numbers, 0)
    return np.asarray(quiet.run(lambda: _sum_of_products(value, value, conjugate=value.dtype.kind == "c")))


def _dot(spec: VariableSpec, value: Array, operands: Sequence[Array], numbers: Sequence[float]) -> Array:
    """The sum of the products with the elements of an array of the same dtype and shape."""
    _check(spec, "dot", NUMBERS, operands, 1, numbers, 0)
    if operands[0].dtype != spec.dtype or operands[0].shape != spec.shape:
        refuse_operand(spec, "dot", operands[0], spec.shape)
    return np.asarray(quiet.run(lambda: _sum_of_products(value, operands[0])))


def _greatest(spec: VariableSpec, value: Array, operands: Sequence[Array], numbers: Sequence[float]) -> Array:
    """The greatest element; NaN if there is one."""
    _check(spec, "max", ORDERED, operands, 0, numbers, 0)
    _check_not_empty(spec, "max")
    return np.asarray(np.max(value))


def _least(spec: VariableSpec, value: Array, operands: Sequence[Array], numbers: Sequence[float]) -> Array:
    """The least element; NaN if there is one."""
    _check(spec, "min", ORDERED, operands, 0, numbers, 0)
    _check_not_empty(spec, "min")
    return np.asarray(np.min(value))


def _top_k(spec: VariableSpec, value: Array, operands: Sequence[Array], numbers: Sequence[float]) -> Array:
    """The flat indices, int64, of the k greatest elements, the greatest first; of equal ones the first comes first."""
    _check(spec, "top_k", ORDERED, operands, 0, numbers, 1)
    k = int(numbers[0])
    if not 0 <= k <= value.size or 16 * k > MAX_REDUCED_BYTES:
        raise InvalidArgumentError(
            f"top_k of variable {spec} was asked for {k} elements; it has {value.size}, and at most "
            f"{MAX_REDUCED_BYTES // 16} can be asked for",
            variable=spec.name,
        )
    flat = value.reshape(-1)
    chosen = _positions_of_greatest(flat, k)
    packed = np.empty((2, k), np.int64)
    packed[0] = chosen
    packed[1] = _as_bits(flat[chosen])
    return packed


def _histogram(spec: VariableSpec, value: Array, operands: Sequence[Array], numbers: Sequence[float]) -> Array:
    """How many elements lie in each of ``bins`` equal bins of [low, high], int64; the last bin includes ``high``."""
    _check(spec, "histogram", ORDERED, operands, 0, numbers, 3)
    bins, low, high = int(numbers[0]), numbers[1], numbers[2]
    if not 1 <= bins <= MAX_REDUCED_BYTES // 8 or not low < high or not np.isfinite([low, high]).all():
        raise InvalidArgumentError(
            f"a histogram of variable {spec} needs between 1 and {MAX_REDUCED_BYTES // 8} bins between two finite "
            f"numbers, the lesser one first; {bins} bins from {low} to {high} were asked for",
            variable=spec.name,
        )
    # As NumPy counts them, which compares with edges of the value's dtype.
    known = value if value.dtype.kind in "iuf" else value.astype(np.float32)
    counts, _ = np.histogram(known, bins=bins, range=(low, high))
    return counts.astype(np.int64, copy=False)


REDUCTIONS: Final[dict[str, Reduction]] = {
    "sum": _total,
    "sum_of_squares": _sum_of_squares,
    "dot": _dot,
    "max": _greatest,
    "min": _least,
    "top_k": _top_k,
    "histogram": _histogram,
}

_BLOCK: Final = 65536


def _sum_of_products(left: Array, right: Array, *, conjugate: bool = False) -> Any:
    """Accumulated block by block, so that no array of the value's size is made."""
    dtype = _sum_dtype(left.dtype)
    left, right = left.reshape(-1), right.reshape(-1)
    total = dtype.type(0)
    for begin in range(0, left.size, _BLOCK):
        block = slice(begin, begin + _BLOCK)
        first = np.conjugate(left[block]) if conjugate else left[block]
        total += np.multiply(first, right[block], dtype=dtype).sum(dtype=dtype)
    return total


def _positions_of_greatest(flat: Array, k: int) -> Array:
    order = flat.astype(np.float64) if dtype_category(flat.dtype) is DTypeCategory.FLOAT else flat
    if not k:
        return np.empty(0, np.int64)
    if k < flat.size:
        threshold = np.partition(order, flat.size - k)[flat.size - k]
        above = np.flatnonzero(~(order <= threshold))
        candidates = np.concatenate((above, np.flatnonzero(order == threshold)[: k - above.size]))
    else:
        candidates = np.arange(flat.size)
    candidates.sort()
    descending = np.argsort(order[candidates][::-1], kind="stable")[::-1]
    return cast(Array, candidates[::-1][descending][:k])


def _as_bits(values: Array) -> Array:
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    return values.astype(np.float64).view(np.int64)


def _sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    match dtype_category(dtype):
        case DTypeCategory.INTEGER:
            return np.dtype(np.uint64 if dtype.kind == "u" else np.int64)
        case DTypeCategory.COMPLEX:
            return np.dtype(np.complex128)
        case _:
            return np.dtype(np.float64)


def _check(
    spec: VariableSpec,
    what: str,
    categories: frozenset[DTypeCategory],
    operands: Sequence[Array],
    num_operands: int,
    numbers: Sequence[float],
    num_numbers: int,
) -> None:
    if dtype_category(spec.dtype) not in categories:
        raise DTypeMismatchError(
            f"variable {spec} has no {what}: that is not defined for {spec.dtype.name}", variable=spec.name
        )
    if len(operands) != num_operands or len(numbers) != num_numbers:
        raise InvalidArgumentError(
            f"{what} of variable {spec} takes {num_operands} operands and {num_numbers} numbers; it was given "
            f"{len(operands)} and {len(numbers)}",
            variable=spec.name,
        )


def _check_not_empty(spec: VariableSpec, what: str) -> None:
    if not spec.size_bytes:
        raise InvalidArgumentError(f"variable {spec} has no elements, and so no {what}", variable=spec.name)
