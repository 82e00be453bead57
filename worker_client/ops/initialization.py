"""Gives variables their initial values, and finds out which have one.

In a deferred graph these make operations, as in TensorFlow 1: run by a session, an initialiser gives its variables
their initial values whether or not they have one, in one exchange for each ps task.

On the variables of a connection's own graph they act at once. Every worker that runs the program acts there, so an
initialiser leaves a variable that has a value as it is; ``Variable.initialize(overwrite=True)`` does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.operations import Array, Describe
from worker_client.connection.fanout import Routed
from worker_client.default_client import get_default_client
from worker_client.deferred.variable import DeferredVariable
from worker_client.graph.computation import Kernel
from worker_client.graph.default_graph import get_default_graph, graph_of, graph_to_build_in
from worker_client.graph.graph import Graph
from worker_client.graph.operation import Operation, OutputSpec
from worker_client.ops.collections import global_variables, local_variables
from worker_client.ops.control_flow import group
from worker_client.values.shapes import TensorShape
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.variable import Variable

__all__ = [
    "assert_variables_initialized",
    "global_variables_initializer",
    "initialize_all_tables",
    "initialize_all_variables",
    "initialize_local_variables",
    "initialize_variables",
    "local_variables_initializer",
    "report_uninitialized_variables",
    "tables_initializer",
    "variables_initializer",
]


def global_variables_initializer() -> Operation | None:
    """``variables_initializer`` of all variables that the cluster shares."""
    return variables_initializer(global_variables())


def local_variables_initializer() -> Operation | None:
    """``variables_initializer`` of all variables that belong to this worker."""
    return variables_initializer(local_variables())


def initialize_all_variables() -> Operation | None:
    """The older name of ``global_variables_initializer``."""
    return global_variables_initializer()


def initialize_local_variables() -> Operation | None:
    """The older name of ``local_variables_initializer``."""
    return local_variables_initializer()


def initialize_variables(var_list: Iterable[Any], name: str = "init") -> Operation | None:
    """The older name of ``variables_initializer``."""
    return variables_initializer(var_list, name)


def tables_initializer(name: str = "init_all_tables") -> Operation | None:
    """Returns an operation that does nothing, since there are no lookup tables here; None where nothing is deferred."""
    graph = get_default_graph()
    return graph.create_op("NoOp", name=name) if graph.deferred else None


def initialize_all_tables(name: str = "init_all_tables") -> Operation | None:
    """The older name of ``tables_initializer``."""
    return tables_initializer(name)


def variables_initializer(var_list: Iterable[Any], name: str = "init") -> Operation | None:
    """Initialises variables together.

    Args:
        var_list: The variables, partitioned ones included, all deferred or all not.
        name: Name of the operation.

    Returns:
        The operation that does it when a session runs it. None for variables that are not deferred: those that had no
        value have one now.

    Raises:
        TypeError: One is no variable, or they are of both kinds.
        ShardscopeError: At once: one could not be initialised; others may have been.
    """
    graph, deferred, eager = _sorted_out(var_list)
    if eager or not graph.deferred:
        routed = [Routed(each.ps_task, each.initialization(overwrite=False)) for each in eager]
        if routed:
            get_default_client().fanout.run_all(routed)
        return None
    with graph.as_default():
        return group(*(each.initializer for each in deferred), name=name)


def report_uninitialized_variables(
    var_list: Iterable[Any] | None = None, name: str = "report_uninitialized_variables"
) -> Any:
    """Returns the names of those variables that have no value.

    Args:
        var_list: The variables; by default all global and local ones.
        name: Name scope of the operations.

    Returns:
        Full names without ":0", as bytes: a tensor or an array ``[n]``. A session that runs the
        tensor asks each time, and never waits.

    Raises:
        TypeError: One is no variable, or they are of both kinds.
    """
    graph, deferred, eager = _sorted_out(_all_variables() if var_list is None else var_list)
    names = np.array([each.spec.name.encode() for each in deferred or eager], np.bytes_)
    if eager or not graph.deferred:
        return names[~_are_initialized(eager)]
    with graph.name_scope(name):
        states = [each.is_initialized() for each in deferred]
        output = OutputSpec(names.dtype, TensorShape([None]))
        kernel = Kernel(lambda *states: names[~np.array(states, bool)])
        return graph.create_op("GatherV2", states, [output], name="boolean_mask/GatherV2", computation=kernel).outputs[
            0
        ]


def assert_variables_initialized(var_list: Iterable[Any] | None = None) -> Any:
    """Makes sure that variables have values.

    Args:
        var_list: The variables; by default all global and local ones.

    Returns:
        A tensor that raises ``FailedPreconditionError`` when a session runs it, naming those that have none, and
        otherwise is their ranks, ``[n]``. None if there are no variables, or if they are not deferred.

    Raises:
        TypeError: One is no variable, or they are of both kinds.
        FailedPreconditionError: At once: a variable that is not deferred has no value.
    """
    graph, deferred, eager = _sorted_out(_all_variables() if var_list is None else var_list)
    if eager:
        _check_initialized([each.spec.name for each in eager], _are_initialized(eager))
        return None
    if not deferred:
        return None
    names = [each.spec.name for each in deferred]
    ranks = np.array([len(each.spec.shape) for each in deferred], np.int32)

    def checked(*states: Array) -> Array:
        _check_initialized(names, np.array(states, bool))
        return ranks.copy()

    states = [each.is_initialized() for each in deferred]
    output = OutputSpec(ranks.dtype, TensorShape(ranks.shape))
    return graph.create_op("Pack", states, [output], name="stack", computation=Kernel(checked)).outputs[0]


def _all_variables() -> list[Any]:
    return [*global_variables(), *local_variables()]


def _sorted_out(variables: Iterable[Any]) -> tuple[Graph, list[DeferredVariable], list[Variable]]:
    """Returns the graph of variables, and the deferred and the eager ones; of partitioned ones the parts."""
    deferred: list[DeferredVariable] = []
    eager: list[Variable] = []
    for whole in variables:
        for each in whole if isinstance(whole, PartitionedVariable) else (whole,):
            if isinstance(each, DeferredVariable):
                deferred.append(each)
            elif isinstance(each, Variable):
                eager.append(each)
            else:
                raise TypeError(f"{each!r} is a {type(each).__name__}, not a variable")
    if deferred and eager:
        raise TypeError(
            f"{deferred[0].name} belongs to a deferred graph and {eager[0].name} does not; initialise them separately"
        )
    return graph_of(deferred or eager) if deferred or eager else graph_to_build_in(), deferred, eager


def _are_initialized(variables: Sequence[Variable]) -> Array:
    routed = [Routed(each.ps_task, Describe(each.spec.name)) for each in variables]
    results = get_default_client().fanout.run_all(routed) if routed else []
    return np.array([each.initialized for each in results], bool)


def _check_initialized(names: Sequence[str], states: Array) -> None:
    missing = [name for name, is_initialized in zip(names, states, strict=True) if not is_initialized]
    if missing:
        raise FailedPreconditionError(
            f"not initialised: {', '.join(missing)}; run global_variables_initializer() first", variable=missing[0]
        )
