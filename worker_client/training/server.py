"""``tf.train.Server``: makes this process a task of a cluster, so that one program serves for ps tasks and workers."""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - see _end_open_servers
import itertools
import os
import sys
import threading
from dataclasses import dataclass
from typing import Any, Final

from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, ClusterSpec, ClusterSpecLike
from ps_protocol.errors import InternalError, NotFoundError
from ps_protocol.forks import new_lock
from ps_protocol.task_id import TaskId
from worker_client.client import Client, connect
from worker_client.connection.settings import Settings
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.sessions.targets import forget_target, name_target
from worker_client.training.server_ends import PsTask, wait_for_others
from worker_client.transport.selection import private_store

_PROTOCOL: Final = "grpc"
_CONNECT_TIMEOUT_S: Final = 600.0
"""How long a worker waits for ps tasks that somebody starts by hand, in seconds."""

_NOWHERE: Final = "localhost:1"
"""Stands for an address where nothing is; a server that is alone does not listen."""

_numbers: Final = itertools.count(1)

_lock: Final = new_lock()  # guards: _open
_open: Final[list[Server]] = []
"""Those that have started, to be ended with the program."""


@dataclass
class ServerDef:
    """What a server is.

    Attributes:
        cluster: The cluster.
        job_name: The job of this task.
        task_index: Its number in the job.
        protocol: "grpc".
        default_session_config: ``ConfigProto``, to no effect.
    """

    cluster: Any
    job_name: str = ""
    task_index: int = 0
    protocol: str = _PROTOCOL
    default_session_config: Any = None


class Server:
    """One task of a cluster, in this process.

    Of a ps task it is the ps itself, as ``shardscope ps`` runs it. Of another task it is the connection to the ps
    tasks, which sessions find by its ``target``. A cluster of one task without a ps has its variables in this process.

    Args:
        server_or_cluster_def: A ``ClusterSpec``, what one is made from, or a ``ServerDef``.
        job_name: The job of this task; may be left out if there is only one.
        task_index: Its number in the job; may be left out if there is only one.
        protocol: "grpc" if not given; whichever it is, values take the fastest way that there is.
        config: ``ConfigProto``, to no effect.
        start: Whether it starts at once.

    Raises:
        TypeError: ``server_or_cluster_def`` is neither.
        ValueError: It is not clear which task this is, or addresses cannot be dialled.
        InternalError: The cluster has no such task.
        NotFoundError: There is no such protocol.
        RuntimeError: As ``start``, like the other errors of that.
    """

    def __init__(
        self,
        server_or_cluster_def: ServerDef | ClusterSpecLike,
        job_name: str | None = None,
        task_index: int | None = None,
        protocol: str | None = None,
        config: Any = None,
        start: bool = True,
    ):
        self._definition = _definition(server_or_cluster_def, job_name, task_index, protocol, config)
        definition = self._definition
        self._spec = ClusterSpec(definition.cluster)
        self._task = _checked_task(self._spec, definition.job_name, definition.task_index)
        self._is_alone = PS_JOB not in self._spec.jobs and sum(map(self._spec.num_tasks, self._spec.jobs)) == 1
        address = f"local:{next(_numbers)}" if self._is_alone else self._spec.task_address(*_place(self._task))
        self._target = f"{_PROTOCOL}://{address}"
        self._client: Client | None = None
        self._ps: PsTask | None = None
        self._is_closed = False
        if start:
            self.start()

    @staticmethod
    def create_local_server(config: Any = None, start: bool = True) -> Server:
        """Returns a server without a cluster: its variables are in this process, shared by sessions of its target."""
        return Server({"localhost": [_NOWHERE]}, protocol=_PROTOCOL, config=config, start=start)

    @property
    def server_def(self) -> ServerDef:
        """What it is."""
        return self._definition

    @property
    def target(self) -> str:
        """What sessions are given to run on the cluster, as "grpc://host:2222"."""
        return self._target

    def start(self) -> None:
        """Starts the ps, or connects; does nothing if it has started.

        Raises:
            RuntimeError: It was closed, or the ps cannot start.
            UnavailableError: The ps tasks have not answered in time.
            AlreadyExistsError: Another process is this task, and lives.
        """
        if self._is_closed:
            raise RuntimeError(f"the server of {self._task} is closed; make a new one")
        if self._client is not None or self._ps is not None:
            return
        if self._task.job == PS_JOB:
            self._ps = PsTask(self._spec, self._task.index)
        else:
            self._client = self._own_store() if self._is_alone else self._connected()
            name_target(self._target, self._client)
        with _lock:
            _open.append(self)

    def join(self) -> None:
        """Waits for the end of the cluster.

        Of a ps task: until all other tasks of the cluster spec have ended well, or ``shardscope shutdown`` or a signal
        ends it. Then it has ended. A task that has died is waited for, since it may be started again. Of another task:
        its own work is done, and its connection closed; it waits until the others' is, or the ps tasks have ended.

        Raises:
            RuntimeError: It has not started, or a ps could not finish what it had accepted.
        """
        if self._ps is not None:
            self._ps.join()
            self.close()
        elif self._client is not None:
            self.close()
            if not self._is_alone:
                wait_for_others(self._spec, self._task)
        else:
            raise RuntimeError(f"the server of {self._task} has not started; call start() before join()")

    def close(self) -> None:
        """Ends it: the ps, or the connection. May be repeated. The end of the program does it, too."""
        self._is_closed = True
        with _lock:
            if self in _open:
                _open.remove(self)
        if self._ps is not None:
            self._ps.close()
        if self._client is not None:
            forget_target(self._target, self._client)
            self._client.close()

    def _connected(self) -> Client:
        return connect(self._spec, self._task.job, self._task.index, connect_timeout_s=_CONNECT_TIMEOUT_S)

    def _own_store(self) -> Client:
        return Client(
            ClusterSpec({PS_JOB: ["localhost:2"], self._task.job: {self._task.index: _NOWHERE}}),
            self._task,
            endpoints=[private_store()],
            settings=Settings(lease_s=0),
            ps_strategy=RoundRobinStrategy(1),
            initialize=True,
        )


def _end_open_servers() -> None:
    """Ends them in good order, unless an error has ended the program: then the other tasks notice a death."""
    if getattr(sys, "last_value", None) is None:
        for server in reversed(tuple(_open)):
            server.close()


# Before the threads of executors end, with which a ps answers; atexit would be too late. What was registered last is
# called first, and those of executors were by the import of their module.
getattr(threading, "_register_atexit", atexit.register)(_end_open_servers)
os.register_at_fork(after_in_child=_open.clear)


def _definition(
    given: ServerDef | ClusterSpecLike,
    job_name: str | None,
    task_index: int | None,
    protocol: str | None,
    config: Any,
) -> ServerDef:
    if isinstance(given, ServerDef):
        job = given.job_name if job_name is None else job_name
        index = given.task_index if task_index is None else task_index
        protocol = protocol or given.protocol or _PROTOCOL
        made = ServerDef(given.cluster, job, index, protocol, config or given.default_session_config)
    else:
        try:
            spec = ClusterSpec(given)
        except TypeError as error:
            raise TypeError(
                "Could not convert `server_or_cluster_def` to a `tf.train.ServerDef` or `tf.train.ClusterSpec`."
            ) from error
        job = _only(spec.jobs, "job_name") if job_name is None else job_name
        if task_index is None:
            task_index = _only(spec.task_indices(job), "task_index")
        made = ServerDef(given, job, task_index, protocol or _PROTOCOL, config)
    if made.protocol != _PROTOCOL:
        raise NotFoundError(
            f"No server factory registered for the protocol {made.protocol!r}; leave it out, or give {_PROTOCOL!r}: "
            f"SHARDSCOPE_TRANSPORT says which way values take"
        )
    return made


def _only(candidates: list[Any], what: str) -> Any:
    if len(candidates) != 1:
        raise ValueError(f"Must specify an explicit `{what}`.")
    return candidates[0]


def _checked_task(spec: ClusterSpec, job: str, index: int) -> TaskId:
    if job not in spec.jobs:
        raise InternalError(f'Job "{job}" was not defined in cluster; its jobs: {", ".join(spec.jobs)}')
    if index not in spec.task_indices(job):
        raise InternalError(f'Task {index} was not defined in job "{job}"; its tasks: {spec.task_indices(job)}')
    if job == BACKUP_JOB:
        raise InternalError(f"{job}:{index} cannot be a server; start it with `shardscope ps --backup`")
    return TaskId(job, index)


def _place(task: TaskId) -> tuple[str, int]:
    return task.job, task.index
