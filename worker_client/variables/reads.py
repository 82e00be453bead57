"""The ways to read a variable."""

from __future__ import annotations

from typing import SupportsIndex

import numpy.typing as npt

from ps_protocol.operations import Array, Gather, Read
from ps_protocol.out_arrays import check_out
from worker_client.values.out_arrays import check_no_view, direct_target, read_only, received
from worker_client.values.versions import Version, VersionedValue, unless_version
from worker_client.values.wire_names import WireDTypeName
from worker_client.variables import row_operations
from worker_client.variables.base import VariableBase


class VariableReads(VariableBase):
    """Reads the whole value, rows of it, or what is new. Thread-safe.

    Each method that takes ``out`` puts what it reads there and returns ``out``. It must be a writable array of exactly
    the dtype and shape of what is read; one that is not C-contiguous is filled through a temporary one. Nobody else may
    use it before the call has returned. After a call that failed its content is undefined.

    Each method that takes ``wire_dtype`` has what it reads travel in that form, if the variable is of float32 or
    float64: "exact", "bfloat16", "float16" or "int8"; None stands for ``pull_dtype``. InvalidArgumentError
    if there is no such form, or none for the variable's dtype.
    """

    def read_value(
        self, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None, copy: bool = True
    ) -> Array:
        """Returns the current value, of one version: a new array, the caller's own, or ``out``.

        Args:
            out: Where to put it.
            wire_dtype: The form in which it travels.
            copy: If not, the array is read-only. From a ps on the same host it is shared memory that the ps has filled,
                and nothing is copied here. It never changes. The memory is in use until the array and all views of it
                are gone.

        Raises:
            FailedPreconditionError: It has not been initialised.
            InvalidArgumentError: ``out`` is no writable array of the variable's dtype and shape, or ``copy`` is false.
        """
        if copy:
            return self._read(out, wire_dtype)
        check_no_view(out, self.spec, view=True)
        read = Read(self.spec.name, wire=self.pull_wire(wire_dtype), view=True)
        return read_only(received(self.run(read), None))

    def numpy(self, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None) -> Array:
        """Returns ``read_value()``."""
        return self.read_value(out=out, wire_dtype=wire_dtype)

    value = read_value  # TensorFlow's name

    def read_if_newer(
        self,
        version: SupportsIndex | None,
        *,
        out: Array | None = None,
        wire_dtype: WireDTypeName | None = None,
    ) -> VersionedValue[Version] | None:
        """Returns the current value unless it still has a version that the caller has already.

        If it has, only the question and the answer travel, not the value; ``out`` is left as it is.

        Args:
            version: Of the value that the caller has: from an earlier call (then it is also recognised if it came from
                a store that is gone) or a number; None reads always.
            out: Where to put the value.
            wire_dtype: The form in which it travels.

        Returns:
            The value and its version, or None.

        Raises:
            FailedPreconditionError: It has not been initialised.
            InvalidArgumentError: ``version`` is no version, or ``out`` no writable array of the right dtype and shape.
        """
        if out is not None:
            check_out(out, self.spec)
        store = self.runner.store(self.ps_task)
        known = unless_version(version, store, self.spec.name)
        result = self.run(Read(self.spec.name, known, self.pull_wire(wire_dtype), direct_target(out)))
        if result.tensor is None and known is not None:
            return None
        return VersionedValue(received(result, out), Version(result.version, store))

    def gather(
        self, indices: npt.ArrayLike, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None
    ) -> Array:
        """Returns rows of the current value.

        Args:
            indices: Integers of any shape, each in ``[0, shape[0])``.
            out: Where to put them, of the shape below; must not overlap ``indices``.
            wire_dtype: The form in which they travel.

        Returns:
            An array ``[*indices.shape, *shape[1:]]``: a new one, or ``out``.

        Raises:
            InvalidArgumentError: An index is out of range, or ``out`` no writable array of the right dtype and shape.
            DTypeMismatchError: Indices are not integers.
            ShapeMismatchError: The variable is a scalar.
        """
        operation = self.gathering(indices, out=out, wire_dtype=wire_dtype)
        return received(self.run(operation), out)

    sparse_read = gather  # TensorFlow's name

    def gather_nd(
        self, indices: npt.ArrayLike, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None
    ) -> Array:
        """Returns slices or single elements of the current value.

        Args:
            indices: Shape ``[..., depth]``: each names a slice by its place in the first ``depth`` dimensions.
            out: Where to put them, of the shape below; must not overlap ``indices``.
            wire_dtype: The form in which they travel.

        Returns:
            An array ``[*indices.shape[:-1], *shape[depth:]]``: a new one, or ``out``.

        Raises:
            InvalidArgumentError: An index is out of range, or ``out`` no writable array of the right dtype and shape.
            DTypeMismatchError: Indices are not integers.
            ShapeMismatchError: The last dimension of the indices does not fit the variable.
        """
        operation = row_operations.gather_nd(self.spec, indices, wire=self.pull_wire(wire_dtype), out=out)
        return received(self.run(operation), out)

    def gathering(
        self, indices: npt.ArrayLike, *, out: Array | None = None, wire_dtype: WireDTypeName | None = None
    ) -> Gather:
        """Returns the operation of ``gather`` that a batch carries, checked against the spec."""
        return row_operations.gather(self.spec, indices, wire=self.pull_wire(wire_dtype), out=out)

    def _read(self, out: Array | None, wire_dtype: WireDTypeName | None) -> Array:
        if out is not None:
            check_out(out, self.spec)
        read = Read(self.spec.name, wire=self.pull_wire(wire_dtype), out=direct_target(out))
        return received(self.run(read), out)
