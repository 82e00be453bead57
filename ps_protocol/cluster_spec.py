"""Which tasks make up a cluster and where they listen, and how a process learns its own place (``TF_CONFIG``).

``ClusterSpec`` answers as TensorFlow's ``train.ClusterSpec`` does. It also refuses addresses that cannot be dialled, so
that a typing error is found at once, not after a minute of waiting for a connection.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ps_protocol.interrupts import raise_interrupt
from ps_protocol.task_id import TaskId, check_address, check_job, checked_index

__all__ = [
    "BACKUP_JOB",
    "PS_JOB",
    "WORKER_JOB",
    "ClusterSpec",
    "ClusterSpecLike",
    "TaskId",
    "TfConfig",
    "as_cluster_spec",
    "process_addresses",
]

ClusterSpecLike: TypeAlias = "ClusterSpec | Mapping[str, Sequence[str] | Mapping[int, str] | Mapping[str, str]]"
"""What a ``ClusterSpec`` is made from: jobs, each a list of addresses or a mapping from task index to address."""

PS_JOB = "ps"
WORKER_JOB = "worker"
BACKUP_JOB = "backup"
"""Job of the backups of replicated ps tasks: backup:1 is the backup of ps:1."""

CHIEF_JOBS = ("chief", "master")
EVALUATOR_JOB = "evaluator"
_TF_CONFIG = "TF_CONFIG"
_GIVE_A_CLUSTER = (
    "Give it as ClusterSpec({'ps': ['host:2222'], 'worker': [...]}), as --cluster 'ps=host:2222;worker=...', "
    'or in the environment: TF_CONFIG=\'{"cluster": {"ps": ["host:2222"], "worker": [...]}, '
    '"task": {"type": "worker", "index": 0}}\'.'
)


class ClusterSpec:
    """The jobs of a cluster, the tasks of each, and the address of each task; immutable.

    Args:
        cluster: Mapping from job to its tasks' addresses, each job as a list or as a mapping from index to
            address (for jobs with gaps; indices may be strings, as JSON has them); or another ``ClusterSpec``.

    Raises:
        TypeError: ``cluster``, or one of its jobs, is of another type.
        ValueError: A job name, an index or an address is malformed, or two tasks have the same address.
    """

    __slots__ = ("_tasks",)

    def __init__(self, cluster: ClusterSpecLike):
        self._tasks: dict[str, dict[int, str]]
        if type(cluster) is not ClusterSpec and isinstance(cluster, ClusterSpec):
            cluster = cluster.as_dict()  # of a kind that has not checked them
        if isinstance(cluster, ClusterSpec):
            self._tasks = cluster._tasks
        elif isinstance(cluster, Mapping):
            self._tasks = {check_job(job): _indexed_tasks(job, tasks) for job, tasks in cluster.items()}
            _check_addresses(self._tasks)
        else:
            hint = f"ClusterSpec.parse({cluster!r}) reads a text." if isinstance(cluster, str) else _GIVE_A_CLUSTER
            raise TypeError(f"A cluster spec is made from a mapping of jobs to addresses, not from {cluster!r}. {hint}")

    @classmethod
    def parse(cls, flag: str) -> ClusterSpec:
        """Reads the form of the command line, ``"ps=host:2222,host:2223;worker=host:2224"``.

        A job with gaps writes the index before the address: ``"worker=1@host:2222,3@host:2223"``.

        Raises:
            ValueError: The text is malformed, or what it says is not a cluster.
        """
        jobs: dict[str, list[str] | dict[str, str]] = {}
        for part in filter(None, (part.strip() for part in flag.split(";"))):
            job, equals, addresses = (piece.strip() for piece in part.partition("="))
            if not equals:
                raise ValueError(f"{part!r} in the cluster {flag!r} has no '='. Write it as 'ps=host:2222,host:2223'.")
            if job in jobs:
                raise ValueError(f"The cluster {flag!r} gives the job {job!r} twice. List all its addresses in one.")
            jobs[job] = _parse_job(job, addresses)
        return cls(jobs)

    def to_flag(self) -> str:
        """Returns the form of the command line, which ``parse`` reads back."""
        return ";".join(f"{job}={_format_job(tasks)}" for job, tasks in self._tasks.items())

    @property
    def jobs(self) -> list[str]:
        """Names of the jobs, in the order in which they were given."""
        return list(self._tasks)

    def as_dict(self) -> dict[str, list[str] | dict[int, str]]:
        """Returns each job as a list of addresses, or as a dict by index if it has gaps or no task at all."""
        return {
            job: [tasks[index] for index in sorted(tasks)]
            if tasks and _is_dense(tasks)
            else dict(sorted(tasks.items()))
            for job, tasks in self._tasks.items()
        }

    def num_tasks(self, job_name: str) -> int:
        """Returns how many tasks a job has; ValueError if there is no such job."""
        return len(self._job(job_name))

    def task_indices(self, job_name: str) -> list[int]:
        """Returns the indices of a job's tasks in ascending order; ValueError if there is no such job."""
        return sorted(self._job(job_name))

    def job_tasks(self, job_name: str) -> list[str | None]:
        """Returns a job's addresses by index, None where there is no task of that index.

        Raises:
            ValueError: There is no such job, or it has no tasks.
        """
        tasks = self._job(job_name)
        if not tasks:
            raise ValueError(f"The job {job_name!r} has no tasks. {_GIVE_A_CLUSTER}")
        return [tasks.get(index) for index in range(max(tasks) + 1)]

    def task_address(self, job_name: str, task_index: int) -> str:
        """Returns the address of one task, as "host:port"; ValueError if there is no such task."""
        tasks = self._job(job_name)
        try:
            return tasks[task_index]
        except KeyError as error:
            raise_interrupt(error)
            known = ", ".join(map(str, sorted(tasks))) or "none"
            raise ValueError(
                f"There is no task {job_name}:{task_index} in the cluster; tasks of {job_name!r}: {known}."
            ) from None

    def workers(self) -> list[TaskId]:
        """Returns the tasks that train: those of a job "chief" or "master", which comes first, and the workers."""
        jobs = [job for job in (*CHIEF_JOBS, WORKER_JOB) if job in self._tasks]
        return [TaskId(job, index) for job in jobs for index in self.task_indices(job)]

    def check_takes_part(self, task: TaskId) -> None:
        """Makes sure that a task that connects to the ps tasks is in the cluster, as far as that names such tasks.

        Raises:
            ValueError: The cluster has other jobs than those of ps tasks, and the task is in none of them; or its job
                has no such task. An evaluator need not be in the cluster.
        """
        names_others = not self._tasks.keys() <= {PS_JOB, BACKUP_JOB}
        if task.job in self._tasks or (names_others and task.job != EVALUATOR_JOB):
            self.task_address(task.job, task.index)

    def require_ps(self) -> None:
        """Makes sure that there are ps tasks, numbered 0, 1, 2, ... without gaps.

        Raises:
            ValueError: There are none, or an index is missing (task 0 keeps the directory of the others).
        """
        tasks = self._tasks.get(PS_JOB)
        if not self._tasks:
            raise ValueError(
                f"No cluster is given, and {_TF_CONFIG} has none: there are no ps tasks to hold variables. "
                f"`shardscope up -- python train.py` starts them on this machine and the program with them, "
                f"shardscope.LocalCluster() starts them from within it. Or does a cluster run already? "
                f"{_GIVE_A_CLUSTER}"
            )
        if not tasks:
            found = ", ".join(f"{job} ({len(job_tasks)})" for job, job_tasks in self._tasks.items())
            raise ValueError(
                f"The cluster has no ps tasks to hold variables; jobs and their tasks: {found}. {_GIVE_A_CLUSTER}"
            )
        if not _is_dense(tasks):
            missing = min(set(range(len(tasks))) - tasks.keys())
            raise ValueError(
                f"The cluster has no task ps:{missing}, but has {', '.join(f'ps:{index}' for index in sorted(tasks))}. "
                "Number the ps tasks 0, 1, 2, ... without gaps."
            )

    def ps_addresses(self) -> list[str]:
        """Returns the addresses of the ps tasks by index; raises as ``require_ps`` does."""
        self.require_ps()
        tasks = self._tasks[PS_JOB]
        return [tasks[index] for index in range(len(tasks))]

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClusterSpec):
            return NotImplemented
        return self._tasks == other._tasks

    def __hash__(self) -> int:
        return hash(frozenset((job, frozenset(tasks.items())) for job, tasks in self._tasks.items()))

    def __repr__(self) -> str:
        return f"ClusterSpec({self.as_dict()!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return ClusterSpec, (self._tasks,)

    def _job(self, job_name: str) -> dict[int, str]:
        try:
            return self._tasks[job_name]
        except KeyError as error:
            raise_interrupt(error)
            known = ", ".join(map(repr, self._tasks)) or "none"
            raise ValueError(f"There is no job {job_name!r} in the cluster; jobs: {known}.") from None


def as_cluster_spec(given: ClusterSpecLike | str) -> ClusterSpec:
    """Makes a spec of what a caller has, which may be in the form of the command line; raises as that does."""
    return ClusterSpec.parse(given) if isinstance(given, str) else ClusterSpec(given)


def process_addresses(cluster_spec: ClusterSpec, index: int) -> list[str]:
    """Returns where the spec has the processes of a ps task: one address, or two if the task has a backup."""
    jobs = [job for job in (PS_JOB, BACKUP_JOB) if job in cluster_spec.jobs]
    return [cluster_spec.task_address(job, index) for job in jobs if index in cluster_spec.task_indices(job)]


@dataclass(frozen=True, slots=True)
class TfConfig:
    """What the environment variable ``TF_CONFIG`` tells a process.

    Its form is TensorFlow's: ``{"cluster": {job: addresses}, "task": {"type": job, "index": i}, "environment": e}``,
    where every part may be missing and others (such as "rpc_layer") are ignored.

    Attributes:
        cluster: The cluster; empty if not given.
        task: The task that this process is; None if not given. It need not be in the cluster, as evaluators are not.
        environment: A word such as "cloud"; "" if not given.
    """

    cluster: ClusterSpec = field(default_factory=lambda: ClusterSpec({}))
    task: TaskId | None = None
    environment: str = ""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> TfConfig:
        """Reads ``TF_CONFIG`` from an environment; all parts are empty if it is unset or blank.

        Raises:
            ValueError: It is malformed.
        """
        text = environ.get(_TF_CONFIG, "")
        return cls.from_json(text) if text.strip() else cls()

    @classmethod
    def from_json(cls, text: str) -> TfConfig:
        """Reads the text of ``TF_CONFIG``.

        Raises:
            ValueError: It is not JSON, or a part has the wrong type; the message names the part.
        """
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise_interrupt(error)
            raise ValueError(
                f"{_TF_CONFIG} is not valid JSON ({error}). Check its quotes and commas; it should look like "
                '{"cluster": {"ps": ["host:2222"], "worker": ["host:2223"]}, "task": {"type": "worker", "index": 0}}.'
            ) from None
        config = _json_object(config, "the whole")
        environment = config.get("environment")
        if environment is not None and not isinstance(environment, str):
            raise ValueError(f"{_TF_CONFIG}: 'environment' should be a string such as 'cloud', not {environment!r}.")
        return cls(_cluster_from_json(config.get("cluster")), _task_from_json(config.get("task")), environment or "")

    def to_json(self) -> str:
        """Returns the text for ``TF_CONFIG``, without the parts that are empty; ``from_json`` reads it back."""
        config: dict[str, object] = {}
        if self.cluster:
            config["cluster"] = self.cluster.as_dict()
        if self.task is not None:
            config["task"] = {"type": self.task.job, "index": self.task.index}
        if self.environment:
            config["environment"] = self.environment
        return json.dumps(config)

    @property
    def is_chief(self) -> bool:
        """Whether this process does what one worker does for all: chief 0 (or master 0), else worker 0.

        A process without a task is on its own, and so its own chief.
        """
        if self.task is None:
            return True
        has_chief_job = not set(CHIEF_JOBS).isdisjoint(self.cluster.jobs)
        chief_jobs = CHIEF_JOBS if has_chief_job else (*CHIEF_JOBS, WORKER_JOB)
        return self.task.index == 0 and self.task.job in chief_jobs


def _cluster_from_json(cluster: object) -> ClusterSpec:
    jobs = {} if cluster is None else _json_object(cluster, "'cluster'")
    try:
        return ClusterSpec(jobs)
    except (TypeError, ValueError) as error:
        raise_interrupt(error)
        raise ValueError(f"{_TF_CONFIG}: in 'cluster': {error}") from None


def _task_from_json(task: object) -> TaskId | None:
    fields = {} if task is None else _json_object(task, "'task'")
    job, index = fields.get("type"), fields.get("index")
    if job is None and index is None:
        return None
    try:
        return TaskId(job, index)  # type: ignore[arg-type]  # it checks what it is given, and says what is wrong
    except (TypeError, ValueError) as error:
        raise_interrupt(error)
        raise ValueError(
            f'{_TF_CONFIG}: in \'task\': {error} Write it as "task": {{"type": "worker", "index": 0}}.'
        ) from None


def _json_object(value: object, part: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ValueError(f"{_TF_CONFIG}: {part} should be a JSON object {{...}}, not {value!r}.")


def _indexed_tasks(job: str, tasks: object) -> dict[int, str]:
    if isinstance(tasks, Mapping):
        indexed = {checked_index(index, job): address for index, address in tasks.items()}
        if len(indexed) != len(tasks):
            raise ValueError(f"The job {job!r} gives one task index twice: {list(tasks)}.")
        return indexed
    if isinstance(tasks, Sequence) and not isinstance(tasks, (str, bytes)):
        return dict(enumerate(tasks))
    raise TypeError(
        f"The tasks of the job {job!r} are a list of addresses or a mapping from task index to address, not {tasks!r}."
    )


def _check_addresses(jobs: dict[str, dict[int, str]]) -> None:
    owners: dict[str, str] = {}
    for job, tasks in jobs.items():
        for index, address in tasks.items():
            task = f"{job}:{index}"
            check_address(address, task)
            owner = owners.setdefault(address.lower(), task)
            if owner != task:
                raise ValueError(
                    f"The tasks {owner} and {task} have the same address {address!r}. Give each its own port."
                )


def _is_dense(tasks: Mapping[int, str]) -> bool:
    return not tasks or max(tasks) + 1 == len(tasks)


def _format_job(tasks: Mapping[int, str]) -> str:
    if _is_dense(tasks):
        return ",".join(tasks[index] for index in sorted(tasks))
    return ",".join(f"{index}@{tasks[index]}" for index in sorted(tasks))


def _parse_job(job: str, text: str) -> list[str] | dict[str, str]:
    entries = [entry.strip() for entry in text.split(",")] if text else []
    if "@" not in text:
        return entries
    tasks: dict[str, str] = {}
    for entry in entries:
        index, at, address = entry.partition("@")
        if not at:
            raise ValueError(f"{entry!r} of the job {job!r} has no task index; write every task as '1@host:2222'.")
        if index in tasks:
            raise ValueError(f"The job {job!r} gives the task index {index} twice.")
        tasks[index] = address
    return tasks
