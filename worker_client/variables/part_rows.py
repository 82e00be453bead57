"""Rows and elements of a variable that is cut into parts: which part has which, and how they come together.

What reads or updates some rows asks only the parts that have them, with one exchange for each ps task. The indices are
those of the whole, whatever its parts; they are checked here, so that of an update either all parts are sent theirs or
none is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np

from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operation_kinds import reply_bytes
from ps_protocol.operations import Array, Gather, Result, Scatter, ScatterRule, VariableSpec
from ps_protocol.out_arrays import check_out
from worker_client.connection.fanout import Routed
from worker_client.values.out_arrays import direct_target, overlaps_indices, received
from worker_client.values.wire_names import WireDTypeName, wire_of
from worker_client.variables import row_operations
from worker_client.variables.base import OperationRunner, VariableBase

_ALL: Final = slice(None)


class Share(NamedTuple):
    """What one part has of some places.

    Attributes:
        part: Number of the part.
        places: Where they are in it, ``[n, depth]``.
        selection: Index of their values among those of all places, which are ``[places, *row]``.
    """

    part: int
    places: Array
    selection: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """How a variable is cut.

    Attributes:
        spec: Of the whole.
        axis: The dimension that is cut.
        sizes: Of the parts, along it.
    """

    spec: VariableSpec
    axis: int
    sizes: tuple[int, ...]

    def spans(self) -> list[tuple[int, int]]:
        """Returns where each part begins and ends."""
        ends = list(itertools.accumulate(self.sizes))
        return [(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]

    def shares(self, places: Array, *, reading: bool = False) -> list[Share]:
        """Returns the shares of the parts that have any; if none has, an empty one of the first part.

        Args:
            places: Shape ``[..., depth]``, of integers: each counts through the first ``depth`` dimensions.
            reading: As of ``row_operations.flat_rows``.

        Raises:
            InvalidArgumentError: One is outside of the variable.
        """
        flat = self._checked(places, reading=reading)
        owners = self._owners(flat)
        present = range(len(self.sizes)) if owners is None else np.flatnonzero(np.bincount(owners)).tolist()
        return [self._share(flat, owners, part) for part in present or [0]]

    def share(self, places: Array, part: int, *, reading: bool = False) -> Share:
        """Returns the share of one part, perhaps an empty one; otherwise as ``shares``."""
        flat = self._checked(places, reading=reading)
        return self._share(flat, self._owners(flat), part)

    def _owners(self, flat: Array) -> Array | None:
        """Returns the part that has each place; None if every part has a piece of each."""
        if self.axis >= flat.shape[1]:
            return None
        return np.searchsorted(np.cumsum(self.sizes), flat[:, self.axis], side="right")

    def _share(self, flat: Array, owners: Array | None, part: int) -> Share:
        start = sum(self.sizes[:part])
        if owners is None:
            along = slice(start, start + self.sizes[part])
            return Share(part, flat, (_ALL,) * (self.axis - flat.shape[1] + 1) + (along,))
        offset = np.zeros(flat.shape[1], flat.dtype)
        offset[self.axis] = start
        where = np.flatnonzero(owners == part)
        if len(where) == len(flat):
            return Share(part, flat - offset, (_ALL,))
        return Share(part, flat[where] - offset, (where,))

    def _checked(self, places: Array, *, reading: bool) -> Array:
        """Returns the places as ``[n, depth]``."""
        depth = places.shape[-1]
        flat = places.reshape(-1, depth)
        sizes = np.array(self.spec.shape[:depth], np.int64)
        outside = np.flatnonzero(((flat < 0) | (flat >= sizes)).any(axis=1))
        if outside.size:
            place = ", ".join(str(each) for each in np.unravel_index(outside[0], places.shape[:-1]))
            index: Any = flat[outside[0]].tolist()
            row = f"row {index[0]}" if depth == 1 else f"index {index}"
            raise InvalidArgumentError(
                f"{row} (indices[{place}]) is outside {_ranges(self.spec.shape[:depth])} of variable {self.spec}"
                f"{'' if reading else '; nothing was changed'}",
                variable=self.spec.name,
            )
        return flat


def _ranges(sizes: Sequence[int]) -> str:
    return " x ".join(f"[0, {size})" for size in sizes)


class RowsRead:
    """Rows or elements of a variable, of one or of many parts, on their way into one array.

    Attributes:
        routed: The reads, for ``run_all``.
        indices: What they keep of the caller's memory until they are answered.
    """

    def __init__(self, routed: list[Routed], out: Array | None, together: _Together | None = None):
        self.routed = routed
        self.indices = [each.operation.indices for each in routed if isinstance(each.operation, Gather)]
        self._out = out
        self._together = together

    @classmethod
    def of_one(cls, variable: VariableBase, gather: Gather, out: Array | None) -> RowsRead:
        """Returns the read of a variable that is not cut, which checks have passed."""
        return cls([Routed(variable.ps_task, gather, reply_bytes(gather, variable.spec))], out)

    @classmethod
    def of_parts(
        cls,
        cut: Cut,
        parts: Sequence[VariableBase],
        places: Array,
        out: Array | None,
        wire_dtype: WireDTypeName | None,
    ) -> RowsRead:
        """Returns the read of places ``[..., depth]`` of a variable in parts.

        Raises:
            InvalidArgumentError: A place is outside of the variable, or ``out`` does not fit, or overlaps ``places``.
        """
        outer, depth = places.shape[:-1], places.shape[-1]
        shape = (*outer, *cut.spec.shape[depth:])
        if out is not None:
            check_out(out, cut.spec, shape)
            if np.may_share_memory(places, out):
                raise overlaps_indices(cut.spec.name)
        shares = cut.shares(places, reading=True)
        is_whole = len(shares) == 1 and shares[0].selection == (_ALL,)
        routed = []
        for share in shares:
            part = parts[share.part]
            rows = row_operations.flat_rows(part.spec, share.places)
            indices, target = (rows.reshape(outer), direct_target(out)) if is_whole else (rows, None)
            gather = Gather(part.spec.name, indices, depth, part.pull_wire(wire_dtype), target)
            routed.append(Routed(part.ps_task, gather, reply_bytes(gather, part.spec)))
        if is_whole:
            return cls(routed, out)
        flat_shape = (math.prod(outer), *cut.spec.shape[depth:])
        return cls(routed, out, _Together([each.selection for each in shares], shape, flat_shape, cut.spec.dtype))

    def value(self, results: Iterable[Result]) -> Array:
        """Returns the rows, given what the reads were answered."""
        if self._together is None:
            (result,) = results
            return received(result, self._out)
        rows = self._together.rows([received(result, None) for result in results], direct_target(self._out))
        if self._out is None or rows is self._out:
            return rows
        np.copyto(self._out, rows)
        return self._out


@dataclass(frozen=True, slots=True)
class _Together:
    """How the rows of several parts come together.

    Attributes:
        selections: Where those of each part belong in the flat result.
        shape: Of the result.
        flat_shape: The same elements with all places along one dimension.
        dtype: Of the elements.
    """

    selections: list[tuple[Any, ...]]
    shape: tuple[int, ...]
    flat_shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def rows(self, found: Sequence[Array], target: Array | None) -> Array:
        """Returns the result, in ``target`` if there is one, which is in C order."""
        whole: Array = np.empty(self.shape, self.dtype) if target is None else target
        flat = whole.reshape(self.flat_shape)
        for rows, selection in zip(found, self.selections, strict=True):
            flat[selection] = rows
        return whole


def read(runner: OperationRunner, reads: Sequence[RowsRead]) -> list[Array]:
    """Returns the rows: one exchange for each ps task, all tasks at once."""
    results = iter(runner.run_all([routed for each in reads for routed in each.routed]))
    return [each.value([next(results) for _ in each.routed]) for each in reads]


def row_values(
    cut: Cut, parts: Sequence[VariableBase], rows: Array, values: Array
) -> list[tuple[Any, tuple[Array, ...]]]:
    """Returns for each part its rows and their values; of a part that has none of the rows, none.

    Args:
        cut: How the variable is cut.
        parts: The parts.
        rows: Row numbers in the whole, ``[n]``.
        values: ``[n, *row]``.

    Raises:
        InvalidArgumentError: A row is outside of the variable.
    """
    found: list[tuple[Any, tuple[Array, ...]]] = []
    for index, part in enumerate(parts):
        share = cut.share(rows.reshape(-1, 1), index)
        piece = np.ascontiguousarray(values[share.selection])
        found.append((part, (row_operations.flat_rows(part.spec, share.places), piece)))
    return found


def scatters(
    cut: Cut,
    parts: Sequence[VariableBase],
    rule: ScatterRule,
    places: Array,
    values: Array,
    wire_dtype: WireDTypeName | None,
    *,
    copy: bool,
) -> list[Routed]:
    """Returns the updates of places ``[..., depth]`` of a variable in parts, for all parts that have any.

    Args:
        cut: How it is cut.
        parts: The parts.
        rule: What to do with each place and its value.
        places: Where, in the whole.
        values: Of the variable's dtype, ``[..., *row]``, or a scalar.
        wire_dtype: The form in which they travel; None for that of each part.
        copy: Whether the updates must outlive the caller's hold on ``values``.

    Raises:
        InvalidArgumentError: A place is outside of the variable, or integers would be divided by zero.
    """
    depth = places.shape[-1]
    if places.size:
        _check_divisors(cut.spec, rule, values)
    flat = values.reshape(math.prod(places.shape[:-1]), *cut.spec.shape[depth:]) if values.ndim else values
    routed = []
    for share in cut.shares(places):
        part = parts[share.part]
        piece = flat[share.selection] if flat.ndim else flat
        rows = row_operations.flat_rows(part.spec, share.places)
        wire = wire_of(piece, part.push_wire(wire_dtype))
        scatter = Scatter(part.spec.name, rule, rows, piece.copy() if copy else piece, depth, wire)
        routed.append(Routed(part.ps_task, scatter))
    return routed


def _check_divisors(spec: VariableSpec, rule: ScatterRule, values: Array) -> None:
    """Refuses what one ps task would refuse after others had carried out their share."""
    if rule is ScatterRule.DIV and dtype_category(spec.dtype) is DTypeCategory.INTEGER and not values.all():
        raise InvalidArgumentError(
            f"scatter_div would divide rows of variable {spec} by zero; nothing was changed", variable=spec.name
        )
