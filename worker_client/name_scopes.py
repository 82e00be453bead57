"""The open name scopes of each thread, and the names given out in them."""

from __future__ import annotations

import threading
from types import TracebackType

from worker_client.naming import NameTable, check_scope_name


class _Current(threading.local):
    scope = ""


class NameScopes:
    """The name scopes of one graph. Thread-safe: every thread has a current scope of its own, at first the root."""

    def __init__(self) -> None:
        self._table = NameTable()
        self._current = _Current()

    @property
    def current(self) -> str:
        """Full name of this thread's innermost scope, without a slash at its end; "" at the root."""
        return self._current.scope

    def unique(self, name: str, *, mark_as_used: bool = True) -> str:
        """Returns the full name of ``name`` in the current scope, numbered if it was given out before."""
        scope = self._current.scope
        return self._table.unique(f"{scope}/{name}" if scope else name, mark_as_used=mark_as_used)

    def open(self, name: str | bytes | None) -> OpenNameScope:
        """Returns a context manager that opens a scope; see ``Graph.name_scope``."""
        return OpenNameScope(self, name)

    def _enter(self, name: str | bytes | None) -> tuple[str, str]:
        """Makes a scope the current one; returns its name with a slash, and the scope that was current before."""
        outer = self._current.scope
        if not name:
            self._current.scope = ""
            return "", outer
        if isinstance(name, bytes):
            name = name.decode()
        check_scope_name(name, outer)
        if name.endswith("/"):
            self._current.scope = name[:-1]
            return name, outer
        self._current.scope = scope = self.unique(name)
        return f"{scope}/", outer

    def _leave(self, outer: str) -> None:
        self._current.scope = outer


class OpenNameScope:
    """Opens a name scope, each time anew; gives its full name with a slash at the end."""

    __slots__ = ("_name", "_outer", "_scopes")

    def __init__(self, scopes: NameScopes, name: str | bytes | None):
        self._scopes = scopes
        self._name = name
        self._outer: list[str] = []

    def __enter__(self) -> str:
        full_name, outer = self._scopes._enter(self._name)
        self._outer.append(outer)
        return full_name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scopes._leave(self._outer.pop())
