"""Workers that make steps alone, and rounds of how far they have come: DiLoCo."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError, InvalidArgumentError
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Array, Make, Worker, alone, gradients
from worker_client.objects.shared_object import SharedObject
from worker_client.optimizers.optimizer import Optimizer

TIMEOUT_S = 60.0
NUM_ROUNDS = 3


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


def trained(cluster: SmallCluster, pool: ThreadPoolExecutor, make: Make, sync: str, num_steps: int) -> list[Worker]:
    """Two workers that have made as many steps."""
    workers = [Worker(cluster.client(index), make(sync=sync)) for index in range(2)]

    def work(index: int) -> None:
        for number in range(num_steps):
            workers[index].step(gradients(index, number))

    for each in [pool.submit(work, index) for index in range(2)]:
        each.result(TIMEOUT_S)
    return workers


def moved(make: Make, start: list[Array], index: int, numbers: range) -> list[Array]:
    """How far a worker comes alone from a model, by the store of its own; its optimizer is a new one."""
    with SmallCluster(1) as cluster:
        worker = Worker(cluster.client(), make())
        for variable, value in zip(worker.variables, start, strict=True):
            variable.assign(value)
        for number in numbers:
            worker.step(gradients(index, number))
        return [before - after for before, after in zip(start, worker.values(), strict=True)]


def test_a_round_is_nesterovs_step_with_the_average_of_what_was_moved(
    cluster: SmallCluster, pool: ThreadPoolExecutor
) -> None:
    workers = trained(cluster, pool, OPTIMIZERS["sgd"], "local(3, total=2)", 3 * NUM_ROUNDS)
    model = [np.ones(shape, np.float32) for shape in ((5, 3), (9, 2), (3,))]
    velocity = [np.zeros_like(each) for each in model]
    for number in range(NUM_ROUNDS):
        steps = range(3 * number, 3 * number + 3)
        both = [moved(OPTIMIZERS["sgd"], model, index, steps) for index in range(2)]
        for place, (one, two) in enumerate(zip(*both, strict=True)):
            mean = (one + two) / 2
            velocity[place] = np.float32(0.9) * velocity[place] + mean
            model[place] = model[place] - np.float32(0.7) * (mean + np.float32(0.9) * velocity[place])
    for worker in workers:
        for found, pulled, expected in zip(worker.values(), worker.mirror.values, model, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(pulled, found)


def test_one_step_with_the_average_of_models_is_bsp(cluster: SmallCluster, pool: ThreadPoolExecutor) -> None:
    sync = "local(1, total=2, outer_learning_rate=1, outer_momentum=0)"
    workers = trained(cluster, pool, OPTIMIZERS["sgd"], sync, 4)
    for found, expected in zip(workers[0].values(), alone(OPTIMIZERS["sgd"], 2, 4), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_between_rounds_a_worker_is_alone_and_sees_its_own_copies(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.Adam(0.25, sync="local(3)"))
    with worker.client.as_default():
        count = ss.get_variable("count", [], np.int64, initializer=ss.zeros_initializer())
    before = worker.values()
    steps = []
    for number in range(2):
        steps.append(worker.step(gradients(0, number), global_step=count))
        for found, start in zip(worker.values(), before, strict=True):
            np.testing.assert_array_equal(found, start)
    assert [each[:3] for each in steps] == [("pending", 0, 1)] * 2
    for seen, gone in zip(worker.mirror.values, moved(OPTIMIZERS["adam"], before, 0, range(2)), strict=True):
        np.testing.assert_allclose(seen, 1 - gone, rtol=1e-6, atol=1e-6)
    assert count.numpy() == 0
    assert worker.step(gradients(0, 2), global_step=count)[:3] == ("applied", 1, 1)
    assert count.numpy() == 1
    for seen, value in zip(worker.mirror.values, worker.values(), strict=True):
        np.testing.assert_array_equal(seen, value)


def test_a_late_worker_begins_with_the_newest_model_and_who_finishes_is_not_waited_for(
    cluster: SmallCluster, pool: ThreadPoolExecutor
) -> None:
    first, second = (
        Worker(cluster.client(index), ss.train.GradientDescent(0.25, sync="local(2)")) for index in range(2)
    )
    for number in range(2):
        first.step(gradients(0, number))
    assert second.optimizer.join(second.variables, pull=second.mirror) == 1
    for seen, value in zip(second.mirror.values, first.values(), strict=True):
        np.testing.assert_array_equal(seen, value)
    first.step(gradients(0, 2))
    waiting = pool.submit(first.step, gradients(0, 3))
    second.step(gradients(1, 0))
    assert not waiting.done()
    second.optimizer.finish()
    assert waiting.result(TIMEOUT_S)[:3] == ("applied", 2, 2)


def test_its_rounds_have_the_name_of_the_optimizer(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.Adam(0.25, sync="local(2)"))
    for number in range(4):
        worker.step(gradients(0, number))
    report = worker.client.training_report("Adam")
    assert (report.policy, report.round, report.workers[0].applied) == ("local(2)", 2, 2)
    assert worker.optimizer.training_report() == report
    outer = worker.optimizer.outer
    assert outer is not None
    assert outer.get_slot(worker.matrix, "step").numpy() == 2
    looker = cluster.client(observer="update").mirror(["matrix"], trained_by="Adam")
    looker.pull()
    np.testing.assert_array_equal(looker.values[0], worker.matrix.numpy())
    assert worker.client.finish_together("Adam").first_finished == "worker:0"


@pytest.mark.parametrize("copier", [lambda each: pickle.loads(pickle.dumps(each)), copy.copy], ids=["pickle", "copy"])
def test_a_copy_makes_its_steps_alone_too_and_takes_no_part_before(
    cluster: SmallCluster, copier: Callable[[Optimizer], Optimizer]
) -> None:
    worker = Worker(cluster.client(), ss.train.Adam(0.25, sync="local(2)"))
    worker.step(gradients(0, 0))
    copied = copier(worker.optimizer)
    with pytest.raises(FailedPreconditionError, match="Adam has neither joined nor made a step in this process"):
        copied.training_report()
    other = Worker(cluster.client(1), copied)
    assert other.step(gradients(1, 0)).verdict == "pending"
    assert {each.worker for each in copied.training_report().workers} == {"worker:0", "worker:1"}


def test_what_steps_alone_do_not_take_is_refused(cluster: SmallCluster) -> None:
    first = Worker(cluster.client(0), ss.train.GradientDescent(0.25, sync="local(2)"))
    first.step(gradients(0, 0))
    with pytest.raises(InvalidArgumentError, match="takes no wait="):
        first.optimizer.apply_gradients(list(zip(gradients(0, 1), first.variables, strict=True)), wait=False)
    with pytest.raises(InvalidArgumentError, match="makes steps alone with 3 variables"):
        first.optimizer.apply_gradients([(gradients(0, 1)[0], first.matrix)])
    second = Worker(cluster.client(1), ss.train.GradientDescent(0.25, sync="local(3)"))
    message = r"worker:1 asks for local\(3\), the group has local\(2\) since worker:0"
    with pytest.raises(FailedPreconditionError, match=message):
        second.step(gradients(1, 0))
    third = Worker(cluster.client(2), ss.train.GradientDescent(0.25, sync="local(2, outer_momentum=0.5)"))
    with pytest.raises(
        InvalidArgumentError, match=r"trained by momentum\(momentum=0.9\) .* with momentum\(momentum=0.5\)"
    ):
        third.step(gradients(2, 0))


def test_the_group_has_the_name_of_the_optimizer(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.GradientDescent(0.25, name="alone", sync="local(1)"))
    worker.step(gradients(0, 0))
    assert worker.client.training_report("alone").round == 1
    with worker.client.as_default():
        seen = worker.client.mirror(worker.variables, trained_by=["alone"])
    for value, expected in zip(seen.values, worker.values(), strict=True):
        np.testing.assert_array_equal(value, expected)
    assert worker.optimizer.slot_names() == ["momentum"]
    assert worker.optimizer.get_slot(worker.bias, "step").name == "bias/alone_outer/step:0"
    assert worker.optimizer.get_slot(worker.bias, "step").numpy() == 1
    assert worker.client.finish_together("alone").first_finished == "worker:0"


def test_a_step_alone_that_is_skipped_says_so(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.GradientDescent(0.25, sync="local(2)", on_nonfinite="skip"))
    given = gradients(0, 0)
    given[2][1] = np.nan
    pairs = list(zip(given, worker.variables, strict=True))
    assert [each.verdict for each in worker.optimizer.apply_gradients(pairs)] == ["pending", "pending", "skipped"]
    assert [each.verdict for each in worker.optimizer.apply_gradients(pairs)] == ["applied", "applied", "skipped"]


def test_after_a_round_that_has_failed_steps_begin_anew(cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(cluster.client(), ss.train.GradientDescent(0.25, sync="local(2)"))
    worker.step(gradients(0, 0))

    def refused(*_: object, **__: object) -> None:
        raise DeadlineExceededError("there is no answer")

    with monkeypatch.context() as patch:
        patch.setattr(SharedObject, "act_among", refused)
        with pytest.raises(DeadlineExceededError):
            worker.step(gradients(0, 1))
    start = worker.values()
    assert worker.step(gradients(0, 2)).verdict == "pending"
    for seen, before, gone in zip(
        worker.mirror.values, start, moved(OPTIMIZERS["sgd"], start, 0, range(2, 3)), strict=True
    ):
        np.testing.assert_allclose(seen, before - gone, rtol=1e-6, atol=1e-6)
    assert worker.step(gradients(0, 3)).verdict == "applied"


def test_a_pull_reads_variables_that_are_not_trained_as_well(cluster: SmallCluster) -> None:
    worker = Worker(cluster.client(), ss.train.GradientDescent(0.25, sync="local(3)"))
    with worker.client.as_default():
        other = ss.get_variable("other", [], initializer=ss.zeros_initializer())
    pulled = worker.client.mirror([*worker.variables, other])
    other.assign(7.0)
    pairs = list(zip(gradients(0, 0), worker.variables, strict=True))
    worker.optimizer.apply_gradients(pairs, pull=pulled)
    assert pulled.values[3] == 7.0
    for seen, gone in zip(pulled.values, moved(OPTIMIZERS["sgd"], worker.values(), 0, range(1)), strict=False):
        np.testing.assert_allclose(seen, 1 - gone, rtol=1e-6, atol=1e-6)
