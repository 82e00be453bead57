"""What is kept beside objects that others own, as long as those live."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Generic, TypeVar

_K = TypeVar("_K")
_V = TypeVar("_V")


class WeakTable(Generic[_K, _V]):
    """Values by keys that are not kept alive. As thread-safe as a dictionary.

    Dropping a key takes no line of Python, other than with a ``WeakKeyDictionary``: what a signal handler raises in the
    callback of a weak reference is lost. Keys must be hashed by their identity.
    """

    def __init__(self) -> None:
        self._values: dict[weakref.ref[_K], _V] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: _K) -> _V | None:
        """The value of a key, None if it has none."""
        return self._values.get(weakref.ref(key))

    def values(self) -> list[_V]:
        """All values."""
        return list(self._values.values())

    def setdefault(self, key: _K, value: _V) -> _V:
        """The value of a key, which is ``value`` if it had none."""
        return self._values.setdefault(self._reference(key), value)

    def update(self, values: Mapping[_K, _V]) -> None:
        """Gives keys their values."""
        for key, value in values.items():
            self._values[self._reference(key)] = value

    def _reference(self, key: _K) -> weakref.ref[_K]:
        return weakref.ref(key, self._values.pop)
