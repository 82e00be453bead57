"""The commands that look at a cluster and end it, against real ps processes."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import UUID, uuid4

import ml_dtypes
import numpy as np
import pytest

from ps_cluster import LocalCluster
from ps_cluster.local.line_splitter import OutputLine
from ps_cluster.local.processes import ProcessSupervisor
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, ValueKind
from ps_protocol.operations import Batch, Declare, VariableSpec
from ps_protocol.service_types import Proposal, listed_incarnation
from tests.commands import shardscope
from tests.conftest import Eventually
from worker_client.transport import grpc

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0
WORKER = UUID(int=7)

WEIGHTS = VariableSpec("dense/weights", np.dtype(np.float32), (64, 32))
BIASES = VariableSpec("dense/biases", np.dtype(np.float64), (32,))


def declare(cluster: LocalCluster, ps_task: int, declaration: Declare) -> None:
    """Puts a variable on a ps, through the directory."""
    addresses = cluster.cluster_spec.ps_addresses()
    with closing(grpc.connect(addresses[0], task="ps:0")) as directory:
        directory.place([Proposal(declaration.spec, ps_task)], timeout_s=TIMEOUT_S)
    with closing(grpc.connect(addresses[ps_task], task=f"ps:{ps_task}")) as ps:
        client = uuid4()
        store = ps.hello(client, "worker:0", timeout_s=TIMEOUT_S).store
        ps.exchange(Batch(client, store, 1, (declaration,)), timeout_s=TIMEOUT_S)


@pytest.fixture(scope="module")
def cluster(eventually: Eventually) -> Iterator[LocalCluster]:
    """Two ps tasks that are members and hold a variable each, and a worker that has come as far as step 1,234."""
    with LocalCluster(num_ps=2, num_workers=1) as cluster:
        declare(cluster, 0, Declare(WEIGHTS, InitializerSpec(ConstantKind(1.0))))
        declare(cluster, 1, Declare(BIASES))
        with closing(grpc.connect(cluster.cluster_spec.ps_addresses()[0], task="ps:0")) as ps:
            ps.join("worker:0", WORKER, "somehost", 4321, timeout_s=TIMEOUT_S)
            ps.report_progress("worker:0", WORKER, 1234, timeout_s=TIMEOUT_S)
            # A ps task that listens has not necessarily joined yet: it tells ps task 0 from then on.
            eventually(lambda: len(ps.list_members(timeout_s=TIMEOUT_S)) == 3, message="both ps tasks are members")
        yield cluster


@pytest.fixture
def nowhere() -> Iterator[str]:
    """An address at which nothing listens, and which nobody else is given meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


@pytest.fixture
def unread() -> Iterator[int]:
    """Where to write what nobody reads."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    yield write_end
    os.close(write_end)


@pytest.mark.parametrize(
    "command", ["ls", "ls --json", "ls --tasks", "get dense/weights", "get dense/weights --json", "health"]
)
def test_a_command_whose_output_nobody_reads_ends_without_a_word(
    cluster: LocalCluster, unread: int, command: str
) -> None:
    arguments = [*command.split(), "--cluster", cluster.cluster_spec.to_flag()]
    done = subprocess.run(
        [sys.executable, "-m", "ps_cluster", *arguments],
        stdout=unread,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("program", [("ps_server",), ("ps_cluster", "ps"), ("ps_cluster", "ls")])
def test_help_that_nobody_reads_ends_without_a_word(unread: int, program: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *program, "--help"],
        stdout=unread,
        stderr=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize(("code", "seen"), [(0, 128 + signal.SIGPIPE), (3, 3)])
def test_a_failure_stays_one_though_nobody_reads_the_output(unread: int, code: int, seen: int) -> None:
    program = (
        "import sys; from ps_protocol.command_line.unread_output import quiet_if_unread\n"
        f"with quiet_if_unread(): sys.stdout.write('x'); sys.exit({code})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=unread,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_S,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    assert (done.returncode, done.stderr) == (seen, b"")


def test_an_error_that_nobody_reads_ends_without_a_word(unread: int, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ps_cluster", "checkpoint", "verify", str(tmp_path / "none")],
        stdout=unread,
        stderr=unread,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == 128 + signal.SIGPIPE


def test_ls_lists_the_variables_of_all_ps_tasks(cluster: LocalCluster) -> None:
    done = shardscope("ls", "--cluster", cluster.cluster_spec.to_flag())
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["name", "shape", "dtype", "bytes", "task", "version", "initialized"],
        ["dense/biases", "[32]", "float64", "256", "ps:1", "0", "no"],
        ["dense/weights", "[64,", "32]", "float32", "8,192", "ps:0", "0", "yes"],
    ]


def test_get_shows_a_variable_and_takes_no_part(cluster: LocalCluster, tmp_path: Path) -> None:
    flag = ("--cluster", cluster.cluster_spec.to_flag())
    whole = shardscope("get", "dense/weights", "--npy", str(tmp_path / "weights.npy"), *flag)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines()[0] == "dense/weights  float32 [64, 32]  on ps:0"
    np.testing.assert_array_equal(np.load(tmp_path / "weights.npy"), np.ones((64, 32), np.float32))
    rows = shardscope("get", "dense/weights", "--rows", "0:2,-1", *flag)
    assert rows.stdout.count("1.") == 3 * 32
    assert all(len(line) <= 80 for line in rows.stdout.splitlines())
    for arguments, exit_code, told in (
        (("get", "dense/weight"), 1, "did you mean dense/weights"),
        (("get", "dense/biases"), 1, "dense/biases"),  # which has no value yet
        (("get", "dense"), 1, "did you mean dense/biases or dense/weights"),
        (("get", "dense/weights", "--json", "--npy", "w.npy"), 2, "give one"),
        (("get", "dense/weights", "--rows", "64"), 2, "has the rows 0 to 63, and no row 64"),
        (("get", "dense/weights", "--rows", "1-2"), 2, "--rows is '1-2'"),
        (("get", "dense/weights", "--rows", "a"), 2, "--rows is 'a'"),
    ):
        failed = shardscope(*arguments, *flag)
        assert (failed.returncode, failed.stdout) == (exit_code, "")
        assert told in failed.stderr
    with closing(grpc.connect(cluster.cluster_spec.ps_addresses()[0], task="ps:0")) as ps:
        assert [each.task for each in ps.list_members(timeout_s=TIMEOUT_S)] == ["ps:0", "ps:1", "worker:0"]


def test_get_writes_json_and_files_of_what_neither_knows(tmp_path: Path) -> None:
    values = {
        "narrow": np.array([1.5, np.nan, -np.inf], ml_dtypes.bfloat16),
        "nibbles": np.array([-8, 7], ml_dtypes.int4),
        "complex": np.array([1 + 2j], np.complex64),
        "text": np.array([b"ab", b"\xff"]),
        "number": np.array(7, np.int64),
        "none": np.zeros((0, 2), np.float32),
    }
    shown = {}
    with LocalCluster(num_ps=1) as cluster:
        flag = ("--cluster", cluster.cluster_spec.to_flag())
        for name, value in values.items():
            spec = VariableSpec(name, value.dtype, value.shape)
            declare(cluster, 0, Declare(spec, InitializerSpec(ValueKind(value))))
            done = shardscope("get", name, "--json", *flag)
            shown[name] = json.loads(done.stdout, parse_constant=pytest.fail)
        assert {name: (each["dtype"], each["value"]) for name, each in shown.items()} == {
            "narrow": ("bfloat16", [1.5, "nan", "-inf"]),
            "nibbles": ("int4", [-8, 7]),
            "complex": ("complex64", [[1.0, 2.0]]),
            "text": ("S2", ["ab", "\\xff"]),
            "number": ("int64", 7),
            "none": ("float32", []),
        }
        assert (shown["narrow"]["name"], shown["narrow"]["shape"], shown["narrow"]["tasks"]) == (
            "narrow",
            [3],
            ["ps:0"],
        )
        for name, dtype in (("narrow", "float32"), ("nibbles", "int8"), ("text", "S2")):
            file = tmp_path / f"{name}.npy"
            done = shardscope("get", name, "--npy", str(file), *flag)
            assert done.stdout.splitlines()[1].endswith(f": {dtype} {list(values[name].shape)}")
            np.testing.assert_array_equal(np.load(file), values[name].astype(dtype))
        assert "none has no rows" in shardscope("get", "none", "--rows", "0", *flag).stderr


def test_ls_reads_tf_config_and_writes_json(cluster: LocalCluster) -> None:
    done = shardscope("ls", "--json", tf_config=cluster.tf_config("worker", 0))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[1] == {
        "name": "dense/weights",
        "shape": [64, 32],
        "dtype": "float32",
        "bytes": 8192,
        "task": "ps:0",
        "version": 0,
        "initialized": True,
        "slice": None,
        "slot_of": "",
        "object_kind": "",
    }


def test_ls_lists_slots_after_their_variable_or_leaves_them_out() -> None:
    slot = VariableSpec("z/Adam/m", np.dtype(np.float32), (2,), slot_of="w")
    with LocalCluster(num_ps=1) as cluster:
        empty = shardscope("ls", "--cluster", cluster.cluster_spec.to_flag())
        assert (empty.returncode, empty.stderr) == (0, "The cluster has no variables yet.\n")
        for spec in (VariableSpec("w", np.dtype(np.float32), (2,)), slot, VariableSpec("x", np.dtype(np.float32), ())):
            declare(cluster, 0, Declare(spec))
        flag = cluster.cluster_spec.to_flag()
        listed = shardscope("ls", "--cluster", flag).stdout.splitlines()
        assert [line.split()[0] for line in listed] == ["name", "w", "z/Adam/m", "x"]
        assert listed[2].startswith("  z/Adam/m ")
        without = json.loads(shardscope("ls", "--no-slots", "--json", "--cluster", flag).stdout)
        assert [each["name"] for each in without] == ["w", "x"]
        (task,) = json.loads(shardscope("ls", "--tasks", "--json", "--cluster", flag).stdout)["ps"]
        assert (task["steps_skipped"], task["steps_refused"]) == (0, 0)


def test_ls_lists_tasks(cluster: LocalCluster) -> None:
    arguments = ("ls", "--tasks", "--cluster", cluster.cluster_spec.to_flag())
    done = shardscope(*arguments)
    assert done.returncode == 0, done.stderr
    for address in cluster.cluster_spec.ps_addresses():
        assert re.search(rf"ps:\d +{address} +serving", done.stdout)
    assert re.search(r"worker:0 +active +somehost +4321 +1,234", done.stdout)
    tasks = json.loads(shardscope(*arguments, "--json").stdout)
    assert [(each["task"], each["variables"]) for each in tasks["ps"]] == [("ps:0", 1), ("ps:1", 1)]
    ps_0, ps_1, worker = tasks["members"]
    assert [(each["task"], each["state"], each["lease_s"]) for each in (ps_0, ps_1)] == [
        ("ps:0", "active", 10.0),
        ("ps:1", "active", 10.0),
    ]
    assert (worker["task"], worker["step"], worker["incarnation"]) == (
        "worker:0",
        1234,
        str(listed_incarnation(WORKER)),
    )


def test_ls_shows_what_it_can_reach_and_says_what_it_cannot(cluster: LocalCluster, nowhere: str) -> None:
    spec = f"ps={','.join(cluster.cluster_spec.ps_addresses())},{nowhere}"
    for arguments in ((), ("--tasks",)):
        done = shardscope("ls", "--cluster", spec, *arguments)
        assert done.returncode == 1
        assert "dense/weights" in done.stdout or "serving" in done.stdout
        [error] = done.stderr.splitlines()
        assert error.startswith("shardscope: [ps:2]")
        assert nowhere in error
        assert "cannot be reached (Connection refused)" in error


@pytest.mark.parametrize("form", ["{}", "ps={}"])
@pytest.mark.parametrize("index", [0, 1])
def test_one_address_is_enough(cluster: LocalCluster, form: str, index: int) -> None:
    spec = form.format(cluster.cluster_spec.ps_addresses()[index])
    done = shardscope("ls", "--cluster", spec)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["dense/biases", "dense/weights"]


def test_addresses_in_another_order_are_an_error(cluster: LocalCluster) -> None:
    first, second = cluster.cluster_spec.ps_addresses()
    for arguments in ((), ("--tasks",)):
        done = shardscope("ls", "--cluster", f"ps={second},{first}", *arguments)
        assert done.returncode == 1
        assert done.stdout == ""
        [error] = done.stderr.splitlines()
        assert f"the process at {second} is ps:1, not ps:0, and the process at {first} is ps:0, not ps:1" in error


def num_known(address: str) -> int:
    """How many ps tasks one knows, itself included."""
    with closing(grpc.connect(address, task="ps")) as ps:
        return len(ps.list_addresses(timeout_s=TIMEOUT_S))


def test_two_clusters_in_one_spec_are_an_error_and_shutdown_ends_neither(
    cluster: LocalCluster, eventually: Eventually
) -> None:
    with LocalCluster(num_ps=2) as other:
        first, second = cluster.cluster_spec.ps_addresses()
        of_first, of_second = other.cluster_spec.ps_addresses()
        eventually(lambda: num_known(of_first) == num_known(of_second) == 2, message="they have met")
        for arguments in (("ls",), ("ls", "--tasks"), ("shutdown",), ("health",)):
            done = shardscope(*arguments, "--cluster", f"ps={first},{of_second}")
            assert (done.returncode, done.stdout) == (1, ""), arguments
            [error] = done.stderr.splitlines()
            assert f"ps:0 at {first} and ps:1 at {of_second} are of different clusters" in error
            assert f"ps:0 knows ps:1 at {second}, and ps:1 knows ps:0 at {of_first}" in error
        assert [each.ps_exit_code(1) for each in (cluster, other)] == [None, None]


@pytest.mark.parametrize("command", [("ls",), ("shutdown",), ("get", "x"), ("health",)])
def test_what_is_no_ps_task_is_said_to_be_none(command: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_answer_as_a_web_server, args=(server,), daemon=True)
        thread.start()
        try:
            address = f"127.0.0.1:{server.getsockname()[1]}"
            done = shardscope(*command, "--cluster", address, "--timeout", "2")
        finally:
            server.shutdown(socket.SHUT_RDWR)  # wakes the thread
            thread.join(TIMEOUT_S)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the task at {address} is no ps task: something else listens there" in done.stderr


def _answer_as_a_web_server(server: socket.socket) -> None:
    with contextlib.suppress(OSError):  # until the test closes it
        while True:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("timeout", ["-1", "0", "nan", "soon"])
def test_a_time_out_that_is_none_is_refused(timeout: str) -> None:
    done = shardscope("ls", "--cluster", "host:1", "--timeout", timeout)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"--timeout is '{timeout}'; it should be a number of seconds above 0" in done.stderr


@pytest.mark.parametrize("index", [0, 1])
def test_health_of_all_ps_tasks_by_one_address(cluster: LocalCluster, index: int) -> None:
    addresses = cluster.cluster_spec.ps_addresses()
    done = shardscope("health", "--cluster", f"ps={addresses[index]}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"ps:{task} at {each} is SERVING" for task, each in enumerate(addresses)]


def test_health_of_a_cluster_of_which_one_ps_is_missing(cluster: LocalCluster, nowhere: str) -> None:
    done = shardscope("health", "--cluster", f"ps={','.join(cluster.cluster_spec.ps_addresses())},{nowhere}")
    assert done.returncode == 1
    assert done.stdout.count("is SERVING") == 2
    [error] = done.stderr.splitlines()
    assert error.startswith("shardscope: [ps:2]")
    assert nowhere in error


@pytest.mark.parametrize("arguments", [(), ("host:1", "--cluster", "host:1")])
def test_health_of_nothing_or_of_both_is_refused(arguments: tuple[str, ...]) -> None:
    done = shardscope("health", *arguments)
    assert done.returncode == 2
    assert "give the address of a ps task" in done.stderr


def test_ls_of_a_cluster_that_is_not_there_shows_nothing(nowhere: str) -> None:
    for arguments in ((), ("--tasks",)):
        done = shardscope("ls", "--cluster", f"ps={nowhere}", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert all("[ps:0]" in line and nowhere in line for line in done.stderr.splitlines())


def test_what_does_not_answer_at_a_bare_address_is_no_task_by_name(nowhere: str) -> None:
    for arguments in ((), ("--tasks",)):
        done = shardscope("ls", "--cluster", nowhere, *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        [error] = done.stderr.splitlines()
        assert error.startswith(f"shardscope: the task at {nowhere} cannot be reached")


def test_ls_says_which_ps_task_is_elsewhere(cluster: LocalCluster, nowhere: str) -> None:
    first, second = cluster.cluster_spec.ps_addresses()
    for given in (f"ps={first},{nowhere}", f"{first},{nowhere}"):
        done = shardscope("ls", "--cluster", given)
        assert (done.returncode, "dense/weights" in done.stdout) == (0, True)
        [error] = done.stderr.splitlines()
        assert error == f"shardscope: ps:1 is at {second}, not at {nowhere}, where the cluster given has it"


def test_ls_of_a_ps_that_does_not_answer_is_bounded(eventually: Eventually) -> None:
    with LocalCluster(num_ps=1) as cluster:
        cluster.signal_ps(0, signal.SIGSTOP)
        try:
            done = shardscope("ls", "--cluster", cluster.cluster_spec.to_flag(), "--timeout", "0.5")
        finally:
            cluster.signal_ps(0, signal.SIGCONT)
    assert done.returncode == 1
    [error] = done.stderr.splitlines()
    assert "[ps:0]" in error
    assert "did not answer in time" in error


@pytest.mark.parametrize(
    ("arguments", "tf_config", "message"),
    [
        ([], None, "Which cluster?"),
        ([], '{"cluster": ', "TF_CONFIG is not valid JSON"),
        (["--cluster", "ps"], None, "has no port"),
        (["--cluster", "ps=a:1;b:2"], None, "no '='"),
        (["--cluster", "ps=host"], None, "has no port"),
        (["--cluster", "worker=host:1"], None, "no ps tasks"),
    ],
)
@pytest.mark.parametrize("command", ["ls", "shutdown"])
def test_a_cluster_that_makes_no_sense(command: str, arguments: list[str], tf_config: str | None, message: str) -> None:
    done = shardscope(command, *arguments, tf_config=tf_config)
    assert done.returncode == 2
    assert done.stdout == ""
    [error] = done.stderr.splitlines()
    assert error.startswith("shardscope: ")
    assert message in error


def test_shutdown_ends_every_ps_in_good_order() -> None:
    with LocalCluster(num_ps=2) as cluster:
        done = shardscope("shutdown", "--cluster", cluster.cluster_spec.to_flag())
        assert done.returncode == 0, done.stderr
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["ps:0", "ps:1"]
        assert cluster.wait(TIMEOUT_S) == [0, 0]


def test_shutdown_with_one_address_ends_every_ps_and_says_which_it_cannot_reach(eventually: Eventually) -> None:
    with LocalCluster(num_ps=2) as cluster:
        first, second = cluster.cluster_spec.ps_addresses()
        with closing(grpc.connect(first, task="ps:0")) as ps:
            eventually(lambda: len(ps.list_addresses(timeout_s=TIMEOUT_S)) == 2, message="ps 1 has announced itself")
        cluster.kill_ps(1)
        done = shardscope("shutdown", "--cluster", first)
        assert done.returncode == 1
        assert done.stdout == f"ps:0 at {first} is shut down\n"
        assert f"[ps:1] the task at {second} cannot be reached (Connection refused)" in done.stderr
        assert cluster.wait(TIMEOUT_S)[0] == 0


def test_shutdown_says_which_ps_it_could_not_reach_and_ends_the_others(nowhere: str) -> None:
    with LocalCluster(num_ps=1) as cluster:
        done = shardscope("shutdown", "--cluster", f"ps={cluster.cluster_spec.ps_addresses()[0]},{nowhere}")
        assert done.returncode == 1
        assert done.stdout.startswith("ps:0 ")
        assert "[ps:1]" in done.stderr
        assert cluster.wait(TIMEOUT_S) == [0]


def test_health(cluster: LocalCluster, nowhere: str) -> None:
    address = cluster.cluster_spec.ps_addresses()[1]
    done = shardscope("health", address)
    assert (done.returncode, done.stdout) == (0, f"{address} is SERVING\n")
    done = shardscope("health", nowhere)
    assert done.returncode == 1
    [error] = done.stderr.splitlines()
    assert nowhere in error
    assert "cannot be reached" in error


def test_health_of_what_does_not_answer_is_bounded() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        done = shardscope("health", f"127.0.0.1:{silent.getsockname()[1]}", "--timeout", "0.5")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_health_of_what_is_no_address() -> None:
    done = shardscope("health", "localhost")
    assert done.returncode == 2
    assert "has no port" in done.stderr


def test_ps_runs_a_ps_in_the_foreground(eventually: Eventually, nowhere: str) -> None:
    supervisor, output = ProcessSupervisor(), list[OutputLine]()
    try:
        process = supervisor.start(
            "ps",
            [
                sys.executable,
                "-m",
                "ps_cluster",
                "ps",
                "--cluster",
                f"ps={nowhere}",
                "--task-index",
                "0",
                "--port",
                "0",
            ],
            environment=os.environ,
            on_stdout=output.append,
            on_stderr=lambda _: None,
        )
        eventually(lambda: output, message="the ps listens")
        message = json.loads(output[0].text)
        assert message["task"] == "ps:0"
        assert message["pid"] == process.pid
        assert shardscope("health", f"127.0.0.1:{message['port']}").returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    finally:
        supervisor.close()


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_ps_has_the_help_of_the_ps_process(flag: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ps_cluster", "ps", flag], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: ")
    assert "--task-index" in done.stdout


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_the_command_lists_what_it_can_do(flag: str) -> None:
    done = shardscope(flag)
    assert done.returncode == 0
    for command in ("up", "ps", "ls", "shutdown", "health"):
        assert f"  {command} " in done.stdout
        if command != "ps":  # which is another program
            assert shardscope(command, flag).stdout.startswith("Usage: ")


def test_the_command_tells_its_version() -> None:
    assert shardscope("--version").stdout == f"shardscope, version {importlib.metadata.version('shardscope')}\n"


def test_what_is_no_command_is_refused() -> None:
    done = shardscope("sl")
    assert done.returncode == 2
    assert "'sl'" in done.stderr


def test_ctrl_c_ends_a_command_that_waits() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(TIMEOUT_S)
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "ps_cluster", "health", address, "--timeout", str(TIMEOUT_S)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            with silent.accept()[0]:
                process.send_signal(signal.SIGINT)
                assert process.wait(TIMEOUT_S) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""
