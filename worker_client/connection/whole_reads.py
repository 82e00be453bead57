"""Reads of several ps tasks that must see a step on all of them or on none: who knows of such steps, by connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol, TypeAlias

from ps_protocol.operations import Reply
from ps_protocol.weak_table import WeakTable
from worker_client.connection.fanout import Fanout, Routed

Attempt: TypeAlias = Callable[[Sequence[Routed]], Sequence[Reply]]
"""Reads once, with these looks before what it reads on each ps task and again behind it; returns the replies to all
looks, those before first."""


class WholeReads(Protocol):
    """Makes reads see whole steps."""

    def follow(self, group: str, names: Iterable[str]) -> None:
        """Has later reads of these variables see whole steps of a group that trains them."""
        ...

    def read(self, names: Iterable[str], trained_by: Sequence[str], attempt: Attempt) -> None:
        """Calls ``attempt`` until what it has read is of one step of each group.

        Args:
            names: Full names of what it reads.
            trained_by: Groups that train some of them, besides those that are followed.
            attempt: Reads.

        Raises:
            DeadlineExceededError: It was not in time.
        """
        ...

    def bring(self, group: str) -> None:
        """Brings each ps the steps of a group that it lacks, if this connection may."""
        ...


WHOLE_READS: Final[WeakTable[Fanout, WholeReads]] = WeakTable()
"""By the way to the ps tasks."""
