"""What a session is asked for: a nested structure of tensors, variables, operations and names of those."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ps_protocol.interrupts import raise_interrupt
from ps_protocol.operations import Array
from worker_client.deferred.call import tensor_or_none
from worker_client.deferred.sparse_tensor import SparseTensor, SparseTensorValue
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, Tensor
from worker_client.values.conversion import IndexedSlices, IndexedSlicesValue
from worker_client.variables.partitioned import PartitionedVariable


class Fetches:
    """A structure of fetches, taken apart.

    Args:
        graph: The graph that they must belong to.
        structure: What the user asked for.

    Raises:
        ValueError: Something is not of the graph, or no operation has the name.
        TypeError: Something cannot be run.

    Attributes:
        operations: What is only to be run.
        tensors: What is to be computed.
    """

    def __init__(self, graph: Graph, structure: Any):
        self._graph = graph
        self.operations: list[Operation] = []
        self.tensors: list[Tensor] = []
        self._template = self._taken_apart(structure)

    def structured(self, values: Sequence[Array], fed: Container[Tensor] = ()) -> Any:
        """Returns values in the structure of what was asked for.

        Args:
            values: In the order of ``tensors``.
            fed: Tensors whose values were given, not computed: as in TensorFlow they are arrays even where they are
                scalars, which are NumPy's scalars otherwise.
        """
        pairs = zip(self.tensors, values, strict=True)
        return _put_together(
            self._template, iter([_owned(value) if tensor in fed else _owned(value)[()] for tensor, value in pairs])
        )

    def _taken_apart(self, fetch: Any) -> Any:
        if isinstance(fetch, list | tuple):
            return _rebuilt(fetch, [self._taken_apart(each) for each in fetch])
        if isinstance(fetch, IndexedSlices):
            values, indices = self._taken_apart(fetch.values), self._taken_apart(fetch.indices)
            sizes = _NOTHING if fetch.dense_shape is None else self._taken_apart(fetch.dense_shape)
            return IndexedSlicesValue(values, indices, sizes)
        if isinstance(fetch, SparseTensor):
            members = (fetch.indices, fetch.values, fetch.dense_shape)
            return SparseTensorValue(*(self._taken_apart(each) for each in members))
        if isinstance(fetch, PartitionedVariable):  # whose tensor would be a new operation at each run
            return _Whole([self._taken_apart(part) for part in fetch], fetch.axis)
        if isinstance(fetch, Mapping):
            return _Keyed(type(fetch), {key: self._taken_apart(each) for key, each in fetch.items()})
        found = element_of_graph(self._graph, fetch, "fetched")
        if isinstance(found, Operation):
            self.operations.append(found)
            return _OPERATION
        self.tensors.append(found)
        return _TENSOR


_OPERATION, _TENSOR, _NOTHING = object(), object(), object()


@dataclass(frozen=True, slots=True)
class _Whole:
    """Stands for a partitioned variable."""

    parts: list[Any]
    axis: int


@dataclass(frozen=True, slots=True)
class _Keyed:
    """Stands for a mapping, and for what kind of mapping."""

    kind: type[Any]
    members: dict[Any, Any]


def _put_together(template: Any, values: Iterator[Any]) -> Any:
    if template is _OPERATION or template is _NOTHING:
        return None
    if template is _TENSOR:
        return next(values)
    if isinstance(template, _Whole):
        return np.concatenate([_put_together(part, values) for part in template.parts], axis=template.axis)
    if isinstance(template, _Keyed):
        found = {key: _put_together(each, values) for key, each in template.members.items()}
        return template.kind(found) if issubclass(template.kind, OrderedDict) else found
    return _rebuilt(template, [_put_together(each, values) for each in template])


def _owned(value: Array) -> Array:
    """Returns a value that its receiver may change: that of a constant is the graph's own, and read-only."""
    return value if value.flags.writeable else value.copy()


def _rebuilt(like: Any, elements: list[Any]) -> Any:
    if hasattr(like, "_fields"):
        return type(like)(*elements)
    return type(like)(elements)


def element_of_graph(graph: Graph, element: Any, verb: str) -> Operation | Tensor:
    """Returns the operation or tensor that is meant.

    Args:
        graph: The graph that it must belong to.
        element: A tensor, operation, variable, or a name.
        verb: What is done with it, for errors.

    Raises:
        ValueError: It belongs to another graph, or nothing has the name.
        TypeError: It is none of those.
    """
    if isinstance(element, bytes):
        element = element.decode()
    if isinstance(element, str):
        try:
            return graph.get_tensor_by_name(element) if ":" in element else graph.get_operation_by_name(element)
        except KeyError as error:
            raise_interrupt(error)
            raise ValueError(f"{element!r} cannot be {verb}: {error.args[0]}") from error
    if isinstance(element, DeferredVariable):  # whatever control dependencies are open where it is run
        element = element.snapshot
    found = element if isinstance(element, Operation) else tensor_or_none(element)
    if found is None:
        raise TypeError(f"{element!r} cannot be {verb}: it is a {type(element).__name__}, not a tensor or an operation")
    if found.graph is not graph:
        raise ValueError(f"{found.name} cannot be {verb}: it belongs to another graph than the session")
    return found


def tensor_of_graph(graph: Graph, element: Any, verb: str) -> Tensor:
    """Returns the tensor that is meant; TypeError for an operation. Otherwise as ``element_of_graph``."""
    found = element_of_graph(graph, element, verb)
    if isinstance(found, Operation):
        raise TypeError(f"operation {found.name} cannot be {verb}; name one of its tensors, such as {found.name}:0")
    return found
