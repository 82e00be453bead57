"""The part of ``variable_scope`` that concerns variables only: prefix, reuse, defaults and counters, no name scope."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, Protocol

from worker_client.scope import VariableScope
from worker_client.scope_arguments import Getter, Reuse
from worker_client.scope_counters import Snapshot
from worker_client.scope_store import ScopeStore
from worker_client.variable_definition import Constraint


class ScopeDefaults(NamedTuple):
    """What a ``variable_scope`` statement sets for the variables inside; None leaves what is inherited."""

    initializer: Any = None
    regularizer: Any = None
    caching_device: Any = None
    partitioner: Any = None
    custom_getter: Getter | None = None
    dtype: Any = None
    use_resource: bool | None = None

    @property
    def are_none(self) -> bool:
        """Whether nothing is set; by identity, since an array does not compare with None."""
        return (
            self.initializer is None
            and self.regularizer is None
            and self.caching_device is None
            and self.partitioner is None
            and self.custom_getter is None
            and self.dtype is None
            and self.use_resource is None
        )

    def apply_to(self, scope: VariableScope) -> None:
        """Sets them on a scope that has what it inherits."""
        if self.initializer is not None:
            scope.set_initializer(self.initializer)
        if self.regularizer is not None:
            scope.set_regularizer(self.regularizer)
        if self.caching_device is not None:
            scope.set_caching_device(self.caching_device)
        if self.partitioner is not None:
            scope.set_partitioner(self.partitioner)
        if self.custom_getter is not None:
            scope.set_custom_getter(_around(self.custom_getter, scope.custom_getter))
        if self.dtype is not None:
            scope.set_dtype(self.dtype)
        if self.use_resource is not None:
            scope.set_use_resource(self.use_resource)


NO_DEFAULTS = ScopeDefaults()


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
        scope = outer.prolonged(name, self._name_scope, self._reuse, self._constraint)
        if self._defaults is not NO_DEFAULTS:
            self._defaults.apply_to(scope)
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
        self._scope = entered.prolonged(entered.name, entered.original_name_scope, reuse or entered.reuse, constraint)
        defaults.apply_to(self._scope)
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


def _around(outer: Getter, inner: Getter | None) -> Getter:
    """Returns a getter that calls ``outer``, whose getter is ``inner``."""
    if inner is None:
        return outer
    wrapped = inner

    def chained(getter: Getter, *args: Any, **keywords: Any) -> Any:
        return outer(partial(wrapped, getter), *args, **keywords)

    return chained
