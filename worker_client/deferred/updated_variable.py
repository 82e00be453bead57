"""A deferred variable as an update leaves it, which can be updated in its turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from ps_protocol import operations
from ps_protocol.operations import Array, VariableSpec
from worker_client.deferred.variable_updates import DeferredVariableUpdates
from worker_client.graph.computation import VariableAccess
from worker_client.graph.operation import Operation, Tensor
from worker_client.values.shapes import TensorShape


class UpdatedVariable(DeferredVariableUpdates):
    """What an update of a variable returned, taken for the variable: its updates come after that one.

    Args:
        variable: The variable.
        update: The tensor that the update returned.
    """

    __slots__ = ("_result", "_variable", "spec")

    def __init__(self, variable: DeferredVariableUpdates, update: Tensor):
        self.spec: VariableSpec = variable.spec
        self._variable = variable
        self._result = update

    @classmethod
    def of(cls, value: object) -> UpdatedVariable | None:
        """Returns the variable that a tensor stands for as the result of an update, None if it is another value."""
        access = value.op.computation if isinstance(value, Tensor) else None
        if not isinstance(value, Tensor) or not isinstance(access, VariableAccess):
            return None
        variable = access.variable
        if not access.mutates or access.answered or not isinstance(variable, DeferredVariableUpdates):
            return None
        return cls(variable, value)

    @property
    def shape(self) -> TensorShape:
        return self._result.shape

    def current_value(self) -> Tensor:
        return self._result

    def _scope(self, name: str) -> AbstractContextManager[str]:
        scope: AbstractContextManager[str] = self._result.graph.name_scope(name)
        return scope

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
        behind = self._result if reference is None else reference
        return self._variable.mutating_op(
            op_type, operands, request, name, reference=behind, answered=answered, shape=shape, attributes=attributes
        )
