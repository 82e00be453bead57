"""What a worker that waits in a group says of those for whom it waits, and does for those who wait for it."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest

import worker_client as ss
from ps_protocol.service_types import Member, MemberState
from ps_protocol.training.round_messages import Answer, Awaited
from ps_protocol.training.sync_policy import SyncPolicy
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import Worker, gradients
from worker_client.objects.group_watch import GroupWatch
from worker_client.objects.training_group import TAKING_PART, TrainingGroup

TIMEOUT_S = 60.0


def test_a_worker_is_last_seen_by_its_heartbeats_too() -> None:
    member = Member("worker:1", UUID(int=1), "host", 7, MemberState.ACTIVE, 90.0, 129.5, 3)
    watch = GroupWatch(
        "sgd",
        SyncPolicy.parse("bsp"),
        task="worker:0",
        lease_s=10.0,
        look=lambda: Answer("bsp", 5, awaited=(Awaited("worker:1", last_seen_s=100.0), Awaited("worker:2"))),
        act=lambda event: pytest.fail(f"{event}"),
        list_members=lambda: [member],
        wall_clock=lambda: 130.0,
    )
    assert "for worker:1 (last seen 0.5 s ago), worker:2 (last seen 130.0 s ago). What" in str(watch.late())


def group_of(worker: Worker) -> TrainingGroup:
    part = TAKING_PART.get(worker.client.fanout)
    assert part is not None
    [group] = [each for each in part.groups if each.name == worker.optimizer.name]
    return group


def training_by(worker: Worker, name: str, sync: str = "bsp") -> Worker:
    """The same worker with an optimizer of its own, which has joined."""
    other = copy.copy(worker)
    other.optimizer = ss.train.GradientDescent(0.25, name=name, sync=sync)
    other.mirror = worker.client.mirror(worker.variables)
    other.optimizer.join(other.variables, pull=other.mirror)
    return other


def test_of_workers_that_wait_for_each_other_in_two_groups_it_is_said_where(
    pool: ThreadPoolExecutor, eventually: Eventually
) -> None:
    with SmallCluster(2) as cluster:
        workers = [Worker(cluster.client(index), ss.train.GradientDescent(0.25)) for index in range(2)]
        of_one, of_other = ([training_by(each, name) for each in workers] for name in ("one", "other"))
        waits = [pool.submit(of_one[0].step, gradients(0, 0))]
        eventually(lambda: [each.waits for each in of_one[1].optimizer.training_report().workers] == [True, False])
        assert str(group_of(of_one[0])._watch().late()).endswith(
            " s ago). What it has handed in counts; its next step waits again"
        )
        waits.append(pool.submit(of_other[1].step, gradients(1, 0)))
        eventually(lambda: [each.waits for each in of_other[0].optimizer.training_report().workers] == [False, True])
        for index, (worker, elsewhere) in enumerate(((of_one[0], "other"), (of_other[1], "one"))):
            said = str(group_of(worker)._watch().late())
            assert (
                f" s ago, waits in {elsewhere} for worker:{index}); let all workers make the steps of several" in said
            )
        waits.append(pool.submit(of_one[1].step, gradients(1, 1)))
        waits.append(pool.submit(of_other[0].step, gradients(0, 1)))
        assert [each.result(TIMEOUT_S).verdict for each in waits] == ["applied"] * 4


@pytest.mark.parametrize("sync", ["bsp", "ssp(0, on_missing=wait)"])
def test_of_workers_that_wait_for_each_other_one_lets_the_other_go_on(
    pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture, sync: str
) -> None:
    """Both groups are trained by one thread of each worker, which make the steps in another order."""
    with SmallCluster(2) as cluster:
        workers = [Worker(cluster.client(index), ss.train.GradientDescent(0.25)) for index in range(2)]
        all_joined = threading.Barrier(2)

        def train(index: int, *names: str) -> list[str]:
            by_name = {name: training_by(workers[index], name, sync) for name in sorted(names)}
            all_joined.wait(TIMEOUT_S)
            verdicts: list[str] = [by_name[name].step(gradients(index, 0)).verdict for name in names]
            for each in by_name.values():
                each.optimizer.finish()
            return verdicts

        trained = [pool.submit(train, 0, "one", "other"), pool.submit(train, 1, "other", "one")]
        assert [each.result(TIMEOUT_S) for each in trained] == [["applied", "stale"], ["applied", "applied"]]
        told = [each.getMessage() for each in caplog.records if "round goes on without it" in each.getMessage()]
        assert len(told) == 1
        assert told[0].startswith("worker:0 waits in one for workers that wait for it in other, whose round")
        reports = [workers[0].client.training_report(name) for name in ("one", "other")]
        applied = [{each.worker: each.applied for each in report.workers} for report in reports]
        assert applied == [{"worker:0": 1, "worker:1": 1}, {"worker:0": 0, "worker:1": 1}]
