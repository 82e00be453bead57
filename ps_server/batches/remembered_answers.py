"""What the ledger remembers of clients and of the answers to their batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias
from uuid import UUID

from ps_protocol.errors import ShardscopeError, error_for
from ps_protocol.operations import BatchReply, Reply


class Forgotten:
    """Stands for an answer that was given up to save memory."""


FORGOTTEN: Final = Forgotten()

Answer: TypeAlias = BatchReply | ShardscopeError | Forgotten
"""The reply to a batch, or the error that ended it, or ``FORGOTTEN``."""


@dataclass(frozen=True, slots=True)
class ClientImage:
    """What the ledger remembers of one client.

    Attributes:
        client: Its incarnation.
        task: Its task, as "worker:1".
        newest: Highest sequence that was applied.
        forgotten_up_to: Answers up to here are no longer remembered.
        answers: The remembered ones, by sequence, ascending.
        checksums: Of the batches that they answer, by sequence, as far as they are known.
    """

    client: UUID
    task: str
    newest: int
    forgotten_up_to: int
    answers: tuple[tuple[int, Answer], ...]
    checksums: Mapping[int, int] = field(default_factory=dict)


def kept_answer(reply: BatchReply) -> Answer:
    """Returns what to remember of a reply."""
    try:
        return independent_copy(reply)
    except MemoryError:
        return FORGOTTEN


def independent_copy(reply: BatchReply) -> BatchReply:
    """Returns a reply that shares no array and no error with ``reply``, so that two receivers can have one each."""
    for each in reply.replies:
        if isinstance(each, ShardscopeError) or each.tensor is not None:
            return BatchReply(tuple([_kept(each) for each in reply.replies]))
    return reply


def without_frames(error: ShardscopeError) -> ShardscopeError:
    """Returns a copy of the error without its traceback, whose frames keep arrays alive."""
    return error_for(
        error.code,
        error.message,
        variable=error.variable,
        task=error.task,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
    )


def tensor_bytes(answer: Answer) -> int:
    """Returns the bytes of the tensors in an answer."""
    size_bytes = 0
    if isinstance(answer, BatchReply):
        for reply in answer.replies:
            if not isinstance(reply, ShardscopeError) and reply.tensor is not None:
                size_bytes += reply.tensor.nbytes
    return size_bytes


def _kept(reply: Reply) -> Reply:
    if isinstance(reply, ShardscopeError):
        return without_frames(reply)
    return reply if reply.tensor is None else replace(reply, tensor=reply.tensor.copy())
