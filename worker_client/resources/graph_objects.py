"""Objects that all workers share, in graphs: the operations that stand for them, and those that work on them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from ps_protocol.operations import Array, Reply, Result, VariableSpec
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, Look, decode_json, encode_json
from worker_client.graph.computation import GraphObject, TrainingHome, VariableAccess
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Computation, Operation, OutputSpec, Tensor
from worker_client.ops.array_ops import cast
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.values.dtypes import int64, string
from worker_client.values.shapes import TensorShape

_numbers: Final = itertools.count()
"""Of objects without a shared name, each of which is the process's own."""

_HANDLE: Final = string.dtype
"""The dtype of what stands for an object; it has no value."""

SCALAR: Final = TensorShape([])


def made_object(
    op_type: str,
    name: str,
    *,
    folder: str,
    kind: str,
    settings: Json,
    shared_name: str | None,
    attributes: Mapping[str, Any],
    handle_shape: Sequence[int],
) -> GraphObject:
    """Adds the operation that stands for an object.

    Args:
        op_type: Its type in TensorFlow.
        name: Name within the name scope.
        folder: What the names of such objects begin with on the cluster.
        kind: Of object, as the ps calls it.
        settings: What it is opened with.
        shared_name: What the cluster calls it; without one it is this process's own.
        attributes: Of the operation.
        handle_shape: Of its output.

    Raises:
        TypeError: The shared name is no text.
        FailedPreconditionError: The default graph is that of a connection, in which everything happens at once.
    """
    if shared_name is not None and not isinstance(shared_name, str):
        raise TypeError(f"Expected string for argument 'shared_name' not {shared_name!r}.")
    graph = graph_of_sessions(op_type)
    output = OutputSpec(_HANDLE, TensorShape(handle_shape))
    attributes = {"container": "", "shared_name": shared_name or "", **attributes}
    op = graph.create_op(op_type, [], [output], name=name, attributes=attributes)
    known_as = shared_name or f"_{next(_numbers)}_{op.name}"
    spec = VariableSpec(f"{folder}/{known_as}", OBJECT_DTYPE, (), object_kind=kind)
    return GraphObject(op, spec, settings, is_local=not shared_name)


def graph_of_sessions(what: str) -> Graph:
    """Returns the default graph, which a session can run."""
    graph: Graph = get_default_graph()
    if not graph.deferred:
        raise FailedPreconditionError(
            f"{what} is for a graph that a session runs; build in `with Graph().as_default():`"
        )
    return graph


def add_op(
    shared: GraphObject,
    op_type: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[OutputSpec],
    computation: Computation,
    name: str | None,
    *,
    attributes: Mapping[str, Any] | None = None,
    beside: bool = False,
) -> Operation:
    """Adds an operation on an object.

    Args:
        shared: The object.
        op_type: Its type in TensorFlow.
        inputs: What it works with.
        outputs: What it makes.
        computation: How a session runs it.
        name: Name within the name scope.
        attributes: Of the operation.
        beside: Whether it is placed beside the object.
    """
    graph = shared.op.graph

    def create() -> Operation:
        operation: Operation = graph.create_op(
            op_type,
            inputs,
            outputs,
            name=name,
            attributes=attributes,
            computation=computation,
            references=shared.op.outputs,
        )
        return operation

    if not beside:
        return create()
    with graph.colocate_with(shared.op):
        return create()


def acting(
    shared: GraphObject,
    event: Callable[..., tuple[Json, tuple[Array, ...]]],
    *,
    names_worker: bool = False,
    heard: Callable[[TrainingHome, Json], None] | None = None,
) -> VariableAccess:
    """Returns how a session has something happen that need not be waited for.

    Args:
        shared: The object.
        event: Makes it, of the seed or the worker's name and the inputs.
        names_worker: Whether it is given the worker's name.
        heard: Is given the place where a session runs it, and the answer.
    """

    def request(told: Any, *inputs: Array) -> Act:
        content, tensors = event(told, *inputs)
        return Act(shared.spec.name, shared.spec.object_kind, encode_json(content), tensors)

    def answered(home: TrainingHome, reply: Result) -> None:
        if heard is not None and reply.tensor is not None:
            heard(home, decode_json(reply.tensor, f"the answer of {shared.spec.name}"))

    return VariableAccess(
        shared,
        request,
        mutates=True,
        needs_value=False,
        names_worker=names_worker,
        heard=None if heard is None else answered,
    )


def asking(shared: GraphObject, question: Json, answer: Callable[[Json], Array]) -> VariableAccess:
    """Returns how a session asks for what is always known; ``answer`` makes the output of it."""
    look = Look(shared.spec.name, shared.spec.object_kind, encode_json(question))

    def output(reply: Reply, inputs: Sequence[Array]) -> Array:
        del inputs
        if isinstance(reply, ShardscopeError):
            raise reply
        assert reply.tensor is not None
        return answer(decode_json(reply.tensor, f"the answer of {shared.spec.name}"))

    return VariableAccess(shared, lambda _: look, needs_value=False, output=output)


def step_tensor(value: Any, what: str) -> Tensor:
    """Returns a number of a step as an int64 tensor; ValueError if it is None, or known to be no scalar."""
    if value is None:
        raise ValueError(f"{what} is None; a number is needed")
    tensor: Tensor = cast(convert_to_tensor(value), int64)
    if not tensor.shape.is_compatible_with(SCALAR):
        raise ValueError(f"{what} has the shape {tensor.shape}; it should be a scalar")
    return tensor


def whole_number(value: Any, name: str, what: str) -> Tensor:
    """Returns a number as an int32 tensor; TypeError if it is a tensor of another dtype, or no whole number."""
    if value is None:
        raise ValueError(f"{what} is None; a number is needed")
    given = getattr(value, "dtype", None)
    if given is not None and isinstance(value, Tensor) and given != np.int32:
        raise TypeError(f"{what} is {value.name} of {given.name}; it should be int32: cast it")
    tensor: Tensor = convert_to_tensor(value, np.int32, name=name)
    return tensor
