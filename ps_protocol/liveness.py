"""How often a member of a cluster, a worker or a ps, shows that it is alive."""

from __future__ import annotations

from typing import Final

HEARTBEATS_PER_LEASE: Final = 3
"""With three, one may be lost, and the member be shown as late, before the lease runs out."""

READY: Final = "ready"
"""Name under which the health service says whether a ps process may be relied on: it serves and, if its task has two
processes, it is the primary with a backup that has every update, or that backup."""

KEEPALIVE_INTERVAL_S = 10
"""Seconds without traffic after which the other side is asked whether it is still there."""

KEEPALIVE_TIMEOUT_S = 10
"""Seconds to wait for the answer; a peer whose machine is gone is noticed in about 20 seconds."""
