"""Which variables ``get_variable`` has made, whole ones and parts, and when one is found again or created."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np

from worker_client.dtypes import DType, as_dtype
from worker_client.getter_request import GetterRequest
from worker_client.graph import Graph
from worker_client.initial_value import BoundInitializer
from worker_client.initializers import default_initializer
from worker_client.name_claims import NameClaims
from worker_client.regularization import add_regularization_loss
from worker_client.scope_arguments import Getter
from worker_client.tensor_shape import TensorShape
from worker_client.variable_creation import Origin, create_variable


class TableEntry(NamedTuple):
    """A variable that ``get_variable`` has made, what sharing it requires to be the same, and its loss, if any."""

    variable: Any
    shape: TensorShape
    dtype: np.dtype[Any]
    loss: Any = None


class WholeVariables:
    """The variables of one graph by full name, those among them that are parts of a partitioned one. Thread-safe.

    When several threads ask for a name that does not exist yet, one creates it while the others wait. No lock is held
    while initializers, getters or the factory run.

    Args:
        graph: The graph.

    Attributes:
        graph: The graph.
        claims: Names that a thread is making a variable for.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.claims = NameClaims()
        # Changed only by the thread that has claimed the name, and read without a lock: a dict's single operations are
        # atomic.
        self._entries: dict[str, TableEntry] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def forget(self, name: str) -> None:
        """Takes a variable back out of the table and of the collections; its operation and its name stay."""
        entry = self._entries.pop(name)
        self.graph.collections.remove(entry.variable)
        if entry.loss is not None:
            self.graph.collections.remove(entry.loss)

    def get(self, request: GetterRequest) -> Any:
        """Gets or creates a variable that is not partitioned, or one part of a variable that is."""
        is_constant = request.initializer is not None and not callable(request.initializer)
        if is_constant and request.shape.ndims is not None:
            raise ValueError(
                f"variable {request.name}: its initializer is a constant, which has a shape of its own; leave out shape"
            )
        entry = self._entries.get(request.name)
        if entry is None:
            if request.reuse is True:
                raise ValueError(
                    f"variable {request.name} does not exist, or was not made with get_variable(), but reuse=True asks "
                    f"for one that does; create it first, or use reuse=AUTO_REUSE"
                )
            with self.claims.hold(request.name):
                entry = self._entries.get(request.name)
                if entry is None:
                    return self._create(request)
        return _shared(entry, request)

    def _create(self, request: GetterRequest) -> Any:
        initial_value, dtype = _initial_value(request)
        variable = create_variable(
            self.graph,
            Origin(key=request.name, slice=request.slice, regularizer=request.regularizer),
            initial_value=initial_value,
            name=request.name,
            trainable=request.trainable,
            collections=request.collections,
            caching_device=request.caching_device,
            dtype=None if dtype is None else DType(dtype),
            validate_shape=request.validate_shape,
            constraint=request.constraint,
            synchronization=request.synchronization,
            aggregation=request.aggregation,
            shape=request.shape if request.shape.ndims is not None else None,
            variable_def=None,
            expected_shape=None,
            import_scope=None,
            use_resource=None,
        )
        entry = TableEntry(variable, TensorShape(variable.shape), as_dtype(variable.dtype))
        self._entries[request.name] = entry
        if request.regularizer is not None:
            loss = add_regularization_loss(self.graph, request.name, variable, request.regularizer)
            self._entries[request.name] = entry._replace(loss=loss)
        return variable


def _shared(entry: TableEntry, request: GetterRequest) -> Any:
    """Returns the variable of an entry, if the request allows that."""
    if request.reuse is False:
        raise ValueError(
            f"variable {request.name} already exists ({entry.dtype.name} {entry.shape}); to share it, enter its scope "
            f"with reuse=True or reuse=AUTO_REUSE"
        )
    if not request.shape.is_compatible_with(entry.shape):
        raise ValueError(
            f"cannot share variable {request.name}: shape {request.shape} is asked for, but it has shape {entry.shape}"
        )
    if request.dtype != entry.dtype:
        raise ValueError(
            f"cannot share variable {request.name}: dtype {request.dtype.name} is asked for, but it has dtype "
            f"{entry.dtype.name}; give dtype={entry.dtype.name}"
        )
    return entry.variable


def _initial_value(request: GetterRequest) -> tuple[Any, np.dtype[Any] | None]:
    """Returns what ``Variable`` is given as initial value and as dtype."""
    initializer = request.initializer
    if initializer is None:
        if request.shape.ndims is None:
            raise ValueError(f"variable {request.name} needs a shape, or an initializer that is a constant")
        initializer = default_initializer(request.dtype, request.name)
    if isinstance(initializer, type):
        initializer = initializer()
    if not callable(initializer):
        return initializer, None
    if request.shape.is_fully_defined():
        shape = request.shape.as_tuple()
        is_default = request.initializer is None
        return BoundInitializer(initializer, request.dtype, shape, request.slice, is_default), request.dtype
    if _needs_no_arguments(initializer):
        return initializer, None
    raise ValueError(
        f"variable {request.name}: its initializer needs the whole shape, but shape {request.shape} is given; give all "
        f"sizes, or an initializer without arguments"
    )


def _needs_no_arguments(function: Getter) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function written in C that does not tell
        return False
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return not any(each.default is each.empty and each.kind not in variadic for each in parameters)
