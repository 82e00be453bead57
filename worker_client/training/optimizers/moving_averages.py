"""TensorFlow 1's moving averages: variables that follow variables, or tensors, each time that a session runs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from ps_protocol.operations import Apply, Array
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.computation import VariableAccess
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.initializers import zeros_initializer
from worker_client.ops.array_ops import cast
from worker_client.ops.collections import global_variables, moving_average_variables, trainable_variables
from worker_client.ops.constant_ops import convert_to_tensor, zeros
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.control_flow import group
from worker_client.ops.math_ops import minimum
from worker_client.ops.math_ops import pow as power
from worker_client.scopes.variable_scope import get_variable, get_variable_scope, variable_scope
from worker_client.training.optimizers.slot_creator import create_slot
from worker_client.values.dtypes import DType, as_dtype

_FLOATS: Final = frozenset(DType(as_dtype(name)) for name in ("float16", "bfloat16", "float32", "float64"))


class ExponentialMovingAverage:
    """Makes averages, and operations that move them: ``average -= (1 - decay) * (average - value)``.

    The average of a variable begins as the variable does, and its ps moves it: no value travels. That of a tensor
    begins at zero.

    Args:
        decay: How much of the average stays; a number, a tensor or a variable.
        num_updates: How many training steps there were, if averages shall move faster at first: the decay is at most
            ``(1 + num_updates) / (10 + num_updates)``.
        zero_debias: Whether averages of tensors are corrected for their beginning at zero (Kingma and Ba 2014).
        name: Of the averages behind the names of what they follow, and of the operations.
    """

    def __init__(
        self,
        decay: Any,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ):
        self._decay = decay
        self._num_updates = num_updates
        self._zero_debias = zero_debias
        self._name = name
        self._averages: dict[tuple[Graph, str], DeferredVariable] = {}

    @property
    def name(self) -> str:
        """The name."""
        return self._name

    def apply(self, var_list: Iterable[Any] | None = None) -> Operation:
        """Adds an operation that moves averages; makes those that are not there yet.

        Args:
            var_list: Variables or tensors; by default all in ``GraphKeys.TRAINABLE_VARIABLES``.

        Raises:
            TypeError: One of them does not hold floats, or is no variable and no tensor.
        """
        followed = trainable_variables() if var_list is None else list(var_list)
        new = set()
        for each in followed:
            _check(each)
            if _key(each) not in self._averages:
                self._averages[_key(each)] = self._made(each)
                new.add(_key(each))
        graph = followed[0].graph if followed else get_default_graph()
        with graph.name_scope(self._name) as scope:
            decay = convert_to_tensor(self._decay, dtype="float32", name="decay")
            if self._num_updates is not None:
                count = cast(self._num_updates, "float32", name="num_updates")
                decay = minimum(decay, (1.0 + count) / (10.0 + count))
            moves = [self._moved(each, decay, is_new=_key(each) in new) for each in followed]
            return group(*moves, name=scope)

    def average(self, var: Any) -> DeferredVariable | None:
        """Returns the average of a variable or tensor; None if ``apply`` was not called for it."""
        return self._averages.get(_key(var))

    def average_name(self, var: Any) -> str:
        """Returns the full name of the average, or which one it would get."""
        average = self.average(var)
        if average is not None:
            return str(average.op.name)
        return str(get_default_graph().unique_name(f"{var.op.name}/{self._name}", mark_as_used=False))

    def variables_to_restore(self, moving_avg_variables: Iterable[Any] | None = None) -> dict[str, Any]:
        """Returns by which name each variable is restored: that of its average, if it has one.

        Args:
            moving_avg_variables: Those with averages; by default trainable variables, and those that ``apply`` was
                given.
        """
        if moving_avg_variables is None:
            moving_avg_variables = [*trainable_variables(), *moving_average_variables()]
        averaged = list(dict.fromkeys(moving_avg_variables))
        found = {self.average_name(each): each for each in averaged}
        names = {each.name for each in averaged}
        for each in global_variables():
            if each.name not in names and each.op.name not in found:
                found[each.op.name] = each
        return found

    def _made(self, followed: Any) -> DeferredVariable:
        if isinstance(followed, DeferredVariable):
            with followed.graph.control_dependencies(None), followed.graph.device(followed.device):
                first = followed.initialized_value()
            average = create_slot(followed, first, self._name)
            followed.graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, followed)
            return average
        if followed.shape.is_fully_defined():
            return create_slot(followed, zeros_initializer(), self._name)
        with followed.graph.control_dependencies(None):
            first = zeros(shape_tensor(followed), followed.dtype)
        return create_slot(followed, first, self._name)

    def _moved(self, followed: Any, decay: Tensor, *, is_new: bool) -> Any:
        average = self._averages[_key(followed)]
        with followed.graph.name_scope("AssignMovingAvg") as scope:
            share = 1.0 - decay
            if share.dtype.base_dtype != average.dtype.base_dtype:
                share = cast(share, average.dtype.base_dtype)
            if isinstance(followed, DeferredVariable):
                return _moved_by_ps(average, followed, share, scope)
            if is_new and self._zero_debias:
                return _debiased(average, followed, share)
            return average.assign_sub((average - followed) * share, name=scope)


def _moved_by_ps(average: DeferredVariable, followed: DeferredVariable, share: Tensor, name: str) -> Operation:
    """Adds an operation by which a ps moves an average towards a variable that is beside it."""

    def request(_: int, share: Array) -> Apply:
        decay = 1.0 - float(share)  # exact: the ps takes it from 1 again
        return Apply(average.spec.name, "moving_average", (followed.spec.name,), "", (), np.array([decay, np.nan]))

    with average.graph.colocate_with(average.op):
        return average.graph.create_op(
            "AssignSub",
            [share],
            [OutputSpec(average.dtype.dtype, average.shape)],
            name=name,
            attributes={"T": average.dtype, "use_locking": False},
            computation=VariableAccess(average, request, mutates=True),
            references=[average.op.outputs[0], followed.op.outputs[0]],
        )


def _debiased(average: DeferredVariable, followed: Tensor, share: Tensor) -> Any:
    """Moves an average that began at zero, which is kept beside the one that is corrected for that."""
    with variable_scope(average.op.name) as scope, average.graph.colocate_with(average.op):
        made: dict[str, Any] = {"dtype": average.dtype.base_dtype, "initializer": zeros_initializer()}
        biased = get_variable(_unused("biased"), shape=average.shape, trainable=False, **made)
        count = get_variable(_unused("local_step"), shape=[], trainable=False, **made)
        moved = biased.assign_sub((biased - followed) * share)
        counted = count.assign_add(1)
        return average.assign(moved / (1 - power(1.0 - share, counted)), name=scope.original_name_scope)


def _unused(name: str) -> str:
    """Returns a name with a number behind it that no variable of the current scope has, unless it is shared."""
    scope = get_variable_scope()
    taken = {each.op.name for each in scope.global_variables()}
    if scope.reuse or f"{scope.name}/{name}" not in taken:
        return name
    number = 1
    while f"{scope.name}/{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _key(followed: Any) -> tuple[Graph, str]:
    return followed.graph, followed.name


def _check(followed: Any) -> None:
    if not isinstance(followed, DeferredVariable | Tensor):
        raise TypeError(
            f"{followed!r} has no moving average: give variables of a graph (of a partitioned one its parts) or tensors"
        )
    if DType(as_dtype(followed.dtype)).base_dtype not in _FLOATS:
        raise TypeError(
            f"The variables must be half, float, or double: {followed.name} is {followed.dtype.name}; cast it"
        )
