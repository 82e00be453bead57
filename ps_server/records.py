"""What can change the state of a ps task, as values that can be written down and carried out again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from ps_protocol.operations import BatchReply, Operation
from ps_protocol.service_types import Placement


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """A client's mutating batch and what it was answered.

    Attributes:
        client: Who numbered it.
        sequence: Its number.
        operations: All of it, in order; declarations among them are in records of their own before this one.
        reply: What the ledger answers to the same number from now on.
    """

    client: UUID
    sequence: int
    operations: tuple[Operation, ...]
    reply: BatchReply


@dataclass(frozen=True, slots=True)
class Declared:
    """A variable was created, or got its first value."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Placed:
    """The directory has recorded where new variables are."""

    placements: tuple[Placement, ...]


@dataclass(frozen=True, slots=True)
class ClientJoined:
    """A client has said hello for the first time."""

    client: UUID
    task: str


@dataclass(frozen=True, slots=True)
class ClientLeft:
    """A client has said goodbye, or was forgotten, for the reason given ("has said goodbye")."""

    client: UUID
    reason: str


Record: TypeAlias = AppliedBatch | Declared | Placed | ClientJoined | ClientLeft


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record and its place in the order of effects, counted from 1."""

    position: int
    record: Record
