"""``SyncReplicasOptimizer`` when who makes the steps dies before a message: each step counts once everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

import worker_client.compat.v1 as tf
from ps_protocol.operations import PsOperation, mutates
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.training.synchronous import crew

TIMEOUT_S: Final = 60.0
STEPS: Final = 3
NUM_WORKERS: Final = 2
OPTIMIZERS: Final[dict[str, Callable[[], Any]]] = {
    "descent": lambda: tf.train.GradientDescentOptimizer(0.5),
    "adam": lambda: tf.train.AdamOptimizer(0.5),
}


class DeadError(Exception):
    """What is left of a process that was killed."""


class Worker:
    """A worker of three variables on two ps tasks, whose gradient follows from the step that it is for."""

    def __init__(self, cluster: SmallCluster, task: int, inner: str):
        with tf.Graph().as_default() as graph:
            self.step = tf.train.get_or_create_global_step()
            variables = [tf.get_variable(name, [2], initializer=tf.ones_initializer()) for name in "uvw"]
            self.given = tf.placeholder(tf.float32, [2])
            rows = tf.IndexedSlices(self.given[:1, None] * [[1.0, 2.0]], tf.constant([1]), tf.constant([2, 2]))
            table = tf.get_variable("table", [2, 2], initializer=tf.ones_initializer())
            optimizer = tf.train.SyncReplicasOptimizer(OPTIMIZERS[inner](), NUM_WORKERS)
            gradients = [
                (self.given * each, variable) for each, variable in zip((1.0, 2.0, 3.0), variables, strict=True)
            ]
            train = optimizer.apply_gradients([*gradients, (rows, table)], self.step)
            runner = optimizer.get_chief_queue_runner()
            self.round = runner.enqueue_ops[0]
            self.push = list(train.op.inputs[1].op.control_inputs)
            self.token = tf.assign(tf.local_variables()[0], runner.queue.dequeue())
            self.init = tf.global_variables_initializer()
            self.begin = {True: optimizer.chief_init_op, False: optimizer.local_step_init_op}
            self.values = tf.global_variables()
            self.client = cluster.client(task)
            self.session = tf.Session(self.client, graph=graph)

    def pushes(self, step: int) -> None:
        self.session.run(self.push, {self.given: [2.0**step, 1.0]})

    def trains(self) -> None:
        """Hands in for each step that it has a token for."""
        wait = tf.RunOptions(timeout_in_ms=int(1000 * TIMEOUT_S))
        while (step := int(self.session.run(self.token, options=wait))) < STEPS:
            self.pushes(step)

    def makes(self) -> None:
        """Makes the steps that are left."""
        while int(self.session.run(self.step)) < STEPS:
            self.session.run(self.round)


class Killing:
    """Has a worker die before one of the messages that change something, and send nothing from then on.

    Args:
        client: Its connection.
        number: Which message, from 0.
        is_back: Whether only this message fails, and it lives on.
    """

    def __init__(self, client: Any, number: int, *, is_back: bool = False):
        self.left = number
        self._is_back = is_back
        self._sent: list[str] = []
        for handle in client._handles:
            handle.exchange = self._counting(handle.exchange)
            handle.submit = self._counting(handle.submit)
            handle.reserve = lambda *_, **__: None  # which would send to several ps tasks at once

    def _counting(self, send: Callable[..., Any]) -> Callable[..., Any]:
        def counting(operations: Sequence[PsOperation], **options: Any) -> Any:
            if mutates(operations):
                if not self.left and self._is_back:
                    self.left = -1
                    raise tf.errors.UnavailableError(None, None, "it is away")
                if not self.left:
                    raise DeadError
                self.left -= 1
                self._sent.append(", ".join([f"{type(each).__name__} {each.name}" for each in operations]))
            elif not self.left and not self._is_back:
                raise DeadError
            return send(operations, **options)

        return counting

    def __repr__(self) -> str:
        return "\n".join(self._sent)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "LOOK_S", 0.01)


def begun(cluster: SmallCluster, inner: str) -> list[Worker]:
    """Workers that have handed in for the first step."""
    workers = [Worker(cluster, task, inner) for task in range(NUM_WORKERS)]
    workers[0].session.run(workers[0].init)
    for each in workers:
        each.session.run(each.begin[each is workers[0]])
        each.pushes(0)
    return workers


def trained(inner: str, num_deaths: int, number: int) -> tuple[list[Any], Killing | None]:
    """The values after all steps, of which makers that die before a message have begun to make the first one."""
    with SmallCluster(2) as cluster, ThreadPoolExecutor(NUM_WORKERS) as pool:
        workers = begun(cluster, inner)
        others = [pool.submit(each.trains) for each in workers]
        killing = None
        for task in range(NUM_WORKERS, NUM_WORKERS + num_deaths):
            maker = Worker(cluster, task, inner)
            killing = Killing(maker.client, number)
            with contextlib.suppress(DeadError):
                maker.session.run(maker.round)
        workers[0].makes()
        for other in others:
            other.result(TIMEOUT_S)
        return [each.tolist() for each in workers[0].session.run(workers[0].values)], killing


@pytest.mark.parametrize(("inner", "num_deaths"), [("descent", 1), ("adam", 1), ("adam", 2)])
def test_whoever_takes_over_finishes_the_step_that_was_begun(inner: str, num_deaths: int) -> None:
    expected, _ = trained(inner, 0, 0)
    number, killing = 0, None
    while killing is None or not killing.left:
        values, killing = trained(inner, num_deaths, number)
        assert values == expected, f"makers that die before message {number}, behind {killing}"
        number += 1
    assert number > 20


@pytest.mark.parametrize("inner", OPTIMIZERS)
def test_who_fails_in_a_step_finishes_it_itself(inner: str) -> None:
    expected, _ = trained(inner, 0, 0)
    number, killing = 0, None
    while killing is None or killing.left < 0:
        with SmallCluster(2) as cluster, ThreadPoolExecutor(NUM_WORKERS) as pool:
            workers = begun(cluster, inner)
            others = [pool.submit(each.trains) for each in workers]
            maker = Worker(cluster, NUM_WORKERS, inner)
            killing = Killing(maker.client, number, is_back=True)
            try:
                maker.makes()
            except tf.errors.UnavailableError:
                maker.session.run(maker.round)
                maker.makes()
            for other in others:
                other.result(TIMEOUT_S)
            values = [each.tolist() for each in workers[0].session.run(workers[0].values)]
        assert values == expected, f"who fails with message {number}, behind {killing}"
        number += 1
    assert number > 30
