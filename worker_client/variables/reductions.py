"""Small things that the ps tasks compute from a value, which does not move: sums, extremes, the greatest elements.

Each part of a partitioned variable gives its own, and here they are put together.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, Final, SupportsIndex

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operation_kinds import reply_bytes
from ps_protocol.operations import Array, Reduce, Result, VariableSpec
from worker_client.connection.fanout import Routed
from worker_client.values.conversion import convert
from worker_client.variables.base import OperationRunner, VariableBase

_NOT_GIVEN: Final[Any] = object()


class PlacedParts:
    """A variable as its ps tasks have it: whole, or in parts."""

    @property
    def whole_spec(self) -> VariableSpec:
        """Name, dtype and shape of the value."""
        raise NotImplementedError

    def placed_parts(self) -> Sequence[tuple[VariableBase, tuple[int, ...]]]:
        """Returns the variables that make it up, itself or its parts, and where in the whole each begins."""
        raise NotImplementedError

    def part_pieces(self, value: Array) -> Sequence[Array]:
        """Returns what of a value of the whole belongs to each of them."""
        raise NotImplementedError

    @property
    def parts_runner(self) -> OperationRunner:
        """Carries out operations on them."""
        return self.placed_parts()[0][0].runner


class Reductions(PlacedParts):
    """What is computed from the value on its ps tasks, with one exchange for each task. Thread-safe.

    Sums are accumulated in float64 (integers in 64 bits, complex numbers in complex128), and are returned so. Of a
    partitioned variable each part is of one version.

    All raise FailedPreconditionError if the variable has not been initialised, and DTypeMismatchError if its dtype has
    no such thing. ``np.sum(v)`` and its like read the value and compute here, as of any array.
    """

    def read_value(self) -> Array:
        """Returns the value, a new array."""
        raise NotImplementedError

    def sum(self, axis: object = None, dtype: object = None, out: Any = _NOT_GIVEN, **options: object) -> Any:
        """Returns the sum of all elements; that of some axes is NumPy's: ``np.sum(v, axis=0)``."""
        if out is not _NOT_GIVEN:
            return self._by_numpy(np.sum, axis=axis, dtype=dtype, out=out, **options)
        self._check_whole("sum", axis, dtype, options)
        return _added(self._reduced("sum"))

    def mean(self, axis: object = None, dtype: object = None, out: Any = _NOT_GIVEN, **options: object) -> Any:
        """Returns the mean of all elements, as ``sum``; InvalidArgumentError if there are none."""
        if out is not _NOT_GIVEN:
            return self._by_numpy(np.mean, axis=axis, dtype=dtype, out=out, **options)
        self._check_whole("mean", axis, dtype, options)
        self._check_not_empty("mean")
        return _added(self._reduced("sum")) / _num_elements(self.whole_spec)

    def max(self, axis: object = None, out: Any = _NOT_GIVEN, **options: object) -> Any:
        """Returns the greatest element, NaN if there is one; InvalidArgumentError if there are no elements."""
        if out is not _NOT_GIVEN:
            return self._by_numpy(np.max, axis=axis, out=out, **options)
        self._check_whole("max", axis, None, options)
        self._check_not_empty("max")
        return np.max(np.stack(self._reduced("max", of_elements=True)))

    def min(self, axis: object = None, out: Any = _NOT_GIVEN, **options: object) -> Any:
        """Returns the least element, NaN if there is one; InvalidArgumentError if there are no elements."""
        if out is not _NOT_GIVEN:
            return self._by_numpy(np.min, axis=axis, out=out, **options)
        self._check_whole("min", axis, None, options)
        self._check_not_empty("min")
        return np.min(np.stack(self._reduced("min", of_elements=True)))

    def norm(self) -> Any:
        """Returns the Euclidean norm of all elements, in float64."""
        return np.sqrt(np.real(_added(self._reduced("sum_of_squares"))))

    def dot(self, array: npt.ArrayLike) -> Any:
        """Returns the sum of the products with the elements of an array of its shape.

        Raises:
            ShapeMismatchError: The array has another shape.
            DTypeMismatchError: It cannot be converted without changing the kind of number.
        """
        pieces = self.part_pieces(convert(array, self.whole_spec))
        return _added(self._reduced("dot", operands=[(np.asarray(piece, order="C"),) for piece in pieces]))

    def top_k(self, k: SupportsIndex) -> tuple[Array, Array]:
        """Returns the ``k`` greatest elements, the greatest first, and their flat indices, int64; both ``[k]``.

        Of equal elements the one with the lesser index comes first; NaN counts as the greatest.

        Raises:
            InvalidArgumentError: There are not so many elements, or more than 65,536 are asked for.
            DTypeMismatchError: ``k`` is no integer.
        """
        spec, count = self.whole_spec, self._how_many("top_k", k)
        if not 0 <= count <= _num_elements(spec):
            raise InvalidArgumentError(
                f"top_k of variable {spec} was asked for {count} elements; it has {_num_elements(spec)}",
                variable=spec.name,
            )
        placed = self.placed_parts()
        numbers = [(min(count, _num_elements(part.spec)),) for part, _ in placed]
        found = self._reduced("top_k", numbers=numbers)
        indices = [
            _in_whole(packed[0], part.spec.shape, offset, spec.shape)
            for packed, (part, offset) in zip(found, placed, strict=True)
        ]
        values = [_from_bits(packed[1], spec.dtype) for packed in found]
        return _greatest(np.concatenate(values), np.concatenate(indices), count)

    def histogram(self, bins: SupportsIndex = 10, range: tuple[float, float] | None = None) -> tuple[Array, Array]:  # noqa: A002 - NumPy's name
        """Returns how many elements lie in each of some equal bins, and the edges of these, as ``numpy.histogram``.

        Args:
            bins: How many.
            range: From where to where; None for all elements, which takes one more exchange for each ps task.

        Returns:
            Counts, int64 ``[bins]``, and edges, ``[bins + 1]``.

        Raises:
            InvalidArgumentError: There are too many bins or none, or the range is none.
            DTypeMismatchError: ``bins`` is no integer: edges are for ``np.histogram(v.numpy(), edges)``.
        """
        spec, count = self.whole_spec, self._how_many("histogram", bins)
        low, high = self._extent() if range is None else (float(range[0]), float(range[1]))
        if low == high:  # as NumPy widens it
            low, high = low - 0.5, high + 0.5
        if not low < high or not np.isfinite([low, high]).all():
            raise InvalidArgumentError(
                f"the range of a histogram of variable {spec} goes from {low:g} to {high:g}; give two finite numbers, "
                f"the lesser one first",
                variable=spec.name,
            )
        counts = self._reduced("histogram", numbers=[(float(count), low, high)] * len(self.placed_parts()))
        dtype = spec.dtype if spec.dtype.kind in "iuf" else np.dtype(np.float32)
        edges = np.histogram_bin_edges(np.empty(0, dtype), bins=count, range=(low, high))
        return np.sum(np.stack(counts), axis=0), edges

    # -- how they are asked for ---------------------------------------------------------------

    def _how_many(self, function: str, number: object) -> int:
        try:
            return operator.index(number)  # type: ignore[arg-type] # that is the question
        except TypeError as error:
            raise_interrupt(error)
            raise DTypeMismatchError(
                f"{function} of variable {self.whole_spec.name} takes how many as an integer, not {number!r}; for "
                f"anything else read the value, as v.numpy()",
                variable=self.whole_spec.name,
            ) from None

    def _extent(self) -> tuple[float, float]:
        """The least and the greatest element, asked for together."""
        parts = [part for part, _ in self.placed_parts() if _num_elements(part.spec)]
        if not parts:
            return 0.0, 1.0
        asked = [(part, name) for part in parts for name in ("min", "max")]
        found = [float(each) for each in _run(asked, [()] * len(asked), [()] * len(asked))]
        return float(np.min(found)), float(np.max(found))

    def _reduced(
        self,
        function: str,
        *,
        operands: Sequence[tuple[Array, ...]] | None = None,
        numbers: Sequence[tuple[float, ...]] | None = None,
        of_elements: bool = False,
    ) -> list[Array]:
        """What a function of the ps makes of each part; with ``of_elements``, of those that have any."""
        parts = [part for part, _ in self.placed_parts() if not of_elements or _num_elements(part.spec)]
        nothing: list[tuple[()]] = [()] * len(parts)
        return _run([(part, function) for part in parts], operands or nothing, numbers or nothing)

    def _by_numpy(self, function: Any, **arguments: Any) -> Any:
        """What ``np.sum(v)`` and its like return, which always say where to put the result."""
        return function(self.read_value(), **arguments)

    def _check_whole(self, what: str, axis: object, dtype: object, options: dict[str, object]) -> None:
        given = [*(["axis"] if axis is not None else []), *(["dtype"] if dtype is not None else []), *options]
        if given:
            raise TypeError(
                f"{what}() of variable {self.whole_spec.name} is that of all its elements, computed on its ps, and "
                f"takes no {given[0]}; read the value for it: np.{what}(v, {given[0]}=...)"
            )

    def _check_not_empty(self, what: str) -> None:
        if not _num_elements(self.whole_spec):
            raise InvalidArgumentError(
                f"variable {self.whole_spec} has no elements, and so no {what}", variable=self.whole_spec.name
            )


def _run(
    asked: Sequence[tuple[VariableBase, str]],
    operands: Sequence[tuple[Array, ...]],
    numbers: Sequence[tuple[float, ...]],
) -> list[Array]:
    """Carries out functions on parts, with one exchange for each ps task."""
    routed = []
    for (part, function), given, settings in zip(asked, operands, numbers, strict=True):
        reduce = Reduce(part.spec.name, function, given, np.array(settings, np.float64))
        routed.append(Routed(part.ps_task, reduce, reply_bytes(reduce, part.spec)))
    return [tensor_of(result) for result in asked[0][0].runner.run_all(routed)]


def tensor_of(result: Result) -> Array:
    """Returns what a reduction has computed."""
    assert result.tensor is not None  # a reduction always has a tensor
    return result.tensor


def _added(sums: Sequence[Array]) -> Any:
    return np.stack(sums).sum(axis=0)[()]


def _num_elements(spec: VariableSpec) -> int:
    return math.prod(spec.shape)


def _in_whole(flat: Array, part_shape: tuple[int, ...], offset: tuple[int, ...], whole_shape: tuple[int, ...]) -> Array:
    """Flat indices in the whole of what has the given ones in a part."""
    if part_shape == whole_shape or not flat.size:
        return flat
    places = [place + begin for place, begin in zip(np.unravel_index(flat, part_shape), offset, strict=True)]
    return np.asarray(np.ravel_multi_index(places, whole_shape), np.int64)


def _from_bits(bits: Array, dtype: np.dtype[Any]) -> Array:
    return (bits if dtype.kind in "iu" else bits.view(np.float64)).astype(dtype)


def _greatest(values: Array, indices: Array, count: int) -> tuple[Array, Array]:
    """The greatest of elements that are equal only if their indices are not; the first of equal ones first."""
    by_index = np.argsort(indices)[::-1]
    order = values if values.dtype.kind in "iu" else values.astype(np.float64)
    chosen = by_index[np.argsort(order[by_index], kind="stable")][::-1][:count]
    return values[chosen], indices[chosen]
