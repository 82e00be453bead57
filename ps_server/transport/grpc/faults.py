"""Faults that tests inject into batches over gRPC; without a plan of faults there are none.

A call that a fault ends has the status of a call whose connection broke.
"""

from __future__ import annotations

from collections.abc import Iterator

from ps_protocol import fault_points
from ps_protocol.errors import UnavailableError
from ps_protocol.fault_points import FaultAction, InjectedFaultError, fault_point


def times_received() -> int:
    """How often a received batch counts as received.

    Raises:
        UnavailableError: It counts as lost.
    """
    try:
        return fault_points.times_received("request.received")
    except InjectedFaultError as fault:
        raise UnavailableError(str(fault)) from fault


def sent(frames: Iterator[bytes]) -> Iterator[bytes]:
    """Yields the frames of a reply that are to be sent.

    Raises:
        UnavailableError: The reply, or the rest of it, counts as lost.
    """
    action = fault_point("reply.send")
    return frames if action is None else _cut(list(frames), action)


def _cut(frames: list[bytes], action: FaultAction) -> Iterator[bytes]:
    if action is FaultAction.CUT:
        yield from frames[: (len(frames) + 1) // 2]
    raise UnavailableError(str(fault_points.lost("reply.send", action)))
