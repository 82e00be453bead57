"""The named lists of a graph, in which code finds the variables and losses that other code has made."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from typing import Any

from ps_protocol.forks import new_lock


class Collections:
    """Lists by key, in the order of insertion. Thread-safe, except that ``reference`` gives out the list itself."""

    def __init__(self) -> None:
        self._lock = new_lock()  # guards: _members
        self._members: dict[Hashable, list[Any]] = {}

    def add(self, keys: str | Iterable[Hashable], value: Any) -> None:
        """Adds a value to one collection, or once to each of several."""
        with self._lock:
            for key in (keys,) if isinstance(keys, str) else dict.fromkeys(keys):
                self._members.setdefault(key, []).append(value)

    def remove(self, value: Any) -> None:
        """Takes a value out of all collections."""
        with self._lock:
            for members in self._members.values():
                members[:] = [member for member in members if member is not value]

    def get(self, key: Hashable, scope: str | None = None) -> list[Any]:
        """Returns a new list of the members of a collection.

        Args:
            key: The collection; empty if nothing was added to it.
            scope: A regular expression; only members whose name it matches, from the start, are returned.

        Raises:
            ValueError: ``scope`` is no regular expression.
        """
        with self._lock:
            members = list(self._members.get(key, ()))
        if scope is None:
            return members
        try:
            pattern = re.compile(scope)
        except re.error as error:
            raise ValueError(f"scope={scope!r} of the collection {key!r} is no regular expression: {error}") from error
        return [member for member in members if hasattr(member, "name") and pattern.match(member.name)]

    def reference(self, key: Hashable) -> list[Any]:
        """Returns the list itself, so that changes to it are changes to the collection."""
        with self._lock:
            return self._members.setdefault(key, [])

    def clear(self, key: Hashable) -> None:
        """Removes all members of a collection."""
        with self._lock:
            self._members.pop(key, None)

    def keys(self) -> list[Any]:
        """Returns the keys of all collections."""
        with self._lock:
            return list(self._members)
