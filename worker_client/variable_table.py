"""The table in which ``get_variable`` finds variables again, whole ones and partitioned ones."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from worker_client.dtypes import DType, as_dtype, float32
from worker_client.getter_request import GetterRequest
from worker_client.graph import Graph
from worker_client.partitioned_getter import PartitionedVariables
from worker_client.scope_arguments import Getter, Initializer, Partitioner, Reuse
from worker_client.tensor_shape import ShapeLike, TensorShape
from worker_client.variable_creation import checked_mode
from worker_client.variable_definition import (
    Constraint,
    Regularizer,
    VariableAggregation,
    VariableSynchronization,
)
from worker_client.whole_variables import WholeVariables


class VariableTable:
    """The variables of one graph by full name, as ``Graph.slot`` keeps it. Thread-safe.

    Args:
        graph: The graph.

    Attributes:
        graph: The graph.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._whole = WholeVariables(graph)
        self._partitioned = PartitionedVariables(self._whole)

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
                return self._partitioned.get(request)
        if partitioner is None and reuse is True and name in self._partitioned:
            return self._partitioned.get(request)
        if f"{name}/part_0" in self._whole:
            raise ValueError(
                f"variable {name} already exists in parts ({name}/part_0 and so on), but no partitioner is given; give "
                f"the partitioner it was made with, or another name"
            )
        return self._whole.get(request)


def _is_scalar(shape: ShapeLike) -> bool:
    return isinstance(shape, Sequence) and not shape


def _takes_constraint(getter: Getter) -> bool:
    parameters = inspect.signature(getter).parameters.values()
    return any(each.name == "constraint" or each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
