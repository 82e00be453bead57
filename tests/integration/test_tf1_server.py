"""Programs for TensorFlow 1 whose tasks are started by hand: two ps tasks and two workers, from one script."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import worker_client.compat.v1 as tf
from ps_cluster.local.reserved_ports import LOOPBACK, ReservedPorts
from ps_protocol.service_types import MemberState
from tests.conftest import Eventually
from worker_client.transport import grpc

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = "tests.integration.tf1_program"
TIMEOUT_S: Final = 120.0


class Cluster:
    """Addresses of two ps tasks and two workers, and the processes that a test starts for them.

    Attributes:
        ps: Addresses of the ps tasks.
        workers: Addresses of the workers.
    """

    def __init__(self) -> None:
        self._reserved = ReservedPorts(4)
        addresses = [f"{LOOPBACK}:{port}" for port in self._reserved.ports]
        self.ps, self.workers = addresses[:2], addresses[2:]
        self._processes: list[subprocess.Popen[str]] = []

    @property
    def spec(self) -> dict[str, list[str]]:
        return {"ps": self.ps, "worker": self.workers}

    def start(self, job: str, index: int, *flags: str) -> subprocess.Popen[str]:
        """Starts the program as a user does, once for each task."""
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                PROGRAM,
                f"--ps_hosts={','.join(self.ps)}",
                f"--worker_hosts={','.join(self.workers)}",
                f"--job_name={job}",
                f"--task_index={index}",
                *flags,
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        self._reserved.close()

    def states(self) -> dict[str, MemberState]:
        """What ps 0 knows of the tasks; nothing while it does not answer."""
        service = grpc.connect(self.ps[0], task="ps:0")
        try:
            return {each.task: each.state for each in service.list_members(timeout_s=5.0)}
        except tf.errors.OpError:
            return {}
        finally:
            service.close()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster()
    yield made
    made.end()


def output_of(process: subprocess.Popen[str]) -> str:
    """What it printed until it ended, which must be well."""
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("way", ["--nosupervised", "--supervised"])
def test_one_script_trains_with_two_ps_and_two_workers_and_all_processes_end(cluster: Cluster, way: str) -> None:
    ps = [cluster.start("ps", index) for index in range(2)]
    workers = [cluster.start("worker", index, way) for index in (1, 0)]  # the chief comes last
    reports = [output_of(worker) for worker in workers]
    assert all("the ps has ended" in output_of(process) for process in ps)
    own = [int(re.search(r"own=(\d+)", each)[1]) for each in reports]  # type: ignore[index]
    assert sum(own) >= 20
    seen = [re.search(r"weights=\[(\d+)\.0, \1\.0, \1\.0\] biases=\[(-\d+)\.0, \2\.0\]", each) for each in reports]
    assert all(each is not None and int(each[1]) >= 20 and int(each[2]) <= -19 for each in seen), reports


def test_a_worker_that_fails_or_dies_is_waited_for(cluster: Cluster, eventually: Eventually) -> None:
    ps = [cluster.start("ps", index) for index in range(2)]
    other = cluster.start("worker", 1, "--steps=1000000")
    failing = cluster.start("worker", 0, "--fails")
    output, _ = failing.communicate(timeout=TIMEOUT_S)
    assert failing.returncode != 0
    assert "ValueError: the program fails" in output
    assert cluster.states()["worker:0"] is not MemberState.LEFT
    other.kill()
    other.communicate()
    assert all(process.poll() is None for process in ps)
    again = [cluster.start("worker", 0, "--steps=1")]
    eventually(lambda: cluster.states().get("worker:0") is MemberState.LEFT, message="worker:0 has left")
    again.append(cluster.start("worker", 1, "--steps=1"))
    for process in (*again, *ps):
        output_of(process)


@pytest.mark.parametrize("how", ["shutdown", "signal"])
def test_a_ps_ends_when_it_is_told_to(cluster: Cluster, how: str, eventually: Eventually) -> None:
    ps = [cluster.start("ps", index) for index in range(2)]
    eventually(lambda: "ps:1" in cluster.states(), message="both ps tasks listen")
    if how == "shutdown":
        flag = f"ps={','.join(cluster.ps)}"
        subprocess.run(
            [sys.executable, "-m", "ps_cluster", "shutdown", "--cluster", flag], cwd=ROOT, check=True, timeout=TIMEOUT_S
        )
    else:
        for process in ps:
            process.send_signal(signal.SIGTERM)
    assert all("the ps has ended" in output_of(process) for process in ps)


# -- all in one process -------------------------------------------------------------------------------


@pytest.fixture
def servers(cluster: Cluster) -> Iterator[Callable[[str, int], tf.train.Server]]:
    made: list[tf.train.Server] = []

    def start(job: str, index: int) -> tf.train.Server:
        made.append(tf.train.Server(cluster.spec, job, index))
        return made[-1]

    yield start
    for server in reversed(made):
        server.close()


def test_servers_of_one_process_are_a_cluster(cluster: Cluster, servers: Callable[[str, int], tf.train.Server]) -> None:
    ps = [servers("ps", index) for index in range(2)]
    chief, other = (servers("worker", index) for index in range(2))
    assert [each.target for each in (*ps, chief)] == [f"grpc://{each}" for each in (*cluster.ps, cluster.workers[0])]
    with tf.Graph().as_default(), tf.device("/job:ps/task:1"):
        counter = tf.get_variable("counter", [], initializer=tf.zeros_initializer())
        with tf.Session(chief.target) as session, tf.Session(other.target) as second:
            session.run(counter.initializer)
            second.run(tf.assign_add(counter, 2.0))
            assert session.run(counter) == 2.0
        with pytest.raises(tf.errors.NotFoundError, match="no server of this process has the target"):
            tf.Session(ps[0].target)
    joins = [threading.Thread(target=each.join) for each in (*ps, chief, other)]
    for thread in joins:
        thread.start()
    for thread in joins:
        thread.join(TIMEOUT_S)
    assert not any(thread.is_alive() for thread in joins)
    with pytest.raises(tf.errors.NotFoundError):
        tf.Session(chief.target)
    with pytest.raises(RuntimeError, match="worker:0 is closed"):
        chief.start()


def test_a_program_ends_its_servers(cluster: Cluster) -> None:
    program = f"""
        import worker_client.compat.v1 as tf

        servers = [tf.train.Server({cluster.spec!r}, job, index) for job in ("ps", "worker") for index in range(2)]
        with tf.Graph().as_default(), tf.Session(servers[2].target) as session:
            counter = tf.get_variable("counter", [], initializer=tf.ones_initializer())
            session.run(counter.initializer)
            print(session.run(counter))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert (done.stdout, done.stderr) == ("1.0\n", "")


def test_an_address_that_is_taken_is_an_error_that_says_so(
    cluster: Cluster, servers: Callable[[str, int], tf.train.Server]
) -> None:
    servers("ps", 0)
    with pytest.raises(RuntimeError, match=r"ps:0 cannot listen on .* the port is in use"):
        servers("ps", 0)
