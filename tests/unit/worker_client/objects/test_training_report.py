"""How a group is, as it is told to people: rounds, quorum, who is missing, and what became of all gradients."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import worker_client as ss
from ps_protocol.errors import InvalidArgumentError, NotFoundError
from ps_protocol.training.round_messages import Awaited, Silent, event_record
from ps_protocol.training.round_operations import GROUP_KIND, group_name
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import Worker, gradients
from worker_client.objects.training_report import TrainingReport

TIMEOUT_S = 60.0


def test_a_report_counts_the_verdicts_of_each_worker_and_says_who_is_awaited() -> None:
    with SmallCluster(2) as cluster, ThreadPoolExecutor(2) as pool:
        sync = "sync(2, total=3)"
        workers = [
            Worker(cluster.client(index), ss.train.GradientDescent(0.25, name="sgd", sync=sync)) for index in range(3)
        ]
        looker = cluster.client(0, observer=True)
        begun = [pool.submit(workers[index].step, gradients(index, 0)) for index in range(2)]
        first = workers[2].step(gradients(2, 0)).verdict  # whatever the order was
        for each in begun:
            each.result(TIMEOUT_S)
        for each in [pool.submit(workers[index].step, gradients(index, 1)) for index in range(2)]:
            each.result(TIMEOUT_S)
        assert workers[2].step(gradients(2, 1)).verdict == "late"
        report = looker.training_report("sgd")
        assert (report.policy, report.quorum, report.to_join, report.ended) == (sync, 3, 0, "")
        assert report.round == 2
        assert {each.worker for each in report.awaited} == {"worker:0", "worker:1", "worker:2"}
        tallies = {each.worker: each for each in report.workers}
        last = tallies["worker:2"]
        verdicts = [first, "late"]
        assert (last.status, last.applied, last.late, last.stale) == (
            *("live", verdicts.count("applied"), verdicts.count("late"), verdicts.count("stale")),
        )
        assert sum(each.applied for each in report.workers) == 4
        assert str(report).splitlines()[0].split() == [
            *("worker", "status", "applied", "late", "stale", "duplicate", "staleness", "lag")
        ]
        row = [line.split() for line in str(report).splitlines() if line.startswith("worker:2")]
        assert row == [["worker:2", "live", f"{last.applied}", f"{last.late}", f"{last.stale}", "0", "0", "0"]]
        workers[0].optimizer.finish()
        after = looker.training_report("sgd")
        assert after.quorum == 2
        assert next(each for each in after.workers if each.worker == "worker:0").status == "finished"


def test_nobody_has_trained_under_another_name(tmp_path: Path) -> None:
    with SmallCluster(2) as cluster:
        looker = cluster.client(observer=True)
        with pytest.raises(NotFoundError, match="no workers train together by an optimizer 'sgd', nor by any other"):
            looker.training_report("sgd")
        workers = [Worker(cluster.client(), ss.train.GradientDescent(0.25, name=name, sync="bsp")) for name in "ba"]
        for each in workers:
            each.step(gradients(0, 0))
        for ask in (looker.training_report, workers[0].client.finish_together):
            with pytest.raises(NotFoundError, match="by an optimizer 'sgd'; they do by a, b"):
                ask("sgd")
        client = workers[0].client
        client.restore(client.save(tmp_path / "saved").path)
        with pytest.raises(NotFoundError, match="by an optimizer 'a', nor by any other yet"):
            cluster.client(observer=True).training_report("a")


def test_a_group_is_found_by_its_optimizer_too() -> None:
    with SmallCluster(1) as cluster:
        worker = Worker(cluster.client(), ss.train.Adam(0.25, sync="bsp"))
        worker.step(gradients(0, 0))
        client = worker.client
        assert client.training_report(worker.optimizer) == client.training_report("Adam")
        for ask in (client.training_report, client.finish_together):
            with pytest.raises(InvalidArgumentError, match=r"by the optimizer, or by its name, as 'Adam', not by 5"):
                ask(5)  # type: ignore[arg-type]
            with pytest.raises(InvalidArgumentError, match="not by <"):
                ask(worker.matrix)
        assert client.finish_together(worker.optimizer).quorum == 0


def test_a_worker_that_is_known_to_have_failed_is_not_only_silent() -> None:
    with SmallCluster(1) as cluster:
        sync = "sync(1, total=2)"
        workers = [Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync=sync)) for index in range(2)]
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(workers[0].step, gradients(0, 0))
            workers[1].step(gradients(1, 0))
            first.result(TIMEOUT_S)
        name = workers[0].optimizer.name
        (lost,) = [each for each in cluster.tasks[0].list_members(timeout_s=1) if each.task == "worker:1"]
        group = workers[0].client.object_on(0, group_name(name), GROUP_KIND)
        group.act(event_record(Silent("worker:1", f"{lost.incarnation}", 0.0)))

        def status() -> str:
            (found,) = [each for each in workers[0].client.training_report(name).workers if each.worker == "worker:1"]
            return found.status

        assert status() == "silent"
        cluster.tasks[0].leave("worker:1", lost.incarnation, end="exit code 1", timeout_s=1)
        assert status() == "failed"


def test_whom_a_round_waits_for_is_said_with_when_they_were_last_seen() -> None:
    awaited = (Awaited("worker:1", True, 95.5), Awaited("worker:2", False, 99.0))
    report = TrainingReport("bsp", 7, 1, 0, awaited, ())
    assert report.waits_for(100.0) == "worker:1 (silent, last seen 4.5 s ago), worker:2 (last seen 1.0 s ago)"
    assert TrainingReport("bsp(total=4)", 0, 2, 2, (), ()).waits_for(0.0) == "2 more workers to join"
    assert TrainingReport("bsp", 0, 2, 0, (), ()).waits_for(0.0) == ""
