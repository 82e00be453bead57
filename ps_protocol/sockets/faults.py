"""What tests make go wrong when a frame of the socket transport is about to be sent."""

from __future__ import annotations

from ps_protocol.fault_points import FaultAction, fault_point, lost
from ps_protocol.sockets.stream import Part, SocketStream


def before_send(place: str, stream: SocketStream, parts: list[Part], size_bytes: int) -> None:
    """Marks a place where a frame is sent; without a plan of faults it does nothing.

    Args:
        place: Name of the fault point.
        stream: Where the frame is to go.
        parts: The frame, of which a part may be replaced; the first is the prefix, the second the header.
        size_bytes: Of all parts together.

    Raises:
        InjectedFaultError: The frame has been lost, or its first half sent; the connection is of no use any more.
    """
    action = fault_point(place)
    if action is None:
        return
    if action is FaultAction.DUPLICATE:
        stream.send(parts, size_bytes)
        return
    if action is FaultAction.DAMAGE:
        header = bytearray(parts[1] or parts[0])
        header[-1] ^= 0x01
        parts[1 if parts[1] else 0] = bytes(header)
        return
    if action is FaultAction.CUT:
        half = b"".join(parts)[: size_bytes // 2]
        stream.send([half], len(half))
    raise lost(place, action)
