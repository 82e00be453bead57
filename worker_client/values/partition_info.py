"""Which part of a partitioned variable an initializer makes a value for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Shape: TypeAlias = Sequence[int]


class PartitionInfo:
    """Tells an initializer which part of a partitioned variable it is asked for. Immutable.

    Args:
        full_shape: Shape of the whole.
        var_offset: Index of the part's first element along each dimension of the whole.

    Raises:
        TypeError: One of them is not a sequence.
        ValueError: The offset does not lie in the whole.
    """

    def __init__(self, full_shape: Shape, var_offset: Shape):
        _check_is_sequence(full_shape, "full_shape")
        _check_is_sequence(var_offset, "var_offset")
        if len(var_offset) != len(full_shape):
            raise ValueError(f"var_offset {var_offset} and full_shape {full_shape} must have the same length")
        if any(not 0 <= offset < size for offset, size in zip(var_offset, full_shape, strict=True)):
            raise ValueError(f"var_offset {var_offset} does not lie in full_shape {full_shape}")
        self._full_shape = full_shape
        self._var_offset = var_offset

    @property
    def full_shape(self) -> Shape:
        """Shape of the whole."""
        return self._full_shape

    @property
    def var_offset(self) -> Shape:
        """Index of the part's first element along each dimension of the whole."""
        return self._var_offset

    def single_offset(self, shape: Shape) -> int:
        """Returns where a part of this shape begins along the dimension that is cut; 0 if none is.

        Raises:
            TypeError: As ``single_slice_dim``.
            ValueError: As ``single_slice_dim``.
        """
        axis = self.single_slice_dim(shape)
        return 0 if axis is None else self._var_offset[axis]

    def single_slice_dim(self, shape: Shape) -> int | None:
        """Returns the dimension along which a part of this shape is cut, None if it is the whole.

        Raises:
            TypeError: The shape is not a sequence.
            ValueError: The part does not fit into the whole, or is cut along several dimensions.
        """
        _check_is_sequence(shape, "shape")
        if len(shape) != len(self._full_shape):
            raise ValueError(f"shape {shape} and full_shape {self._full_shape} must have the same length")
        sizes = list(zip(self._var_offset, shape, self._full_shape, strict=True))
        if any(offset + size > full for offset, size, full in sizes):
            raise ValueError(f"a part {shape} at {self._var_offset} exceeds full_shape {self._full_shape}")
        axes = [axis for axis, (_, size, full) in enumerate(sizes) if size != full]
        if len(axes) > 1:
            raise ValueError(f"a part {shape} of full_shape {self._full_shape} is cut along dimensions {axes}, not one")
        return axes[0] if axes else None


def _check_is_sequence(value: object, what: str) -> None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{what} must be a sequence such as a list, not {type(value).__name__}")
