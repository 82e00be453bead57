"""A variable of each kind, in a cluster of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.contract.variables.kinds import (
    AT_ONCE,
    Subject,
)
from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.graph.graph import Graph
from worker_client.sessions.session import Session


@pytest.fixture
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    kind: str = request.param
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(InProcessCluster())
        client = stack.enter_context(cluster.client(initialize=False))
        if kind in AT_ONCE:
            yield Subject(kind, None, cluster)
            return
        graph = stack.enter_context(Graph().as_default())
        yield Subject(kind, stack.enter_context(Session(client, graph=graph)), cluster)
