"""Which task of the cluster this process is: as its arguments say, or TF_CONFIG, or a launcher such as torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ps_protocol.cluster_spec import (
    CHIEF_JOBS,
    WORKER_JOB,
    ClusterSpec,
    ClusterSpecLike,
    TfConfig,
    as_cluster_spec,
)
from ps_protocol.task_id import MAX_TASK_INDEX, TaskId

_RANK: Final = "RANK"
_WORLD_SIZE: Final = "WORLD_SIZE"
_RESTARTS: Final = "TORCHELASTIC_RESTART_COUNT"
_GIVE_A_TASK: Final = "or say which task this is, as connect(cluster_spec, 'worker', 0)"


@dataclass(frozen=True, slots=True)
class Place:
    """This process's place in the cluster.

    Attributes:
        cluster_spec: The cluster.
        task: Which of its tasks this process is.
        replaces: Whether it comes in the place of a process that its launcher has ended.
    """

    cluster_spec: ClusterSpec
    task: TaskId
    replaces: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """What torchrun, and launchers like it, say in the environment of each process that they start.

    Attributes:
        rank: Number of the process among all that train together, from 0.
        world_size: How many these are.
        restarts: How often torchrun has started them again.
    """

    rank: int
    world_size: int
    restarts: int = 0

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Launch | None:
        """Reads an environment; None if no launcher has said anything.

        Raises:
            ValueError: It has said only half of it, or no numbers, or a rank beyond the size.
        """
        given = {name: environ[name] for name in (_RANK, _WORLD_SIZE) if environ.get(name)}
        if not given:
            return None
        if len(given) == 1:
            [(name, value)] = given.items()
            missing = _WORLD_SIZE if name == _RANK else _RANK
            raise ValueError(
                f"The environment has {name}={value} but no {missing}, while torchrun sets both. Set {missing} too, "
                f"unset {name}, {_GIVE_A_TASK}."
            )
        restarts = environ.get(_RESTARTS) or "0"
        launch = cls(_count(_RANK, given[_RANK]), _count(_WORLD_SIZE, given[_WORLD_SIZE]), _count(_RESTARTS, restarts))
        if launch.rank >= launch.world_size:
            raise ValueError(
                f"The environment has {launch.variables}: ranks go from 0 to {_WORLD_SIZE} - 1. Start the processes "
                f"with torchrun, which numbers them, {_GIVE_A_TASK}."
            )
        return launch

    @property
    def variables(self) -> str:
        """What it says, in the environment's own words."""
        return f"{_RANK}={self.rank} and {_WORLD_SIZE}={self.world_size}"


def find_place(
    cluster_spec: ClusterSpecLike | str | None,
    job_name: str | None,
    task_index: int | None,
    *,
    asks_launcher: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Place:
    """Finds out which task this process is.

    The first that says it counts: TF_CONFIG, if no cluster spec is given; arguments; torchrun. Without any, it is
    worker 0. Where the cluster spec names no workers, those of torchrun are its workers.

    Args:
        cluster_spec: The cluster; None for TF_CONFIG's.
        job_name: This process's job, None if it is not said.
        task_index: Its number in the job, None if it is not said.
        asks_launcher: Whether a launcher may say it.
        environ: The environment.

    Raises:
        ValueError: The cluster spec, TF_CONFIG or what torchrun says is malformed, or two of them contradict each
            other.
    """
    config = TfConfig.from_env(environ) if cluster_spec is None else TfConfig()
    spec = config.cluster if cluster_spec is None else as_cluster_spec(cluster_spec)
    told = config.task
    if told is None and (task_index is not None or job_name not in (None, WORKER_JOB)):
        return Place(spec, TaskId(job_name or WORKER_JOB, task_index or 0))
    is_worker = told is None or told.job in (*CHIEF_JOBS, WORKER_JOB)
    launch = Launch.from_env(environ) if asks_launcher and is_worker else None
    if launch is None or (told is not None and launch.world_size == 1):
        return Place(spec, told or TaskId(WORKER_JOB, 0))
    if spec and not spec.workers():
        spec = _with_workers(spec, launch.world_size)
    workers = spec.workers()
    if told is not None and (len(workers) != launch.world_size or told != workers[launch.rank]):
        raise ValueError(
            f"TF_CONFIG says that this process is {told} of {_number_of(workers)}, but torchrun that it is one of "
            f"{launch.world_size} ({launch.variables}). Leave the task, and the workers, out of TF_CONFIG, or unset "
            f"{_RANK} and {_WORLD_SIZE}."
        )
    if workers and len(workers) != launch.world_size:
        raise ValueError(
            f"The cluster spec names {_number_of(workers)} ({', '.join(map(str, workers))}), but torchrun has started "
            f"{launch.world_size} ({launch.variables}). Name no workers in it, so that torchrun's are its workers, "
            f"start as many, {_GIVE_A_TASK}."
        )
    task = workers[launch.rank] if workers else TaskId(WORKER_JOB, launch.rank)
    return Place(spec, task, replaces=launch.restarts > 0 and not _is_child_of_python())


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > MAX_TASK_INDEX:
        raise ValueError(
            f"The environment has {name}={text!r}, which is no number from 0 to {MAX_TASK_INDEX}. Start the processes "
            f"with torchrun, which sets it, {_GIVE_A_TASK}."
        )
    return int(text)


def _with_workers(spec: ClusterSpec, number: int) -> ClusterSpec:
    """Returns a spec that names the workers as well. Nobody dials them, so their addresses are no addresses."""
    return ClusterSpec({**spec.as_dict(), WORKER_JOB: [f"rank-{rank}.torchrun.invalid:1" for rank in range(number)]})


def _number_of(workers: list[TaskId]) -> str:
    return f"{len(workers)} worker{'s' * (len(workers) != 1)}"


def _is_child_of_python() -> bool:
    """Whether multiprocessing has started this process, which has the environment of the one that it belongs to.

    Its parent may be that task, and live.
    """
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None
