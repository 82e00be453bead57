"""Interrupts of a worker's main thread at random instants: each comes out, none wedges, loses or doubles anything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import psutil
import pytest

import shardscope as ss
from ps_cluster import LocalCluster
from tests.interrupted_places import CLIENT, interrupted_at

pytestmark = pytest.mark.chaos

TIMEOUT_S = 150.0
FEW_DESCRIPTORS = 150  # a mapped segment has none; grows without bound if connections leak


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2) as started:
        yield started


def found_by_worker(cluster: LocalCluster, transport: str, num_interrupts: int, kind: str) -> dict[str, int]:
    spec = json.dumps({"ps": list(cluster.cluster_spec.ps_addresses())})
    worker = subprocess.run(
        [sys.executable, "-m", "tests.chaos.interrupted_worker", spec, transport, "1", str(num_interrupts), kind],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert worker.returncode == 0, worker.stderr
    found: dict[str, int] = json.loads(worker.stdout)
    assert "Exception ignored" not in worker.stderr
    assert found["delivered"] == num_interrupts
    assert found["threads"] <= found["threads_before"]
    assert found["descriptors"] < FEW_DESCRIPTORS
    return found


@pytest.mark.parametrize("transport", ["tcp", "unix", "shm", "grpc", "in process"])
def test_interrupted_operations_count_once_or_never_and_later_ones_work(cluster: LocalCluster, transport: str) -> None:
    found_by_worker(cluster, transport, 600, "operations")


@pytest.mark.parametrize("transport", ["tcp", "shm", "grpc"])
def test_connecting_and_closing_can_be_interrupted_and_repeated(cluster: LocalCluster, transport: str) -> None:
    found_by_worker(cluster, transport, 60, "connections")


@pytest.mark.parametrize(
    "use", ["add", "read", "add_large", "read_large", "add_all", "add_to_both", "read_both", "queue"]
)
@pytest.mark.parametrize("transport", ["tcp", "shm", "grpc"])
def test_an_interrupt_at_each_place_of_a_call_leaves_the_connection_whole(
    cluster: LocalCluster, transport: str, use: str
) -> None:
    with ss.connect(cluster.cluster_spec, transport=transport, operation_timeout_s=20) as client:
        small, large = (
            ss.get_variable(f"{transport}/{use}/{len(shape)}", shape, initializer=ss.zeros_initializer())
            for shape in ([], [50_000])
        )
        ones = np.ones(50_000, np.float32)
        both = []  # on each ps task one, so small that the caller's thread exchanges with both
        for index in range(2):
            with ss.device(f"/job:ps/task:{index}"):
                both.append(ss.get_variable(f"{transport}/{use}/on_{index}", [], initializer=ss.zeros_initializer()))
        uses: dict[str, tuple[ss.Variable, Callable[[], object]]] = {
            "add": (small, lambda: small.assign_add(1.0)),
            "read": (small, small.numpy),
            "add_large": (large, lambda: large.assign_add(ones)),
            "read_large": (large, large.numpy),
            "add_all": (small, lambda: client.assign_add_all([(small, 1.0), (large, 1.0)])),
            "add_to_both": (both[1], lambda: client.assign_add_all([(each, 1.0) for each in both])),
            "read_both": (both[1], lambda: client.read_all(both)),
            "queue": (small, lambda: small.assign_add(1.0, wait=False).result(20)),
        }
        variable, call = uses[use]
        call()
        number, num_calls = 0, 1
        while True:
            number += 1
            before = float(np.max(variable.numpy()))
            reached = interrupted_at(number, call, CLIENT)
            call()  # the next one works
            num_calls += 1
            after = np.unique(variable.numpy())
            assert len(after) == 1, "half an update"
            if "read" not in use:
                assert before + 1 <= after[0] <= before + 2, "each counts once, the interrupted one perhaps never"
            if not reached:
                break
        assert number > 20, "the interrupts have hit nothing"


def test_ctrl_c_while_a_cluster_starts_leaves_no_process_behind() -> None:
    program = (
        "import signal, sys, threading, time\n"
        "from ps_cluster import LocalCluster\n"
        "from ps_cluster.local import ps_process\n"
        "def interrupted(self, timeout_s):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "ps_process.PsProcess.wait_ready = interrupted\n"
        "cluster = LocalCluster(num_ps=2)\n"
        "try:\n"
        "    cluster.start()\n"
        "except KeyboardInterrupt:\n"
        "    print(*[each.process.pid for each in cluster._ps.values()])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
