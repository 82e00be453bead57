"""Maps the memory of a segment into this process; used by both ends.

Segments are memfds: memory with a descriptor and without a name. They do not appear in /dev/shm. The kernel takes the
memory back when the last process that has it open or mapped ends, however it ends. Python's resource tracker, which
looks after named segments, has no part in it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
from typing import Final

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.memory.regions import Region, check_region
from ps_protocol.operations import Array

IS_SUPPORTED: Final = sys.platform == "linux" and hasattr(os, "memfd_create")
"""Whether this system has memfds."""

_FAULT_AROUND_BYTES: Final = 64 * 1024
"""Linux maps this much of a file around the place of a read fault (``fault_around_bytes``)."""


# The third one forbids adding others, such as a seal against writing.
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL if sys.platform == "linux" else 0


def seal_size(descriptor: int) -> None:
    """Fixes the size of a memfd. If it shrank, the kernel would kill a process that touches the lost part."""
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


def is_size_sealed(descriptor: int) -> bool:
    """Whether ``seal_size`` was done; OSError if it is no memfd."""
    return fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & _SEALS == _SEALS


class MappedSegment:
    """A segment as this process sees it. Its memory stays mapped while anything refers to this object or its arrays.

    Args:
        number: The segment's number.
        descriptor: Of the memfd. The caller closes it; the mapping does not need it.
        size_bytes: Of the segment.

    Attributes:
        mapping: The mapped memory.
        address: Of its first byte, in this process.
    """

    def __init__(self, number: int, descriptor: int, size_bytes: int):
        self.number: Final = number
        self.size_bytes: Final = size_bytes
        self.mapping: Final = mmap.mmap(descriptor, size_bytes)
        self._bytes: Array = np.frombuffer(self.mapping, np.uint8)
        self.address: Final = int(self._bytes.ctypes.data)

    def prefault(self) -> None:
        """Makes the kernel map all pages now, many at a time, instead of one by one as they are written to.

        Reads instead of asking for MAP_POPULATE, since NumPy lets other threads run meanwhile and ``mmap`` does not.
        """
        self._bytes[::_FAULT_AROUND_BYTES].max()

    def bytes_of(self, region: Region) -> memoryview:
        """Returns the bytes of a region, which keep the segment mapped.

        Raises:
            InvalidArgumentError: The region is not aligned, or not inside this segment.
        """
        if region.segment != self.number:
            raise InvalidArgumentError(f"a region of segment {region.segment} is not in segment {self.number}")
        check_region(region, self.size_bytes)
        return self._bytes[region.offset : region.end].data
