"""Saves that nobody waits for: each has a thread, and all end with their connection."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ps_protocol.errors import CancelledError, ShardscopeError
from ps_protocol.forks import new_lock
from worker_client.checkpoints.report import SavedCheckpoint
from worker_client.connection.copied import parents_connection
from worker_client.connection.ending import Ending
from worker_client.connection.futures import OperationFuture

_LOG: Final = logging.getLogger(__name__)

_TELL_S: Final = 30.0
_GIVE_UP_S: Final = 2.0
"""How long the ps tasks may take to hear that a save is given up; else they miss it, and give it up by themselves."""


@dataclass(slots=True)
class Wanted:
    """Whether a save is still wanted; whoever carries it out asks now and then."""

    is_wanted: bool = True

    def __call__(self) -> bool:
        return self.is_wanted


@dataclass(slots=True, eq=False)
class _Pending:
    path: str
    wanted: Wanted
    future: OperationFuture[SavedCheckpoint]
    thread: threading.Thread | None = field(default=None)


class BackgroundSaves:
    """The saves of a connection that nobody waits for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = new_lock()  # guards: _pending
        self._pending: list[_Pending] = []

    def start(self, path: str, work: Callable[[], SavedCheckpoint], wanted: Wanted) -> OperationFuture[SavedCheckpoint]:
        """Has a thread do the rest of a save. Not for the main thread.

        Args:
            path: Of the checkpoint, for messages.
            work: Does it; each of its calls is bounded.
            wanted: Is set to False if it is given up.

        Raises:
            RuntimeError: The system has no thread for it.
        """
        pending = _Pending(path, wanted, OperationFuture([f"the checkpoint {path}"]))
        pending.thread = threading.Thread(target=self._run, args=(pending, work), name="shardscope-save", daemon=True)
        with self._lock:
            self._pending.append(pending)
        try:
            pending.thread.start()
        except BaseException:
            with self._lock:
                self._pending.remove(pending)
            raise
        return pending.future

    def _run(self, pending: _Pending, work: Callable[[], SavedCheckpoint]) -> None:
        try:
            saved = work()
        except BaseException as error:  # noqa: BLE001 - who asks for the outcome raises it
            failure: BaseException = error
            if not pending.wanted.is_wanted:
                failure = CancelledError(f"the save of {pending.path} was given up when its connection was closed")
            elif isinstance(error, ShardscopeError):
                failure = error.with_traceback(None)
            pending.future.set_exception(failure)
        else:
            pending.future.set_result(saved)
        finally:
            with self._lock:
                self._pending.remove(pending)
            del pending, work  # a traceback from further down may keep this frame, which must not keep the future

    def end(self, ending: Ending | None) -> None:
        """Waits for those that are under way: until each has ended, or failed; or in the time that ``ending`` has."""
        with self._lock:
            pending = list(self._pending)
        for each in pending:
            if ending is None:
                while not each.future.wait(_TELL_S):  # it goes on, or one of its calls fails
                    _LOG.info("waiting until %s is saved, before the connection is closed", each.path)
                continue
            assert each.thread is not None
            ending.join(each.thread, is_away=lambda: False)
            if each.future.done():
                continue
            _LOG.error("the connection is closed, and %s is given up, which was being saved", each.path)
            each.wanted.is_wanted = False
            each.thread.join(_GIVE_UP_S)

    def become_copy(self) -> None:
        """In a forked child, where no thread carries them out."""
        pending, self._pending = self._pending, []
        for each in pending:
            each.future.become_copy(parents_connection())
