"""What many tests of the client begin with: a cluster in this process, a client of it, a graph, a session."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.worker_client.clusters import InProcessCluster
from worker_client.client import Client
from worker_client.graph.graph import Graph
from worker_client.sessions.session import Session


@pytest.fixture
def cluster() -> Iterator[InProcessCluster]:
    with InProcessCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: InProcessCluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Enough threads for one call of each of eight workers."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def graph() -> Iterator[Graph]:
    """A deferred graph, which is the default one."""
    with Graph().as_default() as graph:
        yield graph


@pytest.fixture
def session() -> Iterator[Session]:
    """A session of a graph of its own, which is not the default one."""
    with Session(graph=Graph()) as session:
        yield session
