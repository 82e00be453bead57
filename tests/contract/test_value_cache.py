"""What a caching device saves on the way: bytes that a ps sends over loopback gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest

from ps_protocol.task_id import TaskId
from tests.contract.conftest import CLUSTER, TIMEOUT_S, Task
from worker_client.client import Client
from worker_client.connection.settings import Settings
from worker_client.graph.graph import Graph
from worker_client.initializers import ones_initializer
from worker_client.placement.strategies import RoundRobinStrategy
from worker_client.scopes.variable_scope import get_variable
from worker_client.sessions.session import Session


@pytest.fixture
def tasks() -> Iterator[list[Task]]:
    with contextlib.ExitStack() as resources:
        yield [Task("grpc", index, resources) for index in range(2)]


def connected(tasks: list[Task]) -> Client:
    return Client(
        CLUSTER,
        TaskId("worker", 0),
        endpoints=[task.endpoint() for task in tasks],
        settings=Settings(),
        ps_strategy=RoundRobinStrategy(2),
        initialize=True,
    )


def sent_bytes(tasks: list[Task]) -> int:
    return sum(task.core.status(timeout_s=TIMEOUT_S).bytes_sent for task in tasks)


@pytest.mark.parametrize("size", [1000, 3_000_000])  # in one message, and in a stream
def test_a_value_that_has_not_changed_is_not_sent_again(tasks: list[Task], size: int) -> None:
    with Graph().as_default() as graph:
        v = get_variable("v", [size], initializer=ones_initializer(), caching_device="/job:worker")
        sum_of = np.add(v, v)
    with connected(tasks) as client, connected(tasks) as other, Session(client, graph) as session:
        session.run(v.initializer)
        assert (session.run(sum_of) == 2).all()
        once = sent_bytes(tasks)
        assert once == size * 4
        assert (session.run(sum_of) == 2).all()
        assert sent_bytes(tasks) == once
        with Session(other, graph) as elsewhere:
            elsewhere.run(v.assign_add(np.ones(size, np.float32)).op)
        assert (session.run(sum_of) == 4).all()
        assert sent_bytes(tasks) == 2 * once
