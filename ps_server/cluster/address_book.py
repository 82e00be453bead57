"""Where the ps tasks of the cluster are, as they have announced it themselves.

The cluster spec says where they were meant to be. A ps task that was started elsewhere tells all others. A client that
gets no answer at the address that it knows asks them for the new one.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
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
        remembered: What an earlier process of this task knew. It counts less than whatever is heard in this one, and
            is not passed on to other ps tasks: they may have heard something newer.
        remember: Called with all that is known, one call at a time, after each change and before whoever has caused it
            gets an answer. Must not raise.
    """

    def __init__(
        self,
        num_ps: int,
        *,
        remembered: Iterable[PsAddress] = (),
        remember: Callable[[Sequence[PsAddress]], None] | None = None,
    ):
        self._num_ps = num_ps
        self._remember = remember
        # guards: the order of calls of _remember, and _told; held while the disk is written, so taken before _lock
        self._remember_lock = threading.Lock()
        self._told: list[PsAddress] | None = None
        # guards: _entries, _remembered; no other lock is taken under it
        self._lock = threading.Lock()
        self._entries: dict[TaskId, _Entry] = {}
        self._remembered: dict[TaskId, PsAddress] = {}
        for address in remembered:
            with contextlib.suppress(InvalidArgumentError):  # it is of no use, and does no harm
                self._remembered[self._checked(address)] = address

    def announce(self, address: PsAddress) -> None:
        """Records the address that a ps task announces for itself.

        Raises:
            InvalidArgumentError: There is no such ps task, or the address is malformed.
            AbortedError: Another process has announced itself as this task since, or for a newer epoch; not retryable.
        """
        task = self._checked(address)
        with self._lock:
            self._record(task, address)
        self._tell()

    def _record(self, task: TaskId, address: PsAddress) -> None:
        """What a task has announced itself; with the lock held."""
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
        self._tell()

    def heard(self) -> list[PsAddress]:
        """The newest of each ps task that this process has heard of, by name."""
        with self._lock:
            return [self._entries[task].newest for task in sorted(self._entries)]

    def addresses(self) -> list[PsAddress]:
        """The same, and of those that it has not heard of what an earlier process knew."""
        with self._lock:
            known = self._remembered | {task: entry.newest for task, entry in self._entries.items()}
            return [known[task] for task in sorted(known)]

    def _tell(self) -> None:
        if self._remember is None:
            return
        with self._remember_lock:
            known = self.addresses()
            if known != self._told:
                self._told = known
                self._remember(known)

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
