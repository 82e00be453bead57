"""The beginning of a connection of the socket transport: the client shows its ticket."""

from __future__ import annotations

import time
from uuid import UUID

from ps_protocol.sockets.frames import ANSWER_BYTES, HELLO_BYTES, Verdict, encode_answer, parse_hello
from ps_protocol.sockets.framing import Framing
from ps_protocol.sockets.stream import SocketStream
from ps_server.transport.sockets.tickets import TicketOffice


def shake_hands(stream: SocketStream, tickets: TicketOffice, timeout_s: float) -> UUID | Verdict:
    """Receives the ticket and answers.

    Args:
        stream: On which a byte has come; its framing becomes the one agreed on.
        tickets: Has issued the ticket.
        timeout_s: Bound on all of it.

    Returns:
        The client's incarnation, or why it was refused; the client has got the answer.

    Raises:
        TimeoutError: The ticket did not come in time, or the answer was not taken.
        OSError: The connection broke.
    """
    timeout_ms = int(timeout_s * 1000)
    stream.set_receive_timeout(timeout_ms)
    stream.set_send_timeout(timeout_ms)
    stream.deadline_s = time.monotonic() + timeout_s
    # Not a byte more: the session reads what follows.
    stream.lend_scratch(memoryview(bytearray(HELLO_BYTES)))
    hello = parse_hello(stream.take(HELLO_BYTES))
    if not isinstance(hello, Verdict) and not tickets.redeem(hello.client, hello.ticket):
        hello = Verdict.BAD_TICKET
    if isinstance(hello, Verdict):
        refuse(stream, hello)
        return hello
    stream.send([encode_answer(Verdict.ACCEPTED, hello.version)], ANSWER_BYTES)
    stream.framing = Framing(hello.version, checks_tensors=hello.checks_tensors)
    return hello.client


def refuse(stream: SocketStream, verdict: Verdict) -> None:
    """Tells a client why it is refused, without waiting for it; OSError if it is gone."""
    stream.send_some([encode_answer(verdict)], 0)
