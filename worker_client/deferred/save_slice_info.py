"""Where a part lies in a partitioned variable, in TensorFlow's words, for code that saves and restores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import VariableSpec


class SaveSliceInfo:
    """The place of a part in the whole.

    Args:
        full_name: Name of the whole, without ":0".
        full_shape: Shape of the whole.
        var_offset: Index of the part's first element along each dimension of the whole.
        var_shape: Shape of the part.
        save_slice_info_def: Not supported; there is no protocol buffer of it here.
        import_scope: Ignored, as it belongs to ``save_slice_info_def``.

    Raises:
        TypeError: ``save_slice_info_def`` is given.
    """

    def __init__(
        self,
        full_name: str | None = None,
        full_shape: Sequence[int] | None = None,
        var_offset: Sequence[int] | None = None,
        var_shape: Sequence[int] | None = None,
        save_slice_info_def: Any = None,
        import_scope: str | None = None,
    ):
        del import_scope
        if save_slice_info_def is not None:
            raise TypeError("save_slice_info_def is not supported; give full_name, full_shape, var_offset, var_shape")
        self.full_name = full_name
        self.full_shape = full_shape
        self.var_offset = var_offset
        self.var_shape = var_shape

    @classmethod
    def of(cls, spec: VariableSpec) -> SaveSliceInfo | None:
        """Returns the place of the part that a spec describes, None for a whole variable."""
        place = spec.slice
        if place is None:
            return None
        return cls(place.full_name, list(place.full_shape), list(place.offset), list(spec.shape))

    @classmethod
    def from_spec(cls, spec: str) -> SaveSliceInfo:
        """Returns the place that a text describes, as "4 3 0,2:0,3"; see ``spec``.

        Raises:
            ValueError: The text is of another form.
        """
        try:
            *sizes, cuts = spec.split()
            full_shape = [int(size) for size in sizes]
            places = [tuple(map(int, cut.split(","))) for cut in cuts.split(":")]
            offset, shape = [start for start, _ in places], [size for _, size in places]
        except ValueError as error:
            raise_interrupt(error)
            raise ValueError(f'a part is described as "4 3 0,2:0,3" does it, not as {spec!r}') from error
        if len(full_shape) != len(shape):
            raise ValueError(f"{spec!r} has {len(full_shape)} sizes, but {len(shape)} parts of dimensions")
        return cls(full_shape=full_shape, var_offset=offset, var_shape=shape)

    @property
    def spec(self) -> str:
        """The shape of the whole, and offset and size along each dimension: "4 3 0,2:0,3"."""
        whole = " ".join(str(size) for size in self.full_shape or ())
        cuts = zip(self.var_offset or (), self.var_shape or (), strict=True)
        return f"{whole} {':'.join(f'{start},{size}' for start, size in cuts)}"

    def __repr__(self) -> str:
        return f"<SaveSliceInfo {self.full_name!r} {self.spec}>"
