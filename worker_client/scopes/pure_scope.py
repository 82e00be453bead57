"""The part of ``variable_scope`` that concerns variables only: prefix, reuse, defaults and counters, no name scope."""

from __future__ import annotations

import threading
from typing import Protocol

from worker_client.graph.definition import Constraint
from worker_client.graph.graph import Graph
from worker_client.scopes.arguments import Reuse, ScopeDefaults
from worker_client.scopes.counters import ScopeCounters, Snapshot
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


class PureScope(Protocol):
    """A way into a variable scope that can be taken again and again; each time it is left in reverse order."""

    def enter(self, store: ScopeStore) -> VariableScope:
        """Makes the scope the current one and returns it."""
        ...

    def leave(self, store: ScopeStore) -> None:
        """Goes back to the scope before; RuntimeError if a scope that was entered inside is still the current one."""
        ...


class ScopeByName:
    """Goes one name further down from the current scope.

    Args:
        name: The name, put behind that of the current scope.
        name_scope: The name scope that was opened for it.
        reuse: Whether to reuse variables; the current scope's if it says nothing. As in TensorFlow, one entry under a
            scope that reuses makes all later entries through this object reuse.
        constraint: Default constraint.
        defaults: What else is set.
    """

    def __init__(
        self, name: str, name_scope: str, reuse: Reuse, constraint: Constraint | None, defaults: ScopeDefaults
    ):
        self._name = name
        self._name_scope = name_scope
        self._reuse = reuse
        self._constraint = constraint
        self._defaults = defaults
        self._open: list[tuple[VariableScope, VariableScope]] = []

    def enter(self, store: ScopeStore) -> VariableScope:
        outer = store.current
        name = f"{outer.name}/{self._name}" if outer.name else self._name
        self._reuse = self._reuse or outer.reuse
        scope = outer.prolonged(name, self._name_scope, self._reuse, self._constraint, self._defaults)
        store.counters.increment(name)
        store.current = scope
        self._open.append((scope, outer))
        return scope

    def leave(self, store: ScopeStore) -> None:
        scope, outer = self._open[-1]
        _require_innermost(scope, store)
        self._open.pop()
        store.counters.clear_below(scope.name)
        store.current = outer


class ScopeByObject:
    """Jumps to a scope that was entered before, with that scope's name, reuse and defaults.

    Args:
        entered: The scope.
        reuse: Whether to reuse variables; what the scope says if nothing.
        constraint: Default constraint, which is not taken from the scope.
        defaults: What is set on the copy of the scope that is entered.
    """

    def __init__(self, entered: VariableScope, reuse: Reuse, constraint: Constraint | None, defaults: ScopeDefaults):
        self._scope = entered.prolonged(
            entered.name, entered.original_name_scope, reuse or entered.reuse, constraint, defaults
        )
        self._open: list[tuple[VariableScope, Snapshot]] = []

    def enter(self, store: ScopeStore) -> VariableScope:
        store.counters.increment(self._scope.name)
        self._open.append((store.current, store.counters.snapshot()))
        store.current = self._scope
        return self._scope

    def leave(self, store: ScopeStore) -> None:
        _require_innermost(self._scope, store)
        store.current, snapshot = self._open.pop()
        store.counters.restore(snapshot)


def _require_innermost(scope: VariableScope, store: ScopeStore) -> None:
    if store.current is not scope:
        raise RuntimeError(
            f"variable scope {scope.name!r} is left while {store.current.name!r} is the current one; leave scopes in "
            f"the reverse order, on the thread that has entered them"
        )
