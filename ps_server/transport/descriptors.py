"""Keeps descriptors back from clients, so that journal and snapshots can open their files.

The kernel gives the lowest number that is free. So as long as nothing that clients open keeps a number from the limit
on, the numbers from there are free for others, and nobody has to count. gRPC shows nobody its connections. It ends
those beyond a number by itself, which is at most half of what there is for clients.
"""

from __future__ import annotations

import resource
from typing import Final

DEFAULT_RESERVE: Final = 64
"""Descriptors that no client gets: a journal, two snapshots, and what opens them need a few dozen."""

_LARGEST_SHARE: Final = 2
"""Of a limit so low that the reserve is most of it, clients get this part: a half."""


def allow_many() -> None:
    """Raises this process's limit of descriptors as far as it may be raised without rights."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft not in (hard, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


_TRANSPORTS: Final = 2
"""Sockets, whose connections are looked at one by one, and gRPC, which is told a number when it starts."""


class DescriptorReserve:
    """Descriptors of this process that are not for clients. Thread-safe.

    Args:
        size: How many; of a low limit at most half.
    """

    def __init__(self, size: int = DEFAULT_RESERVE):
        self._size = size

    def holds(self, descriptor: int) -> bool:
        """Whether a client that got this new descriptor would have it from the reserve; it is to be closed then."""
        limit = self.limit
        return limit is not None and descriptor >= limit

    def share(self, wanted: int) -> int:
        """How many of the descriptors that are not of the reserve one transport may have: at most half."""
        limit = self.limit
        return wanted if limit is None else max(1, min(wanted, limit // _TRANSPORTS))

    @property
    def limit(self) -> int | None:
        """Descriptors that may be open besides the reserve; None for any number."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # may change while the process runs
        return None if soft == resource.RLIM_INFINITY else max(soft - self._size, soft // _LARGEST_SHARE)
