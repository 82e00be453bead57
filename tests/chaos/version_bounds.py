"""What the versions in a history say about how many of its updates may have come before each operation.

A version counts updates. So an answered read of version ``v`` comes after at most ``v`` updates; those that were
answered before it was sent are among them, and what is left over is for others. This bounds how many of the updates
that nobody answered can have taken effect by then, without trying which.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class _Answered(Protocol):
    @property
    def invoked(self) -> int: ...
    @property
    def returned(self) -> int | None: ...
    @property
    def version(self) -> int | None: ...


class Bounds(NamedTuple):
    """What has to be so as long as an operation has not been placed, or any of several.

    Attributes:
        version: The highest that the variable may have.
        unanswered: The most of the updates without an answer that may have taken effect.
    """

    version: int
    unanswered: int

    def with_those(self, other: Bounds) -> Bounds:
        """What has to be so if both have to."""
        return Bounds(min(self.version, other.version), min(self.unanswered, other.unanswered))


_NONE = Bounds(2**63, 2**63)


class VersionBounds:
    """Bounds by operation and by all operations from one on.

    Args:
        answered: All operations that were answered, in the order in which they were sent.
        is_update: Which of them are updates.
        initial_version: Of the variable before any of them.
    """

    def __init__(self, answered: Sequence[_Answered], is_update: Sequence[bool], initial_version: int):
        ends = sorted(call.returned or 0 for call, counts in zip(answered, is_update, strict=True) if counts)
        self._of = [
            _bounds(call, counts, initial_version, num_before=bisect.bisect_left(ends, call.invoked))
            for call, counts in zip(answered, is_update, strict=True)
        ]
        self._from = list(itertools.accumulate(reversed(self._of), Bounds.with_those, initial=_NONE))[::-1]

    def of(self, index: int) -> Bounds:
        """As long as this operation has not been placed."""
        return self._of[index]

    def of_all_from(self, index: int) -> Bounds:
        """As long as none of the operations from this one on has been placed."""
        return self._from[index]


def _bounds(call: _Answered, is_update: bool, initial_version: int, *, num_before: int) -> Bounds:
    if call.version is None:
        return _NONE
    version = call.version - is_update
    return Bounds(version, version - initial_version - num_before)
