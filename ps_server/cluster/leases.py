"""When a silent task counts as dead.

A lease is the time for which a task may be silent (C. Gray, D. Cheriton, "Leases: An Efficient Fault-Tolerant
Mechanism for Distributed File Cache Consistency", SOSP 1989); each heartbeat renews it. Heartbeats come three to a
lease, so that one may be lost.
"""

from __future__ import annotations

import enum
import math
from typing import Final

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.liveness import HEARTBEATS_PER_LEASE

DEFAULT_LEASE_S: Final = 10.0
MAX_LEASE_S: Final = 86_400.0

_LATE_AFTER: Final = 2 / HEARTBEATS_PER_LEASE
"""Part of a lease after which at least one heartbeat has not come."""


class LeaseState(enum.Enum):
    """What the lease says of a task."""

    ALIVE = enum.auto()
    LATE = enum.auto()
    """At least one heartbeat is missing."""
    DEAD = enum.auto()
    """Its lease has run out."""


def lease_state(now_s: float, last_seen_s: float, lease_s: float) -> LeaseState:
    """Judges a task by when it was last heard of.

    Args:
        now_s: The time, on a clock that never goes back.
        last_seen_s: When it was last heard of, on the same clock.
        lease_s: How long it may be silent; 0 for ever.
    """
    silent_s = now_s - last_seen_s
    if lease_s <= 0 or silent_s <= lease_s * _LATE_AFTER:
        return LeaseState.ALIVE
    return LeaseState.LATE if silent_s <= lease_s else LeaseState.DEAD


def check_lease(lease_s: float) -> None:
    """Makes sure that a lease is one that can be given; InvalidArgumentError if not."""
    if not math.isfinite(lease_s) or not 0 <= lease_s <= MAX_LEASE_S:
        raise InvalidArgumentError(f"a lease of {lease_s} s is not possible; ask for 0 (none) to {MAX_LEASE_S:.0f} s")
