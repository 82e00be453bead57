"""Where one thread stands in the variable scopes of one graph."""

from __future__ import annotations

import threading

from worker_client.graph.graph import Graph
from worker_client.scopes.counters import ScopeCounters
from worker_client.scopes.scope import VariableScope


class ScopeStore:
    """The current scope of a thread, and how often it has entered which. Every thread starts at the root.

    Attributes:
        current: The innermost open scope.
        counters: Entries by full scope name.
    """

    __slots__ = ("counters", "current")

    def __init__(self) -> None:
        self.current = VariableScope(reuse=False)
        self.counters = ScopeCounters()


class ScopeStores(threading.local):
    """The scope stores of the threads that use one graph, as ``Graph.slot`` keeps them.

    Attributes:
        here: That of the calling thread.
    """

    def __init__(self, graph: Graph) -> None:
        del graph
        self.here = ScopeStore()
