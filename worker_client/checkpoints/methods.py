"""What a connection offers for checkpoints."""

from __future__ import annotations

import importlib
import operator
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NoReturn, SupportsIndex, TypeVar

from ps_protocol.errors import InternalError, InvalidArgumentError, PermissionDeniedError
from ps_protocol.interrupts import sheltered
from worker_client.checkpoints.calls import Tasks
from worker_client.checkpoints.report import RestoreReport, SavedCheckpoint, ShowProgress
from worker_client.connection.handle import PsHandle
from worker_client.connection.retry import Deadline
from worker_client.connection.settings import Settings
from worker_client.graph.definition import VariableDefinition
from worker_client.graph.graph import Graph
from worker_client.placement.declaration import Declarer

_T = TypeVar("_T")

# Imported when they are needed, since they import protobuf.
_SAVING: Final = "worker_client.checkpoints.saving"
_RESTORING: Final = "worker_client.checkpoints.restoring"


class CheckpointMethods:
    """Methods of a connection, which has what they need. Thread-safe."""

    settings: Settings
    observer: Any
    declarer: Declarer
    _handles: Sequence[PsHandle]

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        step: SupportsIndex | None = None,
        keep: SupportsIndex = 0,
        through: Literal["ps", "client"] = "ps",
        show_progress: ShowProgress | None = None,
    ) -> SavedCheckpoint:
        """Saves all variables of the cluster, slots included, in one checkpoint.

        It has every update that was acknowledged before, and no half of a batch. Updates go on meanwhile, but for the
        moment of the cut. If it fails, nothing is left of it.

        Args:
            path: A folder that all ps tasks reach, or this process; the checkpoint is a folder in it.
            name: Of the checkpoint; by default "step-000000100" of the step, or the time.
            step: Training step that it belongs to.
            keep: How many checkpoints of the folder stay, the newest, this one among them; older ones are removed. 0:
                all stay.
            through: Who writes: "ps" for each ps task its part; "client" for this process, to which all parts are sent,
                where the ps tasks have no folder in common.
            show_progress: Called by another thread now and then, with the bytes written and those of all.

        Raises:
            InvalidArgumentError: The name cannot be one, or a number is less than 0.
            AlreadyExistsError: There is a checkpoint of the name.
            FailedPreconditionError: A ps task cannot write there, or the ps tasks do not share the folder.
            AbortedError: Another save or restore is under way, or updates could not be held back long enough.
            ShardscopeError: A ps task does not answer.
        """
        number, kept = None if step is None else operator.index(step), operator.index(keep)
        if kept < 0 or (number or 0) < 0:
            raise InvalidArgumentError(f"step is {step} and keep is {keep}; neither can be less than 0")
        through_client = _is_client(through)
        folder = os.path.abspath(os.fspath(path))  # noqa: PTH100 - without following links
        saving = sheltered(importlib.import_module, _SAVING)
        saved: SavedCheckpoint = self._interruptible(
            lambda tasks: saving.save(tasks, folder, name, number, kept, show_progress, through_client=through_client)
        )
        return saved

    def restore(
        self,
        path: str | os.PathLike[str],
        *,
        names: Mapping[str, str] | None = None,
        partial: bool = False,
        through: Literal["ps", "client"] = "ps",
        show_progress: ShowProgress | None = None,
    ) -> RestoreReport:
        """Restores a checkpoint, on as many ps tasks as the cluster has, however its variables are partitioned.

        Variables that the cluster does not have yet are made, where the placement strategy of this connection puts
        them. All is read and checked before anything is changed. Other connections get StateLostError then, and have to
        connect again.

        Args:
            path: The folder of a checkpoint, or one that was given to ``save``, of which the newest is taken.
            names: For variables of the cluster, those of the checkpoint to take them from, as
                ``{"encoder/*": "old/encoder/*"}``; others stay as they are.
            partial: Whether variables of the cluster that the checkpoint does not have alike stay as they are, and
                those that the cluster does not have are left out. Else either is an error.
            through: Who reads: "ps" for each ps task what it needs; "client" for this process, which sends it to them,
                where the ps tasks do not reach the checkpoint, or it is TensorFlow's, safetensors or npz.
            show_progress: Called by another thread now and then, with the bytes read and those of all.

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
            report: RestoreReport = restoring.restore(
                tasks,
                os.path.abspath(os.fspath(path)),  # noqa: PTH100 - without following links
                lambda spec: self.declarer.choose_ps(spec, graph),
                names=names,
                partial=partial,
                show=show_progress,
                through_client=_is_client(through),
            )
            deadline = Deadline(self.settings.connect_timeout_s)
            for handle in self._handles:
                handle.connect(deadline)
            return report

        return self._interruptible(restore_on)

    def _interruptible(self, work: Callable[[Tasks], _T]) -> _T:
        """Has another thread do it, which an interrupt ends soon."""
        self._handles[0].check_not_copy()
        wanted = [True]
        try:
            return sheltered(work, Tasks(self._handles, lambda: wanted[0]))
        except BaseException:
            wanted[0] = False
            raise


def _is_client(through: str) -> bool:
    if through not in ("ps", "client"):
        raise InvalidArgumentError(f"through is {through!r}; it should be 'ps' or 'client'")
    return through == "client"


def _makes_none(definition: VariableDefinition) -> NoReturn:
    raise InternalError("this graph only has names", variable=definition.name)
