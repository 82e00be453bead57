"""Saves again and again, by a thread of its own: every so many seconds or steps, and once more at a good end."""

from __future__ import annotations

import logging
import operator
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Protocol, Self, SupportsIndex, TypeAlias

import numpy as np

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.errors import AlreadyExistsError, NotFoundError, ShardscopeError
from ps_protocol.interrupts import sheltered
from ps_protocol.not_copied import NotCopied
from worker_client.checkpoints.background import Wanted
from worker_client.checkpoints.report import SavedCheckpoint, ShowProgress
from worker_client.connection.ending import Ending

_LOG: Final = logging.getLogger(__name__)

GLOBAL_STEP: Final = "global_step"
"""Name of the variable that counts the training steps of the whole cluster, as TensorFlow 1 has it."""

_LOOK_AT_STEP_S: Final = 1.0
_LONGEST_WAIT_S: Final = 3600.0
_GIVE_UP_S: Final = 5.0
_QUIET_S: Final = 30.0
"""For how long failures alike are not told again, where saves follow each other faster than that."""

Step: TypeAlias = SupportsIndex | Callable[[], SupportsIndex]
"""A training step: a number, a variable that counts, or a function that returns it."""

Metrics: TypeAlias = Mapping[str, float] | Callable[[], Mapping[str, float]]
"""Numbers by name, or a function that returns them."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at the variables of a cluster has shown.

    Attributes:
        fingerprint: Another number when a variable was updated, made or lost.
        is_whole: Whether there are variables, and all parts of those that are partitioned: while workers declare them
            some may be missing, and what is saved then could not be restored.
    """

    fingerprint: int
    is_whole: bool


class Saver(Protocol):
    """What is used of a connection."""

    def look(self) -> Look:
        """Looks at the variables of the cluster."""
        ...

    def variable(self, name: str) -> Any: ...

    def save_now(
        self,
        folder: str,
        *,
        step: int | None,
        is_name_free: bool,
        metrics: Metrics | None,
        retention: Retention,
        is_through_client: bool,
        wanted: Wanted,
        show: ShowProgress | None,
    ) -> SavedCheckpoint:
        """Saves once.

        Args:
            folder: Where to.
            step: Training step that it belongs to.
            is_name_free: Whether the name may be that of the step alone; else the time is part of it.
            metrics: Numbers to keep with it.
            retention: Which checkpoints of the folder stay.
            is_through_client: Whether this process writes it.
            wanted: Asked now and then whether to go on.
            show: Told of the progress.
        """
        ...


@dataclass(slots=True)
class SavesOfChanges:
    """Saves the state of a cluster into a folder, unless it is the one that was saved last. One thread at a time.

    Attributes:
        folder: Where to.
        step: Training step; by default that of the variable "global_step", if the cluster has it.
        metrics: Numbers to keep with each checkpoint.
        retention: Which checkpoints of the folder stay.
        is_through_client: Whether this process writes them, or the ps tasks do.
        show: Told of the progress of each save.
    """

    folder: str
    step: Step | None = None
    metrics: Metrics | None = None
    retention: Retention = field(default_factory=Retention)
    is_through_client: bool = False
    show: ShowProgress | None = None
    _saved: int | None = None

    def note(self, saver: Saver) -> None:
        """Takes the present state for saved, as after a restore."""
        self._saved = saver.look().fingerprint

    def take(self, saver: Saver, wanted: Wanted) -> SavedCheckpoint | None:
        """Saves once; returns None if nothing has changed since the last time, or the variables are not whole yet."""
        look = saver.look()
        if look.fingerprint == self._saved or not look.is_whole:
            return None
        step = self.step_now(saver)
        try:
            saved = self._save(saver, step, wanted, is_name_free=True)
        except AlreadyExistsError:  # of this step, in an earlier run or before updates that count no steps
            saved = self._save(saver, step, wanted, is_name_free=False)
        self._saved = look.fingerprint
        return saved

    def step_now(self, saver: Saver) -> int | None:
        """The training step, None if nothing counts it."""
        return step_in(saver) if self.step is None else number_of(self.step)

    def _save(self, saver: Saver, step: int | None, wanted: Wanted, *, is_name_free: bool) -> SavedCheckpoint:
        return saver.save_now(
            self.folder,
            step=step,
            is_name_free=is_name_free,
            metrics=self.metrics,
            retention=self.retention,
            is_through_client=self.is_through_client,
            wanted=wanted,
            show=self.show,
        )


def number_of(step: Step) -> int:
    """The number that a step stands for now; TypeError if it is none."""
    if hasattr(step, "read_value"):
        return int(step.read_value())
    return operator.index(step() if callable(step) else step)


def step_in(saver: Saver) -> int | None:
    """The number of steps that the variable "global_step" of a cluster counts; None if there is none."""
    try:
        value = np.asarray(saver.variable(GLOBAL_STEP).read_value())
    except NotFoundError:
        return None
    is_count = value.shape == () and value.dtype.kind in "iu" and value >= 0
    return int(value) if is_count else None


class Pace:
    """When the next save is due: a decision about times and steps alone.

    Args:
        every_s: Seconds between two saves; 0 if only steps count.
        every_steps: Steps between two saves; 0 if only seconds count.
        now_s: Monotonic seconds.
    """

    def __init__(self, every_s: float, every_steps: int, now_s: float):
        self._every_s = every_s
        self._every_steps = every_steps
        self._last_s = now_s
        self._last_step: int | None = None

    @property
    def counts_steps(self) -> bool:
        """Whether it has to know the step."""
        return bool(self._every_steps)

    def is_due(self, now_s: float, step: int | None) -> bool:
        """Whether to save now. The first step that it hears of counts as saved."""
        if self._every_s and now_s - self._last_s >= self._every_s:
            return True
        if not self._every_steps or step is None:
            return False
        if self._last_step is None or step < self._last_step:  # or an older checkpoint was restored
            self._last_step = step
        return step - self._last_step >= self._every_steps

    def begun(self, now_s: float, step: int | None) -> None:
        """A save has begun, whatever comes of it."""
        self._last_s = now_s
        if step is not None:
            self._last_step = step

    def wait_s(self, now_s: float) -> float:
        """How long to wait until the next look."""
        left_s = max(0.0, self._last_s + self._every_s - now_s) if self._every_s else _LONGEST_WAIT_S
        return min(left_s, _LOOK_AT_STEP_S if self._every_steps else _LONGEST_WAIT_S)


class PeriodicSaves(
    NotCopied, bound_to="a connection of this process", instead="start saves in the process that is to make them"
):
    """Saves that a thread makes again and again, until ``stop`` or the end of the connection. Thread-safe.

    As a context manager it is stopped at the end of the block: after a block that has succeeded it saves once more.

    Args:
        take: Saves once; returns None if there is nothing new. It stops soon when what it is given is False.
        read_step: Returns the training step.
        where: The folder, for messages.
        every_s: Seconds between two saves; 0 if only steps count.
        every_steps: Steps between two saves; 0 if only seconds count.
        is_active: Whether this process is to save at all; if not, nothing is done.
        on_saved: Told of each checkpoint.
        on_failure: Told of each save that has failed; by default the log is.
        clock: Monotonic seconds.

    Attributes:
        is_active: Whether this process saves: on workers but the chief it does not.
        last: The checkpoint that was saved last; None before the first.
    """

    def __init__(
        self,
        take: Callable[[Wanted], SavedCheckpoint | None],
        read_step: Callable[[], int | None],
        where: str,
        *,
        every_s: float = 0.0,
        every_steps: int = 0,
        is_active: bool = True,
        on_saved: Callable[[SavedCheckpoint], None] | None = None,
        on_failure: Callable[[Exception], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.is_active = is_active
        self.last: SavedCheckpoint | None = None
        self._take = take
        self._read_step = read_step
        self._where = where
        self._on_saved = on_saved
        self._on_failure = on_failure or self._log
        self._clock = clock
        self._pace = Pace(every_s, every_steps, clock())
        self._told: tuple[type[Exception], str] | None = None
        self._told_s = 0.0
        self._wanted = Wanted()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Self:
        """Starts the thread, unless it is another process that saves. Not for the main thread."""
        if self.is_active and self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shardscope-saves", daemon=True)
            self._thread.start()
        return self

    def turn(self) -> bool:
        """Saves if it is time; returns whether it was. A failure is told, and the next turn tries again."""
        step: int | None = None
        try:
            if self._pace.counts_steps:
                step = self._read_step()
            if not self._pace.is_due(self._clock(), step):
                return False
            self._pace.begun(self._clock(), step)
            self._save()
        except Exception as error:  # noqa: BLE001 - the thread goes on, and it is told
            self._pace.begun(self._clock(), step)  # also if it is the step that cannot be read
            if self._wanted.is_wanted:
                self._tell(error)
        return True

    def _tell(self, error: Exception) -> None:
        """Tells of a failure, unless one like it was told just before."""
        told, now_s = (type(error), getattr(error, "task", "")), self._clock()
        if told != self._told or now_s - self._told_s >= _QUIET_S:
            self._told, self._told_s = told, now_s
            self._on_failure(error)

    def _save(self) -> None:
        saved = self._take(self._wanted)
        self._told = None
        if saved is not None:
            self.last = saved
            if self._on_saved is not None:
                self._on_saved(saved)

    def _log(self, error: Exception) -> None:
        what = str(error) if isinstance(error, ShardscopeError) else f"{type(error).__name__}: {error}"
        _LOG.warning("no checkpoint was saved in %s, and the next one is tried at its time: %s", self._where, what)

    def _run(self) -> None:
        while not self._ended.wait(self._pace.wait_s(self._clock())):
            self.turn()

    def stop(self, *, save: bool = True) -> None:
        """Ends the thread, once a save that is under way is done. May be repeated.

        Args:
            save: Whether to save once more, unless nothing has changed since the last time.

        Raises:
            ShardscopeError: That last save has failed.
        """
        sheltered(self._stop, None, save=save)

    def end(self, ending: Ending | None) -> None:
        """Does what the end of a connection needs, in the time that it has; a failure of the last save is told."""
        if ending is None or not ending.is_good:
            self._end(ending, save=ending is None)
            return
        thread = threading.Thread(target=self._end, args=(None,), kwargs={"save": True}, daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is about to end, and starts no more threads
            self._end(None, save=True)
            return
        self._join(thread, ending)

    def _end(self, ending: Ending | None, *, save: bool) -> None:
        try:
            self._stop(ending, save=save)
        except Exception as error:  # noqa: BLE001 - the rest of the end is to be done
            if self._wanted.is_wanted:
                self._on_failure(error)

    def _stop(self, ending: Ending | None, *, save: bool) -> None:
        was_ended = self._ended.is_set()
        self._ended.set()
        thread = self._thread
        if thread is None:
            return
        if ending is None:
            while thread.is_alive():  # each call of a save is bounded
                thread.join(_GIVE_UP_S)
        else:
            self._join(thread, ending)
        if save and not was_ended:
            self._save()

    def _join(self, thread: threading.Thread, ending: Ending) -> None:
        ending.join(thread, is_away=lambda: False)
        if thread.is_alive():
            _LOG.error("a save in %s is given up, since its connection is closed", self._where)
            self.give_up()
            thread.join(_GIVE_UP_S)

    def give_up(self) -> None:
        """Has a save that is under way end soon, and be left undone."""
        self._wanted.is_wanted = False
        self._ended.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            sheltered(self._stop, Ending.by(error), save=False)

    def __repr__(self) -> str:
        if not self.is_active:
            return f"<PeriodicSaves in {self._where}: the chief saves, not this process>"
        state = "stopped" if self._ended.is_set() else "running"
        return f"<PeriodicSaves in {self._where}: {state}, {self.last or 'nothing saved yet'}>"
