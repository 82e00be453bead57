"""What the ``with`` statements of each thread have made the default: connections and graphs, on one stack.

It is one stack so that of a connection and a graph the inner one counts.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from worker_client.client import Client
    from worker_client.graph import Graph
    from worker_client.placement_scopes import DeviceScopes


class Default(NamedTuple):
    """What one statement has made the default: a connection, which has a graph of its own, or a graph alone.

    Attributes:
        client: The connection.
        own_graph: The graph, if it is not the connection's.
        devices: The device scopes that counted in the graph at that moment, if it was a graph that was entered.
    """

    client: Client | None = None
    own_graph: Graph | None = None
    devices: DeviceScopes | None = None

    @property
    def graph(self) -> Graph:
        """The graph; that of a connection as it is now, since it can be reset."""
        if self.client is not None:
            return self.client.graph
        if self.own_graph is None:
            raise ValueError("a default is a connection or a graph")
        return self.own_graph


class DefaultStack(threading.local):
    """The open statements of one thread, the innermost last."""

    def __init__(self) -> None:
        self._entries: list[Default] = []

    @property
    def innermost(self) -> Default | None:
        """What was made the default last, None outside of all blocks."""
        return self._entries[-1] if self._entries else None

    def __iter__(self) -> Iterator[Default]:
        """From the inside out."""
        return reversed(self._entries)

    def push(self, entry: Default) -> None:
        """Enters a block."""
        self._entries.append(entry)

    def pop(self, entry: Default) -> None:
        """Leaves the innermost block that is ``entry``'s, which need not be the innermost of all."""
        if self._entries[-1] is entry:
            self._entries.pop()
            return
        position = next(index for index in reversed(range(len(self._entries))) if self._entries[index] is entry)
        del self._entries[position]


STACK = DefaultStack()
