from __future__ import annotations

import pytest

from ps_cluster.ps_queries import ask_all, explain
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import UnavailableError
from ps_protocol.ps_service import PsService
from ps_protocol.task_id import TaskId
from tests.unit.ps_cluster.fakes import FakePs, status_of

SPEC = ClusterSpec({"ps": ["a:1", "b:2", "c:3"]})


def test_every_ps_is_asked_and_let_go_whatever_it_answers() -> None:
    error = UnavailableError("the task at b:2 cannot be reached")
    tasks = [FakePs(status=status_of("ps:0")), FakePs(error=error), FakePs(status=status_of("ps:2"))]

    def connect(address: str, task: TaskId) -> PsService:
        return tasks[task.index].service

    answers = ask_all(SPEC, lambda ps: ps.status(timeout_s=1).task, connect=connect)
    assert [(str(each.task), each.address, each.value, each.error) for each in answers] == [
        ("ps:0", "a:1", "ps:0", None),
        ("ps:1", "b:2", None, error),
        ("ps:2", "c:3", "ps:2", None),
    ]
    assert all(task.is_closed for task in tasks)


def test_a_cluster_without_ps_cannot_be_asked() -> None:
    def connect(address: str, task: TaskId) -> PsService:
        pytest.fail(f"{task} at {address} was asked")

    with pytest.raises(ValueError, match="no ps tasks"):
        ask_all(ClusterSpec({"worker": ["a:1"]}), lambda ps: ps.status(timeout_s=1), connect=connect)


def test_an_error_is_one_line_with_task_and_address() -> None:
    task = TaskId("ps", 1)
    assert explain(UnavailableError("is\n draining"), task, "b:2") == "[ps:1] at b:2: is draining"
    assert explain(UnavailableError("nothing at b:2"), task, "b:2") == "[ps:1] nothing at b:2"
