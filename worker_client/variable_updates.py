"""The ways to update a variable."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal, Self, TypeAlias, overload

import numpy.typing as npt

from ps_protocol.errors import InvalidArgumentError, ShapeMismatchError
from ps_protocol.operations import Array, Scatter, ScatterRule, Update, UpdateRule, WireDType
from worker_client.futures import mapped
from worker_client.push_buffers import push_buffer
from worker_client.values import IndexedSlices, convert, row_indices
from worker_client.variable_wire import VariableWire
from worker_client.wire_names import WireDTypeName, wire_of

Rows: TypeAlias = npt.ArrayLike | IndexedSlices
Updates: TypeAlias = npt.ArrayLike | None
Wire: TypeAlias = WireDTypeName | None


class VariableUpdates(VariableWire):
    """Replaces, adds to and scatters into a value. Thread-safe."""

    def push_buffer(self) -> Array:
        """Returns an array to compute updates in: writable, of the variable's dtype and shape, its content undefined.

        From a worker on the same host as the variable's ps task, it is memory that is shared with the ps. An update
        whose values lie in it, all of it or a contiguous part that begins at a multiple of 16 bytes, is not copied on
        its way: leave it alone until the call has returned. Use it as often as you like; after a call that raised
        DeadlineExceededError or UnavailableError, get a new one, since the ps may still read this one. From elsewhere
        it is an ordinary array.
        """
        return push_buffer(self)

    @overload
    def assign(self, value: npt.ArrayLike, *, wait: Literal[True] = True, wire_dtype: Wire = None) -> Self: ...
    @overload
    def assign(self, value: npt.ArrayLike, *, wait: Literal[False], wire_dtype: Wire = None) -> Future[Self]: ...
    def assign(self, value: npt.ArrayLike, *, wait: bool = True, wire_dtype: Wire = None) -> Self | Future[Self]:
        """Replaces the value; also initialises.

        Args:
            value: Of the variable's shape; numbers are converted to its dtype if that keeps their kind
                (float64 to float32, but not float to int).
            wait: Whether to wait until the ps has applied it. If not, ``value`` is copied and a future is returned.
            wire_dtype: The form in which the value travels, of float32 and float64 variables: "exact", "bfloat16",
                "float16" or "int8"; None stands for ``push_dtype``.

        Returns:
            The variable itself, or a future of it.

        Raises:
            ShapeMismatchError: The shape differs.
            DTypeMismatchError: The conversion would change the kind of number.
            InvalidArgumentError: There is no such ``wire_dtype``, or none for the variable's dtype.
        """
        return self._update(UpdateRule.ASSIGN, value, wait, wire_dtype)

    @overload
    def assign_add(self, delta: npt.ArrayLike, *, wait: Literal[True] = True, wire_dtype: Wire = None) -> Self: ...
    @overload
    def assign_add(self, delta: npt.ArrayLike, *, wait: Literal[False], wire_dtype: Wire = None) -> Future[Self]: ...
    def assign_add(self, delta: npt.ArrayLike, *, wait: bool = True, wire_dtype: Wire = None) -> Self | Future[Self]:
        """Adds ``delta``, a scalar or of the variable's shape. Counts exactly once; otherwise as ``assign``.

        What a lossy ``wire_dtype`` takes from a delta is kept here, for one array of memory, and added to the next one
        that travels so: the sum of many differs from the exact one by one rounding. A scalar travels exactly.
        """
        return self._update(UpdateRule.ASSIGN_ADD, delta, wait, wire_dtype)

    @overload
    def assign_sub(self, delta: npt.ArrayLike, *, wait: Literal[True] = True, wire_dtype: Wire = None) -> Self: ...
    @overload
    def assign_sub(self, delta: npt.ArrayLike, *, wait: Literal[False], wire_dtype: Wire = None) -> Future[Self]: ...
    def assign_sub(self, delta: npt.ArrayLike, *, wait: bool = True, wire_dtype: Wire = None) -> Self | Future[Self]:
        """Subtracts ``delta``; otherwise as ``assign_add``."""
        return self._update(UpdateRule.ASSIGN_SUB, delta, wait, wire_dtype)

    @overload
    def scatter_update(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True, wire_dtype: Wire = None
    ) -> Self: ...
    @overload
    def scatter_update(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[False], wire_dtype: Wire = None
    ) -> Future[Self]: ...
    def scatter_update(
        self, indices: Rows, updates: Updates = None, *, wait: bool = True, wire_dtype: Wire = None
    ) -> Self | Future[Self]:
        """Replaces rows; of a row given twice the last one stays.

        Args:
            indices: Integers of any shape, each in ``[0, shape[0])``; or ``IndexedSlices``, without ``updates``.
            updates: Shape ``[*indices.shape, *shape[1:]]``, or a scalar.
            wait: As in ``assign``.
            wire_dtype: The form in which the updates travel, as in ``assign``; each is rounded on its own.

        Returns:
            The variable itself, or a future of it.

        Raises:
            InvalidArgumentError: An index is out of range; nothing has changed.
            ShapeMismatchError: ``updates`` does not fit ``indices``.
            DTypeMismatchError: The conversion would change the kind of number.
        """
        return self._scatter(ScatterRule.UPDATE, indices, updates, wait, wire_dtype)

    @overload
    def scatter_add(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True, wire_dtype: Wire = None
    ) -> Self: ...
    @overload
    def scatter_add(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[False], wire_dtype: Wire = None
    ) -> Future[Self]: ...
    def scatter_add(
        self, indices: Rows, updates: Updates = None, *, wait: bool = True, wire_dtype: Wire = None
    ) -> Self | Future[Self]:
        """Adds to rows; a row given twice counts twice. As ``scatter_update``."""
        return self._scatter(ScatterRule.ADD, indices, updates, wait, wire_dtype)

    @overload
    def scatter_sub(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True, wire_dtype: Wire = None
    ) -> Self: ...
    @overload
    def scatter_sub(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[False], wire_dtype: Wire = None
    ) -> Future[Self]: ...
    def scatter_sub(
        self, indices: Rows, updates: Updates = None, *, wait: bool = True, wire_dtype: Wire = None
    ) -> Self | Future[Self]:
        """Subtracts from rows; a row given twice counts twice. As ``scatter_update``."""
        return self._scatter(ScatterRule.SUB, indices, updates, wait, wire_dtype)

    @overload
    def scatter_mul(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True, wire_dtype: Wire = None
    ) -> Self: ...
    @overload
    def scatter_mul(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[False], wire_dtype: Wire = None
    ) -> Future[Self]: ...
    def scatter_mul(
        self, indices: Rows, updates: Updates = None, *, wait: bool = True, wire_dtype: Wire = None
    ) -> Self | Future[Self]:
        """Multiplies rows; a row given twice is multiplied twice. As ``scatter_update``."""
        return self._scatter(ScatterRule.MUL, indices, updates, wait, wire_dtype)

    @overload
    def scatter_div(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True, wire_dtype: Wire = None
    ) -> Self: ...
    @overload
    def scatter_div(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[False], wire_dtype: Wire = None
    ) -> Future[Self]: ...
    def scatter_div(
        self, indices: Rows, updates: Updates = None, *, wait: bool = True, wire_dtype: Wire = None
    ) -> Self | Future[Self]:
        """Divides rows; a row given twice is divided twice. Integers divide towards zero. As ``scatter_update``."""
        return self._scatter(ScatterRule.DIV, indices, updates, wait, wire_dtype)

    @overload
    def scatter_min(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True, wire_dtype: Wire = None
    ) -> Self: ...
    @overload
    def scatter_min(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[False], wire_dtype: Wire = None
    ) -> Future[Self]: ...
    def scatter_min(
        self, indices: Rows, updates: Updates = None, *, wait: bool = True, wire_dtype: Wire = None
    ) -> Self | Future[Self]:
        """Lowers rows to ``updates`` where that is less. As ``scatter_update``."""
        return self._scatter(ScatterRule.MIN, indices, updates, wait, wire_dtype)

    @overload
    def scatter_max(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[True] = True, wire_dtype: Wire = None
    ) -> Self: ...
    @overload
    def scatter_max(
        self, indices: Rows, updates: Updates = None, *, wait: Literal[False], wire_dtype: Wire = None
    ) -> Future[Self]: ...
    def scatter_max(
        self, indices: Rows, updates: Updates = None, *, wait: bool = True, wire_dtype: Wire = None
    ) -> Self | Future[Self]:
        """Raises rows to ``updates`` where that is more. As ``scatter_update``."""
        return self._scatter(ScatterRule.MAX, indices, updates, wait, wire_dtype)

    # -- what goes to the ps ------------------------------------------------------------------

    def update(self, rule: UpdateRule, value: npt.ArrayLike, *, copy: bool, wire_dtype: Wire = None) -> Update:
        """Returns the operation that a batch carries, checked against the spec.

        Args:
            rule: What to do with the value.
            value: As in ``assign`` and ``assign_add``.
            copy: Whether the operation must outlive the caller's hold on ``value``.
            wire_dtype: As in ``assign``.
        """
        wire = self.push_wire(wire_dtype)
        array = convert(value, self.spec, copy=copy)
        is_delta = rule is not UpdateRule.ASSIGN
        if array.shape != self.spec.shape and not (is_delta and array.shape == ()):
            raise ShapeMismatchError(
                f"{rule.name.lower()} of variable {self.spec.name}: the value has shape {list(array.shape)}, "
                f"the variable {list(self.spec.shape)}",
                variable=self.spec.name,
            )
        return Update(self.spec.name, rule, array, wire_of(array, wire))

    def _update(self, rule: UpdateRule, value: npt.ArrayLike, wait: bool, wire_dtype: Wire) -> Self | Future[Self]:
        update = self.update(rule, value, copy=not wait, wire_dtype=wire_dtype)
        if update.wire is WireDType.EXACT and rule is not UpdateRule.ASSIGN:
            return self._apply(update, wait)  # leaves nothing behind, so there is nothing to roll back
        push = self.push(update)
        try:
            applied = self._apply(push.operation, wait)
        except BaseException:
            push.roll_back()
            raise
        return mapped(applied, lambda done: done, push.roll_back) if isinstance(applied, Future) else applied

    def _scatter(
        self, rule: ScatterRule, indices: Rows, updates: Updates, wait: bool, wire_dtype: Wire
    ) -> Self | Future[Self]:
        wire = self.push_wire(wire_dtype)
        if isinstance(indices, IndexedSlices):
            if updates is not None:
                raise InvalidArgumentError(
                    f"variable {self.spec.name}: IndexedSlices hold their updates; give no second argument"
                )
            slices = indices
            indices, updates = slices.indices, slices.values
        elif updates is None:
            raise InvalidArgumentError(f"variable {self.spec.name}: the updates of the rows are missing")
        rows, values = row_indices(indices, self.spec, copy=not wait), convert(updates, self.spec, copy=not wait)
        if values.shape not in ((), (*rows.shape, *self.spec.shape[1:])):
            raise ShapeMismatchError(
                f"scatter_{rule.name.lower()} of variable {self.spec.name}: updates have shape {list(values.shape)}, "
                f"needed is {[*rows.shape, *self.spec.shape[1:]]} for indices {list(rows.shape)}, or a scalar",
                variable=self.spec.name,
            )
        return self._apply(Scatter(self.spec.name, rule, rows, values, wire=wire_of(values, wire)), wait)

    def _apply(self, operation: Update | Scatter, wait: bool) -> Self | Future[Self]:
        if wait:
            self.run(operation)
            return self
        return mapped(self._runner.run_later(self.ps_task, operation), lambda _: self)
