"""Which graph the module-level functions use.

The innermost ``with graph.as_default():`` of this thread; outside of any, the graph of the default connection; without
a connection, one graph that belongs to the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from worker_client.default_client import find_default_client

if TYPE_CHECKING:
    from worker_client.graph import Graph


class _Stack(threading.local):
    def __init__(self) -> None:
        self.graphs: list[Graph] = []


_stack = _Stack()
_process_lock = threading.Lock()  # guards: _process_graphs
_process_graphs: list[Graph] = []  # none until it is needed, then one


def get_default_graph() -> Graph:
    """Returns the graph that this thread builds in now."""
    if _stack.graphs:
        return _stack.graphs[-1]
    client = find_default_client()
    return client.graph if client else _process_graph()


def reset_default_graph() -> None:
    """Starts the default graph anew, empty: that of the default connection, or else that of the process.

    Variables that were made stay on their ps tasks; only the names in this process are forgotten.

    Raises:
        RuntimeError: This thread is inside ``graph.as_default()``, so that another graph is the default.
    """
    if _stack.graphs:
        raise RuntimeError(
            "reset_default_graph() inside graph.as_default() would have no effect; leave the block first"
        )
    client = find_default_client()
    if client:
        client.graph = client.graph.emptied()
        return
    with _process_lock:
        _process_graphs.clear()


@contextmanager
def as_default(graph: Graph) -> Iterator[Graph]:
    """Makes a graph the default of this thread inside the block.

    Raises:
        RuntimeError: Another graph, made the default inside, still is at the end.
    """
    graphs = _stack.graphs
    graphs.append(graph)
    try:
        yield graph
    finally:
        if graphs[-1] is not graph:
            raise RuntimeError("graph.as_default() is left while another graph is innermost; leave in reverse order")
        graphs.pop()


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


def _process_graph() -> Graph:
    from worker_client.graph import Graph  # the graph opens its scopes through this module

    with _process_lock:
        if not _process_graphs:
            _process_graphs.append(Graph())
        return _process_graphs[0]
