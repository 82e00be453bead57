"""Ps tasks that die while workers train, in real processes: workers wait and go on, or learn at once what was lost."""

from __future__ import annotations

import json
import re
import signal
import threading
import traceback
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import worker_client as ss
from ps_cluster.local.local_cluster import LocalCluster
from ps_protocol.service_types import Member, MemberState
from tests.conftest import Eventually
from worker_client.transport import grpc

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0
LEASE_S = 0.6
SHORT_LEASE = ("--lease", str(LEASE_S))


def members_of(cluster: LocalCluster) -> dict[str, Member]:
    service = grpc.connect(cluster.ps_address(0), task="ps:0")
    try:
        return {member.task: member for member in service.list_members(timeout_s=TIMEOUT_S)}
    except ss.errors.UnavailableError:
        return {}
    finally:
        service.close()


OPERATION_TIMEOUT_S = 2.0
"""Enough for an operation on a slow machine; ps tasks are away for longer."""


def counters() -> list[ss.Variable]:
    """A variable on each of the two ps tasks."""
    made = [ss.get_variable(f"counter_{index}", [], initializer=ss.zeros_initializer()) for index in range(2)]
    return sorted(made, key=lambda each: each.ps_task)


def caplog_has(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


class Trainer:
    """Adds to both counters in a thread, as fast as it can, by queued updates and by ones that are waited for."""

    def __init__(self, variables: list[ss.Variable]):
        self.acknowledged = [0, 0]
        self.error: BaseException | None = None
        self._variables = variables
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._enough.is_set():
                queued = [(index, self._variables[index].assign_add(1.0, wait=False)) for index in (0, 1) * 10]
                for index, future in queued:
                    future.result(TIMEOUT_S)
                    self.acknowledged[index] += 1
                for index, variable in enumerate(self._variables):
                    variable.assign_add(1.0)
                    self.acknowledged[index] += 1
                    assert float(variable) == self.acknowledged[index]
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.error = error

    @property
    def total(self) -> int:
        return sum(self.acknowledged)

    def stop(self) -> None:
        self._enough.set()
        self._thread.join(2 * TIMEOUT_S)
        assert not self._thread.is_alive()

    def makes_progress(self, eventually: Eventually) -> None:
        before = self.total
        eventually(lambda: self.error or self.total > before + 50, message="the worker goes on")
        assert self.error is None, self.error


@pytest.fixture(params=["auto", "grpc"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# -- with a journal -------------------------------------------------------------------------------


def test_a_worker_trains_on_while_each_ps_is_killed_and_restarted(
    transport: str, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        LocalCluster(num_ps=2, durability="journal") as cluster,
        ss.connect(cluster.cluster_spec, operation_timeout_s=OPERATION_TIMEOUT_S, transport=transport) as client,
    ):
        variables = counters()
        trainer = Trainer(variables)
        try:
            for index in (1, 0):
                trainer.makes_progress(eventually)
                cluster.kill_ps(index)
                waits = f"waiting for ps:{index} at"
                eventually(partial(caplog_has, caplog, waits), message="the worker waits")
                availability = client.fanout.handle(index)._availability
                # Only the grace can bridge that.
                eventually(lambda: availability.away_s > 2 * OPERATION_TIMEOUT_S, message="a timeout has passed")  # noqa: B023
                cluster.restart_ps(index)
                trainer.makes_progress(eventually)
        finally:
            trainer.stop()
        assert trainer.error is None
        assert [float(each) for each in variables] == trainer.acknowledged
        assert [each.version for each in variables] == trainer.acknowledged
    assert "ps:1 at" in caplog.text
    assert "is back after" in caplog.text


def test_a_ps_that_was_restarted_at_another_address_is_found(
    transport: str, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        LocalCluster(num_ps=2, durability="journal", ps_arguments=SHORT_LEASE) as cluster,
        ss.connect(cluster.cluster_spec, transport=transport),
    ):
        variables = counters()
        old = cluster.ps_address(1)
        trainer = Trainer(variables)
        try:
            trainer.makes_progress(eventually)
            cluster.kill_ps(1)
            cluster.restart_ps(1, arguments=("--port", "0"))
            trainer.makes_progress(eventually)
        finally:
            trainer.stop()
        new = cluster.ps_address(1)
        assert old == cluster.cluster_spec.ps_addresses()[1] != new
        assert f"ps:1 has moved from {old} to {new}" in caplog.text
        assert [float(each) for each in variables] == trainer.acknowledged


def noted(cluster: LocalCluster, index: int) -> dict[str, str]:
    """Where a ps task has noted the others to be, in its data directory."""
    assert cluster.data_dir is not None
    try:
        content = json.loads((cluster.data_dir / f"ps-{index}" / "peers.json").read_bytes())
    except FileNotFoundError:
        return {}
    return {task: each["address"] for task, each in content.items()}


def has_noted(cluster: LocalCluster, index: int, other: int) -> bool:
    return noted(cluster, index).get(f"ps:{other}") == cluster.ps_address(other)


def move(cluster: LocalCluster, index: int, num_ps: int, eventually: Eventually) -> None:
    """Kills a ps, starts it at another address with the cluster spec of old, and waits until the others know."""
    cluster.kill_ps(index)
    cluster.restart_ps(index, arguments=("--port", "0"))
    for other in range(num_ps):
        eventually(partial(has_noted, cluster, other, index), message=f"ps:{other} has noted where ps:{index} is")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_ps_tasks_that_move_one_after_the_other_find_each_other_and_are_found(
    order: tuple[int, int], eventually: Eventually
) -> None:
    with (
        LocalCluster(num_ps=2, num_workers=2, durability="journal", ps_arguments=SHORT_LEASE) as cluster,
        ss.connect(cluster.cluster_spec, lease_s=LEASE_S),
    ):
        variables = counters()
        old = cluster.cluster_spec.ps_addresses()
        trainer = Trainer(variables)
        try:
            for index in order:
                trainer.makes_progress(eventually)
                move(cluster, index, 2, eventually)
            trainer.makes_progress(eventually)
        finally:
            trainer.stop()
        assert [float(each) for each in variables] == trainer.acknowledged

        new = [cluster.ps_address(index) for index in range(2)]
        assert not set(old) & set(new)
        for half_right in ([new[0], old[1]], [old[0], new[1]]):
            with ss.connect({"ps": half_right}, task_index=1, lease_s=LEASE_S, connect_timeout_s=TIMEOUT_S) as other:
                assert [float(other.variable(each.name)) for each in variables] == trainer.acknowledged


def test_a_cluster_spec_that_is_newer_than_what_a_ps_has_noted_is_followed(eventually: Eventually) -> None:
    with LocalCluster(num_ps=2, durability="journal", ps_arguments=SHORT_LEASE) as cluster:
        eventually(partial(has_noted, cluster, 1, 0), message="ps:1 has noted where ps:0 is")
        old = cluster.ps_address(0)
        for index in (0, 1):
            cluster.kill_ps(index)
        cluster.restart_ps(0, arguments=("--port", "0"))  # whom it should tell does not run
        newer = ss.ClusterSpec({"ps": [cluster.ps_address(0), cluster.ps_address(1)]}).to_flag()
        assert noted(cluster, 1)["ps:0"] == old != cluster.ps_address(0)
        cluster.restart_ps(1, arguments=("--cluster", newer, "--port", "0"))
        eventually(partial(has_noted, cluster, 0, 1), message="ps:0 has noted where ps:1 is")
        eventually(partial(has_noted, cluster, 1, 0), message="ps:1 has noted where ps:0 is now")


def test_a_new_client_finds_ps_tasks_that_have_moved_by_one_that_has_not(eventually: Eventually) -> None:
    with LocalCluster(num_ps=3, num_workers=1, durability="journal", ps_arguments=SHORT_LEASE) as cluster:
        for index in (0, 1):
            move(cluster, index, 3, eventually)
        cluster.kill_ps(2)  # what it knows must outlive its process
        cluster.restart_ps(2)
        with ss.connect(cluster.cluster_spec, connect_timeout_s=TIMEOUT_S):
            made = [ss.get_variable(f"v{index}", [], initializer=ss.ones_initializer()) for index in range(3)]
            assert [float(each) for each in made] == [1.0, 1.0, 1.0]
            assert sorted(each.ps_task for each in made) == [0, 1, 2]


@pytest.mark.parametrize("arguments", [(), ("--port", "0")])
def test_the_members_are_there_again_after_ps_0_was_restarted(
    arguments: tuple[str, ...], eventually: Eventually
) -> None:
    with (
        LocalCluster(num_ps=2, num_workers=1, durability="journal", ps_arguments=SHORT_LEASE) as cluster,
        ss.connect(cluster.cluster_spec, lease_s=LEASE_S) as client,
    ):
        client.report_step(41)
        before = members_of(cluster)["worker:0"]
        cluster.kill_ps(0)
        cluster.restart_ps(0, arguments=arguments)  # which nobody but heartbeats will notice
        members = eventually(
            lambda: found if len(found := members_of(cluster)) == 3 else None, message="all have joined again"
        )
        assert set(members) == {"ps:0", "ps:1", "worker:0"}
        worker = members["worker:0"]
        assert (worker.incarnation, worker.pid, worker.host) == (before.incarnation, before.pid, before.host)
        assert worker.joined_at_s == pytest.approx(before.joined_at_s, abs=5.0)
        eventually(lambda: members_of(cluster)["worker:0"].step == 41, message="the step is told again")


# -- without --------------------------------------------------------------------------------------


def test_a_ps_that_has_lost_its_state_is_told_of_at_once(transport: str, eventually: Eventually) -> None:
    with LocalCluster(num_ps=2) as cluster, ss.connect(cluster.cluster_spec, transport=transport):
        variables = counters()
        trainer = Trainer(variables)
        try:
            trainer.makes_progress(eventually)
            cluster.kill_ps(1)
            cluster.restart_ps(1)
            eventually(lambda: trainer.error, message="the worker is told")
        finally:
            trainer.stop()
        assert isinstance(trainer.error, ss.errors.StateLostError)
        assert re.search(r"\[ps:1\] .*started again \d+ s ago.*put their values back", str(trainer.error))
        with pytest.raises(ss.errors.StateLostError, match="ps:1"):
            float(variables[1])
        assert float(variables[0]) >= trainer.acknowledged[0]


def test_a_ps_that_does_not_come_back_is_given_up_after_the_grace() -> None:
    with (
        LocalCluster(num_ps=2) as cluster,
        ss.connect(cluster.cluster_spec, operation_timeout_s=OPERATION_TIMEOUT_S, ps_grace_s=OPERATION_TIMEOUT_S),
    ):
        variables = counters()
        cluster.kill_ps(1)
        with pytest.raises(ss.errors.DeadlineExceededError, match=r"has been away for .*Start it again") as caught:
            variables[1].assign_add(1.0)
        assert "".join(traceback.format_exception(caught.value)).count("Traceback") == 1
        assert float(variables[0].assign_add(1.0)) == 1


# -- leases ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines() -> list[str]:
    """What the ps tasks of ``leased_cluster`` have printed."""
    return []


@pytest.fixture(scope="module")
def leased_cluster(lines: list[str]) -> Iterator[LocalCluster]:
    arguments = (*SHORT_LEASE, "--log-format", "console", "--log-level", "warning")
    with LocalCluster(
        num_ps=2, num_workers=2, ps_arguments=arguments, log=lambda task, line: lines.append(f"{task} {line}")
    ) as cluster:
        yield cluster


def named(lines: list[str], task: str, what: str) -> int:
    return sum(bool(re.search(rf"ps:0 .*{task} \(pid .*{what}", line)) for line in lines)


def is_named(lines: list[str], task: str, what: str, times: int) -> bool:
    return named(lines, task, what) >= times


def test_a_ps_that_dies_is_named_within_its_lease_and_so_is_its_return(
    leased_cluster: LocalCluster, lines: list[str], eventually: Eventually
) -> None:
    cluster = leased_cluster
    eventually(lambda: "ps:1" in members_of(cluster), message="ps 1 has joined")
    cluster.kill_ps(1)
    eventually(lambda: named(lines, "ps:1", "is dead"), message="ps 1 is named")
    assert members_of(cluster)["ps:1"].state is MemberState.DEAD
    cluster.restart_ps(1)
    eventually(lambda: named(lines, "ps:1", "is back"), message="its return is named")
    eventually(lambda: has_state(cluster, "ps:1", MemberState.ACTIVE), message="it is alive")


def has_state(cluster: LocalCluster, task: str, state: MemberState) -> bool:
    return members_of(cluster)[task].state is state


WORKER = f"""
import threading
import worker_client as ss

with ss.connect(lease_s={LEASE_S}) as client:
    client.report_step(5)
    print("connected", flush=True)
    threading.Event().wait()
"""


def test_a_worker_that_is_killed_is_named_and_one_that_was_stopped_comes_back(
    leased_cluster: LocalCluster, lines: list[str], eventually: Eventually, tmp_path: Path
) -> None:
    cluster = leased_cluster
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    worker = cluster.start_worker(0, ["python", str(program)])
    eventually(lambda: "connected" in worker.tail, message="the worker runs")
    # On a machine that stands still for longer than a lease, it may be named more often.
    for signum, what, state, times in (
        (signal.SIGSTOP, "is dead", MemberState.DEAD, 1),
        (signal.SIGCONT, "is back", MemberState.ACTIVE, 1),
        (signal.SIGKILL, "is dead", MemberState.DEAD, 2),
    ):
        worker.send_signal(signum)
        eventually(partial(has_state, cluster, "worker:0", state), message=f"the worker {what}")
        eventually(partial(is_named, lines, "worker:0", what, times), message=f"it is told that it {what}")
    assert members_of(cluster)["worker:0"].step == 5


def test_a_client_that_closes_has_left(leased_cluster: LocalCluster) -> None:
    with ss.connect(leased_cluster.cluster_spec, task_index=1, lease_s=LEASE_S):
        assert members_of(leased_cluster)["worker:1"].state is not MemberState.LEFT
    assert members_of(leased_cluster)["worker:1"].state is MemberState.LEFT


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("ps_grace_s", -1.0, "a number of seconds from 0"),
        ("lease_s", float("nan"), "0 for never, or a number of seconds from 0.1"),
        ("operation_timeout_s", 0, "a number of seconds above 0"),
        ("operation_timeout_s", -0.5, "a number of seconds above 0"),
        ("connect_timeout_s", float("nan"), "a number of seconds above 0"),
        ("connect_timeout_s", float("inf"), "a number of seconds above 0"),
        ("connect_timeout_s", "a minute", "a number of seconds above 0"),
        ("operation_timeout_s", True, "a number of seconds above 0"),
    ],
)
def test_a_number_of_seconds_that_is_none_is_refused(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value!r}; it should be {allowed}"):
        ss.connect({"ps": ["localhost:1"]}, **{name: value})


def test_the_environment_may_say_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDSCOPE_PS_GRACE", "7.5")
    monkeypatch.setenv("SHARDSCOPE_LEASE", "0")
    with LocalCluster(num_ps=1) as cluster, ss.connect(cluster.cluster_spec) as client:
        assert (client.settings.ps_grace_s, client.settings.lease_s) == (7.5, 0.0)
    monkeypatch.setenv("SHARDSCOPE_PS_GRACE", "a while")
    with pytest.raises(ValueError, match="SHARDSCOPE_PS_GRACE is 'a while'"):
        ss.connect({"ps": ["localhost:1"]})
