"""The base of TensorFlow 1's optimizers: from a loss to gradients, and from gradients to an operation that trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, Final, TypeAlias

from ps_protocol.interrupts import raise_interrupt
from worker_client.deferred.partitioned import PartitionedDeferredVariable
from worker_client.deferred.variable import DeferredVariable
from worker_client.gradients.walk import gradients
from worker_client.graph.computation import VariableAccess
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import Operation, Tensor
from worker_client.initializers import zeros_initializer
from worker_client.ops.collections import trainable_variables
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.ops.control_flow import group
from worker_client.ops.control_flow import tuple as tuple_
from worker_client.scopes.creation import new_variable
from worker_client.training.optimizers.duplicates import summed_rows
from worker_client.training.optimizers.slot_creator import create_slot
from worker_client.values.conversion import IndexedSlices
from worker_client.values.dtypes import DType, as_dtype

GradientsAndVariables: TypeAlias = list[tuple[Any, Any]]


class Optimizer:
    """Makes operations that change variables so that a loss becomes smaller. Not to be used itself, but its subclasses.

    A subclass overrides ``_create_slots``, ``_prepare``, ``_apply_dense``, ``_apply_sparse`` and ``_finish``, as in
    TensorFlow.

    Args:
        use_locking: Only noted; every step is atomic.
        name: Of the operations, and of the slots.
        use_own_namescope_for_non_slot_vars: Whether variables that are no slots, as Adam's powers, are in a name scope
            of the optimizer's name.

    Raises:
        ValueError: There is no name.
    """

    GATE_NONE: ClassVar[int] = 0
    GATE_OP: ClassVar[int] = 1
    GATE_GRAPH: ClassVar[int] = 2

    def __init__(self, use_locking: bool, name: str, use_own_namescope_for_non_slot_vars: bool = False):
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._use_locking = use_locking
        self._name = name
        self._has_own_scope = use_own_namescope_for_non_slot_vars
        self._slots: dict[str, dict[tuple[Graph, str], Any]] = {}
        self._others: dict[tuple[Graph, str], Any] = {}

    def get_name(self) -> str:
        """Returns the name."""
        return self._name

    def minimize(
        self,
        loss: Any,
        global_step: Any = None,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Operation:
        """Adds what ``compute_gradients`` and ``apply_gradients`` add, with their arguments and errors.

        Raises:
            ValueError: No variable has an influence on the loss.
        """
        found = self.compute_gradients(
            loss,
            var_list=var_list,
            gate_gradients=gate_gradients,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
            grad_loss=grad_loss,
        )
        if all(gradient is None for gradient, _ in found):
            raise ValueError(
                f"No gradients provided for any variable, check your graph for ops that do not support gradients, "
                f"between variables {[str(variable) for _, variable in found]} and loss {loss}."
            )
        return self.apply_gradients(found, global_step=global_step, name=name)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> GradientsAndVariables:
        """Returns the gradients of a loss by variables, each with its variable; None for those without influence.

        Args:
            loss: A tensor of floats.
            var_list: The variables; by default all in ``GraphKeys.TRAINABLE_VARIABLES``.
            gate_gradients: ``GATE_NONE``, ``GATE_OP`` or ``GATE_GRAPH``: the last lets no gradient be used before all
                are computed. A session makes updates when it has all gradients anyway.
            aggregation_method: Ignored; see ``gradients``.
            colocate_gradients_with_ops: See ``gradients``.
            grad_loss: The gradient to start from; ones if not given.

        Raises:
            ValueError: There are no variables, or a dtype or ``gate_gradients`` is not allowed.
            NotImplementedError: One of the variables is no variable of a graph.
            LookupError: An operation on the way has no gradient.
        """
        if callable(loss):
            raise RuntimeError(  # noqa: TRY004 - as TensorFlow, outside of eager execution
                "`loss` passed to Optimizer.compute_gradients should be a tensor of a graph, not a function"
            )
        if gate_gradients not in (self.GATE_NONE, self.GATE_OP, self.GATE_GRAPH):
            raise ValueError(
                f"gate_gradients must be one of: Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH.  Not "
                f"{gate_gradients}"
            )
        self._assert_valid_dtypes([loss] if grad_loss is None else [loss, grad_loss])
        variables = trainable_variables() if var_list is None else list(_flat(var_list))
        for variable in variables:
            _check_optimizable(variable)
        if not variables:
            raise ValueError("No variables to optimize.")
        found = gradients(
            loss,
            variables,
            grad_ys=None if grad_loss is None else [grad_loss],
            aggregation_method=aggregation_method,
            gate_gradients=gate_gradients == self.GATE_OP,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
        )
        if gate_gradients == self.GATE_GRAPH:
            found = tuple_(found)
        pairs = list(zip(found, variables, strict=True))
        self._assert_valid_dtypes([variable for gradient, variable in pairs if gradient is not None])
        return pairs

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        global_step: Any = None,
        name: str | None = None,
        skip_gradients_aggregation: bool = False,
    ) -> Operation:
        """Adds an operation that changes variables by their gradients.

        Args:
            grads_and_vars: As ``compute_gradients`` returns them; gradients may be changed in between.
            global_step: A variable to which 1 is added in the same exchange, on its ps task after all steps there.
            name: Of the operation; that of the optimizer if not given.
            skip_gradients_aggregation: Ignored; there are no replicas in one process.

        Raises:
            ValueError: There are no variables, or none has a gradient; or a gradient does not fit its variable; or a
                variable belongs to another graph.
            TypeError: A gradient is no tensor, or a variable is not of floats.
            NotImplementedError: One of the variables is no variable of a graph.
        """
        del skip_gradients_aggregation
        pairs = [(_gradient(gradient), variable) for gradient, variable in grads_and_vars]
        if not pairs:
            raise ValueError("No variables provided.")
        for _, variable in pairs:
            _check_optimizable(variable)
            if isinstance(variable, Tensor):
                raise NotImplementedError("Trying to update a Tensor ", variable)
        if not (global_step is None or isinstance(global_step, DeferredVariable)):
            raise TypeError(
                f"the global step is {global_step!r}; give a variable of the graph, as "
                f"tf.train.get_or_create_global_step() returns it"
            )
        trained = [variable for gradient, variable in pairs if gradient is not None]
        if not trained:
            raise ValueError(f"No gradients provided for any variable: {[str(variable) for _, variable in pairs]}.")
        graph = _deferred_graph(trained)
        for variable in trained:
            self._check_dtype(variable)
        with graph.control_dependencies(None):
            self._create_slots(trained)
        updates = []
        with graph.name_scope(name or self._name) as scope:
            self._prepare()
            for gradient, variable in pairs:
                if gradient is not None:
                    with graph.name_scope(f"update_{variable.op.name}"), graph.colocate_with(variable.op):
                        updates.append(self._update(gradient, variable))
            applied = self._applied(graph, updates, global_step, scope)
        trains = graph.get_collection_ref(GraphKeys.TRAIN_OP)
        if applied not in trains:
            trains.append(applied)
        return applied

    def _applied(self, graph: Graph, updates: Sequence[Any], global_step: Any, scope: str) -> Operation:
        if global_step is None:
            return self._finish(updates, scope)
        with (
            graph.control_dependencies([self._finish(updates, "update")]),
            graph.colocate_with(global_step.op),
        ):
            counted: Operation = global_step.assign_add(1, name=scope).op
        if isinstance(counted.computation, VariableAccess):  # else each step would make one more exchange
            counted.computation = replace(counted.computation, joins=True)
        return counted

    def _update(self, gradient: Tensor | IndexedSlices, variable: Any) -> Any:
        if isinstance(gradient, IndexedSlices):
            if variable.constraint is not None:
                raise RuntimeError("Cannot use a constraint function on a sparse variable.")
            return self._apply_sparse_duplicate_indices(gradient, variable)
        update = self._apply_dense(gradient, variable)
        if variable.constraint is None:
            return update
        with variable.graph.control_dependencies([update]):
            return variable.assign(variable.constraint(variable.value()))

    # -- slots --------------------------------------------------------------------------------

    def get_slot(self, var: Any, name: str) -> Any:
        """Returns the slot of a name that a variable has, None if it has none."""
        return self._slots.get(name, {}).get(_key(var))

    def get_slot_names(self) -> list[str]:
        """Returns the names of the slots."""
        return sorted(self._slots)

    def variables(self) -> list[Any]:
        """Returns the variables that it has made in the default graph, ordered by name."""
        graph = get_default_graph()
        own = [each for (of, _), each in self._others.items() if of is graph]
        own += [each for slots in self._slots.values() for (of, _), each in slots.items() if of is graph]
        return sorted(own, key=lambda each: str(each.name))

    def _slot_dict(self, slot_name: str) -> dict[tuple[Graph, str], Any]:
        return self._slots.setdefault(slot_name, {})

    def _get_or_make_slot(self, var: Any, val: Any, slot_name: str, op_name: str) -> Any:
        return self._get_or_make_slot_with_initializer(var, val, None, None, slot_name, op_name)

    def _get_or_make_slot_with_initializer(
        self, var: Any, initializer: Any, shape: Any, dtype: Any, slot_name: str, op_name: str
    ) -> Any:
        """Returns a slot of a variable, made at the first call; it always has the variable's shape."""
        del shape
        slots = self._slot_dict(slot_name)
        if _key(var) not in slots:
            slots[_key(var)] = create_slot(var, initializer, op_name, None if dtype is None else DType(as_dtype(dtype)))
        return slots[_key(var)]

    def _zeros_slot(self, var: Any, slot_name: str, op_name: str) -> Any:
        return self._get_or_make_slot_with_initializer(var, zeros_initializer(), None, None, slot_name, op_name)

    def _create_non_slot_variable(self, initial_value: Any, name: str, colocate_with: Any) -> Any:
        """Returns a variable of the optimizer's own in a graph, made at the first call."""
        key = (colocate_with.graph, name)
        if key not in self._others:
            graph = colocate_with.graph
            scope = graph.name_scope(self._name) if self._has_own_scope else nullcontext()
            with scope, graph.colocate_with(colocate_with.op):
                self._others[key] = new_variable(initial_value, name=name, trainable=False)
        return self._others[key]

    def _get_non_slot_variable(self, name: str, graph: Graph | None = None) -> Any:
        return self._others.get((graph or get_default_graph(), name))

    # -- what subclasses override -------------------------------------------------------------

    def _valid_dtypes(self) -> set[DType]:
        return set(_VALID)

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        """Makes the slots of variables."""

    def _prepare(self) -> None:
        """Makes the tensors of the settings, inside the name scope of the step."""

    def _apply_dense(self, grad: Tensor, var: Any) -> Any:
        """Returns an operation that changes a variable by a gradient of its shape."""
        raise NotImplementedError

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Any:
        """Returns an operation that changes rows of a variable, of which some may be there several times."""
        return self._apply_sparse(summed_rows(grad), var)

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        """Returns an operation that changes rows of a variable, of which each is there once."""
        raise NotImplementedError

    def _finish(self, update_ops: Sequence[Any], name_scope: str) -> Operation:
        """Returns an operation that has run when all of the step is done."""
        return group(*update_ops, name=name_scope)

    @staticmethod
    def _call_if_callable(param: Any) -> Any:
        return param() if callable(param) and not isinstance(param, Tensor | DeferredVariable) else param

    def _check_dtype(self, variable: Any) -> None:
        if DType(as_dtype(variable.dtype)) not in self._valid_dtypes():
            names = sorted(each.name for each in self._valid_dtypes())
            raise TypeError(
                f"{variable.name} holds {variable.dtype.base_dtype.name} and cannot be trained: {self._name} changes "
                f"variables of {', '.join(names)}"
            )

    def _assert_valid_dtypes(self, tensors: Iterable[Any]) -> None:
        allowed = self._valid_dtypes()
        for tensor in tensors:
            dtype = DType(as_dtype(tensor.dtype if hasattr(tensor, "dtype") else convert_to_tensor(tensor).dtype))
            if dtype not in allowed:
                names = [each.name for each in sorted(allowed, key=lambda each: str(each.name))]
                raise ValueError(
                    f"Invalid type {dtype.name!r} for {getattr(tensor, 'name', tensor)}, expected: {names}."
                )


_VALID: Final = tuple(DType(as_dtype(name)) for name in ("float16", "bfloat16", "float32", "float64"))


def _key(variable: Any) -> tuple[Graph, str]:
    return variable.op.graph, variable.op.name


def _flat(values: Any) -> Iterable[Any]:
    if isinstance(values, list | tuple):
        for each in values:
            yield from _flat(each)
    elif isinstance(values, dict):
        for key in sorted(values):
            yield from _flat(values[key])
    else:
        yield values


def _check_optimizable(variable: Any) -> None:
    if isinstance(variable, DeferredVariable | Tensor):
        return
    if isinstance(variable, PartitionedDeferredVariable):
        raise NotImplementedError(
            f"Trying to optimize unsupported type {variable!r}: give the parts of {variable.name}, as list(variable)"
        )
    raise NotImplementedError(
        f"Trying to optimize unsupported type {variable!r}: TensorFlow 1's optimizers train variables of a deferred "
        f"graph, made in `with tf.Graph().as_default():`"
    )


def _deferred_graph(variables: Sequence[Any]) -> Graph:
    graph = get_default_graph()
    for variable in variables:
        if variable.graph is not graph:
            raise ValueError(
                f"{variable.name} belongs to another graph than the default one, in which its step would be made; use "
                f"the optimizer in `with variable.graph.as_default():`"
            )
    return graph


def _gradient(value: Any) -> Tensor | IndexedSlices | None:
    if value is None:
        return None
    try:
        if isinstance(value, IndexedSlices):
            return IndexedSlices(convert_to_tensor(value.values), convert_to_tensor(value.indices), value.dense_shape)
        gradient = convert_to_tensor(value)
    except TypeError as error:
        raise_interrupt(error)
        raise TypeError(f"Gradient must be convertible to a Tensor or IndexedSlices, or None: {value!r}") from None
    if not isinstance(gradient, Tensor):
        raise TypeError(f"Gradient must be a Tensor, IndexedSlices, or None: {value!r}")
    return gradient
