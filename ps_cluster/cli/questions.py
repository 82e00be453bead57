"""What the commands share that ask the ps tasks of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from ps_cluster.cli.common import print_error
from ps_cluster.inspection import queries as ps_queries
from ps_cluster.inspection.queries import PsAnswer
from ps_cluster.inspection.whole_cluster import whole_cluster, whole_cluster_at
from ps_protocol.cluster_spec import PS_JOB, ClusterSpec, TfConfig
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import Status
from ps_protocol.task_id import TaskId
from worker_client.transport import grpc

_T = TypeVar("_T")

cluster_option: Final = click.option(
    "--cluster",
    metavar="SPEC",
    help="As ps=host:port,host:port, or host:port of any one ps task; without it, TF_CONFIG is read.",
)


def cluster_spec(flag: str | None, timeout_s: float) -> ClusterSpec:
    """The cluster that a command is about, with all its ps tasks as far as those given know them.

    Says on standard error which ps tasks are elsewhere than given.

    Raises:
        ShardscopeError: One address is given, of whichever ps task, and none answers there.
        ValueError: No cluster is given, or it has no ps tasks.
        UnavailableError: A ps task is missing that nobody knows.
        FailedPreconditionError: The addresses are in another order than the ps tasks, or of different clusters.
    """
    if flag is None:
        spec = TfConfig.from_env().cluster
        if not spec:
            raise ValueError(
                "Which cluster? Give the address of one of its ps tasks, as in --cluster host:2222, or set TF_CONFIG."
            )
    elif "=" in flag or "," in flag:
        spec = ClusterSpec.parse(flag if "=" in flag else f"{PS_JOB}={flag}")
    else:
        return whole_cluster_at(flag, connect=connect, timeout_s=timeout_s)
    whole = whole_cluster(spec, connect=connect, timeout_s=timeout_s)
    given = spec.ps_addresses()
    if len(given) > 1:  # a single one may be any ps task's
        for index, (address, known) in enumerate(zip(given, whole.ps_addresses(), strict=False)):
            if address != known:
                print_error(f"{TaskId(PS_JOB, index)} is at {known}, not at {address}, where the cluster given has it")
    return whole


def connect(address: str, task: TaskId) -> ClusterService:
    """Makes the client of a ps."""
    return grpc.connect(address, task=str(task))


def ask_primaries(spec: ClusterSpec, question: Callable[[ClusterService], _T], timeout_s: float) -> list[PsAnswer[_T]]:
    """Asks each ps task once, at its process that answers clients."""
    return ps_queries.ask_primaries(ask_statuses(spec, timeout_s), question, connect=connect)


def ask_statuses(spec: ClusterSpec, timeout_s: float) -> list[PsAnswer[Status]]:
    """Asks every process of the ps tasks for its status."""
    return ps_queries.ask_statuses(spec, connect=connect, timeout_s=timeout_s)


def all_answered(answers: Sequence[PsAnswer[Any]]) -> bool:
    """Says on standard error which ps tasks have not answered, if any."""
    failures = [ps_queries.explain(each.error, each.task, each.address) for each in answers if each.error is not None]
    for failure in failures:
        print_error(failure)
    return not failures


def any_answered(answers: Sequence[PsAnswer[Any]]) -> bool:
    """Whether there is anything to show."""
    return any(answer.error is None for answer in answers)
