"""How long a client waits, and how much may be on its way to one ps task."""

from __future__ import annotations

from dataclasses import dataclass, field

from worker_client.connection.pipeline import WindowLimits
from worker_client.connection.retry import RetryPolicy
from worker_client.transport.selection import ReadFrom


@dataclass(frozen=True, slots=True)
class Settings:
    """How long a client waits.

    Attributes:
        operation_timeout_s: Bound on one operation, retries included, as long as its ps is there.
        connect_timeout_s: Bound on waiting for a ps that has not started yet.
        ps_grace_s: How long operations wait for a ps that has gone away, if that is more.
        read_from: Which processes of a replicated ps task are read.
        lease_s: How long this client may be silent before the cluster takes it for dead; 0 for ever.
        retry: Pauses between tries.
        max_pending_batches: Batches that may be queued for one ps task or on their way; submitting more waits for
            room.
        max_pending_bytes: Bytes of tensors in them; a batch that is larger waits until it is alone.
        window: How many of them are sent before the replies of earlier ones are in, where the transport can do that.
    """

    operation_timeout_s: float = 60.0
    connect_timeout_s: float = 60.0
    ps_grace_s: float = 60.0
    read_from: ReadFrom = ReadFrom.PRIMARY
    lease_s: float = 10.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    max_pending_batches: int = 1024
    max_pending_bytes: int = 256 * 1024**2
    window: WindowLimits = field(default_factory=WindowLimits)
