"""The saves and restores of one ps task: a ``CheckpointService`` that is called directly."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Concatenate, Final, ParamSpec, TypeVar
from uuid import UUID

from ps_protocol.checkpoints.locations import locate, open_store
from ps_protocol.checkpoints.pruning import prune
from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.service import (
    IDLE_S,
    MAX_PIECE_BYTES,
    CheckpointPath,
    CheckpointService,
    ManifestPiece,
    PartPiece,
    Progress,
    Target,
)
from ps_protocol.checkpoints.store import check_name, clean_dead, manifest_piece, store_errors
from ps_protocol.cluster_spec import PS_JOB, TaskId
from ps_protocol.errors import AbortedError, DeadlineExceededError, FailedPreconditionError, ShardscopeError
from ps_protocol.fault_points import fault_point
from ps_protocol.service_types import Placement
from ps_server.checkpoints.fetching import FetchedPart
from ps_server.checkpoints.restoring import Restore
from ps_server.checkpoints.saving import Save
from ps_server.core.parameter_server import ParameterServer
from ps_server.log.restore_mark import RestoreMark

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _call(
    method: Callable[Concatenate[TaskCheckpoints, _P], _T],
) -> Callable[Concatenate[TaskCheckpoints, _P], _T]:
    """Only the primary answers; a failure of the store is an error that names the task."""

    @functools.wraps(method)
    def named(self: TaskCheckpoints, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            self.core.check_may_answer()
            with store_errors("this task", self.folder):
                return method(self, *args, **kwargs)
        except ShardscopeError as error:
            error.task = error.task or self.core.task
            raise

    return named


class TaskCheckpoints(CheckpointService):
    """One save or restore at a time. Thread-safe.

    Args:
        core: The task.
        wall_clock: Seconds since the epoch.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        core: ParameterServer,
        *,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.core: Final = core
        self._index = TaskId.parse(core.task).index
        self._wall_clock = wall_clock
        self._clock = clock
        self._publishing = threading.Lock()  # guards: what is made visible; taken before _lock
        self._lock = threading.Lock()  # guards: all below; no other lock is taken under it
        self._session: tuple[UUID, Save | Restore] | None = None
        self._heard_s = 0.0

    def folder(self) -> str:
        """Where the save or restore that is under way has its checkpoint, for messages."""
        with self._lock:
            return str(self._session[1].path.store) if self._session is not None else ""

    # -- saving -------------------------------------------------------------------------------

    @_call
    def begin(self, save: UUID, path: CheckpointPath, *, timeout_s: float) -> Sequence[str]:
        store = open_store(path.store) if path.store else FetchedPart()
        check_name(path.name)
        session = self._found(save, Save)
        if session is None:
            session = Save(self.core, save, store, path, self._index, self.core.num_ps)
            self._open(save, session)
        try:
            marks = session.begin()
        except BaseException:
            self.discard(save, timeout_s=timeout_s)
            raise
        fault_point("checkpoint.begun")
        return marks

    @_call
    def hold(self, save: UUID, lease_s: float, *, timeout_s: float) -> None:
        self._required(save, Save).hold(lease_s, timeout_s)

    @_call
    def release(self, save: UUID, *, timeout_s: float) -> bool:  # noqa: ARG002 - it does not wait
        session = self._found(save, Save)
        return session is not None and session.release()

    @_call
    def write(self, save: UUID, *, timeout_s: float) -> Progress:
        return self._required(save, Save).write(timeout_s)

    @_call
    def fetch(self, save: UUID, offset: int, *, timeout_s: float) -> PartPiece:
        return self._required(save, Save).fetch(offset, timeout_s)

    @_call
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
        store = open_store(path.store)
        tasks = [str(TaskId(PS_JOB, index)) for index in range(num_parts)]
        fault_point("checkpoint.before_publish")
        with self._one_at_a_time(path, timeout_s):
            self._found(save, Save)  # it is heard of
            now_s = self._wall_clock()
            size_bytes = store.publish(check_name(path.name), save, tasks, now_s, step, metrics)
            fault_point("checkpoint.published")
            prune(store, retention, path.name, now_s)
            clean_dead(store, self._wall_clock())
        return size_bytes

    @contextlib.contextmanager
    def _one_at_a_time(self, path: CheckpointPath, timeout_s: float) -> Iterator[None]:
        """Of a call that is repeated while the first one is under way, only one is in here."""
        if not self._publishing.acquire(timeout=timeout_s):
            raise DeadlineExceededError(f"making the checkpoint {path} visible takes more than {timeout_s:.1f} s")
        try:
            yield
        finally:
            self._publishing.release()

    @_call
    def discard(self, session: UUID, *, timeout_s: float) -> None:  # noqa: ARG002 - it does not wait
        self._close(session)

    # -- restoring ----------------------------------------------------------------------------

    @_call
    def read_manifest(self, path: str, offset: int, *, timeout_s: float) -> ManifestPiece:  # noqa: ARG002
        store, name = locate(path)
        content, size_bytes = manifest_piece(store, name, offset, MAX_PIECE_BYTES)
        return ManifestPiece(CheckpointPath(store.path, name), content, size_bytes)

    @_call
    def stage(
        self,
        restore: UUID,
        path: CheckpointPath,
        manifest_crc32: int,
        targets: Sequence[Target],
        placements: Sequence[Placement],
        *,
        timeout_s: float,  # noqa: ARG002 - it does not wait
    ) -> None:
        session = self._found(restore, Restore)
        if session is None:
            store = open_store(path.store) if path.store else None
            session = Restore(self.core, restore, store, path, manifest_crc32)
            try:
                self._open(restore, session)
            except BaseException:
                session.give_up()
                raise
        session.stage(targets, placements)

    @_call
    def fill(self, restore: UUID, *, timeout_s: float) -> Progress:
        progress = self._required(restore, Restore).fill(timeout_s)
        if progress.is_done:
            fault_point("restore.staged")
        return progress

    @_call
    def supply(
        self,
        restore: UUID,
        index: int,
        offset: int,
        content: bytes,
        *,
        timeout_s: float,  # noqa: ARG002
    ) -> None:
        self._required(restore, Restore).supply(index, offset, content)

    @_call
    def prepare(self, restore: UUID, expected: bytes, lease_s: float, *, timeout_s: float) -> None:
        self._required(restore, Restore).prepare(expected, lease_s, timeout_s)

    @_call
    def switch(self, restore: UUID, *, timeout_s: float) -> None:
        restored = self.core.state.parts.restored
        if restored is None or restored.restore != restore:
            self._required(restore, Restore).switch(timeout_s)
        self.core.state.wait_for_all(timeout_s)

    @_call
    def finish(self, restore: UUID, *, timeout_s: float) -> None:
        restored = self.core.state.parts.restored
        if restored is None or restored.restore != restore:
            raise FailedPreconditionError("this task has not been restored, or was started again since; restore again")
        if not restored.is_complete:
            fault_point("restore.before_finish")
            mark = RestoreMark(restore, restored.source, is_complete=True)
            self.core.state.finish_restore(mark, timeout_s)
        self._close(restore)

    # -- one at a time ------------------------------------------------------------------------

    def expire(self) -> float:
        """Drops what nobody has asked for in ``IDLE_S``; returns the seconds until the next look."""
        with self._lock:
            session = self._session
            is_idle = session is not None and self._clock() - self._heard_s > IDLE_S
        if session is not None and is_idle:
            self._close(session[0])
        return IDLE_S / 10

    def _open(self, key: UUID, session: Save | Restore) -> None:
        with self._lock:
            if self._session is not None and self._session[0] != key:
                raise AbortedError(
                    f"another {'save' if isinstance(self._session[1], Save) else 'restore'} is under way on this task; "
                    f"wait until it is done, or for {IDLE_S:.0f} s if its process has died"
                )
            self._session, self._heard_s = (key, session), self._clock()

    def _found(self, key: UUID, kind: type[_T]) -> _T | None:
        with self._lock:
            if self._session is None or self._session[0] != key:
                return None
            self._heard_s = self._clock()
            session = self._session[1]
        return session if isinstance(session, kind) else None

    def _required(self, key: UUID, kind: type[_T]) -> _T:
        session = self._found(key, kind)
        if session is None:
            raise FailedPreconditionError(
                f"this task knows nothing of the {kind.__name__.lower()}: it was started again meanwhile, or heard "
                f"nothing of it for {IDLE_S:.0f} s; begin anew"
            )
        return session

    def _close(self, key: UUID) -> None:
        with self._lock:
            if self._session is None or self._session[0] != key:
                return
            session = self._session[1]
            self._session = None
        session.give_up()
