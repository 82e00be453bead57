"""Operations that only put others in order."""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from worker_client.deferred.call import itself, tensor_or_none
from worker_client.deferred.computed import computed
from worker_client.deferred.sparse_tensor import with_values_of
from worker_client.graph.blocks import colocate_with, name_scope
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.operation import Operation, operation_of
from worker_client.values.conversion import IndexedSlices


def control_dependencies(control_inputs: Iterable[Any] | None) -> AbstractContextManager[None]:
    """Makes what is built inside the block run after other operations; see ``Graph.control_dependencies``.

    Outside of a deferred graph operations have run already. Futures, as of ``assign(..., wait=False)``, are waited for
    as long as their operations may take, and functions are called.
    """
    graph = get_default_graph()
    return graph.control_dependencies(control_inputs) if graph.deferred else _awaited(control_inputs or ())


@contextmanager
def _awaited(control_inputs: Iterable[Any]) -> Iterator[None]:
    for each in control_inputs:
        if isinstance(each, Future):
            each.result()  # bounded by the timeout of the operation that it stands for
        elif callable(each):
            each()
    yield


def no_op(name: str | None = None) -> Operation:
    """Adds an operation that does nothing, for control dependencies."""
    return get_default_graph().create_op("NoOp", name=name)


def group(*inputs: Any, name: str | None = None) -> Operation:
    """Adds an operation that runs others.

    Args:
        *inputs: Operations, tensors, variables, and nested lists of those.
        name: Of the operation; "group_deps" if not given. Where the inputs are on several devices, one more operation
            on each gathers those that are there.

    Returns:
        An operation that has run when all of them have.

    Raises:
        TypeError: An input is none of those.
        ValueError: They belong to different graphs.
    """
    operations = _operations(inputs)
    by_device: dict[str, list[Operation]] = {}
    for operation in operations:
        by_device.setdefault(operation.device, []).append(operation)
    with name_scope(name, "group_deps", operations) as scope:
        if len(by_device) <= 1:
            return _gathered(operations, next(iter(by_device), ""), scope)
        return _gathered([_gathered(by_device[device], device, None) for device in sorted(by_device)], "", scope)


def _gathered(operations: Sequence[Operation], device: str, name: str | None) -> Operation:
    graph = get_default_graph()
    with graph.control_dependencies(operations):
        if not device:
            return no_op(name)
        with graph.device(device):
            return no_op(name)


def tuple(  # noqa: A001 - TensorFlow's name
    tensors: Sequence[Any], name: str | None = None, control_inputs: Sequence[Any] | None = None
) -> list[Any]:
    """Returns tensors that have their values when all of them have been computed.

    Args:
        tensors: Tensors or variables; None stays None.
        name: Of the scope; "tuple" if not given.
        control_inputs: What else must have run.

    Raises:
        ValueError: There is nothing to wait for.
    """
    given = [tensor for tensor in tensors if tensor is not None]
    if not given:
        raise ValueError(f"tuple needs at least one tensor, not {tensors!r}")
    with name_scope(name, "tuple", given):
        gate = group(*given, *(control_inputs or ()))
        return [None if tensor is None else with_dependencies([gate], tensor) for tensor in tensors]


def with_dependencies(dependencies: Sequence[Any], output_tensor: Any, name: str | None = None) -> Any:
    """Returns the value of a tensor once other operations have run; "control_dependency" if no name is given."""
    if isinstance(output_tensor, IndexedSlices):
        return with_values_of(lambda values: with_dependencies(dependencies, values, name), output_tensor)
    with name_scope(name, "control_dependency", [*dependencies, output_tensor]) as scope:
        graph = get_default_graph()
        with colocate_with(output_tensor), graph.control_dependencies(dependencies):
            tensor = tensor_or_none(output_tensor)
            if tensor is None:
                raise TypeError(f"{output_tensor!r} is neither a tensor nor a variable")
            return computed("Identity", itself, [tensor], name=scope)


def _operations(inputs: Iterable[Any]) -> list[Operation]:
    found: list[Operation] = []
    for each in inputs:
        if isinstance(each, list | builtins.tuple):
            found += _operations(each)
        else:
            found.append(operation_of(each))
    return found
