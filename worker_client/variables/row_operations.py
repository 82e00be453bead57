"""Reads and updates of rows and elements, from the index forms of TensorFlow to the one that the ps carries out.

A ps gathers and scatters rows, which are slices along the first dimensions taken as one. So whatever the depth of the
indices, it is one operation, atomic like all others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Array, Gather, Scatter, ScatterRule, VariableSpec, WireDType
from ps_protocol.out_arrays import check_out
from worker_client.values.conversion import convert, row_indices
from worker_client.values.out_arrays import direct_target, overlaps_indices
from worker_client.values.shapes import TensorShape
from worker_client.values.wire_names import wire_of


def gather(spec: VariableSpec, indices: Any, *, wire: WireDType = WireDType.EXACT, out: Array | None = None) -> Gather:
    """Returns the operation that reads rows.

    Args:
        spec: Of the variable.
        indices: Row numbers, of any shape.
        wire: The form in which the rows travel.
        out: Where they are to be put.

    Raises:
        DTypeMismatchError: ``indices`` are no integers.
        InvalidArgumentError: ``out`` is no writable array of the right dtype and shape, or overlaps ``indices``.
        ShapeMismatchError: The variable is a scalar.
    """
    rows = rows_of(spec, indices)
    if out is not None:
        check_out(out, spec, (*rows.shape, *spec.shape[1:]))
        if np.may_share_memory(rows, out):
            raise overlaps_indices(spec.name)
    return Gather(spec.name, rows, wire=wire, out=direct_target(out))


def rows_of(spec: VariableSpec, indices: Any) -> Array:
    """Returns row numbers as an array; errors as of ``gather``."""
    rows = row_indices(indices, spec)
    if not spec.shape:
        check_depth(spec, 1)
    return rows


def gather_nd(
    spec: VariableSpec, indices: Any, *, wire: WireDType = WireDType.EXACT, out: Array | None = None
) -> Gather:
    """Returns the operation that reads slices or single elements.

    Args:
        spec: Of the variable.
        indices: Shape ``[..., depth]``: each names a slice by its place in the first ``depth`` dimensions.
        wire: The form in which they travel.
        out: Where they are to be put.

    Raises:
        InvalidArgumentError: An index is outside of the variable, or ``out`` does not fit.
        DTypeMismatchError: ``indices`` are no integers.
        ShapeMismatchError: Their last dimension does not fit the variable.
    """
    places = places_of(spec, indices)
    depth = places.shape[-1]
    if out is not None:
        check_out(out, spec, (*places.shape[:-1], *spec.shape[depth:]))
    return Gather(spec.name, flat_rows(spec, places, reading=True), depth, wire=wire, out=direct_target(out))


def places_of(spec: VariableSpec, indices: Any, *, copy: bool = False) -> Array:
    """Returns the indices of ``gather_nd`` and ``scatter_nd`` as an array; errors as of ``gather_nd``."""
    places = row_indices(indices, spec, copy=copy)
    index_depth(spec, TensorShape(places.shape))
    return places


def scatter(
    spec: VariableSpec,
    rule: ScatterRule,
    indices: Any,
    updates: Any,
    *,
    wire: WireDType = WireDType.EXACT,
    copy: bool = False,
) -> Scatter:
    """Returns the operation that updates rows.

    Args:
        spec: Of the variable.
        rule: What to do with each row and its update.
        indices: Row numbers, of any shape.
        updates: Shape ``[*indices.shape, *spec.shape[1:]]``, or a scalar.
        wire: The form in which the updates travel.
        copy: Whether the operation must outlive the caller's hold on ``indices`` and ``updates``.

    Raises:
        DTypeMismatchError: ``indices`` are no integers, or ``updates`` of another kind of numbers.
        ShapeMismatchError: ``updates`` do not fit.
    """
    rows, values = rows_and_values(spec, indices, updates, copy=copy)
    return Scatter(spec.name, rule, rows, values, wire=wire_of(values, wire))


def rows_and_values(spec: VariableSpec, indices: Any, updates: Any, *, copy: bool) -> tuple[Array, Array]:
    """Returns the arguments of ``scatter`` as arrays; errors as there."""
    rows, values = row_indices(indices, spec, copy=copy), convert(updates, spec, copy=copy)
    _check_arrays(spec, rows.shape, values, 1)
    return rows, values


def scatter_nd(
    spec: VariableSpec,
    rule: ScatterRule,
    indices: Any,
    updates: Any,
    *,
    wire: WireDType = WireDType.EXACT,
    copy: bool = False,
) -> Scatter:
    """Returns the operation that updates slices or single elements.

    Args:
        spec: Of the variable.
        rule: What to do with each slice and its update.
        indices: Shape ``[..., depth]``: each names a slice by its place in the first ``depth`` dimensions.
        updates: Shape ``[*indices.shape[:-1], *spec.shape[depth:]]``, or a scalar.
        wire: As in ``scatter``.
        copy: As in ``scatter``.

    Raises:
        InvalidArgumentError: An index is outside of the variable.
        DTypeMismatchError: As ``scatter``.
        ShapeMismatchError: ``indices`` or ``updates`` do not fit.
    """
    places, values = places_and_values(spec, indices, updates, copy=copy)
    return Scatter(spec.name, rule, flat_rows(spec, places), values, places.shape[-1], wire_of(values, wire))


def places_and_values(spec: VariableSpec, indices: Any, updates: Any, *, copy: bool) -> tuple[Array, Array]:
    """Returns the arguments of ``scatter_nd`` as arrays; errors as there."""
    places, values = places_of(spec, indices, copy=copy), convert(updates, spec, copy=copy)
    _check_arrays(spec, places.shape[:-1], values, places.shape[-1])
    return places, values


def batch_scatter_update(
    spec: VariableSpec, indices: Any, updates: Any, *, wire: WireDType = WireDType.EXACT, copy: bool = False
) -> Scatter:
    """Returns the operation that replaces rows within each element of a batch.

    Args:
        spec: Of the variable, ``[*batch, rows, ...]``.
        indices: Shape ``[*batch, n]``: row numbers within the variable at the same place of the batch.
        updates: Shape ``[*batch, n, ...]``.
        wire: As in ``scatter``.
        copy: As in ``scatter``.

    Raises:
        InvalidArgumentError: An index is outside of the variable.
        DTypeMismatchError: As ``scatter``.
        ShapeMismatchError: ``indices`` or ``updates`` do not fit.
    """
    places, values = batch_places_and_values(spec, indices, updates, copy=copy)
    rows = flat_rows(spec, places)
    return Scatter(spec.name, ScatterRule.UPDATE, rows, values, places.shape[-1], wire_of(values, wire))


def batch_places_and_values(spec: VariableSpec, indices: Any, updates: Any, *, copy: bool) -> tuple[Array, Array]:
    """Returns the arguments of ``batch_scatter_update`` as those of ``scatter_nd``; errors as there."""
    rows, values = row_indices(indices, spec), convert(updates, spec, copy=copy)
    check_batch(spec, TensorShape(rows.shape), TensorShape(values.shape))
    return batch_places(rows), values


def batch_places(rows: Array) -> Array:
    """Returns the places of rows ``[*batch, n]``, each within its element of the batch."""
    return np.stack([*np.indices(rows.shape)[:-1], rows], axis=-1)


# -- checks, also before the values are known ------------------------------------------------------


def check_shapes(spec: VariableSpec, places: TensorShape, updates: TensorShape, depth: int) -> None:
    """Makes sure, as far as shapes are known, that there is an update for each place.

    Args:
        spec: Of the variable.
        places: Shape of what is updated, in slices.
        updates: Shape of the updates.
        depth: Number of dimensions that a place is counted through.

    Raises:
        ShapeMismatchError: There is not, or the variable has too few dimensions.
    """
    check_depth(spec, depth)
    if places.ndims is None or updates.ndims == 0:
        return
    expected = TensorShape([*places, *spec.shape[depth:]])
    if not updates.is_compatible_with(expected):
        raise ShapeMismatchError(
            f"variable {spec}: the updates have the shape {updates}, needed is {expected} or a scalar",
            variable=spec.name,
        )


def check_depth(spec: VariableSpec, depth: int) -> None:
    """Makes sure that places can be counted through some dimensions of a variable; ShapeMismatchError if not."""
    if depth > len(spec.shape):
        raise ShapeMismatchError(
            f"variable {spec} has {len(spec.shape)} dimensions, {depth} are needed to find its rows", variable=spec.name
        )


def index_depth(spec: VariableSpec, indices: TensorShape) -> int:
    """Returns how many dimensions the indices of ``scatter_nd`` count through.

    Raises:
        ShapeMismatchError: The last dimension of ``indices`` is not known, or not between 1 and the variable's rank.
    """
    depth = indices[-1] if indices.ndims else None
    if depth is None or not 1 <= depth <= len(spec.shape):
        raise ShapeMismatchError(
            f"variable {spec}: the indices have the shape {indices}; their last dimension has to be known, and between "
            f"1 and {len(spec.shape)}",
            variable=spec.name,
        )
    return int(depth)


def check_batch(spec: VariableSpec, indices: TensorShape, updates: TensorShape) -> None:
    """Makes sure of what ``batch_scatter_update`` needs, as far as shapes are known; ShapeMismatchError if not."""
    if not indices.ndims:
        raise ShapeMismatchError(
            f"variable {spec}: the indices have the shape {indices}; at least one dimension is needed",
            variable=spec.name,
        )
    check_shapes(spec, indices, updates, indices.ndims)
    batch = TensorShape(list(indices)[:-1])
    if not batch.is_compatible_with(spec.shape[: batch.ndims]):
        raise ShapeMismatchError(
            f"variable {spec}: the indices are for a batch {batch}, which its first dimensions are not",
            variable=spec.name,
        )


def with_row_shape(places: TensorShape, row: tuple[int, ...]) -> TensorShape:
    """Returns the shape of rows: that of the places they are at, as far as known, and that of one row."""
    return TensorShape() if places.ndims is None else TensorShape([*places, *row])


def _check_arrays(spec: VariableSpec, places: tuple[int, ...], updates: Array, depth: int) -> None:
    """Does what ``check_shapes`` does, sooner for what fits, since all is known."""
    if depth > len(spec.shape) or updates.shape not in ((), (*places, *spec.shape[depth:])):
        check_shapes(spec, TensorShape(places), TensorShape(updates.shape), depth)


def flat_rows(spec: VariableSpec, places: Array, *, reading: bool = False) -> Array:
    """Returns row numbers, in C order over the first dimensions, of places ``[..., depth]``.

    Args:
        spec: Of the variable.
        places: Of its rows or elements.
        reading: Whether nothing is to be changed there anyway, so that an error does not speak of it.

    Raises:
        InvalidArgumentError: A place is outside of the variable.
    """
    sizes = np.array(spec.shape[: places.shape[-1]], np.int64)
    outside = ((places < 0) | (places >= sizes)).any(axis=-1)
    if outside.any():
        raise InvalidArgumentError(
            f"index {places[outside][0].tolist()} is outside of variable {spec}"
            f"{'' if reading else '; nothing was changed'}",
            variable=spec.name,
        )
    strides = np.append(np.cumprod(sizes[:0:-1])[::-1], 1)
    return np.asarray(places.astype(np.int64) @ strides)
