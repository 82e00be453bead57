"""What of the shared memory a forked child may go on using: the arrays that lie there, whose values become its own.

Their pages are shared with the ps and with the parent, which uses them again when it no longer needs what is there. So
the child puts copies in the places of those pages, and the parent waits for that before it goes on.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import threading
from typing import Final, Protocol

from ps_protocol.forks import WeakReferences

_PIECE_BYTES: Final = 1024 * 1024
_COPY_TIMEOUT_S: Final = 10.0
"""Longest that the parent waits for the child's copies, of which a second makes several GiB."""


class Memory(Protocol):
    """Shared memory that this process uses as long as the object lives. It must be possible to refer to it weakly."""

    @property
    def address(self) -> int:
        """Of the first byte, in this process."""
        ...

    @property
    def size_bytes(self) -> int: ...


class _Fork(threading.local):
    """The fork that a thread is making: the memory that is not used again meanwhile, and a pipe to wait for the child.

    None of it if there is no such memory.
    """

    memory: tuple[Memory, ...] = ()
    reading = -1
    writing = -1


_in_use: Final[WeakReferences[Memory]] = WeakReferences()
_fork: Final = _Fork()


def keep_in_child(memory: Memory) -> None:
    """Has a forked child keep what lies there at the fork as values of its own."""
    _in_use.add(memory)


def _before() -> None:
    _fork.memory = tuple(_in_use)
    if _fork.memory:
        _fork.reading, _fork.writing = os.pipe()


def _in_child() -> None:
    memory, _fork.memory = _fork.memory, ()
    if not memory:
        return
    try:
        for first, end in _pages(memory):
            _make_private(first, end)
    finally:
        os.write(_fork.writing, b".")
        os.close(_fork.writing)
        os.close(_fork.reading)


def _in_parent() -> None:
    if not _fork.memory:
        return
    os.close(_fork.writing)
    poll = select.poll()
    poll.register(_fork.reading, select.POLLIN)
    poll.poll(_COPY_TIMEOUT_S * 1000)  # also ends if there is no child, or no child any more
    os.close(_fork.reading)
    _fork.memory = ()


def _pages(memory: tuple[Memory, ...]) -> list[tuple[int, int]]:
    """Returns the addresses of the pages in which some memory lies, joined where they touch."""
    joined: list[tuple[int, int]] = []
    for address, size_bytes in sorted((each.address, each.size_bytes) for each in memory):
        first = address - address % mmap.PAGESIZE
        end = address + size_bytes + -(address + size_bytes) % mmap.PAGESIZE
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((first, end))
    return joined


def _make_private(first: int, end: int) -> None:
    """Puts private memory with the same content in the place of some pages."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
    for address in range(first, end, _PIECE_BYTES):
        size_bytes = min(_PIECE_BYTES, end - address)
        content = ctypes.string_at(address, size_bytes)
        if libc.mmap(address, size_bytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0) != address:
            number = ctypes.get_errno()
            raise OSError(number, f"a forked process has no memory of its own for arrays: {os.strerror(number)}")
        ctypes.memmove(address, content, size_bytes)


_MAP_FIXED: Final = 0x10
"""Linux's, which ``mmap`` does not name."""

os.register_at_fork(before=_before, after_in_child=_in_child, after_in_parent=_in_parent)
