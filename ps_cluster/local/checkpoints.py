"""The checkpoints of a cluster that this process runs: restored before its workers start, saved while they run."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from ps_cluster.inspection.printable_text import printable
from ps_cluster.inspection.task_table import format_size
from ps_protocol.checkpoints.locations import locate
from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.store import StoreError
from ps_protocol.checkpoints.urls import absolute, is_url
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import ClusterStartError, NotFoundError, ShardscopeError
from worker_client.checkpoints.background import Wanted
from worker_client.checkpoints.methods import ConnectionSaver
from worker_client.checkpoints.opening import open_checkpoint
from worker_client.checkpoints.periodic import PeriodicSaves, SavesOfChanges
from worker_client.checkpoints.report import RestoreReport, SavedCheckpoint, ShowProgress
from worker_client.client import Client, ObserverMode, connect
from worker_client.connection.ending import Ending

_CONNECT_TIMEOUT_S: Final = 15.0
_OPERATION_TIMEOUT_S: Final = 30.0
_HASTE_S: Final = 0.2
_FIRST_TOLD_S: Final = 3.0
_TOLD_AGAIN_S: Final = 10.0


class NotRestoredError(ClusterStartError):
    """The newest checkpoint could not be restored; the message says why."""


class ClusterCheckpoints:
    """Restores the newest checkpoint of a folder, or at a URL, and saves others there. Thread-safe.

    Each save has a connection of its own, so that it finds the ps tasks wherever they are by then. From ``restore`` to
    ``finish`` or ``give_up`` no other cluster has the folder: two would go on from each other's checkpoints, and remove
    them. This is not known of a URL, and of a folder where the file system cannot lock.

    Args:
        folder: Of checkpoints; it need not be there. Or one checkpoint, which is restored; others are saved beside it.
        every_s: Seconds between two saves.
        retention: Which checkpoints of the folder stay.
        tell: Told in one line of what was restored and saved.
        tell_failure: Told of saves that have failed.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_s: float,
        retention: Retention,
        tell: Callable[[str], None],
        tell_failure: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._source = absolute(folder)
        self._tell = tell
        self._tell_failure = tell_failure
        self._every_s = every_s
        self._retention = retention
        self._clock = clock
        self._changes = SavesOfChanges(self._source, retention=retention)
        self._restored = ""
        self._process = os.getpid()
        self._lock = threading.Lock()  # guards: _client, _saves, _is_over, _held
        self._client: Client | None = None
        self._saves: PeriodicSaves | None = None
        self._is_over = False
        self._held = contextlib.ExitStack()  # the folder

    def restore(self, spec: ClusterSpec) -> None:
        """Restores the newest checkpoint, if there is one and the ps tasks have nothing yet.

        Raises:
            NotRestoredError: It cannot be used, or a ps task has failed; or there is none, and none can be saved there.
                Or another cluster has the folder.
        """
        try:
            try:
                store, name = locate(self._source)
            except NotFoundError:
                self._begin_with_nothing()
                return
            self._changes = SavesOfChanges(store.path, retention=self._retention)
            self._hold_folder()
            with self._connected(spec, observer="update") as client:
                if client.variables():
                    self._tell(printable(f"the ps tasks have kept their variables: {store.path}/{name} is not needed"))
                    return
                report = client.restore(f"{store.path}/{name}", show_progress=self._progress("restoring"))
                self._changes.note(ConnectionSaver(client))
        except (ShardscopeError, OSError) as error:
            raise NotRestoredError(f"cannot go on from {self._source}: {_said(error)}") from error
        self._restored = report.path
        self._tell(_restored(report))

    def _begin_with_nothing(self) -> None:
        """Says so, unless the saves could not but fail; and says what else is there."""
        hint = ""
        if not is_url(self._source):
            _check_folder(Path(self._source))
            self._hold_folder()
            with contextlib.suppress(ShardscopeError, OSError), open_checkpoint(self._source):
                hint = f" (one of another form is there: `shardscope checkpoint import {self._source} FOLDER` takes it)"
        self._tell(printable(f"no checkpoint in {self._source} yet: starting from nothing{hint}"))

    def _hold_folder(self) -> None:
        folder = self._changes.folder
        if is_url(folder):
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as held:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NotRestoredError(
                    f"another cluster keeps its checkpoints in {folder}, and each would remove the other's: end it, or "
                    f"give another folder"
                ) from None
            except OSError:
                return
            held.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)  # a forked child may have the descriptor too
            with self._lock:
                self._held = held.pop_all()

    def _let_go_of_folder(self) -> None:
        with self._lock:
            held = self._held.pop_all()
        held.close()

    def start(self, spec: ClusterSpec) -> None:
        """Saves from now on, by a thread of its own."""
        saves = PeriodicSaves(
            lambda wanted: self._take(spec, wanted),
            lambda: None,
            self._changes.folder,
            every_s=self._every_s,
            on_saved=self._saved,
            on_failure=self._failed,
            clock=self._clock,
        )
        with self._lock:
            if self._is_over:
                return
            self._saves = saves
        atexit.register(self._tell_unsaved)
        saves.start()

    def finish(self) -> Exception | None:
        """Saves once more, unless nothing has changed since the last time; returns when that is done or has failed.

        Returns:
            Why the last state is not saved, which was told unless it was given up; None if it is.
        """
        atexit.unregister(self._tell_unsaved)
        with self._lock:
            saves = None if self._is_over else self._saves
        try:
            return None if saves is None else self._save_last(saves)
        finally:
            self._let_go_of_folder()

    def _save_last(self, saves: PeriodicSaves) -> Exception | None:
        before = saves.last
        try:
            saves.stop()
        except Exception as error:  # noqa: BLE001 - the end is not to stop here
            if not self._is_over:
                self._failed(error, "the last state is not saved: ")
            return error
        if saves.last is before:
            newest = self._restored if before is None else before.path
            self._tell(printable(f"nothing has changed since {newest}" if newest else "there is nothing to save"))
        return None

    def give_up(self) -> None:
        """Has a restore or a save that is under way end soon, undone; later ones are not begun."""
        atexit.unregister(self._tell_unsaved)
        with self._lock:
            self._is_over = True
            client, saves = self._client, self._saves
        if saves is not None:
            saves.give_up()
        if client is not None:
            client.end(Ending(there_s=_HASTE_S, away_s=_HASTE_S))
        self._let_go_of_folder()

    def _tell_unsaved(self) -> None:
        """At the end of a program, where no thread can be started any more that a save needs."""
        if os.getpid() == self._process:  # and not a child that it has forked
            self._tell_failure(
                printable(
                    f"what has changed since the last save in {self._changes.folder} is lost: the program has ended "
                    f"without stop() of its cluster; call it, or use `with ss.LocalCluster(...) as cluster:`"
                )
            )

    def _take(self, spec: ClusterSpec, wanted: Wanted) -> SavedCheckpoint | None:
        with self._connected(spec, observer=True) as client:
            self._changes.show = self._progress("saving")
            return self._changes.take(ConnectionSaver(client), wanted)

    @contextlib.contextmanager
    def _connected(self, spec: ClusterSpec, *, observer: ObserverMode) -> Iterator[Client]:
        client = connect(
            spec,
            observer=observer,
            connect_timeout_s=_CONNECT_TIMEOUT_S,
            operation_timeout_s=_OPERATION_TIMEOUT_S,
            ps_grace_s=0,
        )
        with client:
            with self._lock:
                self._client = client
            try:
                yield client
            finally:
                with self._lock:
                    self._client = None

    def _saved(self, saved: SavedCheckpoint) -> None:
        self._tell(printable(f"saved {saved.path}, {format_size(saved.size_bytes)}"))

    def _failed(self, error: Exception, consequence: str = "") -> None:
        what = " ".join(_said(error).split()) or type(error).__name__
        self._tell_failure(printable(f"{consequence}no checkpoint was saved in {self._changes.folder}: {what}"))

    def _progress(self, what: str) -> ShowProgress:
        """Tells how far a long save or restore is, now and then."""
        next_s = self._clock() + _FIRST_TOLD_S

        def show(done: int, total: int) -> None:
            nonlocal next_s
            if done < total and self._clock() >= next_s:
                next_s = self._clock() + _TOLD_AGAIN_S
                self._tell(f"{what} {format_size(total)}: {100 * done // total} %")

        return show


def _check_folder(folder: Path) -> None:
    """Raises NotRestoredError if a folder, which need not be there, cannot have checkpoints."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise NotRestoredError(
            f"cannot keep checkpoints in {folder}: {there} is a file; give a folder, and make one of another form with "
            f"`shardscope checkpoint import`"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise NotRestoredError(
            f"cannot keep checkpoints in {folder}: this user may not write to {there}; give another folder"
        )


def _said(error: Exception) -> str:
    """What an error says, without the number of one of the system."""
    return (isinstance(error, StoreError) and error.strerror) or str(error)


def _restored(report: RestoreReport) -> str:
    return printable(f"restored {report.path}: {report.counts}, {format_size(report.size_bytes)} read")
