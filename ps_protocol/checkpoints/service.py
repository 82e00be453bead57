"""What one ps task offers for checkpoints of the whole cluster: ``CheckpointService``.

A save, in the order of its calls: ``begin`` on each task, ``hold`` on all, ``release`` on all, ``write`` on each until
it is done, ``publish`` on ps task 0. A restore: ``read_manifest`` of ps task 0, ``stage`` and ``fill`` on each until it
is done, ``prepare`` on all, ``switch`` on all, ``finish`` on all. ``discard`` gives up either before its end.

Every call is safe to repeat. A task drops what belongs to a save or a restore that it has not heard of for
``IDLE_S``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.operations import VariableSpec
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import Placement

IDLE_S: Final = 60.0
"""Seconds after which a task gives up a save or a restore that it hears nothing of."""

_HOLD_S: Final = 2.0
_HOLD_PER_VARIABLE_S: Final = 50e-6
_MAX_HOLD_S: Final = 15.0

SWITCH_HOLD_S: Final = 10.0
"""Seconds after which a hold for a restore ends by itself."""

MAX_PIECE_BYTES: Final = 1024**2
"""Most bytes of a manifest in one answer."""

MAX_TARGETS: Final = 512
"""Most variables in one call of ``stage``."""


def hold_s(num_variables: int) -> float:
    """Seconds after which a hold for a save ends by itself, on ps tasks with up to so many variables.

    To look at a variable takes some microseconds; of many it gets more time, since a save is of no use without. It is
    less than a client gives an update by default, so that none fails for a saver that dies.
    """
    return min(_HOLD_S + num_variables * _HOLD_PER_VARIABLE_S, _MAX_HOLD_S)


def names_sha256(names: Iterable[str]) -> bytes:
    """SHA-256 of the names of variables, in whatever order they are given: a few bytes for any number of them."""
    digest = hashlib.sha256()
    for name in sorted(names):
        encoded = name.encode()
        digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class CheckpointPath:
    """Where a checkpoint is, or will be.

    Attributes:
        store: The folder or URL that holds checkpoints; empty if the ps tasks do not reach it.
        name: Of the checkpoint in it; all of the path if the store is empty, for messages.
    """

    store: str
    name: str

    def __str__(self) -> str:
        return f"{self.store}/{self.name}" if self.store else self.name


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is.

    Attributes:
        done_bytes: Of values, written or read.
        total_bytes: Of all values that it writes or reads.
        is_done: Whether nothing is left.
    """

    done_bytes: int
    total_bytes: int
    is_done: bool


@dataclass(frozen=True, slots=True)
class Source:
    """A saved variable that a target takes elements from: its part in the manifest, and its place there."""

    part: int
    index: int


@dataclass(frozen=True, slots=True)
class Target:
    """A variable, or a part of one, that a ps task is to have after a restore.

    Attributes:
        spec: What its value will be like.
        version: That it will have.
        sources: Where its elements are; empty to leave it uninitialised.
        declared: The spec that declarations must agree with, if the value has another layout.
    """

    spec: VariableSpec
    version: int
    sources: tuple[Source, ...]
    declared: VariableSpec | None = None


@dataclass(frozen=True, slots=True)
class ManifestPiece:
    """Some bytes of a manifest.

    Attributes:
        path: Of the checkpoint.
        content: From the offset that was asked for.
        size_bytes: Of the whole manifest.
    """

    path: CheckpointPath
    content: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class PartPiece:
    """Some bytes of what a task would have written.

    Attributes:
        content: From the offset that was asked for.
        part_bytes: Size of the part; what comes behind is its entry of the manifest.
        progress: How far the task is; done with the last bytes.
    """

    content: bytes
    part_bytes: int
    progress: Progress


class CheckpointService(Protocol):
    """Thread-safe. Every method may raise a ``ShardscopeError`` and takes no longer than ``timeout_s``."""

    def begin(self, save: UUID, path: CheckpointPath, *, timeout_s: float) -> Sequence[str]:
        """Makes sure that the task can write there; returns the ps tasks whose marks it sees there.

        Raises:
            AlreadyExistsError: There is a checkpoint of the name.
            FailedPreconditionError: It cannot write there.
            AbortedError: Another save is under way; retryable.
        """

    def hold(self, save: UUID, lease_s: float, *, timeout_s: float) -> None:
        """Holds back new updates, lets those that have begun end, and takes an image of the variables.

        Raises:
            DeadlineExceededError: What had begun did not end in time; nothing is held.
            AbortedError: Another save or restore holds updates back; retryable.
        """

    def release(self, save: UUID, *, timeout_s: float) -> bool:
        """Lets updates go on; returns whether they were held back until now, so that the image can be used."""

    def write(self, save: UUID, *, timeout_s: float) -> Progress:
        """Writes for a moment; called again until it is done.

        Raises:
            FailedPreconditionError: The task has no such save, or cannot write; the save is given up.
        """

    def fetch(self, save: UUID, offset: int, *, timeout_s: float) -> PartPiece:
        """Returns the next bytes of the task's part and of its entry, in the place of ``write``.

        Args:
            save: Which one; it was begun with a path without a store.
            offset: Of the first byte that the caller does not have yet.
            timeout_s: Bound on the call.

        Raises:
            FailedPreconditionError: The task has no such save, or no longer has the bytes.
        """

    def publish(
        self,
        save: UUID,
        path: CheckpointPath,
        num_parts: int,
        step: int | None,
        metrics: Mapping[str, float],
        retention: Retention,
        *,
        timeout_s: float,
    ) -> int:
        """Makes the checkpoint visible, and removes what the retention does not keep; returns its size in bytes.

        Raises:
            FailedPreconditionError: A part is not there, or the store fails.
        """

    def discard(self, session: UUID, *, timeout_s: float) -> None:
        """Gives up a save or a restore: updates go on, and what it has written or read is dropped."""

    def read_manifest(self, path: str, offset: int, *, timeout_s: float) -> ManifestPiece:
        """Reads a piece of a manifest: of the checkpoint at a path, or of the newest of a folder of them.

        Raises:
            NotFoundError: There is none.
            FailedPreconditionError: The store fails.
        """

    def stage(
        self,
        restore: UUID,
        path: CheckpointPath,
        manifest_crc32: int,
        targets: Sequence[Target],
        placements: Sequence[Placement],
        *,
        timeout_s: float,
    ) -> None:
        """Says what the task is to read; what was said before of a variable stays, so that a call may be repeated.

        Raises:
            FailedPreconditionError: It does not find the checkpoint, or another one, or a part of it is damaged.
            ResourceExhaustedError: The values are beyond the memory limit.
        """

    def fill(self, restore: UUID, *, timeout_s: float) -> Progress:
        """Reads for a moment; called again until it is done. Errors as ``stage``."""

    def supply(self, restore: UUID, index: int, offset: int, content: bytes, *, timeout_s: float) -> None:
        """Gives some bytes of a variable that was staged with a path without a store, in the place of ``fill``.

        Args:
            restore: Which one.
            index: Of the variable, among those that were staged; one after the other.
            offset: Where in the value the bytes belong; in order.
            content: At most ``MAX_PIECE_BYTES``.
            timeout_s: Bound on the call.

        Raises:
            FailedPreconditionError: The task has no such restore, or bytes before are missing.
        """

    def prepare(self, restore: UUID, expected: bytes, lease_s: float, *, timeout_s: float) -> None:
        """Holds updates back, and makes sure that the task can switch.

        Args:
            restore: Which one.
            expected: ``names_sha256`` of the variables that the task had when the restore was planned.
            lease_s: Seconds after which the hold ends by itself.
            timeout_s: Bound on the call.

        Raises:
            AbortedError: Variables were declared meanwhile, or another save or restore holds updates back; retryable.
        """

    def switch(self, restore: UUID, *, timeout_s: float) -> None:
        """Puts what was staged in the place of what the task had.

        From here on its store has another incarnation, and it takes no batches before ``finish``.

        Raises:
            FailedPreconditionError: It has not prepared this restore, or not in time; nothing was changed.
        """

    def finish(self, restore: UUID, *, timeout_s: float) -> None:
        """Takes batches again. Called when all tasks have switched.

        Raises:
            FailedPreconditionError: The task has not switched.
        """


class PsService(ClusterService, Protocol):
    """All that a ps task offers besides batches, checkpoints of the whole cluster included."""

    @property
    def checkpoints(self) -> CheckpointService: ...
