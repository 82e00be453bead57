"""Room for the tensors of batches that are on their way in or out, over all streams together."""

from __future__ import annotations

from typing import Final, Self

from ps_protocol.errors import ResourceExhaustedError
from ps_server.memory.byte_budget import ByteBudget, readable_bytes

_RETRY_AFTER_S: Final = 0.25


class StagingRoom:
    """The part of a budget that one batch takes; given back when the batch ends, also by an error.

    Args:
        budget: Shared by all batches.
    """

    def __init__(self, budget: ByteBudget):
        self._budget = budget
        self._taken_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.give_back(self._taken_bytes)

    def take(self, size_bytes: int, what: str) -> None:
        """Takes more room, without waiting for it.

        Args:
            size_bytes: How much more.
            what: What for, for the error: "the batch's tensors".

        Raises:
            ResourceExhaustedError: There is not so much left now (retryable), or never will be.
        """
        if self._budget.try_take(size_bytes):
            self._taken_bytes += size_bytes
            return
        limit_bytes = self._budget.limit_bytes
        wanted = f"{what} need {readable_bytes(size_bytes)}"
        if self._taken_bytes + size_bytes > limit_bytes:
            raise ResourceExhaustedError(
                f"{wanted}, and a batch may have {readable_bytes(limit_bytes)} here altogether; move fewer variables "
                f"at a time, or raise --staging-limit",
                retryable=False,
            )
        if self._budget.when_short is not None:
            self._budget.when_short()
        raise ResourceExhaustedError(
            f"{wanted}, but of {readable_bytes(limit_bytes)} for batches on their way "
            f"{readable_bytes(self._budget.used_bytes)} are taken; try again later",
            retry_after_s=_RETRY_AFTER_S,
        )

    def give_back(self, size_bytes: int) -> None:
        """Gives part of it back early."""
        self._budget.give_back(size_bytes)
        self._taken_bytes -= size_bytes
