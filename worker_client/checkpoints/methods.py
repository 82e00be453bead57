"""What a connection offers for checkpoints."""

from __future__ import annotations

import contextlib
import importlib
import math
import operator
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Final, Literal, NoReturn, SupportsIndex, TypeVar, overload

from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.urls import absolute
from ps_protocol.errors import InternalError, InvalidArgumentError, PermissionDeniedError
from ps_protocol.interrupts import begun, on_main_thread, raise_interrupt, sheltered
from ps_protocol.settings import POSITIVE_SECONDS
from worker_client.checkpoints.background import BackgroundSaves, Wanted
from worker_client.checkpoints.calls import GIVE_UP_S, Tasks
from worker_client.checkpoints.periodic import Look, Metrics, PeriodicSaves, SavesOfChanges, Step, number_of
from worker_client.checkpoints.report import RestoreReport, SavedCheckpoint, ShowProgress
from worker_client.connection.ending import Ending, closed_connection
from worker_client.connection.fanout import Fanout
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline
from worker_client.connection.settings import Settings
from worker_client.graph.definition import VariableDefinition
from worker_client.graph.graph import Graph
from worker_client.placement.declaration import Declarer

_T = TypeVar("_T")

# Imported when they are needed, since they import protobuf, and rich.
_SAVING: Final = "worker_client.checkpoints.saving"
_RESTORING: Final = "worker_client.checkpoints.restoring"
_BAR: Final = "worker_client.checkpoints.progress_bar"


class CheckpointMethods:
    """Methods of a connection, which has what they need. Thread-safe."""

    settings: Settings
    observer: Any
    declarer: Declarer
    fanout: Fanout
    _handles: Sequence[PsHandle]
    _background: BackgroundSaves
    _periodic: list[PeriodicSaves]

    @property
    def is_chief(self) -> bool:
        """Whether this is the process that does what must be done once."""
        raise NotImplementedError

    @overload
    def save(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        step: Step | None = None,
        metrics: Metrics | None = None,
        keep: SupportsIndex | Retention = 0,
        through: Literal["ps", "client"] = "ps",
        wait: Literal[True] = True,
        show_progress: ShowProgress | bool | None = None,
    ) -> SavedCheckpoint: ...
    @overload
    def save(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        step: Step | None = None,
        metrics: Metrics | None = None,
        keep: SupportsIndex | Retention = 0,
        through: Literal["ps", "client"] = "ps",
        wait: Literal[False],
        show_progress: ShowProgress | bool | None = None,
    ) -> Future[SavedCheckpoint]: ...
    @overload
    def save(
        self,
        path: str | os.PathLike[str],
        *,
        every: float | None = None,
        every_steps: SupportsIndex | None = None,
        step: Step | None = None,
        metrics: Metrics | None = None,
        keep: SupportsIndex | Retention = 0,
        through: Literal["ps", "client"] = "ps",
    ) -> PeriodicSaves: ...
    def save(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        step: Step | None = None,
        metrics: Metrics | None = None,
        keep: SupportsIndex | Retention = 0,
        through: Literal["ps", "client"] = "ps",
        wait: bool = True,
        every: float | None = None,
        every_steps: SupportsIndex | None = None,
        show_progress: ShowProgress | bool | None = None,
    ) -> SavedCheckpoint | Future[SavedCheckpoint] | PeriodicSaves:
        """Saves all variables of the cluster, slots included, in one checkpoint; or again and again.

        It has every update that was acknowledged before, and no half of a batch. Updates go on meanwhile, but for the
        moment of the cut. If it fails, nothing is left of it.

        With ``wait=False`` this returns when the cut is made, and what comes later is not in the checkpoint; the rest
        is done in the background. One save or restore is under way at a time: another waits for it, as long as an
        operation may take. With ``every`` or ``every_steps`` a thread saves again and again, until it is stopped or the
        connection ends, and once more at a good end; a save that fails is said in the log and tried again. Each is left
        out if nothing has changed. All workers may ask for that: only the chief, or an observer, does it.

        Args:
            path: A folder that all ps tasks reach, or this process; the checkpoint is a folder in it. Or a URL as
                "s3://bucket/run-7", "gs://..." or "az://...".
            name: Of the checkpoint; by default "step-000000100" of the step, or the time.
            step: Training step that it belongs to: a number, a variable that counts, or a function that returns it.
                With ``every`` by default what the variable "global_step" counts, if there is one.
            metrics: Numbers to keep with it by name, as ``{"accuracy": 0.9}``, or a function that returns them.
            keep: Which checkpoints of the folder stay when this one is there: the newest so many, this one among them;
                or a ``checkpoint.Retention``. Others are removed, but for those that are pinned. 0: all stay.
            through: Who writes: "ps" for each ps task its part; "client" for this process, to which all parts are sent,
                where the ps tasks have no folder in common.
            wait: Whether to wait until it is saved.
            every: Seconds between two saves.
            every_steps: Steps between two saves; the step is looked at once a second.
            show_progress: Called by another thread now and then, with the bytes written and those of all; or True for a
                bar on standard error, if that is a terminal.

        Returns:
            The checkpoint; without waiting, a future of it. With ``every`` or ``every_steps`` what stops the saves,
            as a context manager too.

        Raises:
            InvalidArgumentError: The name cannot be one, a number makes no sense, or arguments do not go together.
            AlreadyExistsError: There is a checkpoint of the name.
            FailedPreconditionError: A ps task cannot write there, or the ps tasks do not share the folder.
            ResourceExhaustedError: The disk is full, or the limit of open files of a process is too low.
            AbortedError: Another save or restore is under way, or updates could not be held back long enough.
            ShardscopeError: A ps task does not answer.
        """
        folder, retention, is_through_client = absolute(path), retention_of(keep), _is_client(through)
        if every is not None or every_steps is not None:
            if name is not None or not wait or show_progress:
                raise InvalidArgumentError(
                    "save() with every or every_steps is given name, wait=False or show_progress as well; these are "
                    "for a single save: leave them out"
                )
            interval_s = POSITIVE_SECONDS.check(every, "every") if every is not None else 0.0
            steps = 0 if every_steps is None else _at_least(every_steps, 1, "every_steps")
            changes = SavesOfChanges(folder, step, metrics, retention, is_through_client)
            return self._save_every(changes, interval_s, steps)
        self._handles[0].check_not_copy()
        number = None if step is None else _at_least(number_of(step), 0, "step")
        numbers = _checked(metrics() if callable(metrics) else metrics or {})
        saving = sheltered(importlib.import_module, _SAVING)
        request = saving.request_of(
            folder,
            name=name,
            step=number,
            metrics=numbers,
            retention=retention,
            is_through_client=is_through_client,
        )

        def save_on(tasks: Tasks) -> SavedCheckpoint:
            work = saving.Saving(tasks, request)
            work.cut()
            return _written(work, show_progress)

        def save_in_background(tasks: Tasks) -> Future[SavedCheckpoint]:
            work = saving.Saving(tasks, request)
            work.cut()
            try:
                return self._background.start(str(request.path), lambda: _written(work, show_progress), tasks.is_wanted)
            except BaseException:  # the system has no thread for it
                work.give_up()
                raise

        return self._interruptible(save_on) if wait else self._interruptible(save_in_background)

    def _save_every(self, changes: SavesOfChanges, every_s: float, every_steps: int) -> PeriodicSaves:
        first = self._handles[0]
        first.check_not_copy()
        if first.state == "closed":
            raise closed_connection(str(first.task))
        saver = ConnectionSaver(self)
        saves = PeriodicSaves(
            lambda wanted: changes.take(saver, wanted),
            lambda: changes.step_now(saver),
            changes.folder,
            every_s=every_s,
            every_steps=every_steps,
            is_active=self.is_chief or bool(self.observer),
        )
        self._periodic.append(saves)
        return sheltered(saves.start)

    def _end_saves(self, ending: Ending | None) -> None:
        """Ends the saves that go on, in the time that there is."""
        for each in self._periodic:
            each.end(ending)
        self._background.end(ending)

    def restore(
        self,
        path: str | os.PathLike[str],
        *,
        names: Mapping[str, str] | None = None,
        partial: bool = False,
        through: Literal["ps", "client"] = "ps",
        show_progress: ShowProgress | bool | None = None,
    ) -> RestoreReport:
        """Restores a checkpoint, on as many ps tasks as the cluster has, however its variables are partitioned.

        Variables that the cluster does not have yet are made, where the placement strategy of this connection puts
        them. All is read and checked before anything is changed. Other connections get StateLostError then, and have to
        connect again.

        Args:
            path: The folder or URL of a checkpoint, or one that was given to ``save``, of which the newest is taken.
            names: For variables of the cluster, those of the checkpoint to take them from, as
                ``{"encoder/*": "old/encoder/*"}``; others stay as they are.
            partial: Whether variables of the cluster that the checkpoint does not have alike stay as they are, and
                those that the cluster does not have are left out. Else either is an error.
            through: Who reads: "ps" for each ps task what it needs; "client" for this process, which sends it to them,
                where the ps tasks do not reach the checkpoint, or it is TensorFlow's, safetensors or npz.
            show_progress: Called by another thread now and then, with the bytes read and those of all; or True for a
                bar on standard error, if that is a terminal.

        Returns:
            What was done with each variable; as text, a table.

        Raises:
            NotFoundError: There is no checkpoint.
            InvalidArgumentError: It does not fit the variables of the cluster; nothing was changed.
            FailedPreconditionError: It is damaged, or a ps task cannot read it; nothing was changed. Or a ps task was
                lost while all switched, which the message says: restore again.
            AbortedError: Another save or restore is under way, or variables were declared meanwhile.
            PermissionDeniedError: This connection only looks on.
        """
        if self.observer is True:
            raise PermissionDeniedError(
                'this connection is an observer, which changes nothing; connect with observer="update", or as a worker'
            )
        graph = Graph(_makes_none)
        restoring = sheltered(importlib.import_module, _RESTORING)

        def restore_on(tasks: Tasks) -> RestoreReport:
            with _progress("restoring", show_progress) as show:
                report: RestoreReport = restoring.restore(
                    tasks,
                    absolute(path),
                    lambda spec: self.declarer.choose_ps(spec, graph),
                    names=names,
                    partial=partial,
                    show=show,
                    through_client=_is_client(through),
                )
            deadline = Deadline(self.settings.connect_timeout_s)
            for handle in self._handles:
                handle.connect(deadline)
            return report

        return self._interruptible(restore_on)

    def _interruptible(self, work: Callable[[Tasks], _T]) -> _T:
        """Has another thread do it, which an interrupt ends soon, while the connection is still there to undo it."""
        self._handles[0].check_not_copy()
        wanted = Wanted()
        tasks = Tasks(self._handles, wanted, self.fanout)
        if not on_main_thread():
            return work(tasks)
        doing = begun(lambda: work(tasks))
        try:
            return doing.outcome()
        except BaseException:
            wanted.is_wanted = False
            doing.give_up(GIVE_UP_S)
            raise


class ConnectionSaver:
    """Saves the state of a cluster through a connection, on a thread that is not the main thread.

    Args:
        client: The connection.
    """

    def __init__(self, client: Any):
        self._client = client

    def look(self) -> Look:
        """Looks at the variables of the cluster."""
        found, missing = [], Counter[str]()
        for index, handle in enumerate(self._client._handles):
            for each in handle.call(
                lambda service, timeout_s: service.list_variables(timeout_s=timeout_s), what="to list its variables"
            ):
                spec = each.spec
                found.append((index, spec.name, each.version, each.initialized))
                if spec.slice is not None and not spec.slot_of:
                    name, whole = spec.slice.full_name, math.prod(spec.slice.full_shape)
                    missing[name] = missing.get(name, whole) - math.prod(spec.shape)
        return Look(hash(frozenset(found)), bool(found) and not [name for name, number in missing.items() if number])

    def variable(self, name: str) -> Any:
        """Finds a variable of the cluster; NotFoundError if there is none."""
        return self._client.variable(name)

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
        """Saves once; see ``periodic.Saver``."""
        saving = importlib.import_module(_SAVING)
        numbers = _checked(metrics() if callable(metrics) else metrics or {})
        work = saving.Saving(
            Tasks(self._client._handles, wanted, self._client.fanout),
            saving.request_of(
                folder,
                name=None if is_name_free else f"{saving.default_name(step)}-{saving.default_name(None)}",
                step=step,
                metrics=numbers,
                retention=retention,
                is_through_client=is_through_client,
            ),
        )
        work.cut()
        saved: SavedCheckpoint = work.write(show)
        return saved


def _written(work: Any, show_progress: ShowProgress | bool | None) -> SavedCheckpoint:
    with _progress("saving", show_progress) as show:
        saved: SavedCheckpoint = work.write(show)
    return saved


def _progress(
    what: str, show_progress: ShowProgress | bool | None
) -> contextlib.AbstractContextManager[ShowProgress | None]:
    if not isinstance(show_progress, bool):
        return contextlib.nullcontext(show_progress)
    shown: contextlib.AbstractContextManager[ShowProgress | None] = importlib.import_module(_BAR).progress_shown(
        what, show_progress
    )
    return shown


def retention_of(keep: SupportsIndex | Retention) -> Retention:
    """Returns what ``keep`` of ``save`` says; InvalidArgumentError or TypeError if that is no number of checkpoints."""
    return keep if isinstance(keep, Retention) else Retention(last=_at_least(keep, 0, "keep"))


def _at_least(number: SupportsIndex, least: int, name: str) -> int:
    try:
        found = operator.index(number)
    except TypeError as error:
        raise_interrupt(error)
        raise TypeError(f"{name} is {number!r}; it should be a whole number") from None
    if found < least:
        raise InvalidArgumentError(f"{name} is {number}; it cannot be less than {least}")
    return found


def _checked(metrics: Mapping[str, float]) -> dict[str, float]:
    """Numbers by name, as floats; InvalidArgumentError for anything else."""
    try:
        found = {name: float(value) for name, value in metrics.items()}
        "".join(found).encode()
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise_interrupt(error)
        raise InvalidArgumentError(f"metrics are {metrics!r}; give numbers by name, as {{'accuracy': 0.9}}") from None
    if "" in found:
        raise InvalidArgumentError(f"metrics are {metrics!r}; a metric needs a name")
    return found


def _is_client(through: str) -> bool:
    if through not in ("ps", "client"):
        raise InvalidArgumentError(f"through is {through!r}; it should be 'ps' or 'client'")
    return through == "client"


def _makes_none(definition: VariableDefinition) -> NoReturn:
    raise InternalError("this graph only has names", variable=definition.name)
