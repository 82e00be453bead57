"""How often a member of a cluster, worker or ps, is heard of."""

from __future__ import annotations

from typing import Final

HEARTBEATS_PER_LEASE: Final = 3
"""So that one may be lost, and be seen to be late, before the lease runs out."""
