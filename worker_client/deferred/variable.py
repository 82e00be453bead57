"""A variable of a deferred graph, as in TensorFlow 1: reading and updating it makes operations that a session runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import numpy as np

from ps_protocol import operations
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.initializer_spec import InitializerSpec, ValueKind
from ps_protocol.operations import (
    Array,
    Describe,
    Gather,
    Initialize,
    Read,
    Replace,
    Reply,
    Update,
    UpdateRule,
    VariableSpec,
)
from worker_client.deferred import save_slice_info
from worker_client.deferred.arithmetic import DeferredArithmetic
from worker_client.deferred.building import constant_op, dtype_attributes
from worker_client.deferred.safe_initial_value import with_initialized_values
from worker_client.deferred.slice_updates import assignable
from worker_client.deferred.variable_updates import ASSIGN_ATTRIBUTES, DeferredVariableUpdates, shape_of
from worker_client.graph.computation import VariableAccess, value_read
from worker_client.graph.default_graph import graph_of
from worker_client.graph.deferred_array import DeferredArray
from worker_client.graph.definition import (
    Constraint,
    VariableAggregation,
    VariableDefinition,
    VariableSynchronization,
)
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec, Tensor
from worker_client.graph.runners import Runner, runner_for
from worker_client.initializers.base import DescribedInitializer
from worker_client.initializers.standard import initializer_spec
from worker_client.op_definitions.op_attributes import DEFAULT_ATTRIBUTES
from worker_client.values.dtypes import DType
from worker_client.values.left_out import SaysWhatIsLeftOut
from worker_client.values.shapes import ShapeLike, TensorShape
from worker_client.values.text import graph_dtype, is_text, stored
from worker_client.variables import row_operations

DeferredArray.arithmetic = DeferredArithmetic()

_BOOL = OutputSpec(np.dtype(bool), TensorShape([]))


class DeferredVariable(SaysWhatIsLeftOut, DeferredVariableUpdates, DeferredArray):
    """A variable in a deferred graph. Made by ``get_variable`` and ``Variable`` where a ``Graph`` is the default.

    In arithmetic it stands for its value. It is declared on the cluster when a session first needs it, and has no value
    until its initializer, or another assignment, has been run.

    Args:
        definition: What scopes, naming and placement have settled. The variable's name scope is open.
    """

    public_name = "Variable"

    SaveSliceInfo = save_slice_info.SaveSliceInfo

    def __init__(self, definition: VariableDefinition):
        self.definition = definition
        self.spec = VariableSpec(definition.name, definition.dtype, definition.shape, definition.slice)
        static_shape = definition.static_shape
        self._output = OutputSpec(
            graph_dtype(definition.dtype), TensorShape(definition.shape) if static_shape is None else static_shape
        )
        self._initial_value: Tensor = definition.initial_value
        definition.op.computation = VariableAccess(self, self._read_request)
        self._safe_initial_value: Tensor | None = None
        if not isinstance(definition.initializer, DescribedInitializer):
            self._safe_initial_value = with_initialized_values(self._initial_value, definition.op)
        self._initializer = self._initializer_op()
        self._snapshot = self._snapshot_op()
        self._later_reads: dict[tuple[Operation, ...], Tensor] = {}

    # -- facts --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Full name with ":0"."""
        return f"{self.spec.name}:0"

    @property
    def dtype(self) -> DType:
        return DType.of(self._output.dtype)

    @property
    def shape(self) -> TensorShape:
        """What is known of the shape of its values: all of it, unless it was made without checks of the shape."""
        return self._output.shape

    def get_shape(self) -> TensorShape:
        """Returns the shape."""
        return self.shape

    def set_shape(self, shape: ShapeLike) -> None:
        """Adds to what is known about the shape; ValueError if it contradicts."""
        merged = self.shape.merge_with(shape)
        self._output = OutputSpec(self._output.dtype, merged)
        for tensor in (self.op.outputs[0], self._snapshot, *self._later_reads.values()):
            tensor.set_shape(merged)

    @property
    def op(self) -> Operation:
        return self.definition.op

    @property
    def graph(self) -> Graph:
        return self.definition.graph

    @property
    def device(self) -> str:
        """Where scopes place it; the cluster's directory may have placed it elsewhere."""
        return self.definition.op.device

    @property
    def trainable(self) -> bool:
        return self.definition.trainable

    @property
    def is_local(self) -> bool:
        """Whether it belongs to this process, wherever device scopes place it."""
        return self.definition.is_local

    @property
    def constraint(self) -> Constraint | None:
        """Applied to the value after an optimizer has updated it."""
        return self.definition.constraint

    @property
    def synchronization(self) -> VariableSynchronization:
        return self.definition.synchronization

    @property
    def aggregation(self) -> VariableAggregation:
        return self.definition.aggregation

    def _get_save_slice_info(self) -> save_slice_info.SaveSliceInfo | None:
        """Returns where it lies in the whole, of a part; otherwise None."""
        return save_slice_info.SaveSliceInfo.of(self.spec)

    # -- reading ------------------------------------------------------------------------------

    @property
    def snapshot(self) -> Tensor:
        """The value as the run begins that reads it: what a session fetches and is fed for the variable."""
        return self._snapshot

    def as_graph_tensor(self) -> Tensor:
        return self.value()

    def __bool__(self) -> bool:
        """True, as of other objects that have no truth value of their own; see ``Tensor`` for its value."""
        return True

    def __getitem__(self, key: Any) -> Tensor:
        return assignable(self, self.value()[key])

    def value(self) -> Tensor:
        """Returns the value that operations work with: as the run begins, or behind the updates that come before.

        Where ``control_dependencies`` put an update before what is built, it is the value after that update. Otherwise
        it is the same tensor at each call, and a run reads it once, however many operations use it.

        With a ``caching_device`` it is named as being there, and each session keeps a copy: a run asks the ps whether
        the variable has changed since, and only then is the value sent again, so that a run never works on a stale
        value. What a run returns is a copy of its own.
        """
        before = self.graph.control_inputs
        if not before or not any(each.follows_update for each in before):
            return self._snapshot
        read = self._later_reads.get(before)
        if read is None:
            read = self._later_reads.setdefault(before, self._snapshot.op.behind(before).outputs[0])
        return read

    def read_value(self) -> Tensor:
        """Returns the value at the time that control dependencies say: a new operation at each call.

        It comes from the ps also where there is a ``caching_device``.
        """
        return self._read("read", "Identity")

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        """Returns rows of the value, of which only those leave the ps; ``indices`` are integers of any shape.

        Raises:
            DTypeMismatchError: The indices are no integers.
            ShapeMismatchError: The variable is a scalar.
        """
        rows = self.rows_operand(indices)
        operands: dict[str, Tensor | Array] = {"indices": rows, "axis": np.zeros((), np.int32)}
        if not self.has_known_shape:
            return self._gather("GatherV2", operands, TensorShape(), name, lambda rows, _: Gather(self.spec.name, rows))
        row_operations.check_depth(self.spec, 1)
        shape = row_operations.with_row_shape(shape_of(rows), self.spec.shape[1:])
        return self._gather("GatherV2", operands, shape, name, lambda rows, _: row_operations.gather(self.spec, rows))

    gather = sparse_read  # as those that act at once call it

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        """Returns slices or elements of the value, of which only those leave the ps.

        Args:
            indices: Shape ``[..., depth]``: each names a slice by its place in the first ``depth`` dimensions.
            name: Name of the operation.

        Returns:
            A tensor ``[*indices.shape[:-1], *shape[depth:]]``.

        Raises:
            DTypeMismatchError: The indices are no integers.
            ShapeMismatchError: Their last dimension is not known, or not between 1 and the variable's rank.
        """
        places = self.rows_operand(indices)
        shape = TensorShape()
        if self.has_known_shape:
            depth = row_operations.index_depth(self.spec, shape_of(places))
            shape = row_operations.with_row_shape(shape_of(places)[:-1], self.spec.shape[depth:])

        def operation(places: Array, *current: Array) -> Gather:
            return row_operations.gather_nd(self._spec_for(places, *current), places)

        return self._gather("GatherNd", {"indices": places, **self.shape_operand()}, shape, name, operation)

    def eval(self, session: Runner | None = None) -> Any:
        """Returns the current value, read in a session, by default the default one."""
        return self._snapshot.eval(session=session)

    # -- initialising -------------------------------------------------------------------------

    @property
    def initializer(self) -> Operation:
        """The operation that gives it its initial value."""
        return self._initializer

    @property
    def initial_value(self) -> Tensor:
        """The value that the initializer gives it: another one if a run is fed that."""
        return self._initial_value

    def initialized_value(self) -> Tensor:
        """Returns the value, or its initial value while it has none, for the initializers of other variables."""

        def value_or_initial(reply: Reply, inputs: Sequence[Array]) -> Array:
            return inputs[0] if isinstance(reply, FailedPreconditionError) else value_read(reply, inputs)

        initial_value = self.initial_value if self._safe_initial_value is None else self._safe_initial_value
        return self._read("cond/Merge", "Merge", [initial_value], value_or_initial, needs_value=False)

    def is_initialized(self, name: str | None = None) -> Tensor:
        """Returns whether it has a value."""

        def has_value(reply: Reply, inputs: Sequence[Array]) -> Array:
            del inputs
            if isinstance(reply, ShardscopeError):
                raise reply
            return np.array(reply.initialized)

        access = VariableAccess(self, lambda _: Describe(self.spec.name), output=has_value)
        with self.graph.colocate_with(self.op):
            return self.graph.create_op(
                "IsVariableInitialized", [], [_BOOL], name=name, computation=access, references=self.op.outputs
            ).outputs[0]

    def initializer_spec(self, job_seed: int) -> InitializerSpec:
        """Returns how the ps makes the initial value; only if that is not a deferred tensor."""
        return initializer_spec(self.definition.initializer, self.spec, job_seed)

    def initialize_by(self, initializer: Operation, initial_value: Tensor) -> None:
        """Has another operation give it its initial value from now on; operations that are there keep to the old one.

        Args:
            initializer: Assigns the value.
            initial_value: What it assigns.
        """
        self._initializer, self._initial_value, self._safe_initial_value = initializer, initial_value, None

    def load(self, value: Any, session: Runner | None = None) -> None:
        """Replaces the value at once, in a session, by default the default one. Adds nothing to the graph."""
        array = self.checked(self._array(value))
        request: operations.PsOperation = Update(self.spec.name, UpdateRule.ASSIGN, array)
        if is_text(array.dtype):
            request = Replace(self.spec.name, stored(array), keeps_shape=True)
        runner_for(self.graph, session, self.name).request(self, request)

    # -- operations ---------------------------------------------------------------------------

    def current_value(self) -> Tensor:
        return self.value()

    def _scope(self, name: str) -> AbstractContextManager[str]:
        return self.graph.name_scope(name)

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
        access = VariableAccess(self, request, mutates=True, answered=answered)
        output = self._output if shape is None else OutputSpec(self._output.dtype, shape)
        place = self.graph.colocate_with(self.op)
        if reference is None:
            return self._accessing_op(op_type, operands, access, name, self.op.outputs[0], output, place, attributes)
        with self.graph.control_dependencies([reference.op]):
            return self._accessing_op(op_type, operands, access, name, reference, output, place, attributes)

    def _accessing_op(
        self,
        op_type: str,
        operands: Mapping[str, Tensor | Array],
        access: VariableAccess,
        name: str | None,
        reference: Tensor,
        output: OutputSpec,
        place: AbstractContextManager[None],
        attributes: Mapping[str, Any] | None = None,
    ) -> Operation:
        """Adds an operation that accesses the variable; operands that are known now are constants of their names.

        Raises:
            TypeError: Such operations do not take these dtypes.
            ValueError: An operand belongs to another graph.
        """
        graph = graph_of([self, *operands.values()])
        with ExitStack() as stack:
            name = name or op_type
            if not all(isinstance(each, Tensor) for each in operands.values()):
                name = stack.enter_context(graph.name_scope(name))
            inputs = [
                each if isinstance(each, Tensor) else constant_op(graph, each, argument)
                for argument, each in operands.items()
            ]
            known = dtype_attributes(op_type, name, [reference, *inputs])
            stack.enter_context(place)
            return graph.create_op(
                op_type,
                inputs,
                [output],
                name=name,
                attributes={**DEFAULT_ATTRIBUTES.get(op_type, {}), **known, **(attributes or {})},
                computation=access,
                references=[reference],
            )

    def _gather(
        self,
        op_type: str,
        operands: Mapping[str, Tensor | Array],
        shape: TensorShape,
        name: str | None,
        operation: Callable[..., Gather],
    ) -> Tensor:
        def request(_: int, *values: Array) -> Gather:
            return operation(*values)

        output = OutputSpec(self._output.dtype, shape)
        access = VariableAccess(self, request)
        return self._accessing_op(op_type, operands, access, name, self.value(), output, nullcontext()).outputs[0]

    def _read(
        self,
        name: str,
        op_type: str,
        inputs: Sequence[Tensor] = (),
        output: Callable[[Reply, Sequence[Array]], Array] = value_read,
        *,
        needs_value: bool = True,
        cached: bool = False,
    ) -> Tensor:
        access = VariableAccess(self, self._read_request, needs_value=needs_value, cached=cached, output=output)
        return self.graph.create_op(
            op_type,
            inputs,
            [self._output],
            name=name,
            attributes={"T": self.dtype},
            computation=access,
            references=self.op.outputs,
        ).outputs[0]

    def _snapshot_op(self) -> Tensor:
        graph, caching_device = self.graph, self.definition.caching_device
        with graph.colocate_with(self.op) if caching_device is None else graph.device(caching_device):
            return self._read("read", "Identity", cached=caching_device is not None)

    def _read_request(self, job_seed: int, *inputs: Array) -> Read:
        del job_seed, inputs
        return Read(self.spec.name)

    def _initializer_op(self) -> Operation:
        """What is computed in the graph is an input. What a ps can compute stands there as a reference only."""
        given = self._initial_value if self._safe_initial_value is None else self._safe_initial_value
        is_computed = self._safe_initial_value is not None

        def request(job_seed: int, *values: Array) -> operations.PsOperation:
            if values and is_text(self.spec.dtype):
                return Replace(self.spec.name, stored(values[0]))
            if values and not self.definition.validate_shape:
                return Replace(self.spec.name, values[0])
            spec = InitializerSpec(ValueKind(values[0])) if values else self.initializer_spec(job_seed)
            return Initialize(self.spec.name, spec, overwrite=True)

        reference = self.op.outputs[0]
        access = VariableAccess(self, request, mutates=True, unless_fed=self._initial_value)
        with self.graph.colocate_with(self.op):
            return self.graph.create_op(
                "Assign",
                [given] if is_computed else [],
                [self._output],
                attributes={
                    "T": self.dtype,
                    **ASSIGN_ATTRIBUTES,
                    "use_locking": True,
                    "validate_shape": self.definition.validate_shape,
                },
                computation=access,
                references=[reference] if is_computed else [reference, given],
            )

    def __repr__(self) -> str:
        return f"<tf.Variable {self.name!r} shape={self.shape!s} dtype={self.dtype.name}>"
