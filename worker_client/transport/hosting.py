"""What a program does with a ps task that runs in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ps_protocol.service_types import Member, PsAddress


class PsHost(Protocol):
    """A ps task that serves until ``stop``."""

    @property
    def address(self) -> str:
        """Where the other tasks are to find it, as "host:port"."""
        ...

    def wait_for_shutdown(self, timeout_s: float) -> bool:
        """Waits until the end is asked for; whether it was."""
        ...

    def request_shutdown(self, reason: str) -> None:
        """Asks for the end: no more batches are accepted."""

    def members(self) -> Sequence[Member]:
        """The tasks that have joined the cluster, if this is ps task 0."""
        ...

    def addresses(self) -> Sequence[PsAddress]:
        """Where ps tasks have announced themselves, if this is ps task 0."""
        ...

    def stop(self) -> bool:
        """Finishes what was accepted, and ends; whether all of it is finished and kept."""
        ...
