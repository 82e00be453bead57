"""What a connection is in the cluster, for those of its threads that train together with others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ps_protocol.service_types import Member
from worker_client.objects.shared_object import WaitPlaces


class Group(Protocol):
    """A group that a connection has joined."""

    def finish_later(self) -> None:
        """Tells it, soon, that this worker hands in no more."""
        ...


_Group = TypeVar("_Group", bound=Group)


@dataclass(frozen=True, slots=True)
class TakingPart(Generic[_Group]):
    """What a connection is in the cluster.

    Attributes:
        task: Which, as "worker:1".
        incarnation: Of its process, as the list of members has it.
        is_observer: Whether it is none.
        num_ps: Number of ps tasks.
        num_workers: How many the cluster spec has; 0 if it does not say.
        lease_s: How long a worker may be silent, in seconds.
        places: For waits at the ps tasks.
        list_members: Lists the members of the cluster.
        groups: Those that it has joined.
    """

    task: str
    incarnation: str
    is_observer: bool
    num_ps: int
    num_workers: int
    lease_s: float
    places: WaitPlaces
    list_members: Callable[[], Sequence[Member]]
    groups: list[_Group]

    def finish(self) -> None:
        """Tells its groups, soon, that it hands in no more."""
        for group in self.groups:
            group.finish_later()
