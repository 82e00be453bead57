"""How a large variable is cut into parts, each a variable of its own on a ps task of its own.

A partitioner is called with the keywords ``shape``, a ``TensorShape``, and ``dtype``, a ``DType``, and returns the
number of parts along each dimension, as ``[2, 1]``. At most one dimension may be cut. Those made here can be pickled.
The outcomes are TensorFlow 1's
(``partitioned_variables.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

from worker_client.values.dtypes import DType, as_dtype, string
from worker_client.values.partition_info import Shape
from worker_client.values.shapes import TensorShape

Partitioner: TypeAlias = Callable[..., Sequence[int]]

DEFAULT_MIN_SLICE_SIZE_BYTES = 256 << 10
DEFAULT_BYTES_PER_STRING_ELEMENT = 16


def fixed_size_partitioner(num_shards: int, axis: int = 0) -> Partitioner:
    """Returns a partitioner that makes ``num_shards`` parts, or one of each index if there are fewer.

    Args:
        num_shards: Number of parts.
        axis: Dimension to cut.
    """
    return partial(_fixed_size, num_shards, axis)


def _fixed_size(num_shards: int, axis: int, shape: Sequence[int | None], dtype: object = None) -> list[int]:
    del dtype
    return _along(axis, shape, min(num_shards, _length(shape, axis)))


def variable_axis_size_partitioner(
    max_shard_bytes: int,
    axis: int = 0,
    bytes_per_string_element: int = DEFAULT_BYTES_PER_STRING_ELEMENT,
    max_shards: int | None = None,
) -> Partitioner:
    """Returns a partitioner that makes as few parts as keep each below a size, or as many as there are indices.

    Args:
        max_shard_bytes: The most bytes of a part.
        axis: Dimension to cut.
        bytes_per_string_element: Taken for the size of a string whose length is not known.
        max_shards: The most parts, even if they are larger then; None or 0 sets no limit.

    Raises:
        ValueError: A size is not positive.
    """
    if max_shard_bytes < 1 or bytes_per_string_element < 1:
        raise ValueError(
            f"max_shard_bytes ({max_shard_bytes}) and bytes_per_string_element ({bytes_per_string_element}) "
            f"must be positive"
        )
    if max_shards is not None and max_shards < 0:
        raise ValueError(f"max_shards ({max_shards}) must be positive")
    return partial(_axis_size, max_shard_bytes, axis, bytes_per_string_element, max_shards)


def _axis_size(
    max_shard_bytes: int,
    axis: int,
    bytes_per_string_element: int,
    max_shards: int | None,
    shape: Sequence[int | None],
    dtype: object,
) -> list[int]:
    length = _length(shape, axis)
    slice_bytes = _size_bytes(shape, dtype, bytes_per_string_element) // max(1, length)
    slices_per_shard = max(1, int(max_shard_bytes // slice_bytes)) if slice_bytes else max(1, length)
    shards = _ceil_divide(length, slices_per_shard)
    return _along(axis, shape, min(max_shards, shards) if max_shards else shards)


def min_max_variable_partitioner(
    max_partitions: int = 1,
    axis: int = 0,
    min_slice_size: int = DEFAULT_MIN_SLICE_SIZE_BYTES,
    bytes_per_string_element: int = DEFAULT_BYTES_PER_STRING_ELEMENT,
) -> Partitioner:
    """Returns a partitioner that makes as many parts as are not smaller than a size, up to a number.

    Args:
        max_partitions: The most parts.
        axis: Dimension to cut.
        min_slice_size: The least bytes of a part.
        bytes_per_string_element: Taken for the size of a string whose length is not known.

    Raises:
        ValueError: A size is not positive.
    """
    if min_slice_size < 1 or bytes_per_string_element < 1:
        raise ValueError(
            f"min_slice_size ({min_slice_size}) and bytes_per_string_element ({bytes_per_string_element}) "
            f"must be positive"
        )
    return partial(_least_size, max_partitions, axis, min_slice_size, bytes_per_string_element)


def _least_size(
    max_partitions: int,
    axis: int,
    min_slice_size: int,
    bytes_per_string_element: int,
    shape: Sequence[int | None],
    dtype: object,
) -> list[int]:
    length = _length(shape, axis)
    shards = _ceil_divide(_size_bytes(shape, dtype, bytes_per_string_element), min_slice_size)
    return _along(axis, shape, max(1, min(length, max_partitions, shards)))


def partitions_of(partitioner: Partitioner, shape: Sequence[int | None], dtype: object, name: str) -> list[int]:
    """Asks a partitioner and checks its answer.

    Args:
        partitioner: Called with the keywords ``shape``, a ``TensorShape``, and ``dtype``, a ``DType``.
        shape: Of the whole.
        dtype: Of the whole.
        name: Full name of the whole, for errors.

    Returns:
        The number of parts along each dimension.

    Raises:
        ValueError: The shape is not fully known or has no dimension, or the answer does not fit it.
    """
    known = [size for size in shape if size is not None]
    if len(known) < len(shape):
        raise ValueError(f"variable {name} is to be partitioned, but its shape {TensorShape(shape)} is not fully known")
    if not known:
        raise ValueError(f"variable {name} is to be partitioned, but it is a scalar; it needs a dimension")
    partitions = partitioner(shape=TensorShape(known), dtype=DType(as_dtype(dtype)))
    if not isinstance(partitions, Sequence):
        raise ValueError(f"the partitioner of variable {name} returned {partitions!r}; it must return a list")  # noqa: TRY004 - TensorFlow's type
    if not all(hasattr(number, "__index__") for number in partitions):
        raise TypeError(f"the partitioner of variable {name} returned {list(partitions)}; whole numbers are needed")
    if len(partitions) != len(known):
        raise ValueError(
            f"the partitioner of variable {name} returned {list(partitions)}, which has not one number for each "
            f"dimension of {known}"
        )
    if any(number < 1 for number in partitions):
        raise ValueError(f"the partitioner of variable {name} returned {list(partitions)}; no number may be below 1")
    if sum(number > 1 for number in partitions) > 1:
        raise ValueError(
            f"the partitioner of variable {name} returned {list(partitions)} for {known}; only one dimension may be cut"
        )
    return [int(number) for number in partitions]


def parts(shape: Shape, partitions: Sequence[int]) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Yields the offset and the shape of each part; the first ``size % number`` ones are longer by one.

    Args:
        shape: Of the whole.
        partitions: What ``partitions_of`` returned for it.

    Raises:
        ValueError: There are more parts than indices.
    """
    axis = next((axis for axis, number in enumerate(partitions) if number > 1), 0)
    number, length = partitions[axis], shape[axis]
    if number > max(1, length):
        raise ValueError(f"a dimension of size {length} of {TensorShape(shape)} cannot be cut into {number} parts")
    start = 0
    for index in range(number):
        size = length // number + (index < length % number)
        offset = tuple(start if dimension == axis else 0 for dimension in range(len(shape)))
        yield offset, (*shape[:axis], size, *shape[axis + 1 :])
        start += size


def _length(shape: Sequence[int | None], axis: int) -> int:
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"cannot cut along axis {axis}: the shape is only {TensorShape(shape)}")
    length = list(shape)[axis]  # an index of a ``TensorShape`` gives a ``Dimension`` even where it is not known
    if length is None:
        raise _not_fully_defined(shape)
    return length


def _along(axis: int, shape: Sequence[int | None], number: int) -> list[int]:
    partitions = [1] * len(shape)
    partitions[axis] = number
    return partitions


def _size_bytes(shape: Sequence[int | None], dtype: object, bytes_per_string_element: int) -> int:
    element = as_dtype(dtype)
    size = bytes_per_string_element if element == string.dtype else element.itemsize
    for length in shape:
        if length is None:
            raise _not_fully_defined(shape)
        size *= length
    return size


def _not_fully_defined(shape: Sequence[int | None]) -> ValueError:
    sizes = TensorShape(shape)
    return ValueError(f"shape is not fully defined: {sizes}; a variable is cut only if all sizes are known")


def _ceil_divide(numerator: int, denominator: int) -> int:
    return -(-numerator // denominator)
