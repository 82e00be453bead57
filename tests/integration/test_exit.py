"""Programs that end without ``close``, by an error or by Ctrl-C: what is queued is sent, or they say what is lost."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ps_cluster import LocalCluster
from ps_protocol.service_types import MemberState
from tests.conftest import Eventually
from worker_client.client import Client, connect

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0
"""Bound on each program; far below the grace that the programs give a ps that is away."""

PROGRAM = """
import multiprocessing, os, signal, sys, threading
import shardscope as ss
from worker_client.connection import ending

signal.signal(signal.SIGINT, signal.default_int_handler)
ending.EXIT_GRACE_S = 1.0 if sys.argv[2:] == ["--hasty"] else 60.0

def connect(**more):
    return ss.connect({"ps": [sys.argv[1]]}, operation_timeout_s=600, ps_grace_s=600, **more)

def variable(name="v"):
    return ss.get_variable(name, [], initializer=ss.zeros_initializer())

def wait_for_parent(word):
    print(word, flush=True)
    assert sys.stdin.readline() == "go on\\n"
"""


class Program:
    """A program that connects to a cluster; it is killed at the end of the block.

    Args:
        cluster: Whose first ps it is given.
        text: Python, behind ``PROGRAM``.
        hasty: Whether the end of the program waits for what is queued a second only.
        path: Where to put it, if it must be a file.
    """

    def __init__(self, cluster: LocalCluster, text: str, *, hasty: bool = False, path: Path | None = None):
        if path is not None:
            path.write_text(PROGRAM + text)
        program = ["-c", PROGRAM + text] if path is None else [str(path)]
        arguments = [cluster.cluster_spec.ps_addresses()[0], *(["--hasty"] if hasty else [])]
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def await_word(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n", self.process.communicate("", TIMEOUT_S)

    def end(self) -> tuple[int, str]:
        """Lets it go on if it waits, and returns its exit code and what it has written to standard error."""
        _, told = self.process.communicate("go on\n", TIMEOUT_S)
        return self.process.returncode, told


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=1) as cluster:
        yield cluster


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """One whose ps may be killed."""
    with LocalCluster(num_ps=1, durability="journal") as started:
        yield started


def value_of(cluster: LocalCluster, name: str) -> float:
    with connect(cluster.cluster_spec, observer=True) as observer:
        return float(np.asarray(observer.variable(name)))


def num_updates(told: str) -> int:
    """How many updates of v a program says it has given up, or knows nothing of."""
    assert told.count("the connection to ps:0") == 1, told
    return sum(int(count) for count in re.findall(r"updates \(v: (\d+)\)", told))


def test_what_is_queued_at_the_end_of_a_program_is_sent(lasting: LocalCluster) -> None:
    text = """
connect()
v = variable("queued")
for _ in range(2000): v.assign_add(1.0, wait=False)
"""
    with Program(lasting, text) as program:
        assert program.end() == (0, "")
    assert value_of(lasting, "queued") == 2000


@pytest.mark.parametrize("ending", ["sys.exit(3)", "raise ValueError('broken')"])
def test_it_is_sent_when_the_program_fails(lasting: LocalCluster, ending: str) -> None:
    name = f"failing{len(ending)}"
    text = f"""
with connect():
    v = variable({name!r})
    for _ in range(2000): v.assign_add(1.0, wait=False)
    {ending}
"""
    with Program(lasting, text) as program:
        code, told = program.end()
    assert code in (1, 3)
    assert "given up" not in told
    assert "lost" not in told
    assert value_of(lasting, name) == 2000


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_it_is_sent_at_the_end_of_a_child_of_multiprocessing(
    lasting: LocalCluster, tmp_path: Path, method: str
) -> None:
    text = f"""
def work():
    connect()
    v = variable("child_{method}")
    for _ in range(2000): v.assign_add(1.0, wait=False)

if __name__ == "__main__":
    child = multiprocessing.get_context("{method}").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
"""
    with Program(lasting, text, path=tmp_path / "program.py") as program:
        assert program.end() == (0, "")
    assert value_of(lasting, f"child_{method}") == 2000


def test_a_daemon_thread_that_goes_on_pushing_does_not_hold_up_the_end(lasting: LocalCluster) -> None:
    text = """
connect()
v = variable("daemon")
started = threading.Event()
def push():
    try:
        while True:
            v.assign_add(1.0, wait=False)
            started.set()
    except ss.errors.FailedPreconditionError as error:
        assert "is closed" in str(error)
threading.Thread(target=push, daemon=True).start()
assert started.wait(60)
"""
    with Program(lasting, text) as program:
        assert program.end() == (0, "")
    assert value_of(lasting, "daemon") >= 1


@pytest.mark.parametrize("block", ["connect()\nif True:", "with connect():"], ids=["no block", "with"])
@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("sys.exit(3)", 3),
        ("raise ValueError('broken')", 1),
        ("os.kill(os.getpid(), signal.SIGINT); threading.Event().wait()", -signal.SIGINT),
    ],
    ids=["exit", "error", "interrupt"],
)
def test_a_ps_that_is_away_does_not_hold_up_the_end(cluster: LocalCluster, block: str, ending: str, code: int) -> None:
    text = f"""
{block}
    v = variable()
    wait_for_parent("connected")
    for _ in range(5): v.assign_add(1.0, wait=False)
    {ending}
"""
    with Program(cluster, text, hasty=True) as program:
        program.await_word("connected")
        cluster.kill_ps(0)
        ended, told = program.end()
    assert ended == code, told
    assert num_updates(told) == 5
    assert "nobody asked" not in told


def test_the_end_of_a_program_says_what_a_ps_that_is_away_has_not_got(cluster: LocalCluster) -> None:
    text = """
connect()
v = variable()
wait_for_parent("connected")
futures = [v.assign_add(1.0, wait=False) for _ in range(5)]
"""
    with Program(cluster, text, hasty=True) as program:
        program.await_word("connected")
        cluster.kill_ps(0)
        ended, told = program.end()
    assert ended == 0, told
    assert num_updates(told) == 5


@pytest.mark.parametrize("place", ["future.result()", "client.close()"])
def test_ctrl_c_while_a_ps_is_waited_for_ends_the_program(cluster: LocalCluster, place: str) -> None:
    text = f"""
with connect() as client:
    v = variable()
    wait_for_parent("connected")
    future = v.assign_add(1.0, wait=False)
    print("waiting", flush=True)
    {place}
"""
    with Program(cluster, text) as program:
        program.await_word("connected")
        cluster.kill_ps(0)
        assert program.process.stdin is not None
        program.process.stdin.write("go on\n")
        program.process.stdin.flush()
        program.await_word("waiting")
        program.process.send_signal(signal.SIGINT)
        ended, told = program.end()
    assert ended == -signal.SIGINT, told
    assert num_updates(told) == 1


def state_of(client: Client, task: str) -> MemberState | None:
    members = client.fanout.handle(0).service.list_members(timeout_s=TIMEOUT_S)
    return next((each.state for each in members if each.task == task), None)


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("with connect(task_index=1, lease_s=1): variable('x')", MemberState.LEFT),
        ("connect(task_index=2, lease_s=1)", MemberState.LEFT),
        ("with connect(task_index=3, lease_s=1): sys.exit(3)", MemberState.LEFT),
        ("with connect(task_index=4, lease_s=1): raise ValueError('broken')", MemberState.DEAD),
        ("connect(task_index=5, lease_s=1); raise ValueError('broken')", MemberState.DEAD),
    ],
    ids=["end of block", "end of program", "exit", "error in block", "error"],
)
def test_a_program_that_fails_is_dead_and_has_not_left(
    lasting: LocalCluster, eventually: Eventually, text: str, state: MemberState
) -> None:
    (index,) = re.findall(r"task_index=(\d)", text)
    with Program(lasting, text) as program:
        program.end()
    with connect(lasting.cluster_spec, observer=True) as observer:
        shown = eventually(
            lambda: (
                (now := state_of(observer, f"worker:{index}")) not in (MemberState.ACTIVE, MemberState.LATE) and now
            ),
            message="the worker has left, or is dead",
        )
    assert shown is state


def failing(asks: str) -> str:
    return f"""
with connect(initialize=False):
    future = ss.get_variable("never_initialised", [], initializer=ss.zeros_initializer()).assign_add(1.0, wait=False)
    {asks}
    del future
"""


def test_a_failure_that_nobody_asked_for_is_told_once(lasting: LocalCluster) -> None:
    with Program(lasting, failing("pass")) as program:
        code, told = program.end()
    assert code == 0
    assert told.count("never_initialised has failed, and nobody asked for its outcome: FailedPreconditionError") == 1
    assert told.count("\n") == 1


def test_a_failure_that_was_asked_for_is_not_told(lasting: LocalCluster) -> None:
    with Program(lasting, failing("assert isinstance(future.exception(60), ss.errors.ShardscopeError)")) as program:
        assert program.end() == (0, "")
