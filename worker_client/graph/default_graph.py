"""Which graph the module-level functions use.

The innermost ``with graph.as_default():``, ``with client:`` or ``with client.as_default():`` of this thread. Outside of
any:

- in a program that has imported ``worker_client.compat.v1``, one deferred graph that belongs to the process, since code
  for TensorFlow 1 builds its graph at the top level of a module, whether or not it has connected before;
- in any other, the graph of the connection that was opened last, in which everything happens at once;
- without a connection, again the process's deferred graph, so that scopes can be opened. But no variable is made there
  (``graph_to_build_in``) unless the program has said that it builds a graph: by those names, or by a session of it.

So code that connects in a ``with`` statement means the same whether some other module imports the names of TensorFlow 1
or not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

from ps_protocol.forks import new_lock
from worker_client.graph.defaults import STACK, HasGraph, connected_too_late, find_newest_client, not_connected
from worker_client.graph.graph import Graph

_TF1_NAMES: Final = "worker_client.compat.v1"

_process_lock = new_lock()  # guards: _process_graphs; what is in it is set and read without
_process_graphs: list[_ProcessGraph] = []  # empty until one is needed


class _ProcessGraph(Graph):
    """The deferred graph of the process.

    Attributes:
        is_chosen: Whether the program has made a session of it.
    """

    is_chosen = False


def get_default_graph() -> Graph:
    """Returns the graph that this thread builds in now."""
    innermost = STACK.innermost or _client_outside_of_blocks()
    graph: Graph = innermost.graph if innermost else _process_graph()
    return graph


def graph_to_build_in() -> Graph:
    """Returns the default graph, for a function that makes something there.

    Raises:
        FailedPreconditionError: There is no connection, or it was made inside a scope that was opened before, and the
            program has not said that it builds a graph.
    """
    graph = get_default_graph()
    if isinstance(graph, _ProcessGraph) and not graph.is_chosen and _TF1_NAMES not in sys.modules:
        raise not_connected() if find_newest_client() is None else connected_too_late()
    return graph


def graph_to_run() -> Graph:
    """Returns the default graph, for a session; from here on the program builds in it, also if it is the process's."""
    graph = get_default_graph()
    if isinstance(graph, _ProcessGraph):
        graph.is_chosen = True
    return graph


def reset_default_graph() -> None:
    """Empties the default graph: that of the default connection, or that of the process.

    Variables that were made stay on their ps tasks; only the names in this process are forgotten.

    Raises:
        RuntimeError: This thread is inside ``graph.as_default()``, so that another graph is the default.
    """
    innermost = STACK.innermost
    if innermost is not None and innermost.client is None:
        raise RuntimeError(
            "reset_default_graph() inside graph.as_default() would have no effect; leave the block first"
        )
    client = innermost.client if innermost else _client_outside_of_blocks()
    if client:
        client.graph = client.graph.emptied()
        return
    with _process_lock:
        _process_graphs.clear()


def graph_of(values: Iterable[Any]) -> Graph:
    """Returns the graph that the first of some tensors, operations or variables belongs to, or else the default one.

    Raises:
        ValueError: They belong to different graphs.
    """
    found: Graph | None = None
    for value in values:
        graph = getattr(value, "graph", None)
        if graph is None:
            continue
        if found is not None and graph is not found:
            raise ValueError(f"{value!r} belongs to another graph than the values before it; make them in one graph")
        found = graph
    return found or get_default_graph()


def _client_outside_of_blocks() -> HasGraph | None:
    return None if _TF1_NAMES in sys.modules else find_newest_client()


def _process_graph() -> Graph:
    with _process_lock:
        if not _process_graphs:
            _process_graphs.append(_ProcessGraph())
        return _process_graphs[0]
