"""What a ps offers a client to reach it by one transport."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from ps_protocol.ps_service import Transport
from ps_protocol.service_types import FastPath


@dataclass(frozen=True, slots=True)
class Offer:
    """Given to the ``open_transport`` of a transport's module (``selection.TRANSPORTS``).

    Attributes:
        path: Where the ps can be reached.
        ticket: Admits one connection there, soon.
        shares_memory: Whether tensors may travel in shared memory.
        client: Incarnation of the client.
        task: The ps's name, as "ps:0", for errors.
        address: "host:port" of its gRPC service, whose host also stands for one that the path leaves out.
        again: Asks the ps once more, within so many seconds, for another ticket; None if it no longer offers this
            transport. Raises a ShardscopeError if the ps does not answer.
        reference: Takes the batches for which there is no connection; None if there is to be no way but this one.
        give_up: Has all batches from now on take the reference; is given the transport and why.
    """

    path: FastPath
    ticket: bytes
    shares_memory: bool
    client: UUID
    task: str
    address: str
    again: Callable[[float], Offer | None]
    reference: Transport | None
    give_up: Callable[[Transport, str], None]
