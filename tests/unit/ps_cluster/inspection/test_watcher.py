from __future__ import annotations

import pytest

from ps_cluster.inspection.watcher import ClusterWatcher, StepRates
from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import UnavailableError
from ps_protocol.ps_service import ClusterService
from ps_protocol.service_types import ReplicaRole
from ps_protocol.task_id import TaskId
from tests.conftest import Eventually
from tests.unit.ps_cluster.fakes import FakePs, member, replica_status, status_of

SPEC = ClusterSpec({"ps": ["a:1", "b:2"], "worker": ["c:3"]})
PAIRS = ClusterSpec({"ps": ["a:1", "b:2"], "backup": ["d:4", "e:5"]})
PS_0, PS_1 = TaskId("ps", 0), TaskId("ps", 1)
BACKUP_0, BACKUP_1 = TaskId("backup", 0), TaskId("backup", 1)


class Tasks:
    """Two ps tasks, and what connects to them."""

    def __init__(self) -> None:
        self.by_index = [FakePs(members=[member("worker:0", step=5)]), FakePs(status=status_of("ps:1"))]

    def connect(self, address: str, task: TaskId) -> ClusterService:
        assert SPEC.task_address(task.job, task.index) == address
        return self.by_index[task.index].service


def test_it_gathers_what_every_ps_says(eventually: Eventually) -> None:
    tasks = Tasks()
    with ClusterWatcher(SPEC, tasks.connect) as watcher:
        eventually(lambda: watcher.snapshot.statuses, message="a first answer")
        snapshot = watcher.snapshot
    assert [status and status.task for status in snapshot.statuses.values()] == ["ps:0", "ps:1"]
    assert snapshot.members["worker:0"].step == 5
    assert all(each.is_closed for each in tasks.by_index)


def test_it_asks_a_last_time_before_it_stops(eventually: Eventually) -> None:
    tasks = Tasks()
    with ClusterWatcher(SPEC, tasks.connect) as watcher:
        eventually(lambda: watcher.snapshot.statuses, message="a first answer")
        tasks.by_index[0].members = [member("worker:0", step=900)]
        watcher.finish()
        assert watcher.snapshot.members["worker:0"].step == 900


def test_a_ps_that_does_not_answer_is_none_and_the_others_go_on() -> None:
    tasks = Tasks()
    tasks.by_index[1].error = UnavailableError("gone")
    with ClusterWatcher(SPEC, tasks.connect) as watcher:
        watcher.finish()
        assert watcher.snapshot.statuses[PS_1] is None
        assert watcher.snapshot.statuses[PS_0] is not None


def test_members_stay_known_when_ps_0_stops_answering(eventually: Eventually) -> None:
    tasks = Tasks()
    with ClusterWatcher(SPEC, tasks.connect) as watcher:
        eventually(lambda: watcher.snapshot.members, message="a first answer")
        tasks.by_index[0].error = UnavailableError("gone")
        watcher.finish()
        assert watcher.snapshot.statuses[PS_0] is None
        assert "worker:0" in watcher.snapshot.members


def test_steps_stay_known_when_ps_0_is_started_again_and_has_not_heard_of_all(eventually: Eventually) -> None:
    tasks = Tasks()
    first = tasks.by_index[0]
    first.members = [member("worker:0", step=5), member("worker:1", step=7)]
    with ClusterWatcher(SPEC, tasks.connect) as watcher:
        eventually(lambda: watcher.snapshot.members, message="a first answer")
        first.members = [member("worker:0", step=6)]
        watcher.finish()
        assert {name: each.step for name, each in watcher.snapshot.members.items()} == {"worker:0": 6, "worker:1": 7}


def test_how_a_worker_has_ended_is_told_once_and_again_if_that_fails(eventually: Eventually) -> None:
    tasks = Tasks()
    first = tasks.by_index[0]
    first.leave_errors = [UnavailableError("busy")]
    with ClusterWatcher(SPEC, tasks.connect) as watcher:
        watcher.report_end(TaskId("worker", 0), "signal SIGKILL")
        watcher.report_end(TaskId("worker", 1), "exit code 3")  # which has never joined
        eventually(lambda: first.ends, message="the cluster is told")
    assert first.leave_errors == []
    assert first.ends == [("worker:0", first.members[0].incarnation, "signal SIGKILL")]


class Pairs:
    """Two ps tasks with a backup each, and what connects to them."""

    def __init__(self) -> None:
        self.by_task = {task: FakePs() for task in (PS_0, PS_1, BACKUP_0, BACKUP_1)}

    def become(self, task: TaskId, role: ReplicaRole, *, epoch: int = 1) -> None:
        self.by_task[task].current = replica_status(f"ps:{task.index}", role, epoch=epoch)

    def connect(self, address: str, task: TaskId) -> ClusterService:
        assert PAIRS.task_address(task.job, task.index) == address
        return self.by_task[task].service


def test_both_processes_of_a_pair_are_asked_and_the_members_come_from_the_primary() -> None:
    pairs = Pairs()
    pairs.become(PS_0, ReplicaRole.BACKUP)
    pairs.become(BACKUP_0, ReplicaRole.PRIMARY)
    pairs.by_task[BACKUP_0].members = [member("worker:0", step=7)]
    with ClusterWatcher(PAIRS, pairs.connect) as watcher:
        watcher.finish()
        assert list(watcher.snapshot.statuses) == [PS_0, PS_1, BACKUP_0, BACKUP_1]
        assert watcher.snapshot.members["worker:0"].step == 7
        assert not watcher.snapshot.lost


def test_a_pair_of_which_neither_has_the_state_is_lost_when_they_say_so_twice(eventually: Eventually) -> None:
    pairs = Pairs()
    for task in (PS_1, BACKUP_1):
        pairs.become(task, ReplicaRole.EMPTY)
    with ClusterWatcher(PAIRS, pairs.connect) as watcher:
        eventually(lambda: watcher.snapshot.statuses, message="a first answer")
        first = watcher.snapshot
        assert not first.lost or pairs.by_task[PS_1].calls > 1
        watcher.finish()
        assert watcher.snapshot.lost == {1}


@pytest.mark.parametrize(
    ("ps", "backup"),
    [
        ((ReplicaRole.EMPTY, 0), (ReplicaRole.EMPTY, 1)),  # one has not been told yet that it may begin
        ((ReplicaRole.EMPTY, 1), (ReplicaRole.CATCHING_UP, 1)),
        ((ReplicaRole.BACKUP, 1), (ReplicaRole.EMPTY, 1)),
        ((ReplicaRole.EMPTY, 1), None),  # it does not answer
    ],
)
def test_a_pair_of_which_one_may_have_the_state_is_not_lost(
    ps: tuple[ReplicaRole, int], backup: tuple[ReplicaRole, int] | None, eventually: Eventually
) -> None:
    pairs = Pairs()
    pairs.become(PS_1, ps[0], epoch=ps[1])
    if backup is None:
        pairs.by_task[BACKUP_1].error = UnavailableError("gone")
    else:
        pairs.become(BACKUP_1, backup[0], epoch=backup[1])
    with ClusterWatcher(PAIRS, pairs.connect) as watcher:
        eventually(lambda: watcher.snapshot.statuses, message="a first answer")
        watcher.finish()
        assert watcher.snapshot.lost == frozenset()


def test_steps_per_second_is_over_the_last_reports() -> None:
    rates = StepRates()
    assert rates.add("worker:0", 0, 10.0) is None
    assert rates.add("worker:0", 50, 11.0) == pytest.approx(50)
    assert rates.add("worker:0", 50, 12.0) == pytest.approx(25)
    for second in range(13, 19):
        rate = rates.add("worker:0", 50, float(second))
    assert rate is None


def test_workers_have_their_own_rates_and_may_start_anew() -> None:
    rates = StepRates()
    rates.add("worker:0", 1000, 10.0)
    assert rates.add("worker:1", 5, 11.0) is None
    assert rates.add("worker:0", 0, 11.0) is None
    assert rates.add("worker:0", 30, 12.0) == pytest.approx(30)
