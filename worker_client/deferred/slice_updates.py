"""Updates of a part of a deferred variable: ``variable[key].assign(value)``, TensorFlow's ``StridedSliceAssign``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from ps_protocol import operations
from ps_protocol.errors import InvalidArgumentError
from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array, Scatter, ScatterRule, Update, UpdateRule, VariableSpec
from worker_client.deferred.indexing import StridedSlice
from worker_client.deferred.variable_updates import DeferredVariableUpdates
from worker_client.graph.operation import OutputSpec, Tensor
from worker_client.values.text import is_text, stored

_BOUNDS: Final = ("begin", "end", "strides")


class VariableSlice(Tensor):
    """A part of a variable's value, which can be assigned as well."""

    __slots__ = ("_variable",)

    def __init__(self, variable: DeferredVariableUpdates, part: Tensor):
        super().__init__(part.op, part.value_index, OutputSpec(part.dtype, part.shape))
        self._variable = variable

    def assign(self, value: Any, name: str | None = None) -> Tensor:
        """Replaces this part of the variable each time that a session runs it, in one step on the ps.

        Args:
            value: A tensor or an array of the variable's dtype, of the part's shape or one that is spread over it.
            name: Name of the operation.

        Returns:
            The value of the whole variable afterwards, as a tensor.

        Raises:
            TypeError: The dtypes differ.
        """
        variable, part = self._variable, self.op
        whole, *bounds = part.operands
        index = StridedSlice(part.attributes)
        operands: dict[str, Tensor | Array] = dict(zip(_BOUNDS, bounds, strict=True))
        operands["value"] = variable.updates_operand(value)
        if not variable.has_known_shape:
            operands["of"] = whole

        def request(_: int, *values: Array) -> operations.PsOperation:
            shape = values[4].shape if len(values) > 4 else variable.spec.shape
            return _assignment(variable.spec, shape, index.key(*values[:3]), values[3])

        return variable.mutating_op(
            "StridedSliceAssign", operands, request, name or f"{part.name}/_assign", attributes=part.attributes
        ).outputs[0]


def assignable(variable: DeferredVariableUpdates, part: Tensor) -> Tensor:
    """Returns a new slice of a variable as one that can be assigned; elements that were picked singly cannot."""
    if part.op.type != "StridedSlice":
        return part
    part.op.outputs[0] = VariableSlice(variable, part)
    return part.op.outputs[0]


def _assignment(spec: VariableSpec, shape: Sequence[int], key: tuple[Any, ...], value: Array) -> Update | Scatter:
    """Returns the operation that puts a value where a key points to.

    Raises:
        InvalidArgumentError: The key is out of range, or the value does not fit.
    """
    try:
        part = np.broadcast_to(np.False_, shape)[key].shape
        spread = np.broadcast_to(value, part)
    except (IndexError, ValueError) as error:
        raise_interrupt(error)
        raise InvalidArgumentError(
            f"variable {spec.name} has the shape {list(shape)}; a value of shape {list(value.shape)} cannot be put "
            f"where the slice points to: {error}",
            variable=spec.name,
        ) from error
    if is_text(spread.dtype):
        spread = stored(spread)
    if not shape:
        return Update(spec.name, UpdateRule.ASSIGN, spread.reshape(()))
    keys = _by_dimension(key, len(shape))
    depth = max((place + 1 for place, each in enumerate(keys) if each != slice(None, None, 1)), default=1)
    rows = np.zeros((), np.int64)
    for size, each in zip(shape[:depth], keys, strict=False):
        positions = np.arange(size)[each]
        rows = np.asarray(np.add.outer(rows * size, positions), np.int64)
    return Scatter(
        spec.name, ScatterRule.UPDATE, rows.reshape(-1), spread.reshape(rows.size, *shape[depth:]), index_depth=depth
    )


def _by_dimension(key: tuple[Any, ...], ndim: int) -> list[Any]:
    """Returns a key with a slice or a number for each dimension of what it indexes."""
    keys = [each for each in key if each is not None]
    place = keys.index(Ellipsis) if Ellipsis in keys else len(keys)
    left_out = [slice(None, None, 1)] * (ndim - len([each for each in keys if each is not Ellipsis]))
    return [*keys[:place], *left_out, *keys[place + 1 :]]
