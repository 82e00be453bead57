"""Reads the register of a replicated ps task in the coordination store, and changes it."""

from __future__ import annotations

import logging
from typing import Final
from uuid import UUID

from ps_protocol.errors import UnavailableError
from ps_server.coordination.store import CoordinationStore
from ps_server.replication.register import Asker, Register, Verdict, Wish, in_words, objection, wanted

_LOG = logging.getLogger(__name__)

_TRIES: Final = 3


class RegisterStore:
    """The register of one task. One thread, but for ``close``.

    Args:
        store: Owned.
        task: As "ps:1".
    """

    def __init__(self, store: CoordinationStore, *, task: str):
        self._store = store
        self._task = task
        self._key = f"primary/{task}"
        self._revision = 0

    @property
    def name(self) -> str:
        """Of the store, for messages."""
        return self._store.name

    def read(self, *, timeout_s: float) -> Register | None:
        """Returns the register; None if the task has none.

        Raises:
            UnavailableError: The store does not answer.
            FailedPreconditionError: What it has is no register.
        """
        entry = self._store.read(self._key, timeout_s=timeout_s)
        self._revision = 0 if entry is None else entry.revision
        return None if entry is None else Register.decode(entry.value)

    def ask(self, asker: Asker, wish: Wish, candidate: UUID | None = None, *, timeout_s: float) -> Verdict:
        """Asks for a change.

        Raises:
            UnavailableError: There was no answer. The change may have been made: a later call says.
            FailedPreconditionError: What the store has is no register.
        """
        for _ in range(_TRIES):
            known = self.read(timeout_s=timeout_s)
            change = wanted(known, asker, wish, candidate)
            if known == change:
                return Verdict(known, granted=True)  # it was made before, and the answer was lost
            reason = objection(known, asker, wish, candidate)
            if reason:
                return Verdict(known, reason=reason)
            granted, entry = self._store.compare_and_set(
                self._key, change.encode(), revision=self._revision, timeout_s=timeout_s
            )
            if granted:
                assert entry is not None
                self._revision = entry.revision
                _LOG.info("%s: %s", self._task, in_words(change))
                return Verdict(change, granted=True)
        raise UnavailableError(f"{self._store.name} has had other changes of {self._task} each time; try again")

    def close(self) -> None:
        """Closes the store."""
        self._store.close()
