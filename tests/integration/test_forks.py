"""Forked children of a process that is connected: it is unharmed over every transport, and they can connect."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest

from ps_cluster.local.local_cluster import LocalCluster
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.memory.segment_mapping import IS_SUPPORTED
from tests.forked import error_in_child, error_of, in_child
from worker_client.client import Client, connect
from worker_client.default_client import read_all
from worker_client.initializers import Zeros
from worker_client.scopes.variable_scope import get_variable
from worker_client.variables.variable import Variable

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]

WAYS = ("tcp", "unix", "grpc", *(["shm"] if IS_SUPPORTED else []))
SIZE = 100_000
"""Float32 elements of a variable: large enough to be shared."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=1, num_workers=2) as running:
        yield running


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, cluster: LocalCluster, resources: ExitStack) -> Client:
    return connected(cluster, resources, request.param)


def connected(cluster: LocalCluster, resources: ExitStack, transport: str = "auto", task_index: int = 0) -> Client:
    client = connect(cluster.cluster_spec, task_index=task_index, transport=transport, operation_timeout_s=20)
    resources.callback(client.close)
    return client


def variable(client: Client, name: str) -> Variable:
    with client.as_default():
        made: Variable = get_variable(name, [SIZE], initializer=Zeros())
    made.assign(np.zeros(SIZE))
    return made


def test_the_child_is_refused_and_the_parent_unharmed(cluster: LocalCluster, client: Client) -> None:
    ours = variable(client, "refused")
    version = ours.version
    ours.assign_add(1.0)
    parents = connections()

    def child() -> list[type[BaseException] | None]:
        errors = [error_of(ours.numpy), error_of(lambda: ours.assign_add(1.0)), error_of(ours.push_buffer)]
        client.close()
        cluster.close()
        return [None if error is None else type(error) for error in errors]

    assert in_child(child) == [FailedPreconditionError] * 3
    for _ in range(3):
        ours.assign_add(1.0, wait=False)
    assert (ours.numpy() == 4).all()
    assert ours.version == version + 4
    assert set(connections()) >= set(parents)


def test_a_process_of_multiprocessing_fails_and_the_parents_updates_count(client: Client) -> None:
    ours = variable(client, "multiprocessing")
    ours.assign_add(1.0)
    process = multiprocessing.get_context("fork").Process(target=_add_quietly, args=(ours,))
    process.start()
    process.join(60)
    assert process.exitcode == 3
    ours.assign_add(1.0)
    assert (ours.numpy() == 2).all()


def _add_quietly(ours: Variable) -> None:
    try:
        ours.assign_add(1.0)
    except FailedPreconditionError:
        os._exit(3)


def test_rows_that_forked_loaders_read_over_connections_of_their_own(cluster: LocalCluster, client: Client) -> None:
    ours = variable(client, "rows")
    ours.assign(np.arange(SIZE))

    def rows(process: int) -> Callable[[], bool]:
        def load() -> bool:
            with connect(cluster.cluster_spec, task_index=1, transport=client_transport(client)):
                table: Variable = get_variable("rows", [SIZE], initializer=Zeros())
                mine = np.arange(process * 100, process * 100 + 100)
                gathered = [table.gather([row])[0] for row in mine]
                (whole,) = read_all([table])
                table.assign_add(1.0, wait=False)
            return gathered == mine.tolist() and bool((whole[:5] == np.arange(5)).all())

        return load

    assert in_child(rows(0))
    ours.assign_sub(1.0)
    assert (ours.numpy() == np.arange(SIZE)).all()


def client_transport(client: Client) -> str:
    return str(client.fanout.handle(0).endpoint.__dict__.get("_choice", "grpc"))


def test_children_that_are_forked_while_other_threads_work(cluster: LocalCluster, client: Client) -> None:
    ours = variable(client, "busy")
    over = threading.Event()
    counts = [0, 0]

    def work(index: int) -> None:
        while not over.is_set():
            ours.assign_add(1.0) if index else ours.assign_add(1.0, wait=False)
            counts[index] += 1

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    try:
        errors = [error_in_child(lambda: ours.assign_add(1.0)) for _ in range(5)]
        version = in_child(lambda: _version_there(cluster, client_transport(client)))
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    assert all(isinstance(error, FailedPreconditionError) for error in errors), errors
    assert version > 0
    assert (ours.numpy() == sum(counts)).all()


def _version_there(cluster: LocalCluster, transport: str) -> int:
    with connect(cluster.cluster_spec, task_index=1, transport=transport):
        there: Variable = get_variable("busy", [SIZE], initializer=Zeros())
        return there.version


@pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds")
def test_arrays_in_shared_memory_are_the_childs_own(cluster: LocalCluster, resources: ExitStack) -> None:
    client = connected(cluster, resources, "shm")
    ours = variable(client, "shared")
    buffer = ours.push_buffer()
    buffer[:] = 7
    ours.assign(buffer)
    views = [ours.read_value(copy=False)]
    address = views[0].__array_interface__["data"][0]
    ready, go_on = Signal(resources), Signal(resources)

    def child() -> tuple[bool, bool, bool]:
        before = (views[0] == 7).all()
        buffer[:] = 9  # which the parent's buffer does not become
        ready.set()
        go_on.wait()
        return bool(before), bool((views[0] == 7).all()), bool((buffer == 9).all())

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(in_child, child)
        ready.wait()
        assert (buffer == 7).all()
        views.clear()
        ours.assign(np.full(SIZE, 5))
        views += [ours.read_value(copy=False) for _ in range(3)]
        buffer[:] = 3
        addresses = [each.__array_interface__["data"][0] for each in views]
        go_on.set()
        assert answer.result(60) == (True, True, True)
    assert address in addresses, "the parent has used that memory again"


HOST = """
import json, os, sys
import psutil
import shardscope as ss
from worker_client.transport.selection import host_ps

place = {"cluster_spec": "ps=127.0.0.1:1", "task_index": 0, "port": 0}
host = host_ps({**place, "durability": "journal", "data_dir": sys.argv[1]})
with ss.connect({"ps": [host.address]}, transport="tcp") as client:
    variable = ss.get_variable("v", [], initializer=ss.zeros_initializer())
    reading, writing = os.pipe()
    if not os.fork():
        files = [os.path.realpath(each.path) for each in os.scandir("/proc/self/fd") if os.path.exists(each.path)]
        sockets = [f"{each.laddr.port} {each.status}" for each in psutil.Process().net_connections("tcp")]
        os.write(writing, json.dumps([*sockets, *[each for each in files if each.endswith("/lock")]]).encode())
        os._exit(0)
    os.close(writing)
    kept = os.read(reading, 65536)
    variable.assign_add(1.0)
    print(json.dumps([json.loads(kept), float(variable)]))
host.stop()
"""


def test_a_child_keeps_no_sockets_and_no_lock_of_a_ps_that_its_parent_hosts(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOST, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[], 1.0]


class Signal:
    """Set in one process, waited for in another."""

    def __init__(self, resources: ExitStack):
        self._reading, self._writing = os.pipe()
        resources.callback(os.close, self._reading)
        resources.callback(os.close, self._writing)

    def set(self) -> None:
        os.write(self._writing, b".")

    def wait(self) -> None:
        assert select.select([self._reading], [], [], 60)[0]
        os.read(self._reading, 1)


def test_a_child_keeps_no_connection_of_its_parent_open(cluster: LocalCluster, resources: ExitStack) -> None:
    client = connected(cluster, resources, "unix")
    ours = variable(client, "open")
    sock = client.fanout.handle(0).endpoint.transport._connections[0].sock  # type: ignore[attr-defined] # of a socket transport
    descriptor = Path(f"/proc/self/fd/{sock.fileno()}")
    inode = descriptor.readlink()
    assert in_child(sock.fileno) == -1
    assert in_child(lambda: descriptor.is_symlink() and descriptor.readlink()) != inode
    ours.assign_add(1.0)


def test_the_processes_of_a_local_cluster_are_the_parents(cluster: LocalCluster, resources: ExitStack) -> None:
    pid = cluster.ps_pid(0)

    def child() -> str:
        cluster.close()
        with pytest.raises(RuntimeError, match="forked"):
            cluster.kill_ps(0)
        with pytest.raises(RuntimeError, match="forked"):
            cluster.start_worker(0, ["true"])
        return str(cluster.cluster_spec)

    assert in_child(child) == str(cluster.cluster_spec)
    assert psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    assert variable(connected(cluster, resources), "cluster").version > 0


def connections() -> list[tuple[int, str]]:
    """The TCP connections of this process, by their local ports."""
    return sorted((each.laddr.port, each.status) for each in psutil.Process().net_connections("tcp") if each.raddr)
