"""Which connections and graphs each thread's ``with`` statements have made the default, and which connections are open.

Both are on one stack, so that the inner one counts. This module stands below the classes of both; ask
``default_graph`` and ``default_client``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

from ps_protocol.errors import FailedPreconditionError
from ps_protocol.forks import new_lock
from worker_client.graph.device_scopes import DeviceScopes


def not_connected() -> FailedPreconditionError:
    """The error of a function that needs a connection where none is open."""
    return FailedPreconditionError(
        "not connected: call ss.connect() first, or stay inside its `with` block; a graph for a session is "
        "built in `with ss.Graph().as_default():`"
    )


def connected_too_late() -> FailedPreconditionError:
    """The error of a function that needs a connection, in a scope that was opened when none was open."""
    return FailedPreconditionError(
        "ss.connect() was called inside of a variable_scope or another block that was opened before it, and so is not "
        "the default connection there: connect before the block, or use `with ss.connect(...) as client:` inside of it"
    )


class HasGraph(Protocol):
    """A connection, as far as it is a default: it has a graph of its own, which is replaced when it is reset."""

    graph: Any


class PlacesOperations(Protocol):
    """A graph, as far as it is a default."""

    @property
    def device_scopes(self) -> DeviceScopes:
        """The device scopes that count for what is made now."""
        ...


_HasGraph = TypeVar("_HasGraph", bound=HasGraph)
_Graph = TypeVar("_Graph", bound=PlacesOperations)


class Default(NamedTuple):
    """What one statement has made the default: a connection, which has a graph of its own, or a graph alone.

    Attributes:
        client: The connection.
        own_graph: The graph, if it is not the connection's.
        devices: The device scopes that counted in the graph at that moment, if it was a graph that was entered.
    """

    client: Any = None
    own_graph: Any = None
    devices: DeviceScopes | None = None

    @property
    def graph(self) -> Any:
        """The graph; that of a connection as it is now, since it can be reset."""
        return self.own_graph if self.client is None else self.client.graph


class DefaultStack(threading.local):
    """The open statements of one thread, the innermost last.

    In a forked child a connection of the parent's stands for the one that the child has opened last.
    """

    def __init__(self) -> None:
        self._entries: list[Default] = []

    @property
    def innermost(self) -> Default | None:
        """What was made the default last, None outside of all blocks."""
        return _of_this_process(self._entries[-1]) if self._entries else None

    def __iter__(self) -> Iterator[Default]:
        """From the inside out."""
        return map(_of_this_process, self._entries[::-1])

    def push(self, entry: Default) -> None:
        """Enters a block."""
        self._entries.append(entry)

    def cut(self, entry: Default) -> None:
        """Leaves ``entry``'s block, and those inside it that were interrupted while they were entered or left."""
        for position, each in enumerate(self._entries):
            if each is entry:
                del self._entries[position:]
                return

    def pop(self, entry: Default) -> None:
        """Leaves the innermost block that is ``entry``'s, which need not be the innermost of all."""
        if self._entries and self._entries[-1] is entry:
            self._entries.pop()
            return
        positions = [index for index, each in enumerate(self._entries) if each is entry]
        if positions:  # or a forked child leaves a block that another thread of its parent has entered
            del self._entries[positions[-1]]


STACK = DefaultStack()

_open_lock = new_lock()  # guards: _open
_open: list[HasGraph] = []
_parents: list[HasGraph] = []  # the connections of the process that this one was forked from, the default one last


def _of_this_process(entry: Default) -> Default:
    """Returns an entry of the stack as it counts in a forked child."""
    if _parents and _open and entry.client in _parents:
        return Default(client=find_newest_client())
    return entry


@contextmanager
def graph_as_default(graph: _Graph) -> Iterator[_Graph]:
    """Makes a graph the default of this thread inside the block.

    Raises:
        RuntimeError: Another graph or connection, made the default inside, still is at the end.
    """
    entry = Default(None, graph, graph.device_scopes)
    try:
        STACK.push(entry)
        yield graph
    except BaseException:
        STACK.cut(entry)
        raise
    leave(entry)


def enter(graph: PlacesOperations) -> Default:
    """Makes a graph the default of this thread until what is returned is given to ``leave``."""
    entry = Default(None, graph, graph.device_scopes)
    STACK.push(entry)
    return entry


def leave(entry: Default) -> None:
    """Undoes one ``enter``; RuntimeError if another graph or connection is the innermost default."""
    innermost = STACK.innermost
    STACK.pop(entry)
    if innermost is None or innermost.own_graph is not entry.own_graph:
        raise RuntimeError("graph.as_default() is left while another graph is innermost; leave in reverse order")


def entered_devices() -> DeviceScopes | None:
    """Returns the device scopes that counted when this thread made the present default graph the default.

    None outside of all blocks, and directly in that of a connection.
    """
    innermost = STACK.innermost
    return innermost.devices if innermost else None


@contextmanager
def client_as_default(client: _HasGraph) -> Iterator[_HasGraph]:
    """Makes a connection, and with it its graph, the default of this thread inside the block."""
    entry = Default(client=client)
    try:
        STACK.push(entry)
        yield client
        STACK.pop(entry)
    except BaseException:
        STACK.cut(entry)
        raise


def opened(client: HasGraph) -> None:
    """Remembers a connection as the one opened last."""
    with _open_lock:
        _open.append(client)


def closed(client: HasGraph) -> bool:
    """Forgets a connection; returns False if it was forgotten before."""
    with _open_lock:
        if client not in _open:
            return False
        _open.remove(client)
        return True


def open_clients() -> list[Any]:
    """Returns the connections that are open, the newest first."""
    with _open_lock:
        return _open[::-1]


def find_newest_client() -> Any:
    """The connection that was opened last and is still open, or None if there is none.

    In a forked child that has opened none it is the default one of the parent, of which every use raises: nothing must
    be done elsewhere instead.
    """
    with _open_lock:
        return next(reversed(_open or _parents), None)


def _become_copy() -> None:
    """In a forked child: no connection is open. Blocks of connections stay, since others would stand for them else."""
    entered = [entry.client for entry in STACK if entry.client is not None]
    _parents[:] = [*_parents, *_open, *entered[::-1]]
    _open.clear()


os.register_at_fork(after_in_child=_become_copy)
