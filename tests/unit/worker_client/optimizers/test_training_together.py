"""Workers that train together over several ps tasks: what their rounds come to, and who waits for whom."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
)
from ps_protocol.operations import Result
from ps_protocol.training.round_operations import Commit
from ps_server.core.parameter_server import ParameterServer
from ps_server.store.round_calls import RoundCalls
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import (
    NUM_STEPS,
    OPTIMIZERS,
    Make,
    Worker,
    alone,
    every_optimizer,
    gradients,
)
from worker_client.objects import whole_rounds
from worker_client.optimizers.outcomes import Applied

TIMEOUT_S = 60.0
PLAIN = ("Adam", "GradientDescent", "Momentum", "Adagrad", "Ftrl")


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    """Two ps tasks, and four workers by the spec."""
    with SmallCluster(2) as cluster:
        yield cluster


def train(
    cluster: SmallCluster,
    pool: ThreadPoolExecutor,
    make: Make,
    num_workers: int,
    sync: str,
    joined: Callable[[int], None] = lambda _number: None,
) -> tuple[list[Worker], list[list[Applied]]]:
    """Trains to the end; calls ``joined`` with the number of workers that have begun before the next one begins."""
    workers = [Worker(cluster.client(index), make(sync=sync)) for index in range(num_workers)]

    def work(index: int) -> list[Applied]:
        return [workers[index].step(gradients(index, number)) for number in range(NUM_STEPS)]

    begun = []
    for index in range(num_workers):
        begun.append(pool.submit(work, index))
        joined(index + 1)
    return workers, [each.result(TIMEOUT_S) for each in begun]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_bsp_is_one_worker_with_all_batches(cluster: SmallCluster, pool: ThreadPoolExecutor, make: Make) -> None:
    workers, applied = train(cluster, pool, make, 3, "bsp(total=3)")
    for of_worker in applied:
        assert [tuple(each) for each in of_worker] == [("applied", number, number, 0, 0) for number in range(1, 5)]
    for found, expected in zip(workers[0].values(), alone(make, 3), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    for worker in workers:
        for pulled, value in zip(worker.mirror.values, workers[0].values(), strict=True):
            np.testing.assert_array_equal(pulled, value)


@pytest.mark.parametrize("make", every_optimizer().values(), ids=every_optimizer())
def test_bsp_is_one_worker_with_all_batches_for_every_optimizer(
    cluster: SmallCluster, pool: ThreadPoolExecutor, make: Make
) -> None:
    workers, _ = train(cluster, pool, make, 3, "bsp(total=3)")
    for found, expected in zip(workers[0].values(), alone(make, 3), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_rows_are_divided_by_those_that_have_them_if_asked_for(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    """As TensorFlow does it."""
    first, second = (
        Worker(cluster.client(index), ss.train.GradientDescent(1.0, sync="bsp(total=2, rows=present)"))
        for index in range(2)
    )
    of_first, of_second = gradients(0, 0), gradients(1, 0)
    begun = pool.submit(first.step, of_first)
    second.step(of_second)
    begun.result(TIMEOUT_S)
    sums, counts = np.zeros((9, 2)), np.zeros((9, 1))
    for each in (of_first[1], of_second[1]):
        np.add.at(sums, each.indices, each.values)
        counts[np.unique(each.indices)] += 1
    assert set(counts[:, 0]) == {0, 1, 2}
    np.testing.assert_allclose(first.values()[1], 1 - sums / np.maximum(counts, 1), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(first.values()[2], 1 - (of_first[2] + of_second[2]) / 2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", ["all", "present"])
@pytest.mark.parametrize("name", [each for each in every_optimizer() if each.split()[0] in PLAIN])
def test_ssp_of_0_is_bsp_bit_for_bit(pool: ThreadPoolExecutor, eventually: Eventually, name: str, rows: str) -> None:
    found = []
    for sync in (f"bsp(total=3, rows={rows})", f"ssp(0, total=3, rows={rows})", f"sync(3, rows={rows})"):
        with SmallCluster(2) as cluster:
            first_ps = cluster.tasks[0]

            def joined(number: int, ps: ParameterServer = first_ps) -> None:
                """Seats are in the order of joining."""
                if number < 3:
                    eventually(lambda: ps.num_waiting == number)

            workers, applied = train(cluster, pool, every_optimizer()[name], 3, sync, joined)
            assert [each.verdict for of_worker in applied for each in of_worker] == ["applied"] * 3 * NUM_STEPS
            slots = [slot for each in workers[0].variables for slot in workers[0].optimizer.slots(each).values()]
            values = [*workers[0].values(), *[np.array(each.read_value()) for each in slots]]
            found.append([each.tobytes() for each in values])
    assert found[0] == found[1] == found[2]
    assert found[0][:3] != [np.ones_like(each).tobytes() for each in values[:3]]


def test_in_ssp_a_worker_goes_ahead_and_then_waits(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    first, second = (
        Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="ssp(2, total=2)")) for index in range(2)
    )
    begun = pool.submit(first.step, gradients(0, 0))
    verdicts = [second.step(gradients(1, 0)).verdict, begun.result(TIMEOUT_S).verdict]
    assert "applied" in verdicts  # of whoever has handed in last
    assert set(verdicts) <= {"applied", "pending"}
    assert [first.step(gradients(0, number))[:3:2] for number in (1, 2)] == [("pending", 2), ("pending", 3)]
    ahead = pool.submit(first.step, gradients(0, 3))
    assert not ahead.done()
    for number in (1, 2, 3):
        second.step(gradients(1, number))
    assert ahead.result(TIMEOUT_S).round == 4
    for found, expected in zip(second.values(), alone(OPTIMIZERS["sgd"], 2), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_backup_is_late_and_changes_nothing(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    workers = [
        Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="sync(2, total=3)")) for index in range(3)
    ]
    last = workers[2]
    begun = [pool.submit(each.step, gradients(index, 0)) for index, each in enumerate(workers)]
    verdicts = [each.result(TIMEOUT_S).verdict for each in begun]
    assert verdicts.count("applied") >= 2
    rest = [pool.submit(each.step, gradients(index, 1)) for index, each in enumerate(workers[:2])]
    assert {each.result(TIMEOUT_S).verdict for each in rest} == {"applied"}
    before = last.values()
    late = last.step(gradients(2, 1))
    assert (late.verdict, late.round, late.version) == ("late", 2, 2)
    for found, expected in zip(last.values(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_async_applies_each_gradient_alone(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    first, second = (Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="async")) for index in range(2))
    first.step(gradients(0, 0))
    second.step(gradients(1, 0))  # what it had read before it joined, nobody knows: stale
    assert [first.step(gradients(0, 1))[2:], second.step(gradients(1, 1))[2:]] == [(2, 0, 0), (2, 1, 0)]


def test_who_finishes_is_not_waited_for(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    first, second = (
        Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="bsp(total=2)")) for index in range(2)
    )
    begun = pool.submit(first.step, gradients(0, 0))
    second.step(gradients(1, 0))
    begun.result(TIMEOUT_S)
    waiting = pool.submit(first.step, gradients(0, 1))
    second.optimizer.finish()
    assert waiting.result(TIMEOUT_S)[:3] == ("applied", 2, 2)
    assert first.step(gradients(0, 2)).round == 3


def test_who_closes_its_connection_is_not_waited_for(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    first, second = (
        Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="bsp(total=2)")) for index in range(2)
    )
    begun = pool.submit(first.step, gradients(0, 0))
    second.step(gradients(1, 0))
    begun.result(TIMEOUT_S)
    waiting = pool.submit(first.step, gradients(0, 1))
    second.client.close()
    assert waiting.result(TIMEOUT_S)[:3] == ("applied", 2, 2)


def test_a_late_joiner_enters_with_the_newest_model(
    cluster: SmallCluster, pool: ThreadPoolExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="bsp")) for index in range(2))
    for number in range(2):
        first.step(gradients(0, number))
    joined = second.step(gradients(1, 0))
    assert joined[:3:2] == ("stale", 3)  # what it had read before it joined, nobody knows
    assert [each.stale for each in second.client.training_report(second.optimizer.name).workers] == [0, 1]
    assert caplog.text.count("its first gradient, which it had computed before, is stale; optimizer.join") == 1
    for pulled, value in zip(second.mirror.values, first.values(), strict=True):
        np.testing.assert_array_equal(pulled, value)
    together = pool.submit(first.step, gradients(0, 2))
    assert [second.step(gradients(1, 1))[:3], together.result(TIMEOUT_S)[:3]] == [("applied", 3, 3)] * 2


@pytest.mark.parametrize(
    ("sync", "message"),
    [
        ("bps", "Adam: sync is 'bps': .*did you mean 'bsp'"),
        ("sync(3, total=2)", "above the 2 that there are"),
        ("local(16, outer_momentum=2)", "outer_momentum of local is '2'; give a number from 0.0 to 1.0"),
    ],
)
def test_what_is_no_way_to_train_is_refused(sync: str, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        ss.train.Adam(0.1, sync=sync)


def test_two_ways_to_train_name_both_sides(cluster: SmallCluster) -> None:
    first = Worker(cluster.client(0), ss.train.Adam(0.25, sync="bsp"))
    first.step(gradients(0, 0))
    second = Worker(cluster.client(1), ss.train.Adam(0.25, sync="ssp(3)"))
    with pytest.raises(FailedPreconditionError, match=r"worker:1 asks for ssp\(3\), the group has bsp since worker:0"):
        second.step(gradients(1, 0))


def test_more_workers_than_there_are_is_refused(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="sync(5)"))
    with pytest.raises(InvalidArgumentError, match=r"rounds need 5 workers; its cluster spec has 4"):
        worker.step(gradients(0, 0))


def test_each_step_is_of_the_same_variables(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="bsp"))
    worker.step(gradients(0, 0))
    message = "trains bias, matrix, table.* together .*bias is only in this one or only in the first one"
    with pytest.raises(InvalidArgumentError, match=message):
        worker.optimizer.apply_gradients(list(zip(gradients(0, 1), worker.variables, strict=True))[:2])
    with pytest.raises(InvalidArgumentError, match="bias is only in this one or only in the first one"):
        worker.optimizer.join(worker.variables[:2])
    with pytest.raises(InvalidArgumentError, match=r"Adam\.join was given no variables"):
        worker.optimizer.join([])
    assert worker.step(gradients(0, 1)).round == 2


@pytest.mark.parametrize("more", [{"wait": False}, {"wire_dtype": "bfloat16"}])
def test_what_rounds_do_not_have_is_refused(cluster: SmallCluster, more: dict[str, Any]) -> None:
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="bsp"))
    with pytest.raises(InvalidArgumentError, match=f"takes no {next(iter(more))}="):
        worker.step(gradients(0, 0), **more)


def test_a_gradient_that_is_not_finite_is_refused_and_the_round_goes_on(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="bsp"))
    wrong = gradients(0, 0)
    wrong[2][1] = np.nan
    with pytest.raises(InvalidArgumentError, match=r"bias.* not finite"):
        worker.step(wrong)
    assert worker.step(gradients(0, 0))[:3] == ("applied", 1, 1)


def test_an_observer_does_not_train(cluster: SmallCluster) -> None:
    Worker(cluster.client(0), ss.train.Adam(0.25))
    onlooker = cluster.client(observer="update")
    optimizer = ss.train.Adam(0.25, sync="bsp")
    bias = onlooker.variable("bias")
    with pytest.raises(PermissionDeniedError, match="is no worker"):
        optimizer.apply_gradients([(np.ones(3, np.float32), bias)])


class HeldCommit:
    """Holds the first round that comes to ps 1, so that ps 0 alone has it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        commit = RoundCalls.commit
        self.is_held, self.is_carried_out, self.goes_on = threading.Event(), threading.Event(), threading.Event()

        def held(calls: RoundCalls, operation: Commit) -> Result:
            if operation.name.endswith("/1") and not self.is_held.is_set():
                self.is_held.set()
                assert self.goes_on.wait(TIMEOUT_S)
            result = commit(calls, operation)
            if operation.name.endswith("/0"):
                self.is_carried_out.set()
            return result

        monkeypatch.setattr(RoundCalls, "commit", held)

    def __enter__(self) -> HeldCommit:
        assert self.is_held.wait(TIMEOUT_S)
        assert self.is_carried_out.wait(TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()


def test_a_pull_sees_a_round_on_all_ps_tasks_or_on_none(
    cluster: SmallCluster, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader, which may update, brings the decision to the ps that lacks it."""
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="bsp"))
    mirror = cluster.client(observer="update").mirror(["matrix", "table", "bias"], trained_by=["Adam"])
    worker.step(gradients(0, 0))
    hold = HeldCommit(monkeypatch)
    step = pool.submit(worker.step, gradients(0, 1))
    with hold:
        mirror.pull()
        assert not step.done()
    assert step.result(TIMEOUT_S)[:3] == ("applied", 2, 2)
    for found, expected in zip(mirror.values, alone(OPTIMIZERS["adam"], 1, 2), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert mirror.pull() == []


@pytest.mark.parametrize("sync", ["bsp", "local(1)"])
def test_a_reader_that_names_another_optimizer_than_the_one_that_trains_is_told_which_does(
    cluster: SmallCluster, sync: str
) -> None:
    reader = cluster.client(observer=True)
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync=sync))
    names = ["matrix", "table", "bias"]
    early = reader.mirror(names, trained_by=["Adma"])  # it may be one that is to come
    worker.step(gradients(0, 0))
    message = "by an optimizer 'Adma'; they do by Adam, which bias is trained by; say trained_by=.'Adam'."
    with pytest.raises(NotFoundError, match=message):
        early.pull()
    with pytest.raises(NotFoundError, match=message):
        reader.mirror(names, trained_by="Adma")
    both = reader.mirror(names, trained_by=["Adam", "the next one"])
    worker.step(gradients(0, 1))
    assert len(both.pull()) == 3


def test_a_worker_pulls_whole_rounds_unasked(
    cluster: SmallCluster, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (
        Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="sync(1, total=2)")) for index in range(2)
    )
    first.step(gradients(0, 0))
    second.step(gradients(1, 0))
    hold = HeldCommit(monkeypatch)
    step = pool.submit(first.step, gradients(0, 1))
    with hold:
        second.mirror.pull()
    step.result(TIMEOUT_S)
    for found, expected in zip(second.mirror.values, first.values(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_reader_that_may_not_update_waits_for_others(
    cluster: SmallCluster, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_rounds, "READ_TIMEOUT_S", 0.0)
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="bsp"))
    mirror = cluster.client(observer=True).mirror(["matrix", "table", "bias"], trained_by=["Adam"])
    hold = HeldCommit(monkeypatch)
    step = pool.submit(worker.step, gradients(0, 0))
    with hold, pytest.raises(DeadlineExceededError, match=r"Adam: .* \(ps:0 at 1, ps:1 at 0\): .* may not bring"):
        mirror.pull()
    step.result(TIMEOUT_S)
    mirror.pull()
    for found, expected in zip(mirror.values, worker.values(), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_who_joins_before_its_first_step_counts_from_that_on(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    first, second = (Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="bsp")) for index in range(2))
    for number in range(2):
        first.step(gradients(0, number))
    assert second.optimizer.join(second.variables, pull=second.mirror) == 2
    for pulled, value in zip(second.mirror.values, first.values(), strict=True):
        np.testing.assert_array_equal(pulled, value)
    together = pool.submit(first.step, gradients(0, 2))
    assert [second.step(gradients(1, 2)), together.result(TIMEOUT_S)] == [("applied", 3, 3, 0, 0)] * 2
    assert second.optimizer.join(second.variables) == 3


def test_without_sync_there_is_nothing_to_join(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(0), ss.train.Adam(0.25))
    with pytest.raises(InvalidArgumentError, match=r"Adam has no sync, so .*; give it, as sync='bsp'"):
        worker.optimizer.join(worker.variables)


def test_an_optimizer_reports_what_its_connection_does(cluster: SmallCluster) -> None:
    optimizer = ss.train.Adam(0.25, name="report", sync="bsp")
    with pytest.raises(
        FailedPreconditionError, match=r"report has neither joined nor .*; client.training_report\('report'\) tells"
    ):
        optimizer.training_report()
    worker = Worker(cluster.client(0), optimizer)
    worker.step(gradients(0, 0))
    report = optimizer.training_report()
    assert (report.policy, report.round, report.workers[0].applied) == ("bsp", 1, 1)
    assert report == worker.client.training_report("report")
    with pytest.raises(InvalidArgumentError, match="Adam has no sync, so that there are no rounds"):
        ss.train.Adam(0.25).training_report()


def test_the_global_step_counts_each_round_once_and_with_it(
    cluster: SmallCluster, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [Worker(cluster.client(index), ss.train.Adam(0.25, sync="bsp(total=2)")) for index in range(2)]
    counters = []
    for each in workers:
        with each.client.as_default():
            counters.append(ss.get_variable("count", [], np.int64, initializer=ss.zeros_initializer()))

    def work(index: int) -> list[str]:
        steps = [gradients(index, number) for number in range(NUM_STEPS)]
        return [workers[index].step(each, global_step=counters[index]).verdict for each in steps]

    begun = [pool.submit(work, index) for index in range(2)]
    assert [each.result(TIMEOUT_S) for each in begun] == [["applied"] * NUM_STEPS] * 2
    assert counters[0].numpy() == NUM_STEPS
    for found, expected in zip(workers[0].values(), alone(OPTIMIZERS["adam"], 2), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    workers[1].optimizer.finish()
    reader = cluster.client(observer="update")
    mirror = reader.mirror(["matrix", "table", "bias", "count"], trained_by="Adam")
    hold = HeldCommit(monkeypatch)
    step = pool.submit(workers[0].step, gradients(0, 0), global_step=counters[0])
    with hold:
        mirror.pull()
        assert mirror.values[3] == NUM_STEPS + 1
    step.result(TIMEOUT_S)
    assert counters[0].numpy() == NUM_STEPS + 1
    with pytest.raises(InvalidArgumentError, match="count is only in this one or only in the first one"):
        workers[0].step(gradients(0, 0))


@pytest.mark.parametrize(
    ("dtype", "shape", "value", "message"),
    [
        (np.int64, [2], [0, 0], "should be a scalar variable of integers, not variable count"),
        (np.float32, [], 0.0, "should be a scalar variable of integers"),
        (np.int8, [], 127, r"count \(int8\[\]\) cannot count any further"),
    ],
)
def test_what_cannot_count_rounds_is_refused(
    cluster: SmallCluster, dtype: Any, shape: list[int], value: Any, message: str
) -> None:
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="bsp"))
    with worker.client.as_default():
        counter = ss.get_variable("count", shape, dtype, initializer=ss.zeros_initializer())
    counter.assign(np.array(value, dtype))
    before = worker.values()
    with pytest.raises((InvalidArgumentError, FailedPreconditionError), match=message):
        worker.step(gradients(0, 0), global_step=counter)
    for found, expected in zip(worker.values(), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_after_a_restore_workers_join_again(cluster: SmallCluster, tmp_path: Path) -> None:
    worker = Worker(cluster.client(0), ss.train.Adam(0.25, sync="bsp"))
    worker.step(gradients(0, 0))
    saved = worker.client.save(tmp_path / "saved").path
    before = worker.values()
    worker.step(gradients(0, 1))
    worker.client.restore(saved)
    for found, expected in zip(worker.values(), before, strict=True):
        np.testing.assert_array_equal(found, expected)
    assert worker.step(gradients(0, 1))[:3] == ("applied", 1, 1)
    for found, expected in zip(worker.values(), alone(OPTIMIZERS["adam"], 1, 2), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_gradient_that_is_skipped_is_left_out_of_the_average(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    workers = [
        Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="bsp(total=2)", on_nonfinite="skip"))
        for index in range(2)
    ]
    given = [gradients(index, 0) for index in range(2)]
    given[0][1].values[2, 1] = np.nan  # of one part of the table
    given[0][2][0] = np.inf

    def work(index: int) -> list[Applied]:
        pairs = list(zip(given[index], workers[index].variables, strict=True))
        return workers[index].optimizer.apply_gradients(pairs)

    of_first, of_second = [each.result(TIMEOUT_S) for each in [pool.submit(work, index) for index in range(2)]]
    assert [each.verdict for each in of_first] == ["applied", "skipped", "skipped"]
    assert [each.verdict for each in of_second] == ["applied"] * 3
    expected = [1 - 0.25 * (given[0][0] + given[1][0]) / 2, np.ones([9, 2], np.float32), 1 - 0.25 * given[1][2]]
    np.subtract.at(expected[1], given[1][1].indices, 0.25 * given[1][1].values)
    for found, value in zip(workers[0].values(), expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-6)


def test_what_all_skip_changes_nothing(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.Adam(0.25, sync="ssp(1)", on_nonfinite="skip"))
    given = gradients(0, 0)
    given[2][1] = np.nan
    pairs = list(zip(given, worker.variables, strict=True))
    applied = worker.optimizer.apply_gradients(pairs)
    assert [each[:3] for each in applied] == [("applied", 1, 1), ("applied", 1, 1), ("skipped", 1, 1)]
    assert worker.values()[2].tolist() == [1, 1, 1]
    assert worker.optimizer.slots(worker.bias)["step"].numpy() == 0


def test_two_optimizers_of_a_name_are_one_member_of_its_group(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.Adam(0.25, sync="bsp"))
    verdicts = []
    for number in range(4):
        verdicts.append(worker.step(gradients(0, number))[:3])
        worker.optimizer = ss.train.Adam(0.25, sync="bsp")
    assert verdicts == [("applied", number, number) for number in range(1, 5)]


def test_of_two_optimizers_that_train_otherwise_each_joins_in_its_turn(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.Adam(0.25, sync="bsp"))
    others = [worker.optimizer, ss.train.Adam(0.25, sync="ssp(1)")]
    versions = []
    for number in range(4):
        worker.optimizer = others[number % 2]
        versions.append(worker.step(gradients(0, number))[:2])
    assert versions == [("applied", number) for number in range(1, 5)]


def test_workers_that_count_rounds_and_others_are_refused(cluster: SmallCluster) -> None:
    first, second = (Worker(cluster.client(index), ss.train.Adam(0.25, sync="bsp")) for index in range(2))
    with first.client.as_default():
        count = ss.get_variable("count", [], np.int64, initializer=ss.zeros_initializer())
    first.step(gradients(0, 0), global_step=count)
    with pytest.raises(FailedPreconditionError, match=r"worker:1 trains 4 variables .* the group trains 5 variables"):
        second.step(gradients(1, 0))
