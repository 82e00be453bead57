"""What is different in two checkpoints, of any forms."""

from __future__ import annotations

import enum
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category, is_ml_dtype
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from worker_client.checkpoints.opening import open_checkpoint, variables_of
from worker_client.checkpoints.report import ShowProgress


class Difference(enum.StrEnum):
    """In what two tensors of one name differ, the first of these that is true."""

    ONLY_FIRST = "only in the first"
    ONLY_SECOND = "only in the second"
    SHAPE = "shape"
    DTYPE = "dtype"
    VALUES = "values"
    """Also where only one of the two has a value."""


@dataclass(frozen=True, slots=True)
class DifferentTensor:
    """A tensor that is not the same in both.

    Attributes:
        name: Of the variable.
        difference: In what they differ.
        detail: In words: what each of them is like.
        num_different: How many elements have other values; 0 if none were compared.
        max_difference: The largest absolute difference of two elements; NaN if one of two is NaN, or if they are no
            numbers or were not compared.
    """

    name: str
    difference: Difference
    detail: str
    num_different: int = 0
    max_difference: float = math.nan


@dataclass(frozen=True, slots=True)
class CheckpointDiff:
    """What is different in two checkpoints. As text, a table.

    Attributes:
        tensors: Those that are not the same, by name.
        num_equal: How many are the same in both.
        compared_values: Whether values were compared; else names, dtypes and shapes only.
    """

    tensors: tuple[DifferentTensor, ...]
    num_equal: int
    compared_values: bool

    @property
    def is_equal(self) -> bool:
        """Whether nothing is different."""
        return not self.tensors

    def __str__(self) -> str:
        width = max([len(each.name) for each in self.tensors], default=0)
        kind = max([len(each.difference) for each in self.tensors], default=0)
        return "\n".join([f"{each.difference:{kind}}  {each.name:{width}}  {each.detail}" for each in self.tensors])


def diff_checkpoints(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    names: str | Sequence[str] = "*",
    names_only: bool = False,
    show_progress: ShowProgress | None = None,
) -> CheckpointDiff:
    """Compares two checkpoints of any forms, without a cluster. Some MiB of each are in memory.

    Numbers are the same if they are equal, or both NaN. Partitioned variables are compared as wholes, so it does not
    matter how they are partitioned, nor on how many ps tasks.

    Args:
        first: A checkpoint; see ``open``.
        second: The other one.
        names: Which names are compared: a pattern, or several, as for files: "encoder/*".
        names_only: Whether only names, dtypes and shapes are compared; then no values are read.
        show_progress: Called now and then, with the bytes compared and those of all.

    Raises:
        NotFoundError: There is no such checkpoint.
        InvalidArgumentError: Nothing in either of them fits ``names``.
        DataLossError: A file is damaged.
        UnimplementedError: Elements cannot be read; give ``names`` to leave them out.
    """
    patterns = [names] if isinstance(names, str) else list(names)
    with open_checkpoint(first) as one, open_checkpoint(second) as other:
        ones, others = _fitting(variables_of(one), patterns), _fitting(variables_of(other), patterns)
        if not ones and not others and (one or other):
            raise InvalidArgumentError(f"neither checkpoint has a name that fits {' or '.join(patterns)}")
        both = [name for name in ones if name in others]
        total_bytes, done_bytes = sum([ones[name].nbytes for name in both]), 0
        found = [DifferentTensor(name, Difference.ONLY_FIRST, _kind(ones[name])) for name in ones if name not in others]
        found += [
            DifferentTensor(name, Difference.ONLY_SECOND, _kind(others[name])) for name in others if name not in ones
        ]
        num_equal = 0
        for name in both:
            different = _compared(name, ones[name], others[name], names_only=names_only)
            done_bytes += ones[name].nbytes
            if show_progress is not None and not names_only:
                show_progress(done_bytes, total_bytes)
            if different is None:
                num_equal += 1
            else:
                found.append(different)
    return CheckpointDiff(tuple(sorted(found, key=lambda each: each.name)), num_equal, not names_only)


def _fitting(tensors: dict[str, StoredTensor], patterns: Sequence[str]) -> dict[str, StoredTensor]:
    fits = {name: [each for each in patterns if fnmatchcase(name, each)] for name in tensors}
    return {name: tensor for name, tensor in tensors.items() if fits[name]}


def _kind(tensor: StoredTensor) -> str:
    return f"{tensor.dtype_name}{list(tensor.shape)}{'' if tensor.has_value else ', without a value'}"


def _compared(name: str, one: StoredTensor, other: StoredTensor, *, names_only: bool) -> DifferentTensor | None:
    """Returns in what two tensors differ; None if in nothing."""
    kinds = f"{_kind(one)} and {_kind(other)}"
    if one.shape != other.shape:
        return DifferentTensor(name, Difference.SHAPE, kinds)
    same_dtype = one.dtype_name == other.dtype_name
    if names_only or one.has_value != other.has_value or not one.has_value:
        if same_dtype and one.has_value == other.has_value:
            return None
        return DifferentTensor(name, Difference.VALUES if same_dtype else Difference.DTYPE, kinds)
    if not same_dtype and one.dtype.hasobject != other.dtype.hasobject:
        return DifferentTensor(name, Difference.DTYPE, kinds)
    count, largest = _compare_values(one, other)
    if same_dtype and not count:
        return None
    by = "" if one.dtype.hasobject or not count else f" by at most {largest:g}"
    values = f"{count} of {one.size} elements differ{by}"
    if same_dtype:
        return DifferentTensor(name, Difference.VALUES, values, count, largest)
    return DifferentTensor(name, Difference.DTYPE, f"{kinds}; {values}", count, largest)


def _compare_values(one: StoredTensor, other: StoredTensor) -> tuple[int, float]:
    """Returns how many elements differ, and the largest absolute difference, NaN if that is no number."""
    rows = min(one.rows_of_a_piece, other.rows_of_a_piece)
    count, largest = 0, 0.0
    for a, b in zip(one.pieces(rows), other.pieces(rows), strict=True):
        if a.dtype == b.dtype and not a.dtype.hasobject and np.array_equal(_bytes(a), _bytes(b)):
            continue
        some, most = _compare(a, b)
        count += some
        largest = float(np.maximum(largest, most))  # NaN if either is
    return count, largest


def _compare(a: Array, b: Array) -> tuple[int, float]:
    if a.dtype.hasobject:
        different = np.not_equal(a, b)
        return int(np.count_nonzero(different)), math.nan
    a, b = _comparable(a), _comparable(b)
    if a.dtype.kind in "iu" and b.dtype.kind in "iu" and a.dtype == b.dtype:
        # The difference of two integers may not be one of their own: it is one of the unsigned 64 bits, modulo 2**64.
        distance = np.maximum(a, b).astype(np.uint64) - np.minimum(a, b).astype(np.uint64)
        return int(np.count_nonzero(distance)), float(distance.max(initial=0))
    wide = np.result_type(a, b, np.float64)
    a, b = a.astype(wide, copy=False), b.astype(wide, copy=False)
    different = (a != b) & ~(np.isnan(a) & np.isnan(b))
    if not np.any(different):
        return 0, 0.0
    with np.errstate(all="ignore"):
        return int(np.count_nonzero(different)), float(np.abs(a[different] - b[different]).max())


def _comparable(array: Array) -> Array:
    """Returns numbers in a dtype of NumPy's own with which one can reckon, truth values as integers."""
    if array.dtype == np.bool:
        return array.view(np.uint8)
    if not is_ml_dtype(array.dtype):
        return array
    category = dtype_category(array.dtype)
    if category is DTypeCategory.INTEGER:
        return array.astype(np.int16)
    return array.astype(np.complex64 if category is DTypeCategory.COMPLEX else np.float32)


def _bytes(array: Array) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
