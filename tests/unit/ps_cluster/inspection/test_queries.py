from __future__ import annotations

import pytest

from ps_cluster.inspection.queries import PsAnswer, ask_all, ask_primaries, explain
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import UnavailableError
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import ReplicaRole, Status
from ps_protocol.task_id import TaskId
from tests.unit.ps_cluster.fakes import FakePs, replica_status, status_of

SPEC = ClusterSpec({"ps": ["a:1", "b:2", "c:3"]})


def test_every_ps_is_asked_and_let_go_whatever_it_answers() -> None:
    error = UnavailableError("the task at b:2 cannot be reached")
    tasks = [FakePs(status=status_of("ps:0")), FakePs(error=error), FakePs(status=status_of("ps:2"))]

    def connect(address: str, task: TaskId) -> ClusterService:
        return tasks[task.index].service

    answers = ask_all(SPEC, lambda ps: ps.status(timeout_s=1).task, connect=connect)
    assert [(str(each.task), each.address, each.value, each.error) for each in answers] == [
        ("ps:0", "a:1", "ps:0", None),
        ("ps:1", "b:2", None, error),
        ("ps:2", "c:3", "ps:2", None),
    ]
    assert all(task.is_closed for task in tasks)


def test_a_cluster_without_ps_cannot_be_asked() -> None:
    def connect(address: str, task: TaskId) -> ClusterService:
        pytest.fail(f"{task} at {address} was asked")

    with pytest.raises(ValueError, match="no ps tasks"):
        ask_all(ClusterSpec({"worker": ["a:1"]}), lambda ps: ps.status(timeout_s=1), connect=connect)


PAIR = ClusterSpec({"ps": ["a:1", "b:2"], "backup": ["c:3", "d:4"]})
GONE = UnavailableError("nothing is there")


def asked_for_address(*pair: Status | UnavailableError) -> list[PsAnswer[str]]:
    """Who of the two processes of ps:1 is asked, given what they say of themselves; ps:0 and backup:0 are well."""
    statuses = {
        "a:1": replica_status("ps:0", ReplicaRole.PRIMARY),
        "c:3": replica_status("ps:0", ReplicaRole.BACKUP),
        "b:2": pair[0],
        "d:4": pair[1],
    }

    def connect(address: str, task: TaskId) -> ClusterService:
        said = statuses[address]
        return FakePs(error=said).service if isinstance(said, UnavailableError) else FakePs(status=said).service

    answers = ask_all(PAIR, lambda ps: ps.status(timeout_s=1), connect=connect)
    assert [str(each.task) for each in answers] == ["ps:0", "ps:1", "backup:0", "backup:1"]
    asked: list[str] = []

    def connect_again(address: str, task: TaskId) -> ClusterService:
        asked.append(address)
        return connect(address, task)

    found = ask_primaries(answers, lambda ps: ps.status(timeout_s=1).task, connect=connect_again)
    assert sorted(asked) == [each.address for each in found if each.error is None]
    return found


def test_of_a_pair_the_primary_is_asked() -> None:
    empty = replica_status("ps:1", ReplicaRole.EMPTY)
    for epoch_of_ps, address in ((5, "b:2"), (3, "d:4")):  # both take themselves for it: the newer epoch is right
        primaries = [replica_status("ps:1", ReplicaRole.PRIMARY, epoch=epoch) for epoch in (epoch_of_ps, 4)]
        assert [(str(each.task), each.address, each.value) for each in asked_for_address(*primaries)] == [
            ("ps:0", "a:1", "ps:0"),
            ("ps:1", address, "ps:1"),
        ]
    assert asked_for_address(GONE, primaries[1])[1].address == "d:4"
    assert asked_for_address(primaries[1], empty)[1].address == "b:2"


def test_a_pair_without_a_primary_is_an_error_and_nobody_is_asked() -> None:
    waiting = replica_status("ps:1", ReplicaRole.BACKUP)
    error = asked_for_address(GONE, waiting)[1].error
    assert error is not None
    assert "neither ps:1 nor backup:1 is known to be the primary now" in error.message
    assert asked_for_address(GONE, GONE)[1].error is GONE


def test_a_pair_without_state_says_what_it_waits_for() -> None:
    empty = replica_status("ps:1", ReplicaRole.EMPTY, obstacle="no process has been heard of that has the state")
    for pair in ((GONE, empty), (empty, GONE), (empty, replica_status("ps:1", ReplicaRole.EMPTY))):
        error = asked_for_address(*pair)[1].error
        assert error is not None
        assert error.message == "ps:1 waits for its state: no process has been heard of that has the state"


def test_a_backup_alone_does_not_stand_for_its_task() -> None:
    backup = FakePs(status=replica_status("ps:0", ReplicaRole.BACKUP))

    def connect(address: str, task: TaskId) -> ClusterService:
        return backup.service

    statuses = ask_all(ClusterSpec({"ps": ["a:1"]}), lambda ps: ps.status(timeout_s=1), connect=connect)
    [answer] = ask_primaries(statuses, lambda ps: ps.list_variables(timeout_s=1), connect=connect)
    assert answer.error is not None
    assert "give the cluster with its backups" in answer.error.message


def test_an_error_is_one_line_with_task_and_address() -> None:
    task = TaskId("ps", 1)
    assert explain(UnavailableError("is\n draining"), task, "b:2") == "[ps:1] at b:2: is draining"
    assert explain(UnavailableError("nothing at b:2"), task, "b:2") == "[ps:1] nothing at b:2"
