"""A cluster of real ps processes on this machine, for tests, notebooks and ``shardscope up``."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, SupportsIndex

from ps_cluster.local.checkpoints import ClusterCheckpoints
from ps_cluster.local.options import KEEP, SAVE_EVERY_S
from ps_cluster.local.own_options import OF_LOCAL_CLUSTER, refuse_own_options
from ps_cluster.local.processes import ChildProcess, OnExit, OnLine, ProcessSupervisor, end_all
from ps_cluster.local.ps_process import LogSink, PsProcess
from ps_cluster.local.reserved_ports import LOOPBACK, ReservedPorts
from ps_cluster.local.task_environment import task_environment
from ps_protocol.checkpoints.retention import Retention
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, WORKER_JOB, ClusterSpec, TfConfig
from ps_protocol.forks import new_lock, tell_in_child
from ps_protocol.html_tables import html_table
from ps_protocol.interrupts import sheltered
from ps_protocol.not_copied import NotCopied
from ps_protocol.service_types import DURABILITY_MODES
from ps_protocol.settings import MODULE, POSITIVE_SECONDS, SECONDS
from ps_protocol.stopped_clusters import note_started, note_stopped
from ps_protocol.task_id import TaskId
from worker_client.checkpoints.methods import retention_of

_LOG: Final = logging.getLogger(__name__)

# A ps gives accepted batches 10 s to finish, unless --drain-timeout says otherwise.
STOP_GRACE_S: Final = 15.0
_KILL_TIMEOUT_S: Final = 10.0
_COORDINATION: Final = "coordination"


class LocalCluster(
    NotCopied, bound_to="the process that made it", instead="pass on its cluster_spec, and connect in the other process"
):
    """Ps processes on the loopback interface, at ports that were free.

        with ss.LocalCluster(num_ps=2) as cluster, ss.connect(cluster.cluster_spec) as client:
            ...

    or over the cells of a notebook:

        cluster = ss.LocalCluster(num_ps=2).start()
        ...
        cluster.stop()

    Leaving the block, or ``stop``, ends every process, in good order if it can. If the program that made the cluster
    dies, even by SIGKILL, its processes and all that these have started are ended too. Every ps keeps its port while
    the cluster lasts, so it comes back to the same address. Closing it in a child that the program has forked ends
    nothing, and other uses there raise RuntimeError. Thread-safe.

    Args:
        num_ps: Number of ps tasks.
        num_workers: Number of worker tasks that the cluster spec names. The caller starts them, in this process or by
            ``start_worker``.
        replicas: Further processes for each ps task, 0 or 1: with 1, a backup has every update that was acknowledged,
            and takes over when the first process is gone.
        coordinator: Where it is decided which process of a replicated ps task is the primary, as ``shardscope ps
            --coordinator`` takes it; by default beside the state in ``data_dir``, or in a directory that is removed
            when the cluster is closed.
        ps_arguments: More arguments for each ``python -m ps_server``.
        durability: What the ps tasks keep beyond their processes: "none", "snapshot" or "journal". With the latter
            two, a ps that was killed has its variables again after ``restart_ps``.
        data_dir: Where they keep it; by default in a directory that is removed when the cluster is closed.
        functions: Name of a Python module whose ``FUNCTIONS`` and ``REDUCTIONS`` clients may call by name; installed,
            or in the working directory.
        checkpoint: A folder of checkpoints, or its URL; or one checkpoint. ``start`` restores the newest if there is
            one, unless the ps tasks have kept their variables; others are saved there until ``stop``, and a last one
            then. What is restored and saved is said in the log. After ``restart_ps`` of a ps task that has lost its
            variables, no more are saved.
        save_every: Seconds between two saves; 60 if not given.
        keep: How many checkpoints stay, the newest, or a ``checkpoint.Retention``; 5 if not given, 0 for all.
        env: More environment for the processes, on top of this one's.
        start_timeout_s: How long the ps tasks may take until they listen.
        log: Takes what the ps processes print, as (task, line), from several threads. It must not raise.
        on_ps_exit: Called with the task, as ps:0 or backup:0, and the process of a ps that has ended, whatever the
            reason, by a thread of its own. It must not raise.

    Raises:
        ValueError: A number of tasks or of seconds makes no sense, or options do not go together.
        TypeError: ``ps_arguments`` is one text.
    """

    def __init__(
        self,
        num_ps: int = 2,
        num_workers: int = 0,
        *,
        replicas: int = 0,
        coordinator: str | None = None,
        ps_arguments: Sequence[str] = (),
        durability: str = "none",
        data_dir: str | os.PathLike[str] | None = None,
        functions: str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        save_every: float | None = None,
        keep: SupportsIndex | Retention | None = None,
        env: Mapping[str, str] | None = None,
        start_timeout_s: float = 30.0,
        log: LogSink | None = None,
        on_ps_exit: Callable[[TaskId, ChildProcess], None] | None = None,
    ):
        if num_ps < 1:
            raise ValueError(f"num_ps is {num_ps}; a cluster needs at least one ps task to hold its variables.")
        if num_workers < 0:
            raise ValueError(f"num_workers is {num_workers}; it cannot be negative.")
        if replicas not in (0, 1):
            raise ValueError(f"replicas is {replicas}; give 0, or 1 for a backup of each ps task.")
        self._num_ps = num_ps
        self._replicas = replicas
        self._num_workers = num_workers
        if durability not in DURABILITY_MODES:
            raise ValueError(f"durability is {durability!r}; choose one of {', '.join(DURABILITY_MODES)}.")
        if durability == "none" and data_dir is not None:
            raise ValueError(f"data_dir is {data_dir}, but durability 'none' keeps nothing; give durability='journal'.")
        if replicas and durability == "snapshot":
            raise ValueError(f"durability is 'snapshot' and replicas {replicas}; backups go with 'journal' or 'none'.")
        if isinstance(ps_arguments, str):
            raise TypeError(f"ps_arguments is {ps_arguments!r}; give a list, as {ps_arguments.split()}.")
        refuse_own_options(ps_arguments, OF_LOCAL_CLUSTER, "ps_arguments")
        self._coordinator = coordinator
        self._ps_arguments = tuple(ps_arguments)
        self._durability = durability
        self._data_dir = None if data_dir is None else Path(data_dir)
        self._functions = MODULE.check(functions or "", "functions")
        self._checkpoints = _checkpoints(checkpoint, save_every, keep)
        self._own_directory: Path | None = None
        self._env = dict(env or {})
        self._start_timeout_s = POSITIVE_SECONDS.check(start_timeout_s, "start_timeout_s")
        self._log = log
        self._on_ps_exit = on_ps_exit
        # guards: _spec, _supervisor, _ports, _ps, _workers, _closed, _own_directory
        self._lock = new_lock()
        self._spec: ClusterSpec | None = None
        self._supervisor: ProcessSupervisor | None = None
        self._ports: ReservedPorts | None = None
        self._ps: dict[TaskId, PsProcess] = {}  # backups too
        self._workers: list[ChildProcess] = []
        self._closed = False
        self._parents: list[object] = []  # in a forked child, what belongs to the parent
        tell_in_child(self)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        not_saved = self._end()
        if not_saved is not None and error is None:
            raise not_saved

    def start(self) -> Self:
        """Starts the ps processes and returns when all of them listen. Does nothing if they have been started.

        Returns:
            Itself.

        Raises:
            ClusterStartError: One has ended or is not ready in time, or the newest checkpoint cannot be restored; all
                of them are ended then.
            RuntimeError: The cluster has been stopped before; or this is a forked child.
        """
        self._check_not_copy()
        try:
            if not self._start_processes():
                return self
            deadline_s = time.monotonic() + self._start_timeout_s
            for ps in self._ps.values():
                ps.wait_ready(max(0.0, deadline_s - time.monotonic()))
            if self._checkpoints is not None:
                self._checkpoints.restore(self.cluster_spec)
                sheltered(self._checkpoints.start, self.cluster_spec)
        except BaseException:
            checkpoints = self._checkpoints
            if checkpoints is not None:
                checkpoints.give_up()
            self.close()
            raise
        return self

    def stop(self) -> None:
        """Does what ``close`` does."""
        self.close()

    def __repr__(self) -> str:
        tasks = ", ".join(f"{task} at {address} {state}" for task, address, state in self._shown())
        return f"<LocalCluster {self._described()}{': ' if tasks else ''}{tasks}>"

    def _repr_html_(self) -> str:
        """For notebooks: the tasks, how to connect and how to stop; nobody is asked."""
        if self._supervisor is not None:
            notes = ["client = ss.connect(cluster.cluster_spec)", "cluster.stop()"]
        else:
            notes = [] if self._closed else ["cluster.start()"]
        return html_table(f"LocalCluster {self._described()}", self._shown(), notes=notes)

    def _described(self) -> str:
        if self._parents:
            return "of the process from which this one was forked"
        if self._supervisor is not None:
            return "running; connect with ss.connect(cluster.cluster_spec), end it with stop()"
        return "stopped; make a new one" if self._closed else "not started; start() starts it"

    def _shown(self) -> list[tuple[TaskId, str, str]]:
        """Of each ps and backup: task, address, and whether it runs."""
        with self._lock:
            found = dict(self._ps)
        return [(task, ps.address, _state(ps.process.returncode)) for task, ps in found.items()]

    def become_copy(self) -> None:
        """In a forked child: leaves the processes to the parent; ``close`` does nothing then."""
        if self._supervisor is None:
            return
        self._parents = [
            self._supervisor,
            self._ps,
            self._workers,
            self._checkpoints,
        ]  # a Popen that is dropped looks for its process
        self._supervisor = self._own_directory = self._checkpoints = None
        self._ps, self._workers = {}, []

    def close(self) -> None:
        """Ends the workers, then the ps processes, and gives the ports back. Repeated calls do nothing.

        Connections of this process to the cluster wait for nothing then: what is asked of them raises
        FailedPreconditionError.

        Raises:
            ShardscopeError: All has ended, but the last checkpoint could not be saved.
        """
        not_saved = self._end()
        if not_saved is not None:
            raise not_saved

    def _end(self) -> Exception | None:
        """Ends everything; returns why the last checkpoint is not saved, None if it is, or if none is kept."""
        with self._lock:
            checkpoints, self._checkpoints = self._checkpoints, None
            workers = list(self._workers)
        try:
            if checkpoints is None:
                return None
            end_all(workers, STOP_GRACE_S)  # what they send until then is saved
            return checkpoints.finish()
        finally:
            if checkpoints is not None:
                checkpoints.give_up()
            self._end_processes()

    def _end_processes(self) -> None:
        with self._lock:
            self._closed = True
            supervisor, self._supervisor = self._supervisor, None
            ports, self._ports = self._ports, None
            own_directory, self._own_directory = self._own_directory, None
            processes = [ps.process for ps in self._ps.values()]
            workers = list(self._workers)
            if supervisor is not None:
                note_stopped(self._addresses())
        try:
            end_all(workers, STOP_GRACE_S)
            end_all(processes, STOP_GRACE_S)
        finally:
            if supervisor is not None:
                note_stopped(self._addresses())  # again: until they had ended, they may have answered somebody
                supervisor.close()
            if ports is not None:
                ports.close()
            if own_directory is not None:
                shutil.rmtree(own_directory, ignore_errors=True)

    @property
    def cluster_spec(self) -> ClusterSpec:
        """Addresses of all tasks; RuntimeError before the start."""
        if self._spec is None:
            raise RuntimeError(
                "The cluster has not been started: use it as `with LocalCluster(...) as cluster:`, or call start()."
            )
        return self._spec

    def tf_config(self, job: str, index: int) -> str:
        """Text of ``TF_CONFIG`` for one task; ValueError if the cluster has no such task."""
        return self._tf_config(TaskId(job, index)).to_json()

    def task_environment(self, job: str, index: int) -> dict[str, str]:
        """All of the environment that a process of the cluster gets; ValueError if there is no such task."""
        return task_environment(self._tf_config(TaskId(job, index)), {**os.environ, **self._env})

    def start_worker(
        self, index: int, arguments: Sequence[str], *, on_line: OnLine | None = None, on_exit: OnExit | None = None
    ) -> ChildProcess:
        """Starts a program as a worker task; it is ended with the cluster at the latest.

        Args:
            index: Index of the worker.
            arguments: Program and arguments; ``python`` is the interpreter that runs this.
            on_line: Takes its output and standard error, line by line. Must not raise.
            on_exit: Called when it has ended. Must not raise.

        Raises:
            OSError: There is no such program, or it cannot be run.
            ValueError: The cluster has no such worker.
            RuntimeError: The cluster is not running.
        """
        environment = self.task_environment(WORKER_JOB, index)
        with self._lock:
            worker = self._running_supervisor().start(
                str(TaskId(WORKER_JOB, index)), arguments, environment=environment, on_stdout=on_line, on_exit=on_exit
            )
            self._workers = [*(each for each in self._workers if each.returncode is None), worker]
        return worker

    @property
    def data_dir(self) -> Path | None:
        """Where the ps tasks keep their state; None if they do not, or before the start."""
        if self._data_dir is not None or self._durability == "none":
            return self._data_dir
        return self._own_directory

    def ps_address(self, index: int) -> str:
        """Where a ps says that it listens, which may be another address than the cluster spec's after a restart."""
        return self._ps_process(TaskId(PS_JOB, index)).address

    def ps_pid(self, index: int) -> int:
        """Process id of a ps."""
        return self.process(TaskId(PS_JOB, index)).pid

    def ps_exit_code(self, index: int) -> int | None:
        """Exit code of a ps, -n if signal n ended it, None while it runs."""
        return self.process(TaskId(PS_JOB, index)).returncode

    def ps_log(self, index: int) -> list[str]:
        """The last lines that a ps has printed since it was last started."""
        return self.process(TaskId(PS_JOB, index)).tail

    def process(self, task: TaskId) -> ChildProcess:
        """The process of a ps or a backup, as it was last started; ValueError if there is no such task."""
        return self._ps_process(task).process

    def signal_backup(self, index: int, signum: signal.Signals) -> None:
        """Sends a signal to a backup, and does not wait."""
        self.process(TaskId(BACKUP_JOB, index)).send_signal(signum)

    def signal_ps(self, index: int, signum: signal.Signals) -> None:
        """Sends a signal to a ps, such as SIGSTOP and SIGCONT, and does not wait."""
        self.process(TaskId(PS_JOB, index)).send_signal(signum)

    def signal_all_ps(self, signum: signal.Signals) -> None:
        """Sends a signal to every ps and backup that has been started, and does not wait."""
        with self._lock:
            processes = [ps.process for ps in self._ps.values()]
        for process in processes:
            process.send_signal(signum)

    def kill_ps(self, index: int) -> None:
        """Kills a ps with SIGKILL; it is gone when this returns."""
        process = self.process(TaskId(PS_JOB, index))
        process.send_signal(signal.SIGKILL)
        if process.wait(_KILL_TIMEOUT_S) is None:
            raise RuntimeError(
                f"ps:{index} (process {process.pid}) is still there {_KILL_TIMEOUT_S:.0f} s after SIGKILL"
            )

    def stop_ps(self, index: int, *, grace_s: float = STOP_GRACE_S) -> int | None:
        """Ends a ps in good order with SIGTERM, with SIGKILL after ``grace_s``; returns its exit code."""
        return self.process(TaskId(PS_JOB, index)).end(SECONDS.check(grace_s, "grace_s"))

    def restart_ps(self, index: int, *, arguments: Sequence[str] = ()) -> None:
        """Starts a ps again at its old address and returns when it listens; stops it first if it still runs.

        Args:
            index: Which.
            arguments: More arguments for it, this time; ``("--port", "0")`` starts it at another address.

        Raises:
            ClusterStartError: It has ended or is not ready in time.
            RuntimeError: The cluster is not running.
        """
        self.restart(TaskId(PS_JOB, index), arguments=arguments)

    def restart_backup(self, index: int) -> None:
        """Starts a backup again; as ``restart_ps``."""
        self.restart(TaskId(BACKUP_JOB, index))

    def restart(self, task: TaskId, *, arguments: Sequence[str] = ()) -> None:
        """Starts a ps or a backup again; as ``restart_ps``."""
        self.process(task).end(STOP_GRACE_S)
        checkpoints = self._checkpoints
        if checkpoints is not None and self._durability == "none" and not self._replicas:
            _LOG.warning("%s is started again without its variables: no more checkpoints are saved", task)
            checkpoints.give_up()
        with self._lock:
            ps = self._ps[task] = self._start_ps(self._running_supervisor(), task, arguments)
        ps.wait_ready(self._start_timeout_s)

    def wait(self, timeout_s: float) -> list[int | None]:
        """Waits until every ps has ended, as after ``shutdown``, and every backup.

        Returns:
            Their exit codes, those of the backups last; None for one that runs.
        """
        deadline_s = time.monotonic() + SECONDS.check(timeout_s, "timeout_s")
        with self._lock:
            processes = [ps.process for ps in self._ps.values()]
        return [process.wait(max(0.0, deadline_s - time.monotonic())) for process in processes]

    def _start_processes(self) -> bool:
        """Starts them, and returns whether they had to be started."""
        with self._lock:
            if self._closed:
                raise RuntimeError("The cluster has been stopped before; make a new one.")
            if self._supervisor is not None:
                return False
            num_backups = self._num_ps * self._replicas
            self._ports = ReservedPorts(self._num_ps + num_backups + self._num_workers)
            addresses = [f"{LOOPBACK}:{port}" for port in self._ports.ports]
            jobs = {
                PS_JOB: addresses[: self._num_ps],
                BACKUP_JOB: addresses[self._num_ps : self._num_ps + num_backups],
                WORKER_JOB: addresses[self._num_ps + num_backups :],
            }
            self._spec = ClusterSpec({job: tasks for job, tasks in jobs.items() if tasks})
            note_started(addresses)
            keeps_state = self._durability != "none" and self._data_dir is None
            if keeps_state or (self._replicas and self._coordinator is None and self._data_dir is None):
                self._own_directory = Path(tempfile.mkdtemp(prefix="shardscope-"))
            self._supervisor = ProcessSupervisor()
            for job in (PS_JOB, BACKUP_JOB):
                for index in range(len(jobs[job])):
                    task = TaskId(job, index)
                    self._ps[task] = self._start_ps(self._supervisor, task)
            return True

    def _start_ps(self, supervisor: ProcessSupervisor, task: TaskId, arguments: Sequence[str] = ()) -> PsProcess:
        address = self.cluster_spec.task_address(task.job, task.index)
        host, _, port = address.rpartition(":")
        # These override the environment. The caller's own arguments come last and win.
        place = ["--cluster", self.cluster_spec.to_flag(), "--task-index", str(task.index)]
        place += ["--bind", host, "--port", port, *(["--backup"] if task.job == BACKUP_JOB else [])]
        return PsProcess(
            supervisor,
            task,
            address,
            [*place, *self._state_arguments(), *self._function_arguments(), *self._ps_arguments, *arguments],
            environment=self.task_environment(task.job, task.index),
            log=self._log,
            on_exit=None if self._on_ps_exit is None else functools.partial(self._on_ps_exit, task),
        )

    def _addresses(self) -> set[str]:
        """Of all ps tasks and backups, as they were given and as they are; with the lock held."""
        given = {self.cluster_spec.task_address(task.job, task.index) for task in self._ps}
        return given | {ps.address for ps in self._ps.values()}

    def _state_arguments(self) -> list[str]:
        arguments: list[str] = []
        if self._replicas:
            arguments += ["--coordinator", self._coordinator or self._own_coordinator]
        if self._durability != "none":
            arguments += ["--durability", self._durability, "--data-dir", str(self.data_dir)]
        return arguments

    @property
    def _own_coordinator(self) -> str:
        # With the state: who has its newest part is of use only where the state is, and as long as it is.
        directory = self._own_directory if self._data_dir is None else self._data_dir.absolute()
        return f"file://{directory}/{_COORDINATION}"

    def _function_arguments(self) -> list[str]:
        return ["--functions", self._functions] if self._functions else []

    def _running_supervisor(self) -> ProcessSupervisor:
        self._check_not_copy()
        if self._supervisor is None:
            raise RuntimeError(
                "The cluster is not running: use it inside `with LocalCluster(...) as cluster:`, or call start()."
            )
        return self._supervisor

    def _check_not_copy(self) -> None:
        if self._parents:
            raise RuntimeError(
                "The cluster belongs to the process that made it, from which this one was forked; start and end its "
                "tasks there."
            )

    def _ps_process(self, task: TaskId) -> PsProcess:
        self._check_not_copy()
        self.cluster_spec.task_address(task.job, task.index)  # says which tasks there are, if not this one
        with self._lock:
            ps = self._ps.get(task)
        if ps is None:
            raise ValueError(f"{task} is not a ps task or a backup that this cluster has started.")
        return ps

    def _tf_config(self, task: TaskId) -> TfConfig:
        self.cluster_spec.task_address(task.job, task.index)
        return TfConfig(cluster=self.cluster_spec, task=task)


def _checkpoints(
    place: str | os.PathLike[str] | None, every_s: float | None, keep: SupportsIndex | Retention | None
) -> ClusterCheckpoints | None:
    """What keeps the checkpoints of a cluster; None if none are kept."""
    if place is None:
        if every_s is not None or keep is not None:
            given = "keep" if every_s is None else "save_every"
            raise ValueError(f"{given} says how checkpoints are saved, but not where; give checkpoint as well.")
        return None
    if not os.fspath(place):
        raise ValueError("checkpoint is ''; it should be the path of a folder, or a URL.")
    return ClusterCheckpoints(
        place,
        every_s=POSITIVE_SECONDS.check(SAVE_EVERY_S if every_s is None else every_s, "save_every"),
        retention=retention_of(KEEP if keep is None else keep),
        tell=_LOG.info,
        tell_failure=_LOG.warning,
    )


def _state(returncode: int | None) -> str:
    return "running" if returncode is None else f"has ended with {returncode}"
