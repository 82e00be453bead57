"""Shapes that need not be fully known, as those of deferred tensors and of variables not yet created."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Self, SupportsIndex, TypeAlias, cast

from ps_protocol.interrupts import raise_interrupt
from worker_client.values.dimension import Dimension

ShapeLike: TypeAlias = "TensorShape | Iterable[SupportsIndex | Dimension | None] | SupportsIndex | Dimension | None"
"""What a shape is made from: its sizes (None: unknown), one size, or None for a shape of unknown rank."""


class TensorShape(tuple[int | None, ...]):
    """The sizes of a tensor's dimensions, None where unknown; immutable.

    A shape of known rank is a tuple, so that it compares with tuples and goes wherever NumPy takes a shape. One of
    unknown rank (``TensorShape(None)``) has no length and cannot be iterated; it equals only its like. An index gives a
    ``Dimension``, as in TensorFlow 1, and so does iterating for each size that is known; of others it gives None.

    Args:
        dims: The sizes, or another shape; a number stands for a shape of that one size; None for unknown rank.

    Raises:
        TypeError: A size is neither an integer nor None.
        ValueError: A size is negative.
    """

    _has_rank: bool
    _is_fully_defined: bool
    _iterated: tuple[Any, ...]

    def __new__(cls, dims: ShapeLike = None) -> TensorShape:
        if type(dims) is cls:
            return dims
        return cls._of(None if dims is None else _sizes(dims))

    @classmethod
    @lru_cache(maxsize=4096)
    def _of(cls, sizes: tuple[int | None, ...] | None) -> Self:
        """Returns the shape of checked sizes, None for unknown rank.

        A shape never changes, so that the tensors of a graph, most of which have one of a few shapes, can share it.
        """
        shape = super().__new__(cls, sizes or ())
        shape._has_rank = sizes is not None
        shape._is_fully_defined = sizes is not None and None not in sizes
        shape._iterated = tuple([None if size is None else Dimension(size) for size in sizes or ()])
        return shape

    @property
    def ndims(self) -> int | None:
        """Number of dimensions, None if unknown."""
        return tuple.__len__(self) if self._has_rank else None

    rank = ndims

    @property
    def dims(self) -> list[Dimension] | None:
        """The dimensions as a list, None if the rank is unknown."""
        return [Dimension(size) for size in self._iterated] if self._has_rank else None

    def size(self, axis: int) -> int | None:
        """Returns the size of a dimension as a number, None if it or the rank is unknown.

        Raises:
            IndexError: There is no such dimension.
        """
        return tuple.__getitem__(self, axis) if self._has_rank else None

    def as_list(self) -> list[int | None]:
        """Returns the sizes as a list of plain numbers and None; ValueError if the rank is unknown."""
        self._require_rank()
        return list(tuple.__iter__(self))

    def is_fully_defined(self) -> bool:
        """Whether rank and sizes are all known."""
        return self._is_fully_defined

    def as_tuple(self) -> tuple[int, ...]:
        """Returns the sizes of a fully defined shape as a plain tuple; ValueError if it is not fully defined."""
        if not self._is_fully_defined:
            raise ValueError(f"the shape {self} is not fully defined")
        return tuple(cast("Iterator[int]", tuple.__iter__(self)))

    def num_elements(self) -> int | None:
        """Number of elements, None if not fully defined."""
        if not self.is_fully_defined():
            return None
        product = 1
        for size in self.as_tuple():
            product *= size
        return product

    def is_compatible_with(self, other: ShapeLike) -> bool:
        """Whether one tensor could have both shapes."""
        other = TensorShape(other)
        if not self._has_rank or not other._has_rank:
            return True
        if self._is_fully_defined and other._is_fully_defined:
            return tuple.__eq__(self, other)
        return len(self) == len(other) and all(
            one is None or two is None or one == two for one, two in zip(self, other, strict=True)
        )

    def merge_with(self, other: ShapeLike) -> TensorShape:
        """Returns the shape that knows what either does; ValueError if they contradict each other."""
        other = TensorShape(other)
        if not self.is_compatible_with(other):
            raise ValueError(f"the shapes {self} and {other} are not compatible")
        if not self._has_rank or not other._has_rank:
            return self if self._has_rank else other
        return TensorShape(two if one is None else one for one, two in zip(self, other, strict=True))

    def assert_is_compatible_with(self, other: ShapeLike) -> None:
        """Raises ValueError unless one tensor could have both shapes."""
        if not self.is_compatible_with(other):
            raise ValueError(f"the shapes {self} and {TensorShape(other)} are not compatible")

    def assert_is_fully_defined(self) -> None:
        """Raises ValueError unless rank and sizes are all known."""
        if not self._is_fully_defined:
            raise ValueError(f"the shape {self} is not fully defined")

    def assert_has_rank(self, rank: int) -> None:
        """Raises ValueError unless the rank is this one, or unknown."""
        if self.ndims not in (None, rank):
            raise ValueError(f"the shape {self} should have the rank {rank}")

    def assert_same_rank(self, other: ShapeLike) -> None:
        """Raises ValueError if another shape has another rank."""
        rank = TensorShape(other).ndims
        if rank is not None:
            self.assert_has_rank(rank)

    def with_rank(self, rank: int) -> TensorShape:
        """Returns the shape as one of a rank; ValueError if it has another."""
        return self.merge_with([None] * rank)

    def with_rank_at_least(self, rank: int) -> TensorShape:
        """Returns the shape itself; ValueError if its rank is less."""
        if self.ndims is not None and self.ndims < rank:
            raise ValueError(f"the shape {self} should have at least the rank {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> TensorShape:
        """Returns the shape itself; ValueError if its rank is greater."""
        if self.ndims is not None and self.ndims > rank:
            raise ValueError(f"the shape {self} should have at most the rank {rank}")
        return self

    def most_specific_compatible_shape(self, other: ShapeLike) -> TensorShape:
        """Returns what a shape and another have in common: the sizes that are the same, others unknown."""
        other = TensorShape(other)
        if self.ndims is None or self.ndims != other.ndims:
            return TensorShape(None)
        return TensorShape(one if one == two else None for one, two in zip(self, other, strict=True))

    def concatenate(self, other: ShapeLike) -> TensorShape:
        """Returns the shape that has the sizes of another one behind its own; of unknown rank if one is."""
        other = TensorShape(other)
        if not self._has_rank or not other._has_rank:
            return TensorShape(None)
        return TensorShape([*self, *other])

    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: Any) -> TensorShape:
        return TensorShape(other).concatenate(self)

    def __len__(self) -> int:
        self._require_rank()
        return super().__len__()

    def __iter__(self) -> Iterator[int | None]:
        self._require_rank()
        return iter(self._iterated)

    def __getitem__(self, key: Any) -> Any:
        if not self._has_rank:
            return _unknown_slice(key) if isinstance(key, slice) else Dimension(None)
        found = super().__getitem__(key)
        return TensorShape(found) if isinstance(key, slice) else Dimension(found)

    def __bool__(self) -> bool:
        return self._has_rank

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TensorShape) and self._has_rank != other._has_rank:
            return False
        if not self._has_rank:
            return isinstance(other, TensorShape)
        if isinstance(other, TensorShape):
            return tuple.__eq__(self, other)
        return super().__eq__(tuple(other)) if isinstance(other, tuple | list) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return super().__hash__() if self._has_rank else hash(TensorShape)

    def __reduce__(self) -> tuple[object, ...]:
        return TensorShape, (self.as_list() if self._has_rank else None,)

    def __str__(self) -> str:
        return f"({self._listed}{',' if len(self) == 1 else ''})" if self._has_rank else "<unknown>"

    def __format__(self, spec: str) -> str:
        """As messages show it, with square brackets, as lists of sizes."""
        return format(f"[{self._listed}]" if self._has_rank else "<unknown>", spec)

    @property
    def _listed(self) -> str:
        return ", ".join("?" if size is None else str(size) for size in self)

    def __repr__(self) -> str:
        return f"TensorShape({self.as_list() if self._has_rank else None})"

    def _require_rank(self) -> None:
        if not self._has_rank:
            raise ValueError("the rank of the shape is not known")


def dimension_at_index(shape: TensorShape, index: int) -> Dimension:
    """Returns the dimension at a place in a shape; one of unknown size if the rank is unknown."""
    dimension: Dimension = shape[index]
    return dimension


def _unknown_slice(key: slice) -> TensorShape:
    """Returns a part of a shape of unknown rank: so many unknown sizes as the slice says, if it does."""
    start, stop, step = key.start or 0, key.stop, key.step or 1
    if stop is None or start < 0 or stop < 0 or step < 1:
        return TensorShape(None)
    return TensorShape([None] * len(range(start, stop, step)))


def _sizes(dims: Iterable[SupportsIndex | Dimension | None] | SupportsIndex | Dimension) -> tuple[int | None, ...]:
    if type(dims) is not tuple and type(dims) is not list:
        if isinstance(dims, str):
            raise TypeError(f"a shape is made from integers, not from the string {dims!r}")
        if not isinstance(dims, Iterable):
            dims = (dims,)
    # Nearly all shapes are made of Python's own integers.
    return tuple([size if type(size) is int and size >= 0 else None if size is None else _size(size) for size in dims])


def _size(size: SupportsIndex | Dimension) -> int | None:
    if isinstance(size, Dimension):
        return size.value
    try:
        number = int(operator.index(size))  # the index of True is True
    except TypeError as error:
        raise_interrupt(error)
        raise TypeError(f"a size in a shape should be an integer or None, not {size!r}") from None
    if number < 0:
        raise ValueError(f"a size in a shape should not be negative, as {number} is")
    return number
