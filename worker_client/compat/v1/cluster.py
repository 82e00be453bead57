"""``tf.train.ClusterSpec``: as TensorFlow's, it takes whatever names and addresses it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ps_protocol import cluster_spec
from ps_protocol.interrupts import raise_interrupt


class ClusterSpec(cluster_spec.ClusterSpec):
    """The jobs of a cluster and the addresses of their tasks.

    Unlike ``worker_client.ClusterSpec`` it does not look at the addresses, so that it can be made of what only stands
    for one. ``worker_client.connect`` does, before it dials them.

    Args:
        cluster: Mapping from job to its tasks' addresses, each job as a list or as a mapping from index to address; or
            another spec.

    Raises:
        TypeError: It is of another type, or a part of it is.
    """

    __slots__ = ()

    def __init__(self, cluster: cluster_spec.ClusterSpecLike):
        if isinstance(cluster, cluster_spec.ClusterSpec):
            cluster = cluster.as_dict()
        if not isinstance(cluster, Mapping):
            raise TypeError(f"a cluster spec is made from a mapping of jobs to addresses, not from {cluster!r}")
        self._tasks = {_text(job, "the name of a job"): _tasks(job, tasks) for job, tasks in cluster.items()}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mapping):
            try:
                other = ClusterSpec(other)
            except (TypeError, ValueError) as error:
                raise_interrupt(error)
                return False
        return super().__eq__(other)

    __hash__ = cluster_spec.ClusterSpec.__hash__

    def __repr__(self) -> str:
        return f"ClusterSpec({dict(sorted(self.as_dict().items()))!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return ClusterSpec, (self._tasks,)


def _tasks(job: object, tasks: object) -> dict[int, str]:
    if isinstance(tasks, Mapping):
        return {_index(index, job): _text(address, f"the address of {job}:{index}") for index, address in tasks.items()}
    if isinstance(tasks, Sequence) and not isinstance(tasks, str | bytes):
        return {index: _text(address, f"the address of {job}:{index}") for index, address in enumerate(tasks)}
    raise TypeError(f"the tasks of the job {job!r} are a list or a mapping from index to address, not {tasks!r}")


def _text(value: Any, what: str) -> str:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, str):
        return value
    raise TypeError(f"{what} should be text, not {value!r}")


def _index(value: Any, job: object) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise_interrupt(error)
        raise TypeError(f"a task of the job {job!r} has an integer as its index, not {value!r}") from None
