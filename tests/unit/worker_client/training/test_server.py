"""``tf.train.Server`` without other processes: which task it is, its target, the server of one process, its ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

import worker_client.compat.v1 as tf
from ps_protocol.service_types import Member, MemberState
from worker_client.training import server_ends

CLUSTER = {"ps": ["a.example:1", "b.example:1"], "worker": ["c.example:1", "d.example:1"]}


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def local() -> Iterator[tf.train.Server]:
    server = tf.train.Server.create_local_server()
    yield server
    server.close()


def test_it_says_which_task_it_is() -> None:
    server = tf.train.Server(tf.train.ClusterSpec(CLUSTER), "worker", 1, start=False)
    assert server.target == "grpc://d.example:1"
    definition = server.server_def
    assert (definition.job_name, definition.task_index, definition.protocol) == ("worker", 1, "grpc")
    again = tf.train.Server(definition, task_index=0, config="c", start=False)
    assert (again.target, again.server_def.default_session_config) == ("grpc://c.example:1", "c")


def test_a_single_job_and_task_need_not_be_named() -> None:
    assert tf.train.Server({"ps": ["a.example:1"]}, start=False).server_def.job_name == "ps"
    assert tf.train.Server({"ps": {3: "a.example:1"}}, start=False).server_def.task_index == 3


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, "Could not convert `server_or_cluster_def` to a"),
        ((CLUSTER,), ValueError, "Must specify an explicit `job_name`"),
        ((CLUSTER, "ps"), ValueError, "Must specify an explicit `task_index`"),
        (
            (CLUSTER, "chief", 0),
            tf.errors.InternalError,
            'Job "chief" was not defined .* jobs: ps, worker',
        ),
        ((CLUSTER, "ps", 2), tf.errors.InternalError, r'Task 2 was not defined in job "ps"; its tasks: \[0, 1\]'),
        ((CLUSTER, "ps", 0, "mpi"), tf.errors.NotFoundError, "No server factory registered for the protocol 'mpi'"),
        (({**CLUSTER, "backup": ["e.example:1"]}, "backup", 0), tf.errors.InternalError, "shardscope ps --backup"),
        (({"ps": ["nowhere"]},), ValueError, "nowhere"),
    ],
    ids=["number", "job", "task", "no job", "no task", "protocol", "backup", "address"],
)
def test_what_is_no_task_is_refused(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tf.train.Server(*arguments)


def test_a_local_server_has_one_store_for_all_its_sessions(local: tf.train.Server) -> None:
    counter = tf.get_variable("counter", [], initializer=tf.zeros_initializer())
    with tf.Session(local.target) as one, tf.Session(local.target.encode()) as other:
        one.run(counter.initializer)
        other.run(tf.assign_add(counter, 2.0))
        assert one.run(counter) == 2.0
    other_server = tf.train.Server.create_local_server()
    assert other_server.target != local.target
    with tf.Session(other_server.target) as session, pytest.raises(tf.errors.FailedPreconditionError):
        session.run(counter)
    other_server.close()


def test_a_local_server_trains_in_monitored_sessions(local: tf.train.Server) -> None:
    step = tf.train.get_or_create_global_step()
    train = tf.assign_add(step, 1)
    for last in (3, 6):  # the first makes the variables, and initialises them again
        with tf.train.MonitoredTrainingSession(
            local.target, is_chief=last == 3, hooks=[tf.train.StopAtStepHook(last_step=last)], max_wait_secs=10
        ) as session:
            while not session.should_stop():
                session.run(train)
    with tf.Session(local.target) as session:
        assert session.run(step) == 6


def test_it_can_be_started_later_and_closed_once(local: tf.train.Server) -> None:
    server = tf.train.Server.create_local_server(start=False)
    with pytest.raises(tf.errors.NotFoundError, match="no server of this process has the target"):
        tf.Session(server.target)
    with pytest.raises(RuntimeError, match="has not started; call start"):
        server.join()
    server.start()
    server.start()
    tf.Session(server.target).close()
    server.join()
    server.close()
    with pytest.raises(tf.errors.NotFoundError):
        tf.Session(server.target)
    with pytest.raises(RuntimeError, match="is closed; make a new one"):
        server.start()


def test_a_program_need_not_end_it() -> None:
    code = "import worker_client.compat.v1 as tf; server = tf.train.Server.create_local_server(); print(server.target)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("local://1\n".replace("local://", "grpc://local:"), "")


# -- how a ps task ends -------------------------------------------------------------------------------


class Host:
    """A ps task that serves nobody."""

    def __init__(self, states: dict[str, MemberState], *, stops: bool = True):
        self.states, self.stops = states, stops
        self.reasons: list[str] = []
        self.looked = threading.Event()
        self.address = "a.example:1"

    def wait_for_shutdown(self, timeout_s: float) -> bool:
        self.looked.set()
        return bool(self.reasons)

    def request_shutdown(self, reason: str) -> None:
        self.reasons.append(reason)

    def members(self) -> list[Member]:
        return [Member(task, uuid4(), "host", 1, state, 0.0, 0.0, 0, 1.0) for task, state in self.states.items()]

    def addresses(self) -> list[Any]:
        return []

    def stop(self) -> bool:
        return self.stops


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Host]]:
    made: list[Host] = []
    monkeypatch.setattr(server_ends, "host_ps", lambda _: made[-1])
    return made  # type: ignore[return-value]


def ps_task(hosts: list[Host], host: Host, index: int = 0, num_ps: int = 1) -> server_ends.PsTask:
    hosts.append(host)
    spec = tf.train.ClusterSpec({"ps": CLUSTER["ps"][:num_ps], "worker": CLUSTER["worker"]})
    return server_ends.PsTask(spec, index)


DONE = {"worker:0": MemberState.LEFT, "worker:1": MemberState.LEFT}


def test_it_ends_when_all_others_have_ended_well(hosts: list[Host]) -> None:
    host = Host({**DONE, "worker:1": MemberState.ACTIVE})
    task = ps_task(hosts, host)
    joining = threading.Thread(target=task.join)
    joining.start()
    for state in (MemberState.DEAD, MemberState.LATE):
        host.states["worker:1"] = state
        host.looked.clear()
        assert host.looked.wait(60)
        assert host.reasons == []
    host.states = DONE
    joining.join(60)
    assert host.reasons == ["the workers are done"]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order_and_is_the_programs_again_then(hosts: list[Host], signum: int) -> None:
    host, before = Host({}), signal.getsignal(signum)

    class Signals(Host):
        def wait_for_shutdown(self, timeout_s: float) -> bool:
            if not self.reasons:
                signal.raise_signal(signum)
            return super().wait_for_shutdown(timeout_s)

    host = Signals({})
    ps_task(hosts, host, index=1, num_ps=2).join()
    assert host.reasons == [f"it received {signal.Signals(signum).name}"]
    assert signal.getsignal(signum) is before


def test_only_ps_0_looks_at_the_others(hosts: list[Host]) -> None:
    host = Host(DONE)
    task = ps_task(hosts, host, index=1, num_ps=2)
    joining = threading.Thread(target=task.join)
    joining.start()
    for _ in range(3):
        host.looked.clear()
        assert host.looked.wait(60)
    assert host.reasons == []
    host.request_shutdown("shardscope shutdown")
    joining.join(60)


def test_what_could_not_be_finished_is_an_error(hosts: list[Host]) -> None:
    task = ps_task(hosts, Host(DONE, stops=False))
    with pytest.raises(RuntimeError, match="ps:0 has ended, but could not finish"):
        task.join()
    task.close()
