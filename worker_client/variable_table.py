"""The table in which ``get_variable`` finds variables again, and its rules for when one is reused and when created."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from worker_client import partitioned_getter
from worker_client.dtypes import DType, as_dtype, float32
from worker_client.getter_request import GetterRequest
from worker_client.initial_value import BoundInitializer
from worker_client.initializers import default_initializer
from worker_client.name_claims import NameClaims
from worker_client.regularization import add_regularization_loss
from worker_client.tensor_shape import ShapeLike, TensorShape
from worker_client.variable_creation import Origin, checked_mode, create_variable
from worker_client.variable_definition import (
    Constraint,
    Regularizer,
    VariableAggregation,
    VariableSynchronization,
)

if TYPE_CHECKING:
    from worker_client.graph import Graph
    from worker_client.partitioned_variable import PartitionedVariable
    from worker_client.scope import Getter, Initializer, Partitioner, Reuse


class TableEntry(NamedTuple):
    """A variable that ``get_variable`` has made, what sharing it requires to be the same, and its loss, if any."""

    variable: Any
    shape: TensorShape
    dtype: np.dtype[Any]
    loss: Any = None


class VariableTable:
    """The variables of one graph by full name. Thread-safe.

    When several threads ask for a name that does not exist yet, one creates it while the others wait. No lock is held
    while initializers, getters or the factory run.

    Args:
        graph: The graph.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.claims = NameClaims()
        # Both are changed only by the thread that has claimed the name, and read without a lock: a dict's single
        # operations are atomic.
        self._entries: dict[str, TableEntry] = {}
        self._partitioned: dict[str, PartitionedVariable] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def find_partitioned(self, name: str) -> PartitionedVariable | None:
        """Returns the partitioned variable of a full name, None if there is none."""
        return self._partitioned.get(name)

    def keep_partitioned(self, name: str, variable: PartitionedVariable) -> None:
        """Enters a partitioned variable whose parts have been made."""
        self._partitioned[name] = variable

    def forget(self, name: str) -> None:
        """Takes a variable back out of the table and of the collections; its operation and its name stay."""
        entry = self._entries.pop(name)
        self.graph.collections.remove(entry.variable)
        if entry.loss is not None:
            self.graph.collections.remove(entry.loss)

    def get_variable(
        self,
        name: str,
        shape: ShapeLike = None,
        dtype: npt.DTypeLike = float32,
        initializer: Initializer = None,
        regularizer: Regularizer | None = None,
        reuse: Reuse = None,
        trainable: bool | None = None,
        collections: Any = None,
        caching_device: Any = None,
        partitioner: Partitioner | None = None,
        validate_shape: bool = True,
        use_resource: bool | None = None,
        custom_getter: Getter | None = None,
        constraint: Constraint | None = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
    ) -> Any:
        """Gets or creates a variable by its full name, through ``custom_getter`` if there is one.

        The arguments are those of ``worker_client.variable_scope.get_variable`` with the defaults of a scope filled in;
        ``reuse`` says whether the variable must exist (True), must not (False) or may (``AUTO_REUSE``, None).
        """
        synchronization = checked_mode(synchronization, VariableSynchronization, name)
        aggregation = checked_mode(aggregation, VariableAggregation, name)
        if trainable is None:
            trainable = synchronization is not VariableSynchronization.ON_READ
        keywords: dict[str, Any] = {
            "shape": shape,
            "dtype": dtype,
            "initializer": initializer,
            "regularizer": regularizer,
            "reuse": reuse,
            "trainable": trainable,
            "collections": collections,
            "caching_device": caching_device,
            "partitioner": partitioner,
            "validate_shape": validate_shape,
            "use_resource": use_resource,
            "synchronization": synchronization,
            "aggregation": aggregation,
        }
        if custom_getter is None:
            return self._get(name, constraint=constraint, **keywords)
        if not callable(custom_getter):
            raise ValueError(f"variable {name}: the custom_getter should be a function, not {custom_getter!r}")  # noqa: TRY004
        if _takes_constraint(custom_getter):
            keywords["constraint"] = constraint
        keywords["dtype"] = DType(as_dtype(dtype))
        return custom_getter(getter=self._get, name=name, **keywords)

    def _get(
        self,
        name: str,
        shape: ShapeLike = None,
        dtype: npt.DTypeLike = float32,
        initializer: Initializer = None,
        regularizer: Regularizer | None = None,
        reuse: Reuse = None,
        trainable: bool | None = None,
        collections: Any = None,
        caching_device: Any = None,
        partitioner: Partitioner | None = None,
        validate_shape: bool = True,
        use_resource: bool | None = None,  # noqa: ARG002 - custom getters pass it on
        constraint: Constraint | None = None,
        synchronization: VariableSynchronization = VariableSynchronization.AUTO,
        aggregation: VariableAggregation = VariableAggregation.NONE,
    ) -> Any:
        """The getter that custom getters are given."""
        request = GetterRequest(
            name=name,
            shape=TensorShape(shape),
            dtype=as_dtype(dtype),
            initializer=initializer,
            regularizer=regularizer,
            reuse=reuse,
            trainable=trainable,
            collections=collections,
            caching_device=caching_device,
            partitioner=partitioner,
            validate_shape=validate_shape,
            constraint=constraint,
            synchronization=synchronization,
            aggregation=aggregation,
        )
        if partitioner is not None and not _is_scalar(shape):
            if not callable(partitioner):
                raise ValueError(f"variable {name}: the partitioner should be a function, not {partitioner!r}")
            with self.graph.name_scope(None):
                return partitioned_getter.get_partitioned(self, request)
        if partitioner is None and reuse is True and name in self._partitioned:
            return partitioned_getter.get_partitioned(self, request)
        if f"{name}/part_0" in self._entries:
            raise ValueError(
                f"variable {name} already exists in parts ({name}/part_0 and so on), but no partitioner is given; give "
                f"the partitioner it was made with, or another name"
            )
        return self.get_whole(request)

    def get_whole(self, request: GetterRequest) -> Any:
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


def _is_scalar(shape: ShapeLike) -> bool:
    return isinstance(shape, Sequence) and not shape


def _takes_constraint(getter: Getter) -> bool:
    parameters = inspect.signature(getter).parameters.values()
    return any(each.name == "constraint" or each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)


def _needs_no_arguments(function: Getter) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function written in C that does not tell
        return False
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return not any(each.default is each.empty and each.kind not in variadic for each in parameters)
