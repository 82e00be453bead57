"""The open name scopes of each thread, and the names given out in them."""

from __future__ import annotations

import threading
from types import TracebackType

from worker_client.graph.naming import NameTable, check_scope_name


class _Level:
    """One open scope of one thread.

    Attributes:
        scope: Full name without a slash at its end, "" at the root.
        opened: Names that scopes opened inside have taken, if this scope can take them back when it is left.
        is_used: Whether anything but scopes has been named inside.
    """

    __slots__ = ("is_used", "opened", "scope")

    def __init__(self, scope: str, opened: list[str] | None):
        self.scope = scope
        self.opened = opened
        self.is_used = False


class _Current(threading.local):
    def __init__(self) -> None:
        self.level = _Level("", None)


class NameScopes:
    """The name scopes of one graph. Thread-safe: every thread has a current scope of its own, at first the root.

    Args:
        forgets_unused: Whether the names in a new scope are free again once it is left without anything having been
            made in it. A training loop that enters the same scopes in every step would otherwise take more and more
            memory. TensorFlow keeps them; the difference shows only when such a scope is entered again by its exact
            name.
    """

    def __init__(self, *, forgets_unused: bool = False) -> None:
        self._forgets_unused = forgets_unused
        self._table = NameTable()
        self._current = _Current()

    @property
    def current(self) -> str:
        """Full name of this thread's innermost scope, without a slash at its end; "" at the root."""
        return self._current.level.scope

    def unique(self, name: str, *, mark_as_used: bool = True) -> str:
        """Returns the full name of ``name`` in the current scope, numbered if it was given out before."""
        level = self._current.level
        level.is_used |= mark_as_used
        return self._table.unique(f"{level.scope}/{name}" if level.scope else name, mark_as_used=mark_as_used)

    def mark_current_as_used(self) -> None:
        """Notes that something was made in the current scope under a name that ``unique`` has not given out."""
        self._current.level.is_used = True

    def give_back(self, full_name: str) -> None:
        """Makes the name of something that could not be made, and all names inside it, free again."""
        self._table.forget_tree(full_name)

    def open(self, name: str | bytes | None) -> OpenNameScope:
        """Returns a context manager that opens a scope; see ``Graph.name_scope``."""
        return OpenNameScope(self, name)

    def _enter(self, name: str | bytes | None) -> tuple[str, _Level]:
        """Makes a scope the current one; returns its name with a slash, and the level that was current before."""
        outer = self._current.level
        if not name:
            self._current.level = _Level("", None)
            return "", outer
        if isinstance(name, bytes):
            name = name.decode()
        check_scope_name(name, outer.scope)
        if name.endswith("/"):
            self._current.level = _Level(name[:-1], None)
            return name, outer
        scope = self._table.unique(f"{outer.scope}/{name}" if outer.scope else name)
        if outer.opened is not None:
            outer.opened.append(scope)
        self._current.level = _Level(scope, [] if self._forgets_unused else None)
        return f"{scope}/", outer

    def _leave(self, outer: _Level) -> None:
        left, self._current.level = self._current.level, outer
        if left.is_used:
            outer.is_used = True
        elif left.opened:
            self._table.forget(left.opened)


class OpenNameScope:
    """Opens a new name scope at each entry; gives its full name with a slash at the end."""

    __slots__ = ("_name", "_outer", "_scopes")

    def __init__(self, scopes: NameScopes, name: str | bytes | None):
        self._scopes = scopes
        self._name = name
        self._outer: list[_Level] = []

    def __enter__(self) -> str:
        full_name, outer = self._scopes._enter(self._name)
        self._outer.append(outer)
        return full_name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Goes back to the scope before the last entry that has not been left."""
        self._scopes._leave(self._outer.pop())
