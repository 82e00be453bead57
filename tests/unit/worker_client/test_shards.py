"""Which part of the input each task has."""

from __future__ import annotations

import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.task_id import TaskId
from ps_server.core.parameter_server import ParameterServer
from worker_client.client import Client
from worker_client.connection.settings import Settings
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.transport.in_process import endpoint_of

PS = {"ps": ["p:1"]}
WORKERS = ["a:1", "b:1", "c:1"]


def client(jobs: object, task: TaskId, *, observer: bool = False) -> Client:
    spec = ClusterSpec({**PS, **jobs})  # type: ignore[dict-item] # whatever a test gives
    return Client(
        spec,
        task,
        endpoints=[endpoint_of(ParameterServer(cluster_spec=spec, task_index=0, job_seed=3))],
        settings=Settings(),
        ps_strategy=RoundRobinStrategy(1),
        initialize=True,
        observer=observer,
    )


@pytest.mark.parametrize(
    ("jobs", "task", "shard"),
    [
        ({"worker": WORKERS}, "worker:0", (0, 3)),
        ({"worker": WORKERS}, "worker:2", (2, 3)),
        ({"chief": ["d:1"], "worker": WORKERS}, "chief:0", (0, 4)),
        ({"chief": ["d:1"], "worker": WORKERS}, "worker:0", (1, 4)),
        ({"master": ["d:1"], "worker": WORKERS}, "worker:2", (3, 4)),
        ({"chief": ["d:1"]}, "chief:0", (0, 1)),
        ({"worker": {1: "a:1", 5: "b:1"}}, "worker:5", (1, 2)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else str(value),
)
def test_the_place_among_the_workers(jobs: object, task: str, shard: tuple[int, int]) -> None:
    with client(jobs, TaskId.parse(task)) as connected:
        assert connected.shard == shard
        index, count = connected.shard
        assert list(range(8))[index::count] == [each for each in range(8) if each % count == index]


@pytest.mark.parametrize(
    ("jobs", "task"),
    [({}, "worker:0"), ({"worker": WORKERS, "evaluator": ["e:1"]}, "evaluator:0"), ({"worker": WORKERS}, "worker:7")],
    ids=["no workers", "evaluator", "not in the spec"],
)
def test_what_is_no_worker_has_no_part(jobs: object, task: str) -> None:
    with (
        client(jobs, TaskId.parse(task)) as connected,
        pytest.raises(FailedPreconditionError, match=f"{task} is no worker of the cluster spec"),
    ):
        _ = connected.shard


def test_an_observer_has_no_part() -> None:
    with (
        client({"worker": WORKERS}, TaskId("worker", 0), observer=True) as connected,
        pytest.raises(FailedPreconditionError, match="observer:0 is no worker"),
    ):
        _ = connected.shard
