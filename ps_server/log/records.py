"""The changes of a ps task's state as records, which can be written and replayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from uuid import UUID

from ps_protocol.operation_kinds import tensor_bytes
from ps_protocol.operations import BatchReply, PsOperation
from ps_protocol.service_types import Placement
from ps_server.log.restore_mark import RestoreMark
from ps_server.store.stored_variable import VariableImage

_RECORD_BYTES: Final = 512
_ENTRY_BYTES: Final = 128
"""What a record, and each operation or placement in it, takes beside tensors, so that all records count."""


@dataclass(frozen=True, slots=True)
class AppliedBatch:
    """A client's mutating batch and its answer.

    Attributes:
        client: Who numbered it.
        sequence: Its number.
        operations: All of it, in order; declarations among them are in records of their own before this one.
        reply: What the ledger answers if the same number comes again.
        checksum: Of the batch as it was received; 0 if there is none.
    """

    client: UUID
    sequence: int
    operations: tuple[PsOperation, ...]
    reply: BatchReply
    checksum: int = 0


@dataclass(frozen=True, slots=True)
class Declared:
    """A variable was created, or got its first value."""

    operation: PsOperation


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


@dataclass(frozen=True, slots=True)
class Staged:
    """A variable as it will be after a restore; it counts only if the ``Restored`` of the same restore follows.

    Attributes:
        restore: Which restore.
        image: The variable.
    """

    restore: UUID
    image: VariableImage


@dataclass(frozen=True, slots=True)
class Restored:
    """What was staged is the state now, if the mark is of another restore than before; else only the mark is new.

    Attributes:
        mark: Of the restore.
        placements: What the directory has then besides; empty on tasks other than ps task 0.
    """

    mark: RestoreMark
    placements: tuple[Placement, ...] = ()


Record: TypeAlias = AppliedBatch | Declared | Placed | ClientJoined | ClientLeft | Staged | Restored


@dataclass(frozen=True, slots=True)
class LoggedRecord:
    """A record and its position in the order of effects, counted from 1.

    Attributes:
        position: The position.
        record: The record.
        size_bytes: About how many bytes it takes; 0 of one that was read.
    """

    position: int
    record: Record
    size_bytes: int = field(default=0, repr=False, compare=False)


def size_of(record: Record) -> int:
    """Returns about how many bytes a record takes."""
    match record:
        case AppliedBatch():
            return size_of_batch(record.operations)
        case Declared():
            return size_of_batch((record.operation,))
        case Placed() | Restored():
            return _RECORD_BYTES + _ENTRY_BYTES * len(record.placements)
        case Staged():
            return _RECORD_BYTES + (0 if record.image.value is None else record.image.value.nbytes)
        case _:
            return _RECORD_BYTES


def size_of_batch(operations: Sequence[PsOperation]) -> int:
    """Returns about how many bytes the record of a batch will take."""
    return _RECORD_BYTES + _ENTRY_BYTES * len(operations) + tensor_bytes(operations)
