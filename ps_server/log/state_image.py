"""The whole state of a ps task, as of one position in the log."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ps_protocol.service_types import Placement
from ps_server.batches.remembered_answers import ClientImage
from ps_server.log.restore_mark import RestoreMark
from ps_server.store.stored_variable import VariableImage


@dataclass(frozen=True, slots=True)
class StateImage:
    """The state of one ps task.

    Attributes:
        position: Newest record in it; it has the effects of all records up to this one, and of none after it.
        variables: By name.
        clients: Those that the ledger knows.
        departed: Clients that have gone and may not come back, and why; oldest first.
        placements: The directory's, in the order of recording; empty on tasks other than ps task 0.
        restored: The newest restore of a checkpoint; None if there was none.
    """

    position: int
    variables: tuple[VariableImage, ...]
    clients: tuple[ClientImage, ...]
    departed: tuple[tuple[UUID, str], ...] = ()
    placements: tuple[Placement, ...] = ()
    restored: RestoreMark | None = None
