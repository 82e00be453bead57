"""What a task's state was restored from a checkpoint, and whether all tasks of the cluster were."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID, uuid5


@dataclass(frozen=True, slots=True)
class RestoreMark:
    """The newest restore that a state has been through.

    Attributes:
        restore: Its identity.
        source: The checkpoint, for messages.
        is_complete: Whether all tasks of the cluster are known to have been restored. Until then the task takes no
            batches: they could see one task as it was before, and another as it is after.
    """

    restore: UUID
    source: str
    is_complete: bool


@lru_cache(maxsize=8)
def incarnation_after(base: UUID, restore: UUID) -> UUID:
    """Identity of a state after a restore, so that clients take no version of before for one of after.

    It follows from both, so that all processes that have the state agree, and that another base gives another one.
    """
    return uuid5(base, restore.hex)
