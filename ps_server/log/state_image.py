"""All that a ps task must know to go on after a restart, as of one position in the order of its records."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ps_protocol.service_types import Placement
from ps_server.batches.remembered_answers import ClientImage
from ps_server.store.stored_variable import VariableImage


@dataclass(frozen=True, slots=True)
class StateImage:
    """One ps task.

    Attributes:
        position: Newest record whose effect is in it; the effects of all up to it are, of none after it.
        variables: By name.
        clients: Those that the ledger knows.
        departed: Clients that have gone and may not come back, and why; oldest first.
        placements: What the directory has recorded, in that order; of ps task 0 only.
    """

    position: int
    variables: tuple[VariableImage, ...]
    clients: tuple[ClientImage, ...]
    departed: tuple[tuple[UUID, str], ...] = ()
    placements: tuple[Placement, ...] = ()
