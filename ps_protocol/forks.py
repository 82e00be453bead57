"""What becomes of locks, sockets and other things of this process in a child that ``os.fork`` makes of it.

A child has a copy of everything, but only of one thread. So a lock that another thread held is held in the child for
ever, and a socket is the parent's: what the child reads from it the parent would miss. What is made here, or given to
one of these functions, is put right in the child before any of its code runs. The parent notices nothing of it.
``subprocess`` and the ``spawn`` start method of ``multiprocessing`` copy nothing, and call none of this.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

_T = TypeVar("_T")


class Closeable(Protocol):
    """Something to close, such as a socket. It must be possible to refer to it weakly."""

    def close(self) -> None: ...


class Inherited(Protocol):
    """What must know that it is a copy."""

    def become_copy(self) -> None:
        """Called once in the child, on its only thread. All locks that are made here are free; it must not raise."""
        ...


class WeakReferences(Generic[_T]):
    """Objects as long as they live, without keeping them alive. Thread-safe.

    Dropping them takes no line of Python, other than with a ``WeakSet``: what a signal handler raises in the callback
    of a weak reference is lost. Objects must be hashed by their identity.
    """

    def __init__(self) -> None:
        self._references: set[weakref.ref[_T]] = set()

    def add(self, each: _T) -> None:
        """Keeps an object in mind."""
        self._references.add(weakref.ref(each, self._references.discard))

    def __iter__(self) -> Iterator[_T]:
        """Those that live, in no order."""
        for reference in list(self._references):
            each = reference()
            if each is not None:
                yield each


_locks: Final[WeakReferences[threading.Lock]] = WeakReferences()
_closed_in_child: Final[WeakReferences[Closeable]] = WeakReferences()
_told_in_child: Final[WeakReferences[Inherited]] = WeakReferences()


def new_lock() -> threading.Lock:
    """Returns a lock that nobody holds in a forked child, whoever held it in the parent."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def close_in_child(resource: Closeable) -> None:
    """Has a forked child close its own copy of a descriptor, which leaves the parent's open."""
    _closed_in_child.add(resource)


def tell_in_child(inherited: Inherited) -> None:
    """Has a forked child call ``become_copy``."""
    _told_in_child.add(inherited)


def _in_child() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined] # as the standard library does with its own locks
    for resource in list(_closed_in_child):
        resource.close()
    for inherited in list(_told_in_child):
        inherited.become_copy()


os.register_at_fork(after_in_child=_in_child)
