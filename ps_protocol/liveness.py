"""How often a member of a cluster, worker or ps, is heard of."""

from __future__ import annotations

from typing import Final

HEARTBEATS_PER_LEASE: Final = 3
"""So that one may be lost, and be seen to be late, before the lease runs out."""

KEEPALIVE_INTERVAL_S = 10
"""Seconds without traffic after which the other side is asked whether it is still there."""

KEEPALIVE_TIMEOUT_S = 10
"""Seconds to wait for the answer; so a peer whose machine is gone is noticed in about 20 seconds."""
