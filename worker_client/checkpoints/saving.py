"""Saves a whole cluster: one consistent cut over all ps tasks, each of which writes its own part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

from ps_protocol.checkpoints.locations import open_store
from ps_protocol.checkpoints.manifest import decode_part, part_file
from ps_protocol.checkpoints.pruning import prune
from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.service import CheckpointPath, PartPiece, Progress, hold_s
from ps_protocol.checkpoints.store import CheckpointStore, check_name, clean_dead, not_shared, store_errors
from ps_protocol.errors import AbortedError, CancelledError
from worker_client.checkpoints.calls import Tasks
from worker_client.checkpoints.report import SavedCheckpoint, ShowProgress
from worker_client.checkpoints.round_cuts import round_in_two
from worker_client.checkpoints.shard_cuts import cut_in_two
from worker_client.connection.whole_reads import WHOLE_READS

MOST_HALFWAY_S: Final = 60.0
"""How long a save waits for an update that is on some of its ps tasks only, in seconds: its worker may be dead."""

_FIRST_PAUSE_S: Final = 0.002
_LONGEST_PAUSE_S: Final = 0.1

_ENTRY_BYTES: Final = 1000
"""Of a manifest for one variable: more than most have, to give the ps tasks time to make and check it."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be saved where.

    Attributes:
        path: Of the checkpoint.
        step: Training step that it belongs to.
        metrics: Numbers to keep with it.
        retention: Which checkpoints of the folder stay.
        is_through_client: Whether this process writes it, or the ps tasks do.
    """

    path: CheckpointPath
    step: int | None
    metrics: Mapping[str, float]
    retention: Retention
    is_through_client: bool


def request_of(
    folder: str,
    *,
    name: str | None,
    step: int | None,
    metrics: Mapping[str, float],
    retention: Retention,
    is_through_client: bool,
) -> Request:
    """Makes a request; by default the name is the step, or else the moment.

    Raises:
        InvalidArgumentError: The name cannot be one.
    """
    path = CheckpointPath(folder, check_name(name or default_name(step)))
    return Request(path, step, metrics, retention, is_through_client)


def default_name(step: int | None) -> str:
    """Name of a checkpoint that was given none: of the step, or else of the moment."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}" if step is None else f"step-{step:09}"


class Saving:
    """One save of all variables of all ps tasks. ``cut`` decides what is in it, ``write`` does the rest.

    An error of either leaves nothing behind. Used by one thread after the other, neither of them the main thread.

    Args:
        tasks: All ps tasks.
        request: What to save.
    """

    def __init__(self, tasks: Tasks, request: Request):
        self._tasks = tasks
        self._request = request
        self._session = uuid4()
        self._held_s = 0.0
        self._num_variables = 0
        self._store = open_store(request.path.store) if request.is_through_client else None

    def cut(self) -> None:
        """Has all ps tasks take their images at one moment.

        Raises:
            AlreadyExistsError: There is a checkpoint of the name.
            FailedPreconditionError: A task cannot write, or the tasks do not share the folder; or this client cannot.
            AbortedError: Another save is under way, or updates could not be held back long enough.
        """
        with self._all_or_nothing():
            path = self._request.path
            if self._store is None:
                _begin(self._tasks, self._session, path)
                marks = self._tasks.call(
                    0, "to begin a save", lambda service, t: service.begin(self._session, path, timeout_s=t)
                )
                strangers = [name for name in self._tasks.names if name not in marks]
                if strangers:
                    raise not_shared(path.store, strangers)
            else:
                self._store.begin(path.name, self._session, "client")
                _begin(self._tasks, self._session, CheckpointPath("", path.name))
            num_variables = self._tasks.num_variables()
            self._num_variables = sum(num_variables)
            self._held_s = _cut_beside_steps(self._tasks, self._session, hold_s(max(num_variables)))

    def write(self, show: ShowProgress | None) -> SavedCheckpoint:
        """Has what was cut written, and makes the checkpoint visible.

        Raises:
            FailedPreconditionError: It cannot be written.
            ShardscopeError: A ps task does not answer.
        """
        with self._all_or_nothing():
            size_bytes = self._written_there(show) if self._store is None else self._written_here(self._store, show)
        self._tasks.discard(self._session)
        return SavedCheckpoint(str(self._request.path), size_bytes, self._held_s, self._request.step)

    def give_up(self) -> None:
        """Leaves nothing behind of what was cut."""
        self._tasks.discard(self._session)
        if self._store is not None:
            self._store.discard(self._request.path.name, self._session)

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        with contextlib.ExitStack() as undone, store_errors("this client", self._folder):
            undone.callback(self.give_up)
            yield
            undone.pop_all()

    def _folder(self) -> str:
        return self._request.path.store

    def _written_there(self, show: ShowProgress | None) -> int:
        """Has the tasks write to a folder that all reach."""
        wanted, session = self._request, self._session
        entries_bytes = self._num_variables * _ENTRY_BYTES
        self._tasks.work(
            "to write a checkpoint", lambda service, t: service.write(session, timeout_s=t), show, entries_bytes
        )
        return self._tasks.call(
            0,
            "to make a checkpoint visible",
            lambda service, t: service.publish(
                session,
                wanted.path,
                len(self._tasks.handles),
                wanted.step,
                wanted.metrics,
                wanted.retention,
                timeout_s=t,
            ),
            entries_bytes,
        )

    def _written_here(self, store: CheckpointStore, show: ShowProgress | None) -> int:
        """Fetches the parts and writes them on this side; a few MiB of each are in memory."""
        tasks, wanted, session = self._tasks, self._request, self._session
        name, num_parts = wanted.path.name, len(tasks.handles)
        so_far = [Progress(0, 0, False)] * num_parts

        def fetch(index: int) -> None:
            entry, offset = bytearray(), 0

            def piece() -> PartPiece:
                return tasks.call(
                    index, "to send its part", lambda service, t: service.fetch(session, offset, timeout_s=t)
                )

            found = piece()
            with store.part_writer(name, session, part_file(index, num_parts), found.part_bytes) as writer:
                while True:
                    of_part = max(0, min(len(found.content), found.part_bytes - offset))
                    writer.write(found.content[:of_part])
                    entry += found.content[of_part:]
                    offset += len(found.content)
                    so_far[index] = found.progress
                    if show is not None:
                        show(sum([each.done_bytes for each in so_far]), sum([each.total_bytes for each in so_far]))
                    if found.progress.is_done:
                        break
                    found = piece()
            store.note_part(name, session, decode_part(bytes(entry)))

        tasks.side_by_side(fetch)
        now_s = time.time()
        size_bytes = store.publish(name, session, tasks.names, now_s, wanted.step, wanted.metrics)
        prune(store, wanted.retention, name, now_s)
        clean_dead(store, now_s)
        return size_bytes


def _begin(tasks: Tasks, session: UUID, path: CheckpointPath) -> None:
    for index in range(len(tasks.handles)):  # in order, so that of two savers one gets all
        tasks.call(index, "to begin a save", lambda service, t: service.begin(session, path, timeout_s=t))


def _cut_beside_steps(tasks: Tasks, session: UUID, lease_s: float) -> float:
    """Cuts where neither an update of a data shard nor a round is on some of its ps tasks only.

    Returns:
        For how long updates were held.
    """
    began_s, pause_s, whole_reads = time.monotonic(), _FIRST_PAUSE_S, WHOLE_READS.get(tasks.fanout)
    while True:
        held_s, of_shard, group = _cut(tasks, session, lease_s)
        if not of_shard and not group:
            return held_s
        waited_s = time.monotonic() - began_s
        if waited_s > MOST_HALFWAY_S:
            raise _halfway(of_shard, group, waited_s)
        if group and whole_reads is not None:
            whole_reads.bring(group)
        if not tasks.is_wanted():
            raise CancelledError("the save was interrupted")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _halfway(of_shard: str, group: str, waited_s: float) -> AbortedError:
    if of_shard:
        return AbortedError(
            f"{of_shard} has come to some of its ps tasks only, for {waited_s:.0f} s: the worker is gone, and nobody "
            f"has gone on with the shard. Nothing was saved; have a worker take shards, and save again",
            retryable=False,
        )
    return AbortedError(
        f"in {waited_s:.0f} s there was no moment at which each round of {group} was on all ps tasks or on none. "
        f"Nothing was saved; save again, with a connection that may update, since that brings rounds where they lack",
        retryable=True,
    )


def _cut(tasks: Tasks, session: UUID, lease_s: float) -> tuple[float, str, str]:
    """Has all tasks take their images while all hold updates back.

    Returns:
        For how long; whose update of a data shard is on some of its ps tasks only, and a round of which group.
    """
    began_s = time.monotonic()
    tasks.each("to hold updates back", lambda _, service, t: service.hold(session, lease_s, timeout_s=t))
    of_shard = cut_in_two(tasks)
    group = "" if of_shard else round_in_two(tasks)
    held = tasks.each("to let updates go on", lambda _, service, t: service.release(session, timeout_s=t))
    held_s = time.monotonic() - began_s
    late = [name for name, was_held in zip(tasks.names, held, strict=True) if not was_held]
    if late:
        raise AbortedError(
            f"updates could not be held back on all ps tasks at once: {', '.join(late)} let them go on after "
            f"{lease_s:.1f} s. Nothing was saved; save again when the network is faster, or less is going on"
        )
    return held_s, of_shard, group
