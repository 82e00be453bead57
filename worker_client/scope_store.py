"""Where each thread stands in the variable scopes of one graph."""

from __future__ import annotations

import threading

from worker_client.graph import Graph
from worker_client.scope import VariableScope
from worker_client.scope_counters import ScopeCounters


class ScopeStore(threading.local):
    """The current scope of a thread, and how often it has entered which, as ``Graph.slot`` keeps it.

    Every thread starts at the root.

    Attributes:
        current: The innermost open scope.
        counters: Entries by full scope name.
    """

    def __init__(self, graph: Graph) -> None:
        del graph
        self.current = VariableScope(reuse=False)
        self.counters = ScopeCounters()
