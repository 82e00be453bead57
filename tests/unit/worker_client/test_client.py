"""A connection that takes part, and one that only looks on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, PermissionDeniedError, ShapeMismatchError
from ps_protocol.task_id import TaskId
from tests.unit.worker_client.clusters import TIMEOUT_S, InProcessCluster
from worker_client.client import Client, connect
from worker_client.initializers import ones_initializer
from worker_client.scopes.variable_scope import get_local_variable, get_variable

PS = {"ps": ["localhost:1"], "backup": ["localhost:2"]}


@pytest.fixture
def worker(cluster: InProcessCluster) -> Client:
    client = cluster.client()
    with client.as_default():
        get_variable("v", [2], initializer=ones_initializer())
        get_variable("w", [2], initializer=ones_initializer())
    return client


@pytest.mark.parametrize("job", ["ps", "backup"])
def test_a_ps_does_not_connect(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = rf"this process is {job}:0; start `shardscope ps` there or call ss\.serve\(\)"
    with pytest.raises(ValueError, match=told):
        connect(PS, job_name=job)
    monkeypatch.setenv(
        "TF_CONFIG", f'{{"cluster": {{"ps": ["localhost:1"]}}, "task": {{"type": "{job}", "index": 0}}}}'
    )
    with pytest.raises(ValueError, match=told):
        connect()


def test_a_cluster_in_the_form_of_the_command_line_is_taken() -> None:
    with pytest.raises(ValueError, match=r"this process is backup:0; start `shardscope ps`"):
        connect("ps=localhost:1;backup=localhost:2", job_name="backup")


@pytest.mark.parametrize("job", ["wrker", "chief"])
def test_a_job_that_the_cluster_spec_does_not_name_is_refused(job: str) -> None:
    with pytest.raises(ValueError, match=f"There is no job '{job}' in the cluster; jobs: .*'worker'"):
        connect({**PS, "worker": ["w.example:1"]}, job)


@pytest.mark.parametrize(("job", "is_chief"), [("worker", True), ("evaluator", False)])
def test_an_evaluator_is_no_chief(cluster: InProcessCluster, job: str, is_chief: bool) -> None:
    with cluster.client(job=job) as client:
        assert client.is_chief is is_chief


def members(cluster: InProcessCluster) -> list[str]:
    return [each.task for each in cluster.tasks[0].list_members(timeout_s=TIMEOUT_S)]


def test_an_observer_is_no_task_and_no_chief(cluster: InProcessCluster) -> None:
    with cluster.client(observer=True) as observer:
        observer.report_step(7)
        assert not observer.is_chief
        assert observer.task == TaskId("observer", 0)
    assert not any(members(cluster))
    with cluster.client() as worker, cluster.client(observer=True):
        pass
    assert worker.is_chief
    assert members(cluster) == ["worker:0"]


@pytest.mark.parametrize("step", ["7", 0.5, None, -1, 1 << 64, np.array(1.0)])
def test_a_step_that_is_no_count_is_refused_and_harms_nothing(cluster: InProcessCluster, step: Any) -> None:
    with cluster.client() as client:
        with pytest.raises(InvalidArgumentError, match=r"^the step that worker:0 reports is .*; give a count, as 100"):
            client.report_step(step)
        client.report_step(np.int64(7))
    [member] = cluster.tasks[0].list_members(timeout_s=TIMEOUT_S)
    assert member.step == 7


@pytest.mark.usefixtures("worker")
def test_an_observer_reads_and_finds_what_others_have_made(cluster: InProcessCluster) -> None:
    with cluster.client(observer=True) as observer:
        v = get_variable("v", [2])
        assert (v.numpy().tolist(), v.version, v.initialized) == ([1, 1], 0, True)
        assert [each.tolist() for each in observer.read_all([v, observer.variable("w")])] == [[1, 1], [1, 1]]
        assert v.gather([1]).tolist() == [1]


CHANGES: list[Callable[[Client, Any], object]] = [
    lambda _, v: v.assign([2, 2]),
    lambda _, v: v.assign_add(1.0, wait=False),
    lambda _, v: v.scatter_add([0], [1.0]),
    lambda _, v: v.initialize(overwrite=True),
    lambda client, v: client.assign_add_all([(v, 1.0)]),
    lambda client, v: client.assign_add_all([(v, 1.0), (client.variable("w"), 1.0)], wait=False),
    lambda client, v: client.assign_all([(v, [1.0, 1.0])]),
]


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("change", CHANGES)
def test_an_observer_changes_nothing(cluster: InProcessCluster, change: Callable[[Client, Any], object]) -> None:
    with cluster.client(observer=True) as observer:
        v = get_variable("v", [2], initializer=ones_initializer())
        before = cluster.batches()
        with pytest.raises(PermissionDeniedError, match=r'variable [vw] was not changed: .* observer="update"'):
            change(observer, v)
        assert cluster.batches() == before
        assert v.numpy().tolist() == [1, 1]


@pytest.mark.usefixtures("worker")
def test_an_observer_makes_no_variables_but_its_own(cluster: InProcessCluster) -> None:
    with cluster.client(observer=True) as observer:
        with pytest.raises(PermissionDeniedError, match="variable new is not in the cluster"):
            get_variable("new", [2])
        with pytest.raises(ShapeMismatchError, match=r"v is float32 \[2\] .* \[3\] is asked for"):
            get_variable("v", [3])
        with pytest.raises(DTypeMismatchError, match="int32"):
            get_variable("v", [2], dtype=np.int32)
        assert [each.name for each in observer.variables()] == ["v", "w"]
        mine = get_local_variable("mine", [2], initializer=ones_initializer())
        mine.assign_add(1.0)
        assert mine.numpy().tolist() == [2, 2]


def test_an_observer_that_asks_for_it_changes_variables(cluster: InProcessCluster, worker: Client) -> None:
    with cluster.client(observer="update"):
        get_variable("v", [2]).assign_add(1.0)
        get_variable("new", [2], initializer=ones_initializer()).assign_add(1.0)
    assert worker.variable("v").numpy().tolist() == worker.variable("new").numpy().tolist() == [2, 2]
    assert members(cluster) == ["worker:0"]


def test_there_are_two_kinds_of_observers() -> None:
    with pytest.raises(ValueError, match="observer is 'write'"):
        connect(PS, observer="write")  # type: ignore[arg-type]  # that is what is tested
