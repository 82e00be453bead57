"""A worker that forgets ``sync`` is told so, and does not train alone beside those that train in rounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import worker_client as ss
from ps_protocol.errors import FailedPreconditionError
from ps_protocol.shared_objects import Json
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster, assert_equal
from tests.unit.worker_client.optimizers.together import Worker, gradients
from worker_client.connection.ending import Ending
from worker_client.connection.retry import Deadline
from worker_client.objects.shared_object import ObjectConnection


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


def worker(cluster: SmallCluster, index: int, sync: str | None = None) -> Worker:
    return Worker(cluster.client(index), ss.train.Momentum(0.25, 0.5, name="sgd", sync=sync))


@pytest.mark.parametrize("sync", ["bsp", "async(max_staleness=2)", "sync(1, total=1)", "local(1)"])
def test_who_trains_without_sync_what_others_train_in_rounds_is_told_how_they_do(
    cluster: SmallCluster, sync: str
) -> None:
    first, second = worker(cluster, 0, sync), worker(cluster, 1)
    first.step(gradients(0, 0))
    before = first.values()
    second.optimizer.get_slot(second.matrix, "step")  # reading is no training
    policy = first.client.training_report("sgd").policy
    with pytest.raises(FailedPreconditionError) as refused:
        second.step(gradients(1, 0))
    assert "sgd has no sync on worker:1, but worker:0 trains the same variables in rounds" in refused.value.message
    assert f"in the group sgd with {policy}" in refused.value.message
    assert f"Give sync={policy!r} to the optimizer of worker:1" in refused.value.message
    assert_equal(second.values(), before)
    first.optimizer.finish()
    assert second.step(gradients(1, 0)).verdict == "applied"


def test_workers_that_are_gone_train_nothing(cluster: SmallCluster) -> None:
    first, second = worker(cluster, 0, "bsp"), worker(cluster, 1)
    first.step(gradients(0, 0))
    first.client.end(Ending.by(ValueError("it has failed")))
    again = cluster.client(0)  # another process is that task
    assert [each.status for each in again.training_report("sgd").workers] == ["live"]  # nobody has told the group
    assert second.step(gradients(1, 0)).verdict == "applied"


def test_other_variables_and_other_names_are_trained_alone(cluster: SmallCluster) -> None:
    first, second = worker(cluster, 0, "bsp"), worker(cluster, 1)
    first.step(gradients(0, 0))
    with second.client.as_default():
        other = ss.get_variable("other", [5, 3], initializer=ss.ones_initializer())
    (applied,) = second.optimizer.apply_gradients([(gradients(1, 0)[0], other)])
    assert applied.verdict == "applied"
    second.optimizer = ss.train.Momentum(0.25, 0.5, name="alone")
    assert second.step(gradients(1, 0)).verdict == "applied"


def test_who_has_trained_alone_is_told_when_others_come(cluster: SmallCluster) -> None:
    first, second = worker(cluster, 0, "bsp"), worker(cluster, 1)
    for number in range(7):
        assert second.step(gradients(1, number)).verdict == "applied"
    first.step(gradients(0, 0))
    for _ in range(2):  # it goes on being told
        with pytest.raises(FailedPreconditionError, match="sgd has no sync on worker:1"):
            second.step(gradients(1, 7))


def test_it_is_asked_ever_more_rarely(cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    wait = ObjectConnection.wait

    def counting(self: ObjectConnection, question: Json, deadline: Deadline, *given: Any, **more: Any) -> Json | None:
        asked.append(self.name)
        return wait(self, question, deadline, *given, **more)

    monkeypatch.setattr(ObjectConnection, "wait", counting)
    only = worker(cluster, 0)
    numbers = []
    for number in range(1, 66):
        only.step(gradients(0, number))
        numbers += [number] * len(asked)
        asked.clear()
    assert numbers == [1, 8, 64]
