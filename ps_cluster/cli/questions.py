"""What the commands share that ask the ps tasks of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import click

from ps_cluster.cli.common import print_error
from ps_cluster.inspection import queries as ps_queries
from ps_cluster.inspection.queries import PsAnswer
from ps_protocol.cluster_spec import ClusterSpec, TfConfig
from ps_protocol.ps_service import ClusterService
from ps_protocol.task_id import TaskId
from worker_client.transport import grpc

_T = TypeVar("_T")

cluster_option: Final = click.option(
    "--cluster", metavar="SPEC", help="As ps=host:port,host:port; without it, TF_CONFIG is read."
)


def cluster_spec(flag: str | None) -> ClusterSpec:
    """The cluster that a command is about; ValueError if there is none, or if it has no ps tasks."""
    spec = TfConfig.from_env().cluster if flag is None else ClusterSpec.parse(flag)
    spec.require_ps()
    return spec


def connect(address: str, task: TaskId) -> ClusterService:
    """Makes the client of a ps."""
    return grpc.connect(address, task=str(task))


def ask_all(spec: ClusterSpec, question: Callable[[ClusterService], _T]) -> list[PsAnswer[_T]]:
    """Asks every process of the ps tasks."""
    return ps_queries.ask_all(spec, question, connect=connect)


def ask_primaries(spec: ClusterSpec, question: Callable[[ClusterService], _T], timeout_s: float) -> list[PsAnswer[_T]]:
    """Asks each ps task once, at its process that answers clients."""
    statuses = ask_all(spec, lambda ps: ps.status(timeout_s=timeout_s))
    return ps_queries.ask_primaries(statuses, question, connect=connect)


def all_answered(answers: Sequence[PsAnswer[Any]]) -> bool:
    """Says on standard error which ps tasks have not answered, if any."""
    failures = [ps_queries.explain(each.error, each.task, each.address) for each in answers if each.error is not None]
    for failure in failures:
        print_error(failure)
    return not failures


def any_answered(answers: Sequence[PsAnswer[Any]]) -> bool:
    """Whether there is anything to show."""
    return any(answer.error is None for answer in answers)
