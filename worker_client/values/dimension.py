"""One size of a shape, as TensorFlow 1's ``Dimension``: a number, or a size that is not known."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, SupportsIndex

from ps_protocol.interrupts import raise_interrupt


class Dimension:
    """A size that a shape has in one dimension.

    ``Dimension(3)`` is an ``int`` as well, which goes wherever Python and NumPy take one. ``Dimension(None)`` is a size
    that is not known; arithmetic makes such sizes of it, and comparisons None.

    Args:
        value: The size, or None; another dimension stands for its size.

    Raises:
        TypeError: The size is neither an integer nor None.
        ValueError: It is negative.
    """

    __slots__ = ()

    def __new__(cls, value: SupportsIndex | Dimension | None = None) -> Any:
        """Returns a dimension, of a type that is an ``int`` as well if the size is known."""
        if isinstance(value, Dimension):
            return value
        if value is None:
            return object.__new__(Dimension)
        try:
            size = operator.index(value)
        except TypeError as error:
            raise_interrupt(error)
            raise TypeError(f"a size in a shape should be an integer or None, not {value!r}") from None
        if size < 0:
            raise ValueError(f"a size in a shape should not be negative, as {size} is")
        return int.__new__(_KnownDimension, size)

    @property
    def value(self) -> int | None:
        """The size, None if it is not known."""
        return None

    def is_compatible_with(self, other: Any) -> bool:
        """Whether both could be the same size."""
        mine, other_size = self.value, Dimension(other).value
        return mine is None or other_size is None or mine == other_size

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raises ValueError unless both could be the same size."""
        if not self.is_compatible_with(other):
            raise ValueError(f"the dimensions {self} and {other} are not compatible")

    def merge_with(self, other: Any) -> Dimension:
        """Returns the one of both that is known; ValueError if they differ."""
        self.assert_is_compatible_with(other)
        merged: Dimension = Dimension(other) if self.value is None else self
        return merged

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> Any:
        try:
            Dimension(other)  # type: ignore[arg-type]  # that is the question
        except (TypeError, ValueError) as error:
            raise_interrupt(error)
            return NotImplemented
        return None

    def __ne__(self, other: object) -> Any:
        return self == other

    def __hash__(self) -> int:
        return hash(None)

    def __str__(self) -> str:
        return "?"

    def __repr__(self) -> str:
        return f"Dimension({self.value})"

    def __reduce__(self) -> tuple[object, ...]:
        return Dimension, (self.value,)


class _KnownDimension(int, Dimension):
    """A dimension whose size is known."""

    __slots__ = ()

    @property
    def value(self) -> int:
        return int(self)

    def __eq__(self, other: object) -> Any:
        return None if type(other) is Dimension else int.__eq__(self, other)

    def __ne__(self, other: object) -> Any:
        return None if type(other) is Dimension else int.__ne__(self, other)

    __hash__ = int.__hash__
    __bool__ = int.__bool__
    __repr__ = Dimension.__repr__

    def __str__(self) -> str:
        return str(int(self))

    def __format__(self, spec: str) -> str:
        return format(int(self), spec)


def _arithmetic(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns a method of dimensions whose sizes are not known, and one of those whose are."""
    of_integers = getattr(int, name)

    def unknown(_: Dimension, other: Any) -> Any:
        try:
            Dimension(other)
        except (TypeError, ValueError) as error:
            raise_interrupt(error)
            return NotImplemented
        return Dimension(None)

    def known(self: int, other: Any) -> Any:
        if type(other) is Dimension:
            return Dimension(None)
        result = of_integers(self, other)
        return Dimension(result) if isinstance(other, int) and type(result) is int and result >= 0 else result

    return unknown, known


for _name in ("add", "sub", "mul", "floordiv", "mod"):
    for _method in (f"__{_name}__", f"__r{_name}__"):
        _unknown, _known = _arithmetic(_method)
        setattr(Dimension, _method, _unknown)
        setattr(_KnownDimension, _method, _known)


def _compared(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    of_integers = getattr(int, name)

    def unknown(_: Dimension, other: Any) -> Any:
        return None if other is None or isinstance(other, int | Dimension) else NotImplemented

    def known(self: int, other: Any) -> Any:
        return None if other is None or type(other) is Dimension else of_integers(self, other)

    return unknown, known


for _method in ("__lt__", "__le__", "__gt__", "__ge__"):
    _unknown, _known = _compared(_method)
    setattr(Dimension, _method, _unknown)
    setattr(_KnownDimension, _method, _known)


def dimension_value(dimension: Any) -> int | None:
    """Returns the size of a dimension; a number or None as it is."""
    return dimension.value if isinstance(dimension, Dimension) else dimension
