"""The variable that counts the training steps of the whole cluster."""

from __future__ import annotations

import logging
from typing import Any

from ps_protocol.interrupts import raise_interrupt
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.definition import VariableAggregation
from worker_client.graph.graph import Graph
from worker_client.graph.keys import GraphKeys
from worker_client.initializers import zeros_initializer
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session
from worker_client.values.dtypes import DType, as_dtype, int64
from worker_client.values.shapes import TensorShape

_LOG = logging.getLogger("tensorflow")  # as TensorFlow does: `tf.logging` says what is shown


def get_global_step(graph: Graph | None = None) -> Any:
    """Returns the global step of a graph, None if it has none, or several, so that it is not clear which is meant.

    Args:
        graph: By default the default graph.

    Raises:
        TypeError: What stands in its place is not an integer, or not a scalar.
    """
    graph = graph or get_default_graph()
    found = graph.get_collection(GraphKeys.GLOBAL_STEP)
    if len(found) > 1:
        _LOG.error("the collection %r has %d members; keep one of them", GraphKeys.GLOBAL_STEP, len(found))
        return None
    if found:
        return _checked(found[0])
    try:
        return _checked(graph.get_tensor_by_name(f"{GraphKeys.GLOBAL_STEP}:0"))
    except KeyError as error:
        raise_interrupt(error)
        return None


def create_global_step(graph: Graph | None = None) -> Any:
    """Makes the global step of a graph: an int64 scalar, zero at first, that optimizers do not train.

    It is in the collections ``GLOBAL_VARIABLES`` and ``GLOBAL_STEP``.

    Args:
        graph: By default the default graph.

    Raises:
        ValueError: The graph has one.
    """
    graph = graph or get_default_graph()
    if get_global_step(graph) is not None:
        raise ValueError(
            f"variable {GraphKeys.GLOBAL_STEP} already exists; get it with get_global_step() or "
            f"get_or_create_global_step()"
        )
    with graph.as_default(), graph.name_scope(None):
        return get_variable(
            GraphKeys.GLOBAL_STEP,
            shape=[],
            dtype=int64,
            initializer=zeros_initializer(),
            trainable=False,
            aggregation=VariableAggregation.ONLY_FIRST_REPLICA,
            collections=[GraphKeys.GLOBAL_VARIABLES, GraphKeys.GLOBAL_STEP],
        )


def get_or_create_global_step(graph: Graph | None = None) -> Any:
    """Returns the global step of a graph, made if there is none."""
    graph = graph or get_default_graph()
    found = get_global_step(graph)
    return create_global_step(graph) if found is None else found


def assert_global_step(global_step_tensor: Any) -> None:
    """Raises TypeError if what is to be the global step is not an integer, or not a scalar."""
    _checked(global_step_tensor)


def global_step(sess: Session, global_step_tensor: Any) -> int:
    """Returns the present count as a number.

    Args:
        sess: Reads it.
        global_step_tensor: The variable.
    """
    return int(sess.run(global_step_tensor))


def _checked(step: Any) -> Any:
    if not hasattr(step, "dtype"):
        raise TypeError(f'the existing "global_step" should be a variable or a tensor, not {step!r}')
    if not DType(as_dtype(step.dtype)).is_integer:
        raise TypeError(f"the global step {step.name} is {as_dtype(step.dtype).name}; it should be an integer")
    shape = TensorShape(step.shape)
    if shape.ndims != 0 and shape.is_fully_defined():  # one that is not wholly known passes, as in TensorFlow
        raise TypeError(f"the global step {step.name} has the shape {shape}; it should be a scalar")
    return step
