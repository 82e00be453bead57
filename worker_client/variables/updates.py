"""The ways to update a variable."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Literal, Self, overload

import numpy as np
import numpy.typing as npt

from ps_protocol.errors import ShapeMismatchError
from ps_protocol.memory.regions import INLINE_LIMIT_BYTES
from ps_protocol.operations import Array, Scatter, ScatterRule, Update, UpdateRule, WireDType
from worker_client.connection.completes import Completes, exchange_of
from worker_client.connection.fanout import Routed, succeeded
from worker_client.connection.futures import mapped
from worker_client.values.conversion import IndexedSlices, convert, row_indices
from worker_client.values.wire_names import wire_of
from worker_client.variables import row_operations
from worker_client.variables.base import VariableBase
from worker_client.variables.scatter_methods import Form, RowsLike, ScatterMethods, Updates, indices_and_updates


class VariableUpdates(ScatterMethods, VariableBase):
    """Replaces, adds to and scatters into a value. Thread-safe."""

    def push_buffer(self) -> Array:
        """Returns an array to compute updates in: writable, of the variable's dtype and shape, its content undefined.

        From a worker on the same host as the variable's ps task, it is memory that is shared with the ps. An update
        whose values lie in it, all of it or a contiguous part that begins at a multiple of 16 bytes, is not copied on
        its way: leave it alone until the call has returned. Use it as often as you like; after a call that raised
        DeadlineExceededError or UnavailableError, get a new one, since the ps may still read this one. The memory is
        given back when neither the array nor a view of it is left. From elsewhere it is an ordinary array.
        """
        memory = None
        if self.spec.size_bytes >= INLINE_LIMIT_BYTES:  # smaller updates travel on the socket, wherever they lie
            memory = self.runner.new_buffer(self.ps_task, self.spec.size_bytes)
        if memory is None:
            return np.empty(self.spec.shape, self.spec.dtype)
        return memory.view(self.spec.dtype).reshape(self.spec.shape)

    @overload
    def assign(self, value: npt.ArrayLike, *, wait: Literal[True] = True, wire_dtype: Form = None) -> Self: ...
    @overload
    def assign(self, value: npt.ArrayLike, *, wait: Literal[False], wire_dtype: Form = None) -> Future[Self]: ...
    def assign(self, value: npt.ArrayLike, *, wait: bool = True, wire_dtype: Form = None) -> Self | Future[Self]:
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
    def assign_add(
        self,
        delta: npt.ArrayLike,
        *,
        wait: Literal[True] = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Self: ...
    @overload
    def assign_add(self, delta: npt.ArrayLike, *, wait: Literal[False], wire_dtype: Form = None) -> Future[Self]: ...
    def assign_add(
        self,
        delta: npt.ArrayLike,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Self | Future[Self]:
        """Adds ``delta``, a scalar or of the variable's shape. Counts exactly once; otherwise as ``assign``.

        What a lossy ``wire_dtype`` takes from a delta is kept here, for one array of memory, and added to the next one
        that travels so: the sum of many differs from the exact one by one rounding. A scalar travels exactly.

        Args:
            delta: What to add.
            wait: As in ``assign``.
            wire_dtype: Likewise.
            completes: A shard of ``ss.data.Shards`` that is handed in with this update, or a piece of one: both count,
                or neither does. With ``wait``.

        Raises:
            AbortedError: This worker has lost the shard to another one; nothing was changed.
            FailedPreconditionError: It has handed the shard in already; nothing was changed.
        """
        return self._update(UpdateRule.ASSIGN_ADD, delta, wait, wire_dtype, completes)

    @overload
    def assign_sub(self, delta: npt.ArrayLike, *, wait: Literal[True] = True, wire_dtype: Form = None) -> Self: ...
    @overload
    def assign_sub(self, delta: npt.ArrayLike, *, wait: Literal[False], wire_dtype: Form = None) -> Future[Self]: ...
    def assign_sub(self, delta: npt.ArrayLike, *, wait: bool = True, wire_dtype: Form = None) -> Self | Future[Self]:
        """Subtracts ``delta``; otherwise as ``assign_add``."""
        return self._update(UpdateRule.ASSIGN_SUB, delta, wait, wire_dtype)

    # -- what goes to the ps ------------------------------------------------------------------

    def update(self, rule: UpdateRule, value: npt.ArrayLike, *, copy: bool, wire_dtype: Form = None) -> Update:
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

    def _update(
        self,
        rule: UpdateRule,
        value: npt.ArrayLike,
        wait: bool,
        wire_dtype: Form,
        completes: Completes | None = None,
    ) -> Self | Future[Self]:
        update = self.update(rule, value, copy=not wait, wire_dtype=wire_dtype)
        if update.wire is WireDType.EXACT and rule is not UpdateRule.ASSIGN:
            return self._apply(update, wait, completes)  # leaves nothing behind, so there is nothing to roll back
        push = self.push(update)
        try:
            applied = self._apply(push.operation, wait, completes)
        except BaseException:
            push.roll_back()
            raise
        return mapped(applied, lambda done: done, push.roll_back) if isinstance(applied, Future) else applied

    def scatter(
        self,
        rule: ScatterRule,
        indices: RowsLike,
        updates: Updates = None,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Self | Future[Self]:
        wire = self.push_wire(wire_dtype)
        rows, values = indices_and_updates(self.spec, indices, updates)
        scatter = row_operations.scatter(self.spec, rule, rows, values, wire=wire, copy=not wait)
        return self._apply(scatter, wait, completes)

    def scatter_nd(
        self,
        rule: ScatterRule,
        indices: RowsLike,
        updates: Updates = None,
        *,
        wait: bool = True,
        wire_dtype: Form = None,
        completes: Completes | None = None,
    ) -> Self | Future[Self]:
        wire = self.push_wire(wire_dtype)
        places, values = indices_and_updates(self.spec, indices, updates)
        scatter = row_operations.scatter_nd(self.spec, rule, places, values, wire=wire, copy=not wait)
        return self._apply(scatter, wait, completes)

    def part_scatters(
        self, rule: ScatterRule, slices: IndexedSlices, *, copy: bool, wire_dtype: Form = None
    ) -> list[Routed]:
        """Returns the update of some rows, and where it goes; what could be refused is checked here.

        Raises:
            InvalidArgumentError: A row is outside of the variable.
            ShapeMismatchError: The values do not fit the rows, or the variable has none.
            DTypeMismatchError: As of ``scatter``.
        """
        places = row_indices(slices.indices, self.spec)[..., np.newaxis]
        wire = self.push_wire(wire_dtype)
        return [
            Routed(
                self.ps_task, row_operations.scatter_nd(self.spec, rule, places, slices.values, wire=wire, copy=copy)
            )
        ]

    def batch_scatter_update(
        self, indices: RowsLike, updates: Updates = None, *, wait: bool = True, wire_dtype: Form = None
    ) -> Self | Future[Self]:
        wire = self.push_wire(wire_dtype)
        rows, values = indices_and_updates(self.spec, indices, updates)
        return self._apply(row_operations.batch_scatter_update(self.spec, rows, values, wire=wire, copy=not wait), wait)

    def _apply(
        self, operation: Update | Scatter, wait: bool, completes: Completes | None = None
    ) -> Self | Future[Self]:
        if completes is not None:
            (reply,) = exchange_of(self.runner, completes, wait=wait)([Routed(self.ps_task, operation)])
            succeeded(reply)
            return self
        if wait:
            self.run(operation)
            return self
        return mapped(self.runner.run_later(self.ps_task, operation), lambda _: self)
