"""Graphs run by sessions on real ps processes: shared state, exchanges, waiting for the chief."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from worker_client.graph.graph import Graph
from worker_client.ops.initialization import global_variables_initializer, report_uninitialized_variables
from worker_client.ops.state_ops import count_up_to, scatter_nd_add
from worker_client.scopes.creation import new_variable
from worker_client.sessions.session import Session
from worker_client.transport import grpc as grpc_transport

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2, num_workers=3) as started:
        yield started


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[ss.Client]:
    spec = {**cluster.cluster_spec.as_dict(), "master": ["master.example:1"]}  # which is no task of those started here
    with ss.connect(spec, "master") as connected:
        yield connected


@pytest.fixture
def graph() -> Iterator[Graph]:
    graph = Graph()
    with graph.as_default():
        yield graph


def batches(cluster: LocalCluster) -> list[int]:
    """How many batches each ps task has answered."""
    answered = []
    for index, address in enumerate(cluster.cluster_spec.ps_addresses()):
        service = grpc_transport.connect(address, task=f"ps:{index}")
        answered.append(service.status(timeout_s=10).batches)
        service.close()
    return answered


def start(cluster: LocalCluster, index: int, script: str) -> subprocess.Popen[str]:
    """Starts a worker process whose output is kept."""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "TF_CONFIG": cluster.tf_config("worker", index)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_step_of_many_variables_is_two_exchanges_with_each_ps(
    cluster: LocalCluster, client: ss.Client, graph: Graph
) -> None:
    with ss.variable_scope("step"):
        weights = [ss.get_variable(f"w{index}", [64, 8]) for index in range(40)]
    with Session(client, graph) as session:
        session.run(global_variables_initializer())
        step = [weight.assign_sub(0.5 * weight) for weight in weights]
        values = session.run(weights)
        before = batches(cluster)
        halved = session.run(step)
        assert [after - earlier for after, earlier in zip(batches(cluster), before, strict=True)] == [2, 2]
    for value, half in zip(values, halved, strict=True):
        np.testing.assert_array_equal(half, 0.5 * value)


def test_a_dependent_initial_value_is_right_whatever_task_it_is_on(client: ss.Client, graph: Graph) -> None:
    variables = []
    for index in range(2):
        with graph.device(f"/job:ps/task:{index}"):
            source = new_variable(np.arange(4, dtype=np.float32), name=f"dependent/source{index}")
        with graph.device(f"/job:ps/task:{1 - index}"):
            variables.append(new_variable(source.initialized_value() * 10, name=f"dependent/result{index}"))
    with Session(client, graph) as session:
        session.run(global_variables_initializer())
        assert [value.tolist() for value in session.run(variables)] == [[0, 10, 20, 30]] * 2
        assert session.run(report_uninitialized_variables()).tolist() == []


def test_large_values_and_elements(client: ss.Client, graph: Graph) -> None:
    table = ss.get_variable("large/table", [200_000, 8], initializer=ss.ones_initializer())
    with Session(client, graph) as session:
        session.run(table.initializer)
        session.run(scatter_nd_add(table, [[199_999, 7], [0, 0]], [1.0, 2.0]).op)
        assert session.run(table.gather_nd([[199_999, 7], [0, 0], [1, 1]])).tolist() == [2, 3, 1]
        doubled = session.run(table * 2)
        assert (doubled.shape, float(doubled.sum())) == ((200_000, 8), 2 * (200_000 * 8 + 3))


COUNTER = """
import numpy as np
import worker_client as ss
from worker_client.graph.graph import Graph
from worker_client.sessions.session import Session
from worker_client.ops.state_ops import count_up_to
from worker_client.scopes.creation import new_variable

with ss.connect() as client, Graph().as_default() as graph:
    count = count_up_to(new_variable(np.int64(0), name="counted/counter"), 600)
    taken = []
    with Session(client, graph) as session:
        while True:
            try:
                taken.append(int(session.run(count)))
            except ss.errors.OutOfRangeError:
                break
    print(*taken)
"""


def test_processes_that_count_together_get_each_number_once(
    cluster: LocalCluster, client: ss.Client, graph: Graph
) -> None:
    counter = new_variable(np.int64(0), name="counted/counter")
    with Session(client, graph) as session:
        session.run(counter.initializer)
        workers = [start(cluster, index, COUNTER) for index in range(3)]
        outputs = [worker.communicate(timeout=120)[0] for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0, 0], outputs
        assert sorted(int(number) for output in outputs for number in output.split()) == list(range(600))
        assert session.run(counter) == 600
        with pytest.raises(ss.errors.OutOfRangeError, match="counted/counter"):
            session.run(count_up_to(counter, 600))


WAITER = """
import logging
import numpy as np
import worker_client as ss
from worker_client.graph.graph import Graph
from worker_client.sessions.session import Session
from worker_client.scopes.creation import new_variable

logging.basicConfig(level=logging.WARNING, format="%(message)s")
with ss.connect() as client, Graph().as_default() as graph:
    variable = new_variable(np.zeros(3, np.float32), name="waited/for")
    with Session(client, graph) as session:
        print(session.run(variable.assign_add([1, 2, 3])).tolist(), flush=True)
"""


def test_a_worker_process_waits_for_the_chief_to_initialise(
    cluster: LocalCluster, client: ss.Client, graph: Graph
) -> None:
    variable = new_variable(np.full(3, 10, np.float32), name="waited/for")
    worker = start(cluster, 1, WAITER)
    try:
        assert worker.stdout is not None
        waits = "waiting for the chief to initialise waited/for, "
        assert any(line.startswith(waits) for line in worker.stdout), "it did not wait"
        with Session(client, graph) as session:
            session.run(variable.initializer)
            output, _ = worker.communicate(timeout=120)
            assert (worker.returncode, output.splitlines()[-1]) == (0, "[11.0, 12.0, 13.0]")
            assert session.run(variable).tolist() == [11, 12, 13]
    finally:
        worker.kill()
        worker.wait()


def test_a_ps_that_lost_its_variables_is_not_waited_for(cluster: LocalCluster, graph: Graph) -> None:
    with graph.device("/job:ps/task:1"):
        variable = new_variable(np.float32(1), name="lost/variable")
    with ss.connect(cluster.cluster_spec, task_index=1) as client, Session(client, graph) as session:
        session.run(variable.initializer)
        cluster.restart_ps(1)
        with pytest.raises(ss.errors.StateLostError):
            session.run(variable)
