"""Clusters of real ps processes."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import worker_client
from ps_cluster import ClusterStartError, LocalCluster
from ps_cluster.inspection.health_probe import check_health
from ps_cluster.local.own_options import OF_LOCAL_CLUSTER, OF_UP
from ps_cluster.local.processes import ProcessSupervisor
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.task_id import TaskId
from tests import forked_ps
from tests.conftest import Eventually

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0


def addresses(cluster: LocalCluster) -> list[str]:
    return cluster.cluster_spec.ps_addresses()


def assert_serving(cluster: LocalCluster, index: int) -> None:
    assert check_health(addresses(cluster)[index], timeout_s=TIMEOUT_S) == "SERVING"


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_ps_tasks_serve_inside_the_block_and_are_gone_after_it() -> None:
    with LocalCluster(num_ps=2) as cluster:
        assert_serving(cluster, 0)
        assert_serving(cluster, 1)
        processes = [psutil.Process(cluster.ps_pid(index)) for index in range(2)]
    assert all(is_gone(process) for process in processes)
    assert [cluster.ps_exit_code(index) for index in range(2)] == [0, 0]


def test_what_was_stopped_is_not_waited_for() -> None:
    with LocalCluster(num_ps=2) as cluster:
        client = worker_client.connect(cluster.cluster_spec)
        with client.as_default():
            w = worker_client.get_variable("w", [2], initializer=worker_client.zeros_initializer())
        w.assign_add(1.0, wait=False).result(TIMEOUT_S)
    told = r"the LocalCluster at 127\.0\.0\.1:\d+ was stopped; make a new one and connect to it"
    for use in (w.numpy, lambda: w.assign_add(1.0), lambda: w.assign_add(1.0, wait=False).result(TIMEOUT_S)):
        with pytest.raises(FailedPreconditionError, match=told):
            use()
    with pytest.raises(FailedPreconditionError, match=told):
        worker_client.connect(cluster.cluster_spec)
    client.close()


def test_every_task_has_an_address_of_its_own_on_the_loopback_interface() -> None:
    with LocalCluster(num_ps=1, num_workers=3) as one, LocalCluster(num_ps=1) as other:
        assert one.cluster_spec.num_tasks("ps") == 1
        assert one.cluster_spec.num_tasks("worker") == 3
        assert other.cluster_spec.jobs == ["ps"]
        taken = [
            *addresses(one),
            *(one.cluster_spec.task_address("worker", index) for index in range(3)),
            *addresses(other),
        ]
        assert len(set(taken)) == 5
        assert all(address.startswith("127.0.0.1:") for address in taken)


def test_a_spec_that_mixes_two_clusters_is_refused() -> None:
    with LocalCluster(num_ps=2) as one, LocalCluster(num_ps=2) as other:
        mixed = [addresses(one)[0], addresses(other)[1]]
        with pytest.raises(FailedPreconditionError) as refused:
            worker_client.connect({"ps": mixed})
        assert all(address in str(refused.value) for address in (*mixed, addresses(other)[0]))
        one.restart_ps(0)  # it is there again without its state, and so with another identity
        with worker_client.connect({"ps": addresses(one)}):
            pass


CONNECT = """
import sys
import shardscope as ss
try:
    with ss.connect({"ps": [sys.argv[1]]}, replace=sys.argv[2] == "replace", lease_s=1.0):
        print("in", flush=True)
        sys.stdin.read()
except ss.errors.AlreadyExistsError as error:
    print(error, flush=True)
"""


def test_a_second_process_is_not_given_the_task_of_one_that_lives() -> None:
    def start(how: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", CONNECT, addresses(cluster)[0], how]
        return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def said(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()

    with LocalCluster(num_ps=1) as cluster, contextlib.ExitStack() as started:
        first, second = start("no"), None
        started.callback(first.communicate)
        assert said(first) == "in\n"
        second = start("no")
        started.callback(second.communicate)
        assert f"worker:0 is the process {first.pid} on" in said(second)
        first.kill()
        third = start("no")  # at once, since the connections of the first are known to be gone
        started.callback(third.communicate)
        assert said(third) == "in\n"
        fourth = start("replace")
        started.callback(fourth.communicate)
        assert said(fourth) == "in\n"


SERVE = """
import shardscope as ss
ss.serve()
print("served", flush=True)
"""


def test_one_script_runs_the_ps_of_its_task() -> None:
    with LocalCluster(num_ps=1, num_workers=1) as cluster:
        cluster.stop_ps(0)
        environment = {**os.environ, "TF_CONFIG": cluster.tf_config("ps", 0)}
        process = subprocess.Popen([sys.executable, "-c", SERVE], env=environment, stdout=subprocess.PIPE, text=True)
        with worker_client.connect(cluster.cluster_spec):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=TIMEOUT_S)[0].endswith("served\n")
        assert process.returncode == 0
        environment["TF_CONFIG"] = cluster.tf_config("worker", 0)
        refused = subprocess.run(
            [sys.executable, "-c", SERVE], env=environment, capture_output=True, text=True, check=False
        )
        assert "TF_CONFIG says that this process is worker:0" in refused.stderr


def test_tf_config_says_who_a_task_is() -> None:
    with LocalCluster(num_ps=1, num_workers=1) as cluster:
        config = json.loads(cluster.tf_config("worker", 0))
        assert config["task"] == {"type": "worker", "index": 0}
        assert config["cluster"] == cluster.cluster_spec.as_dict()
        with pytest.raises(ValueError, match="worker:1"):
            cluster.tf_config("worker", 1)


def test_a_killed_ps_comes_back_to_its_address_as_a_new_process() -> None:
    with LocalCluster(num_ps=2) as cluster:
        before, old_pid = addresses(cluster), cluster.ps_pid(1)
        cluster.kill_ps(1)
        assert cluster.ps_exit_code(1) == -signal.SIGKILL
        assert_serving(cluster, 0)
        cluster.restart_ps(1)
        assert addresses(cluster) == before
        assert cluster.ps_pid(1) != old_pid
        assert cluster.ps_exit_code(1) is None
        assert_serving(cluster, 1)


def test_a_running_ps_can_be_restarted_again_and_again() -> None:
    with LocalCluster(num_ps=1) as cluster:
        for _ in range(3):
            cluster.restart_ps(0)
            assert_serving(cluster, 0)


def test_a_stopped_ps_ends_in_good_order() -> None:
    with LocalCluster(num_ps=1) as cluster:
        assert cluster.stop_ps(0) == 0
        assert cluster.ps_exit_code(0) == 0
        assert cluster.wait(TIMEOUT_S) == [0]


def test_wait_gives_none_for_a_ps_that_runs() -> None:
    with LocalCluster(num_ps=2) as cluster:
        cluster.stop_ps(0)
        assert cluster.wait(0.01) == [0, None]


def test_nobody_else_is_given_the_port_of_a_ps_that_is_down() -> None:
    with LocalCluster(num_ps=1) as cluster:
        host, _, port = addresses(cluster)[0].rpartition(":")
        cluster.kill_ps(0)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((host, int(port)))


def test_ps_output_can_be_followed_and_looked_up() -> None:
    lines: list[tuple[str, str]] = []
    with LocalCluster(num_ps=2, log=lambda task, line: lines.append((task, line))) as cluster:
        assert cluster.stop_ps(1) == 0
        assert cluster.ps_log(1)
    assert {task for task, _ in lines} == {"ps:0", "ps:1"}
    assert not any('"pid"' in line for _, line in lines), "the line for programs is not for people"


def test_a_ps_that_cannot_start_is_an_error_with_its_last_lines() -> None:
    cluster = LocalCluster(num_ps=2, ps_arguments=["--no-such-option"])
    with pytest.raises(ClusterStartError, match=r"(?s)ps:0 at 127\.0\.0\.1:\d+ ended with exit code 2.*no-such-option"):
        cluster.start()
    assert all(code is not None for code in (cluster.ps_exit_code(0), cluster.ps_exit_code(1)))


def test_a_ps_that_is_not_ready_in_time_is_an_error_and_nothing_is_left() -> None:
    cluster = LocalCluster(num_ps=1, start_timeout_s=1e-6)
    with pytest.raises(ClusterStartError, match=r"ps:0 at .* was not ready after 0 s"):
        cluster.start()
    assert cluster.ps_exit_code(0) is not None


@pytest.mark.parametrize("start_timeout_s", [0, -1.0, float("nan"), "soon"])
def test_a_time_to_start_that_is_none_is_refused(start_timeout_s: float) -> None:
    with pytest.raises(ValueError, match=rf"start_timeout_s is {start_timeout_s!r}; it should be .* above 0"):
        LocalCluster(num_ps=1, start_timeout_s=start_timeout_s)


def test_times_to_wait_that_are_none_are_refused() -> None:
    with LocalCluster(num_ps=1) as cluster:
        with pytest.raises(ValueError, match=r"timeout_s is -1; it should be .* from 0"):
            cluster.wait(-1)
        with pytest.raises(ValueError, match=r"grace_s is nan; it should be .* from 0"):
            cluster.stop_ps(0, grace_s=float("nan"))
        assert cluster.ps_exit_code(0) is None


def test_a_ps_that_cannot_come_back_is_an_error() -> None:
    with LocalCluster(num_ps=1) as cluster:
        cluster.kill_ps(0)
        host, _, port = addresses(cluster)[0].rpartition(":")
        with socket.socket() as intruder:
            intruder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            intruder.bind((host, int(port)))
            intruder.listen()
            with pytest.raises(ClusterStartError, match=r"ps:0 at .* ended with exit code"):
                cluster.restart_ps(0)
        cluster.restart_ps(0)
        assert_serving(cluster, 0)


def test_a_cluster_outlives_the_thread_that_started_it() -> None:
    cluster = LocalCluster(num_ps=1)
    thread = threading.Thread(target=cluster.start)
    thread.start()
    thread.join(TIMEOUT_S)
    try:
        assert_serving(cluster, 0)
    finally:
        cluster.close()


def test_workers_get_their_place_and_are_ended_with_the_cluster(eventually: Eventually) -> None:
    code = "import os, time; print(os.environ['TF_CONFIG'], os.environ['MARK'], flush=True); time.sleep(600)"
    with LocalCluster(num_ps=1, num_workers=2, env={"MARK": "x"}) as cluster:
        workers = [cluster.start_worker(index, ["python", "-c", code]) for index in range(2)]
        for index, worker in enumerate(workers):
            eventually(functools.partial(getattr, worker, "tail"), message="the worker has said who it is")
            assert worker.tail == [f"{cluster.tf_config('worker', index)} x"]
        with pytest.raises(ValueError, match="worker:2"):
            cluster.start_worker(2, ["true"])
        assert cluster.process(TaskId("ps", 0)).pid == cluster.ps_pid(0)
        with pytest.raises(ValueError, match="worker:0 is not a ps task"):
            cluster.process(TaskId("worker", 0))
        with pytest.raises(ValueError, match="no job 'backup'"):
            cluster.process(TaskId("backup", 0))
    assert [worker.returncode for worker in workers] == [-signal.SIGTERM] * 2
    with pytest.raises(RuntimeError, match="not running"):
        cluster.start_worker(0, ["true"])


def test_a_stopped_ps_can_be_signalled_and_ends_with_the_cluster(eventually: Eventually) -> None:
    with LocalCluster(num_ps=1) as cluster:
        process = psutil.Process(cluster.ps_pid(0))
        cluster.signal_ps(0, signal.SIGSTOP)
        eventually(lambda: process.status() == psutil.STATUS_STOPPED, message="the ps is stopped")
        cluster.signal_ps(0, signal.SIGCONT)
        assert_serving(cluster, 0)


@pytest.mark.parametrize(("num_ps", "num_workers"), [(0, 1), (-1, 0), (1, -1)])
def test_a_number_of_tasks_that_makes_no_sense(num_ps: int, num_workers: int) -> None:
    with pytest.raises(ValueError, match="num_"):
        LocalCluster(num_ps, num_workers)


def test_a_cluster_that_was_closed_cannot_be_started() -> None:
    cluster = LocalCluster(num_ps=1)
    cluster.close()
    with pytest.raises(RuntimeError, match="stopped before"):
        cluster.start()


def test_before_the_start_there_is_no_cluster_and_after_the_end_none_again() -> None:
    cluster = LocalCluster(num_ps=1)
    with pytest.raises(RuntimeError, match="has not been started"):
        _ = cluster.cluster_spec
    with cluster, pytest.raises(ValueError, match="ps:1"):
        cluster.ps_pid(1)
    with pytest.raises(RuntimeError, match="stopped before; make a new one"):
        cluster.start()
    with pytest.raises(RuntimeError, match="not running"):
        cluster.restart_ps(0)


NOTEBOOK = """
import time
from ps_cluster import LocalCluster
cluster = LocalCluster(num_ps=2, num_workers=1)
cluster.start()
cluster.start_worker(0, ["python", "-c", "import time; time.sleep(600)"])
print("up", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_program_is_killed(
    tmp_path: Path, eventually: Eventually, signum: signal.Signals
) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(NOTEBOOK)
    supervisor = ProcessSupervisor()
    try:
        program = supervisor.start("program", [sys.executable, str(script)], environment=os.environ)
        eventually(lambda: program.tail, timeout_s=TIMEOUT_S, message="the cluster is up")
        children = psutil.Process(program.pid).children(recursive=True)
        assert len(children) == 4, "guard, two ps tasks, a worker"
        os.kill(program.pid, signum)
        assert program.wait(TIMEOUT_S) == -signum
        for child in children:
            eventually(functools.partial(is_gone, child), message=f"{child} has ended")
    finally:
        supervisor.close()


@pytest.mark.parametrize("own_directory", [True, False])
def test_state_is_kept_over_a_kill_and_a_restart_for_as_long_as_the_cluster_lasts(
    tmp_path: Path, own_directory: bool
) -> None:
    data_dir = None if own_directory else tmp_path / "state"
    with LocalCluster(num_ps=1, durability="journal", data_dir=data_dir) as cluster:
        kept = cluster.data_dir
        assert kept is not None
        assert kept.is_dir()
        with worker_client.connect(cluster.cluster_spec):
            variable = worker_client.get_variable("v", [2], initializer=worker_client.ones_initializer())
            variable.assign_add([1.0, 2.0])
            cluster.kill_ps(0)
            cluster.restart_ps(0)
            assert variable.read_value().tolist() == [2.0, 3.0]
            assert variable.version == 1
    assert kept.exists() is not own_directory
    if not own_directory:
        with (
            LocalCluster(num_ps=1, durability="journal", data_dir=data_dir) as cluster,
            worker_client.connect(cluster.cluster_spec),
        ):
            variable = worker_client.get_variable("v", [2], initializer=worker_client.ones_initializer())
            assert variable.read_value().tolist() == [2.0, 3.0]


def test_arguments_of_a_ps_are_a_list() -> None:
    with pytest.raises(TypeError, match=r"ps_arguments is '--job-seed 7'; give a list, as \['--job-seed', '7'\]"):
        LocalCluster(num_ps=1, ps_arguments="--job-seed 7")


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["--backup"], "ps_arguments has --backup, which is set for each ps anyway; give replicas=1"),
        (["--coordinator=file:///x"], "give coordinator=... to LocalCluster itself"),
        (["--durability", "journal"], "give durability=... to LocalCluster itself"),
        (["--data-dir", "x"], "give data_dir=... to LocalCluster itself"),
        (["--port", "0"], "leave it out: each ps gets its own address"),
    ],
)
def test_options_that_it_sets_itself_are_refused(arguments: list[str], remedy: str) -> None:
    with pytest.raises(ValueError, match=re.escape(remedy)):
        LocalCluster(num_ps=1, ps_arguments=arguments)


def test_every_option_that_it_sets_is_known_as_its_own() -> None:
    with (
        forked_ps.new_interpreters(),
        LocalCluster(num_ps=1, replicas=1, durability="journal", functions="tests.team_rules") as cluster,
    ):
        lines = [psutil.Process(cluster.process(TaskId(job, 0)).pid).cmdline() for job in ("ps", "backup")]
    flags = {each for line in lines for each in line if each.startswith("--")}
    assert flags == OF_LOCAL_CLUSTER.keys() == OF_UP.keys()


def test_a_place_for_what_is_not_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="durability"):
        LocalCluster(num_ps=1, data_dir=tmp_path)


def test_a_durability_that_there_is_not_is_refused_before_anything_is_started() -> None:
    with pytest.raises(ValueError, match="durability is 'jurnal'; choose one of none, snapshot, journal"):
        LocalCluster(num_ps=1, durability="jurnal")


def test_a_ps_may_be_restarted_at_another_address() -> None:
    with LocalCluster(num_ps=1) as cluster:
        assert cluster.ps_address(0) == addresses(cluster)[0]
        cluster.restart_ps(0, arguments=("--port", "0", "--advertise", "localhost"))
        host, _, port = cluster.ps_address(0).rpartition(":")
        assert host == "localhost"
        assert cluster.ps_address(0) != addresses(cluster)[0]
        assert check_health(f"127.0.0.1:{port}", timeout_s=TIMEOUT_S) == "SERVING"
