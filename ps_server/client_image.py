"""What the ledger remembers of one client, as it is written down and brought back."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from ps_server.answers import Answer


@dataclass(frozen=True, slots=True)
class ClientImage:
    """What the ledger remembers of one client.

    Attributes:
        client: Its incarnation.
        task: Its task, as "worker:1".
        newest: Highest sequence that was applied.
        forgotten_up_to: Answers up to here are no longer remembered.
        answers: The remembered ones, by sequence, ascending.
    """

    client: UUID
    task: str
    newest: int
    forgotten_up_to: int
    answers: tuple[tuple[int, Answer], ...]
