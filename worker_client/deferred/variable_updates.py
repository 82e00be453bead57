"""Updates of a deferred variable. Each method adds an operation, which updates the variable each time it is run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

import numpy as np

from ps_protocol import operations
from ps_protocol.dtype_traits import DTypeCategory, dtype_category
from ps_protocol.errors import DTypeMismatchError, ShapeMismatchError
from ps_protocol.operations import Array, CountUpTo, Replace, Scatter, ScatterRule, Update, UpdateRule, VariableSpec
from worker_client.deferred.operands import constant_array, tensor_of
from worker_client.graph.operation import Operation, Tensor
from worker_client.values.conversion import IndexedSlices, convert, row_indices
from worker_client.values.shapes import TensorShape
from worker_client.values.text import graph_dtype, is_text, stored, text_array
from worker_client.variables import row_operations

ASSIGN_ATTRIBUTES: Final[Mapping[str, Any]] = {"use_locking": False, "validate_shape": True}


class DeferredVariableUpdates:
    """The updates of a ``DeferredVariable``. All are atomic, so that ``use_locking`` has no effect.

    What they return is the value afterwards, as a tensor. It is read back only if something asks for it, and then
    behind the update, so that updates of other workers may be in it.
    """

    __slots__ = ()

    spec: VariableSpec

    @property
    def shape(self) -> TensorShape:
        raise NotImplementedError

    # -- whole values -------------------------------------------------------------------------

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Any:
        """Replaces the value each time that a session runs it.

        Args:
            value: A tensor or an array of the variable's shape and dtype.
            use_locking: Ignored; updates are always atomic.
            name: Name of the operation.
            read_value: Whether to return the new value as a tensor, or else the operation.

        Raises:
            ShapeMismatchError: The shapes differ; it is a ValueError.
            DTypeMismatchError: The dtypes differ; it is a TypeError.
        """
        del use_locking
        return self._update(UpdateRule.ASSIGN, "Assign", value, name, read_value)

    def replace(self, value: Any, name: str | None = None) -> Tensor:
        """Replaces the value each time that a session runs it, and with it the shape, which may be another.

        Args:
            value: A tensor or an array of the variable's dtype.
            name: Name of the operation.

        Raises:
            DTypeMismatchError: The dtypes differ; it is a TypeError.
        """

        def request(_: int, value: Array) -> operations.PsOperation:
            return Replace(self.spec.name, stored(value) if is_text(value.dtype) else value)

        attributes = {**ASSIGN_ATTRIBUTES, "validate_shape": False}
        with self._scope(name or "Assign") as scope:
            given = self.updates_operand(value, "value")
            return self.mutating_op(
                "Assign", {"value": given}, request, scope, shape=shape_of(given), attributes=attributes
            ).outputs[0]

    def assign_add(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Adds ``delta`` each time that a session runs it; otherwise as ``assign``."""
        del use_locking
        return self._update(UpdateRule.ASSIGN_ADD, "AssignAdd", delta, name, read_value)

    def assign_sub(
        self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True
    ) -> Any:
        """Subtracts ``delta`` each time that a session runs it; otherwise as ``assign``."""
        del use_locking
        return self._update(UpdateRule.ASSIGN_SUB, "AssignSub", delta, name, read_value)

    def count_up_to(self, limit: int) -> Tensor:
        """Adds one to an integer scalar each time that a session runs it, in one step on the ps.

        Running it raises ``OutOfRangeError`` once the limit is reached, and then changes nothing.

        Args:
            limit: What it counts up to.

        Returns:
            The value before, so that of all workers together each gets a number of its own.

        Raises:
            DTypeMismatchError: The variable does not hold integers.
            ShapeMismatchError: It is not a scalar.
        """
        return self.counted(limit)

    def counted(self, limit: int, name: str | None = None) -> Tensor:
        """Does what ``count_up_to`` does, with a name for the operation."""
        check_counts(self.spec)
        request = CountUpTo(self.spec.name, int(limit))
        attributes = {"limit": request.limit}
        op = self.mutating_op("CountUpTo", {}, lambda _: request, name, answered=True, attributes=attributes)
        return op.outputs[0]

    def _update(self, rule: UpdateRule, op_type: str, value: Any, name: str | None, read_value: bool) -> Any:
        with self._scope(name or op_type) as scope:
            return self._updated(rule, op_type, self.operand(value, "value"), scope, read_value)

    def _updated(
        self, rule: UpdateRule, op_type: str, given: Tensor | Array, name: str | None, read_value: bool
    ) -> Any:
        operands = {"value": given, **({} if shape_of(given).ndims else self.shape_operand())}

        def request(_: int, value: Array, *current: Array) -> operations.PsOperation:
            array = self.checked(value)  # whose shape may be known only now
            if current and current[0].shape != array.shape:  # the ps would spread a scalar
                raise self._other_shape(TensorShape(array.shape), TensorShape(current[0].shape))
            if is_text(array.dtype):
                return Replace(self.spec.name, stored(array), keeps_shape=True)
            return Update(self.spec.name, rule, array)

        attributes = ASSIGN_ATTRIBUTES if rule is UpdateRule.ASSIGN else {"use_locking": False}
        shape = self.shape.merge_with(shape_of(given))
        op = self.mutating_op(op_type, operands, request, name, shape=shape, attributes=attributes)
        return op.outputs[0] if read_value else op

    # -- rows ---------------------------------------------------------------------------------

    def scatter_update(self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Replaces rows each time that a session runs it; of a row given twice the last one stays.

        Args:
            sparse_delta: Row numbers, and the rows to put there; arrays or tensors.
            use_locking: Ignored; updates are always atomic.
            name: Name of the operation.

        Raises:
            TypeError: ``sparse_delta`` is not ``IndexedSlices``, or the dtypes differ.
            ValueError: The shapes do not fit.
        """
        del use_locking
        return self._scatter_slices(ScatterRule.UPDATE, sparse_delta, name)

    def scatter_add(self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Adds to rows; a row given twice counts twice. Otherwise as ``scatter_update``."""
        del use_locking
        return self._scatter_slices(ScatterRule.ADD, sparse_delta, name)

    def scatter_sub(self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Subtracts from rows; a row given twice counts twice. Otherwise as ``scatter_update``."""
        del use_locking
        return self._scatter_slices(ScatterRule.SUB, sparse_delta, name)

    def scatter_mul(self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Multiplies rows; a row given twice counts twice. Otherwise as ``scatter_update``."""
        del use_locking
        return self._scatter_slices(ScatterRule.MUL, sparse_delta, name)

    def scatter_div(self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Divides rows, integers towards zero; a row given twice counts twice. Otherwise as ``scatter_update``."""
        del use_locking
        return self._scatter_slices(ScatterRule.DIV, sparse_delta, name)

    def scatter_min(self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Lowers rows to the values given where those are less. Otherwise as ``scatter_update``."""
        del use_locking
        return self._scatter_slices(ScatterRule.MIN, sparse_delta, name)

    def scatter_max(self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Raises rows to the values given where those are more. Otherwise as ``scatter_update``."""
        del use_locking
        return self._scatter_slices(ScatterRule.MAX, sparse_delta, name)

    def batch_scatter_update(
        self, sparse_delta: IndexedSlices, use_locking: bool = False, name: str | None = None
    ) -> Tensor:
        """Replaces rows within each element of a batch; see ``row_operations.batch_scatter_update``.

        The arguments and errors are those of ``scatter_update``.
        """
        del use_locking
        rows, updates = self.rows_operand(_slices(sparse_delta).indices), self.updates_operand(sparse_delta.values)
        row_operations.check_batch(self.spec, shape_of(rows), shape_of(updates))
        return self._scatter(
            "ScatterNdUpdate",
            rows,
            updates,
            name or "batch_scatter_update",
            lambda rows, updates: row_operations.batch_scatter_update(self._spec_for(updates), rows, updates),
        )

    def scatter(self, rule: ScatterRule, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        """Updates rows by any rule.

        Args:
            rule: What to do with each row and its update.
            indices: Row numbers of any shape, an array or a tensor.
            updates: Shape ``[*indices.shape, *shape[1:]]``, or a scalar.
            name: Name of the operation; by default that of TensorFlow, as "ScatterAdd".
        """
        op_type = f"Scatter{rule.name.title()}"
        with self._scope(name or op_type) as scope:
            rows, values = self.rows_operand(indices, "indices"), self.updates_operand(updates, "updates")
            return self._scattered_rows(rule, op_type, rows, values, scope)

    def _scattered_rows(
        self, rule: ScatterRule, op_type: str, rows: Tensor | Array, values: Tensor | Array, name: str
    ) -> Tensor:
        if self.has_known_shape:
            row_operations.check_shapes(self.spec, shape_of(rows), shape_of(values), depth=1)

        def operation(rows: Array, values: Array) -> Scatter:
            if self.has_known_shape:
                return row_operations.scatter(self._spec_for(values), rule, rows, values)
            return Scatter(self.spec.name, rule, row_indices(rows, self.spec), values)

        return self._scatter(op_type, rows, values, name, operation)

    # -- slices and elements ------------------------------------------------------------------

    def scatter_nd_update(self, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        """Replaces slices or elements each time that a session runs it.

        Args:
            indices: Shape ``[..., depth]``: each names a slice by its place in the first ``depth`` dimensions.
            updates: Shape ``[*indices.shape[:-1], *shape[depth:]]``, or a scalar.
            name: Name of the operation.

        Raises:
            TypeError: The dtypes differ.
            ValueError: The shapes do not fit.
        """
        return self.scatter_nd(ScatterRule.UPDATE, indices, updates, name)

    def scatter_nd_add(self, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        """Adds to slices or elements; one given twice counts twice. Otherwise as ``scatter_nd_update``."""
        return self.scatter_nd(ScatterRule.ADD, indices, updates, name)

    def scatter_nd_sub(self, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        """Subtracts from slices or elements; one given twice counts twice. Otherwise as ``scatter_nd_update``."""
        return self.scatter_nd(ScatterRule.SUB, indices, updates, name)

    def scatter_nd(self, rule: ScatterRule, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        """Updates slices or elements by any rule; otherwise as ``scatter_nd_update``."""
        op_type = f"ScatterNd{rule.name.title()}"
        with self._scope(name or op_type) as scope:
            places, values = self.rows_operand(indices, "indices"), self.updates_operand(updates, "updates")
            return self._scattered_nd(rule, op_type, places, values, scope)

    def _scattered_nd(
        self, rule: ScatterRule, op_type: str, places: Tensor | Array, values: Tensor | Array, name: str
    ) -> Tensor:
        if self.has_known_shape:
            depth = row_operations.index_depth(self.spec, shape_of(places))
            row_operations.check_shapes(self.spec, shape_of(places)[:-1], shape_of(values), depth)
        is_scalar = shape_of(values).ndims == 0

        def operation(places: Array, values: Array, *current: Array) -> Scatter:
            if not values.shape and not is_scalar:
                raise self._unexpected_scalar()
            return row_operations.scatter_nd(self._spec_for(values, *current), rule, places, values)

        return self._scatter(op_type, places, values, name, operation, self.shape_operand())

    def _scatter_slices(self, rule: ScatterRule, sparse_delta: IndexedSlices, name: str | None) -> Tensor:
        slices = _slices(sparse_delta)
        return self.scatter(rule, slices.indices, slices.values, name)

    def _scatter(
        self,
        op_type: str,
        indices: Tensor | Array,
        updates: Tensor | Array,
        name: str | None,
        operation: Callable[..., Scatter],
        current: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        def request(_: int, indices: Array, updates: Array, *current: Array) -> operations.PsOperation:
            return operation(indices, stored(updates) if is_text(updates.dtype) else updates, *current)

        operands = {"indices": indices, "updates": updates, **(current or {})}
        return self.mutating_op(op_type, operands, request, name, attributes={"use_locking": False}).outputs[0]

    def rows_operand(self, indices: Any, name: str = "packed") -> Tensor | Array:
        """Returns row numbers as a tensor or an array of integers; DTypeMismatchError if they are none."""
        if indices is None:
            raise ValueError(f"indices of variable {self.spec.name} are needed, not None")
        tensor = tensor_of(indices, None, name)
        if tensor is None:
            rows = row_indices(indices, self.spec, copy=True)
            if hasattr(indices, "dtype"):
                return rows
            return row_indices(constant_array(indices, None, "indices"), self.spec, copy=True)
        if tensor.dtype.kind not in "iu":
            raise DTypeMismatchError(
                f"indices of variable {self.spec.name}, {tensor.name}, are {tensor.dtype.name}; integers are needed",
                variable=self.spec.name,
            )
        return tensor

    def updates_operand(self, updates: Any, name: str = "packed") -> Tensor | Array:
        """Returns values as a tensor or an array of the variable's dtype; DTypeMismatchError if they have another."""
        if updates is None:
            raise ValueError(f"variable {self.spec.name}: a value is needed, not None")
        tensor = tensor_of(updates, graph_dtype(self.spec.dtype), name)
        if tensor is None:
            return self._array(updates)
        self._check_dtype(tensor)
        return tensor

    # -- operations ---------------------------------------------------------------------------

    @property
    def has_known_shape(self) -> bool:
        """Whether all values have one shape, which is known; that of the spec."""
        return self.shape.is_fully_defined()

    def shape_operand(self) -> dict[str, Tensor]:
        """Returns one more operand for what needs the shape where that is not known: the value that has it."""
        return {} if self.has_known_shape else {"of": self.current_value()}

    def current_value(self) -> Tensor:
        """Returns the value."""
        raise NotImplementedError

    def _scope(self, name: str) -> AbstractContextManager[str]:
        """Opens the name scope of an update, which takes the name even if it fails; returns it as an exact name."""
        raise NotImplementedError

    def operand(self, value: Any, name: str) -> Tensor | Array:
        """Returns a value of this variable as a tensor or an array.

        Args:
            value: What the variable is to have.
            name: Of what puts a list with tensors in it together.

        Raises:
            ShapeMismatchError: The value cannot have the variable's shape.
            DTypeMismatchError: It has another dtype.
        """
        given = self.updates_operand(value, name)
        if not shape_of(given).is_compatible_with(self.shape):
            raise self._other_shape(shape_of(given))
        return given

    def checked(self, array: Array) -> Array:
        """Returns an array that has the variable's shape; ShapeMismatchError if it has not."""
        if not self.shape.is_compatible_with(array.shape):
            raise self._other_shape(TensorShape(array.shape))
        return array

    def mutating_op(
        self,
        op_type: str,
        operands: Mapping[str, Tensor | Array],
        request: Callable[..., operations.PsOperation],
        name: str | None,
        *,
        reference: Tensor | None = None,
        answered: bool = False,
        shape: TensorShape | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Operation:
        """Adds an operation that updates the variable.

        Args:
            op_type: What it is called.
            operands: What it works with, by TensorFlow's names; an array becomes a constant of that name.
            request: Makes the operation for the ps from the job's seed and the operands' values.
            name: Name within the name scope; ``op_type`` if not given.
            reference: What the update returned that this one comes after; None for the variable itself.
            answered: Whether the ps's answer is the output; if not, the value afterwards is.
            shape: Of the output, if it is not the variable's.
            attributes: Of the operation.
        """
        raise NotImplementedError

    def _array(self, value: Any) -> Array:
        return text_array(value).copy() if is_text(self.spec.dtype) else convert(value, self.spec, copy=True)

    def _spec_for(self, values: Array, *current: Array) -> VariableSpec:
        """Returns the spec that values for some rows are checked against: text may be longer than what is there."""
        spec = dataclasses.replace(self.spec, shape=current[0].shape) if current else self.spec
        return dataclasses.replace(spec, dtype=values.dtype) if is_text(spec.dtype) else spec

    def _check_dtype(self, tensor: Tensor) -> None:
        if tensor.dtype != graph_dtype(self.spec.dtype):
            raise DTypeMismatchError(
                f"variable {self.spec.name} holds {self.spec.dtype.name}, {tensor.name} is {tensor.dtype.name}; "
                f"cast it",
                variable=self.spec.name,
            )

    def _unexpected_scalar(self) -> ShapeMismatchError:
        return ShapeMismatchError(
            f"variable {self.spec}: the updates turn out to be a scalar; to spread one over all places, give a tensor "
            f"whose shape is known to be []",
            variable=self.spec.name,
        )

    def _other_shape(self, shape: TensorShape, own: TensorShape | None = None) -> ShapeMismatchError:
        own = self.shape if own is None else own
        return ShapeMismatchError(
            f"variable {self.spec.name} has the shape {own}, the value {shape}; the shapes must be equal",
            variable=self.spec.name,
        )


def check_counts(spec: VariableSpec) -> None:
    """Makes sure that a variable can count up.

    Raises:
        DTypeMismatchError: It does not hold integers.
        ShapeMismatchError: It is not a scalar.
    """
    if dtype_category(spec.dtype) is not DTypeCategory.INTEGER:
        raise DTypeMismatchError(f"variable {spec} cannot count up: it does not hold integers", variable=spec.name)
    if spec.shape:
        raise ShapeMismatchError(f"variable {spec} cannot count up: it is not a scalar", variable=spec.name)


def _slices(sparse_delta: Any) -> IndexedSlices:
    if not isinstance(sparse_delta, IndexedSlices):
        raise TypeError(f"sparse_delta should be IndexedSlices, of indices and values, not {sparse_delta!r}")
    return sparse_delta


def shape_of(value: Tensor | Array) -> TensorShape:
    """Returns the shape, as far as it is known, of an argument of an operation."""
    return value.shape if isinstance(value, Tensor) else TensorShape(np.shape(value))
