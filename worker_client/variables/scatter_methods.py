"""The methods that update rows and elements, of variables that act at once, whole and partitioned."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, cast, overload

import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import ScatterRule, VariableSpec
from worker_client.connection.completes import Completes
from worker_client.values.conversion import IndexedSlices
from worker_client.values.made_functions import named
from worker_client.values.wire_names import WireDTypeName

RowsLike: TypeAlias = npt.ArrayLike | IndexedSlices
Updates: TypeAlias = npt.ArrayLike | None
Form: TypeAlias = WireDTypeName | None
"""The form in which values travel; None for the one that the variable has for its updates."""

_V = TypeVar("_V", bound="ScatterMethods")


class _Scatter(Protocol[_V]):
    @overload
    def __call__(
        self,
        indices: RowsLike,
        updates: Updates = None,
        *,
        wait: Literal[True] = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> _V: ...
    @overload
    def __call__(
        self, indices: RowsLike, updates: Updates = None, *, wait: Literal[False], wire_dtype: Form = None
    ) -> Future[_V]: ...


class _ScatterMethod(Protocol):
    def __get__(self, variable: _V, kind: type[_V]) -> _Scatter[_V]: ...


def _scattering(method: str, public_name: str, rule: ScatterRule, doc: str) -> _ScatterMethod:
    """Returns a method that updates rows (``scatter``) or elements (``scatter_nd``) by a rule."""

    def scatter(
        self: ScatterMethods,
        indices: RowsLike,
        updates: Updates = None,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Any:
        return getattr(self, method)(rule, indices, updates, wait=wait, wire_dtype=wire_dtype, completes=completes)

    return cast("_ScatterMethod", named(scatter, public_name, doc))


def _rows(rule: ScatterRule, doc: str) -> _ScatterMethod:
    like = "" if rule is ScatterRule.UPDATE else " As ``scatter_update``."
    return _scattering("scatter", f"scatter_{rule.name.lower()}", rule, doc + like)


def _elements(rule: ScatterRule, doc: str) -> _ScatterMethod:
    like = "" if rule is ScatterRule.UPDATE else " As ``scatter_nd_update``."
    return _scattering("scatter_nd", f"scatter_nd_{rule.name.lower()}", rule, doc + like)


class ScatterMethods:
    """Updates rows and elements by rules. Thread-safe."""

    scatter_update = _rows(
        ScatterRule.UPDATE,
        """Replaces rows; of a row given twice the last one stays.

        Args:
            indices: Integers of any shape, each in ``[0, shape[0])``; or ``IndexedSlices``, without ``updates``.
            updates: Shape ``[*indices.shape, *shape[1:]]``, or a scalar.
            wait: As in ``assign``.
            wire_dtype: The form in which the updates travel, as in ``assign``; each is rounded on its own.
            completes: As in ``assign_add``.

        Returns:
            The variable itself, or a future of it.

        Raises:
            InvalidArgumentError: An index is out of range; nothing has changed.
            ShapeMismatchError: ``updates`` does not fit ``indices``.
            DTypeMismatchError: The conversion would change the kind of number.
        """,
    )
    scatter_add = _rows(ScatterRule.ADD, "Adds to rows; a row given twice counts twice.")
    scatter_sub = _rows(ScatterRule.SUB, "Subtracts from rows; a row given twice counts twice.")
    scatter_mul = _rows(ScatterRule.MUL, "Multiplies rows; a row given twice is multiplied twice.")
    scatter_div = _rows(ScatterRule.DIV, "Divides rows, integers towards zero; a row given twice counts twice.")
    scatter_min = _rows(ScatterRule.MIN, "Lowers rows to ``updates`` where that is less.")
    scatter_max = _rows(ScatterRule.MAX, "Raises rows to ``updates`` where that is more.")

    scatter_nd_update = _elements(
        ScatterRule.UPDATE,
        """Replaces slices or single elements, in one step on each ps task; of one given twice the last one stays.

        Args:
            indices: Shape ``[..., depth]``: each names a slice by its place in the first ``depth`` dimensions.
            updates: Shape ``[*indices.shape[:-1], *shape[depth:]]``, or a scalar.
            wait: As in ``assign``.
            wire_dtype: As in ``scatter_update``.
            completes: As in ``assign_add``.

        Returns:
            The variable itself, or a future of it.

        Raises:
            InvalidArgumentError: An index is out of range; nothing has changed.
            ShapeMismatchError: ``indices`` or ``updates`` do not fit.
            DTypeMismatchError: The conversion would change the kind of number.
        """,
    )
    scatter_nd_add = _elements(ScatterRule.ADD, "Adds to slices or elements; one given twice counts twice.")
    scatter_nd_sub = _elements(ScatterRule.SUB, "Subtracts from slices or elements; one given twice counts twice.")

    def scatter(
        self,
        rule: ScatterRule,
        indices: RowsLike,
        updates: Updates = None,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Any:
        """Updates rows by any rule; otherwise as ``scatter_update``."""
        raise NotImplementedError

    def scatter_nd(
        self,
        rule: ScatterRule,
        indices: RowsLike,
        updates: Updates = None,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Any:
        """Updates slices or elements by any rule; otherwise as ``scatter_nd_update``."""
        raise NotImplementedError

    def batch_scatter_update(
        self, indices: RowsLike, updates: Updates = None, *, wait: bool = True, wire_dtype: Form = None
    ) -> Any:
        """Replaces rows within each element of a batch.

        Args:
            indices: Shape ``[*batch, n]``: row numbers within the variable at the same place of the batch; or
                ``IndexedSlices``, without ``updates``.
            updates: Shape ``[*batch, n, ...]``.
            wait: As in ``assign``.
            wire_dtype: As in ``scatter_update``.

        Raises:
            InvalidArgumentError: As ``scatter_nd_update``; so for the others.
        """
        raise NotImplementedError


def indices_and_updates(spec: VariableSpec, indices: RowsLike, updates: Updates) -> tuple[npt.ArrayLike, npt.ArrayLike]:
    """Returns what a scatter was given as two arguments, or as one; InvalidArgumentError if it is neither."""
    if isinstance(indices, IndexedSlices):
        if updates is not None:
            raise InvalidArgumentError(
                f"variable {spec.name}: IndexedSlices hold their updates; give no second argument", variable=spec.name
            )
        return indices.indices, indices.values
    if updates is None:
        raise InvalidArgumentError(f"variable {spec.name}: the updates of the rows are missing", variable=spec.name)
    return indices, updates
