"""Where the ps tasks of the cluster are, as they have announced it themselves.

The cluster spec says where they were meant to be. A ps task that was started elsewhere tells all others. A client that
gets no answer at the address that it knows asks them for the new one.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from ps_protocol.cluster_spec import PS_JOB
from ps_protocol.errors import AbortedError, InvalidArgumentError
from ps_protocol.service_types import PsAddress
from ps_protocol.task_id import TaskId, check_address

_MAX_ADDRESS_LENGTH: Final = 300
_REMEMBERED: Final = 64
"""Earlier incarnations of each ps task that cannot come back."""


@dataclass(slots=True)
class _Entry:
    newest: PsAddress
    superseded: deque[UUID] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))


class AddressBook:
    """The newest address of each ps task. Thread-safe.

    Args:
        num_ps: Ps tasks in the cluster, which bounds what is remembered.
    """

    def __init__(self, num_ps: int):
        self._num_ps = num_ps
        # guards: _entries; no other lock is taken under it
        self._lock = threading.Lock()
        self._entries: dict[TaskId, _Entry] = {}

    def announce(self, address: PsAddress) -> None:
        """Records the address that a ps task announces for itself.

        Raises:
            InvalidArgumentError: There is no such ps task, or the address is malformed.
            AbortedError: Another process has announced itself as this task since, or for a newer epoch; not retryable.
        """
        task = self._checked(address)
        with self._lock:
            entry = self._entries.get(task)
            if entry is None:
                self._entries[task] = _Entry(address)
                return
            known = entry.newest
            is_superseded = address.epoch == known.epoch and address.incarnation in entry.superseded
            if address.epoch < known.epoch or is_superseded:
                raise AbortedError(
                    f"{task} has announced itself at {known.address} since (epoch {known.epoch}), in another process "
                    f"than the one at {address.address} (epoch {address.epoch}); end this one, since two must not "
                    f"claim to be the same task",
                    retryable=False,
                )
            if address.incarnation != known.incarnation:
                entry.superseded.append(known.incarnation)
            entry.newest = address

    def learn(self, address: PsAddress) -> None:
        """Records what another ps task knows of a third one; an address that the third announced itself counts more.

        Raises:
            InvalidArgumentError: There is no such ps task, or the address is malformed.
        """
        task = self._checked(address)
        with self._lock:
            entry = self._entries.get(task)
            if entry is None:
                self._entries[task] = _Entry(address)
            elif address.epoch > entry.newest.epoch:
                entry.superseded.append(entry.newest.incarnation)
                entry.newest = address

    def addresses(self) -> list[PsAddress]:
        """The newest of each ps task that has announced itself, by name."""
        with self._lock:
            return [self._entries[task].newest for task in sorted(self._entries)]

    def _checked(self, address: PsAddress) -> TaskId:
        if len(address.address) > _MAX_ADDRESS_LENGTH:
            raise InvalidArgumentError(f"an address has {len(address.address)} characters; at most 300 are possible")
        try:
            task = TaskId.parse(address.task)
            check_address(address.address, str(task))
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from error
        if task.job != PS_JOB or task.index >= self._num_ps:
            raise InvalidArgumentError(
                f"{task} has announced itself as a ps task, but the cluster has {self._num_ps}, from ps:0; start it "
                f"with the cluster spec of the others"
            )
        return task
