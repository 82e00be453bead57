"""``SyncReplicasOptimizer`` on a cluster: programs of TensorFlow 1, who counts, who makes the steps, run after run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any, Final

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from ps_protocol.errors import AbortedError, InvalidArgumentError
from ps_protocol.operations import mutates
from ps_protocol.shared_objects import decode_json
from tests.conftest import Eventually
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.training.synchronous import crew

TIMEOUT_S: Final = 60.0
STEPS: Final = 5


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


class Worker:
    """A worker with a graph and a session of its own, whose gradient is fed.

    Attributes:
        round: Makes a step.
        push: Hands a gradient in.
        train: Pushes, and waits for a token.
    """

    def __init__(self, cluster: SmallCluster, task: int, aggregate: int = 2, total: int | None = None):
        with tf.Graph().as_default() as graph:
            self.step = tf.train.get_or_create_global_step()
            self.w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
            self.v = tf.get_variable("v", [1], initializer=tf.ones_initializer())
            self.given = tf.placeholder(tf.float32, [2])
            self.optimizer = tf.train.SyncReplicasOptimizer(tf.train.GradientDescentOptimizer(0.5), aggregate, total)
            self.train = self.optimizer.apply_gradients([(self.given, self.w), (self.given[:1], self.v)], self.step)
            runner = self.optimizer.get_chief_queue_runner()
            self.round = runner.enqueue_ops[0]
            self.push = list(self.train.op.inputs[1].op.control_inputs)
            self.token = tf.assign(tf.local_variables()[0], runner.queue.dequeue())
            with tf.device(self.w.device):
                accumulator = tf.ConditionalAccumulator(tf.float32, [2], shared_name="w:0/grad_accum")
                self.pending = accumulator.num_accumulated()
            self.init = tf.global_variables_initializer()
            self.restore = tf.assign(self.step, 7)
            self.session = tf.Session(cluster.client(task), graph=graph)

    def begin(self, is_chief: bool) -> None:
        """Runs what the hook runs."""
        if is_chief:
            self.session.run(self.init)
            self.session.run(self.optimizer.chief_init_op)
        else:
            self.session.run(self.optimizer.local_step_init_op)

    def pushes(self, gradient: Any) -> None:
        self.session.run(self.push, {self.given: gradient})

    def values(self) -> list[Any]:
        return [each.tolist() for each in self.session.run([self.w, self.v, self.step])]


def two_workers(cluster: SmallCluster, **options: Any) -> tuple[Worker, Worker]:
    chief, other = Worker(cluster, 0, **options), Worker(cluster, 1, **options)
    chief.begin(True)
    other.begin(False)
    return chief, other


def test_a_worker_counts_once_in_a_step(cluster: SmallCluster) -> None:
    chief, other = two_workers(cluster)
    other.pushes([1.0, 1.0])
    other.pushes([100.0, 100.0])
    assert chief.session.run(chief.pending) == 1
    chief.pushes([3.0, 3.0])
    chief.session.run(chief.round)
    assert chief.values() == [[0.0, 0.0], [0.0], 1]


def test_with_fewer_replicas_than_gradients_a_worker_hands_in_several(cluster: SmallCluster) -> None:
    chief, other = two_workers(cluster, aggregate=3, total=2)
    other.pushes([1.0, 1.0])
    other.pushes([2.0, 2.0])
    chief.pushes([3.0, 3.0])
    chief.session.run(chief.round)
    assert chief.values() == [[0.0, 0.0], [0.0], 1]
    assert [int(other.session.run(other.token)) for _ in range(2)] == [1, 1]


def test_a_step_takes_the_gradients_of_all_variables_or_of_none(cluster: SmallCluster) -> None:
    chief, other = two_workers(cluster)
    for each in (chief, other):
        each.session.run(each.push[0], {each.given: [1.0, 1.0]})
    with pytest.raises(tf.errors.DeadlineExceededError):
        chief.session.run(chief.round, options=tf.RunOptions(timeout_in_ms=200))
    assert chief.session.run(chief.pending) == 2
    assert chief.values() == [[1.0, 1.0], [1.0], 0]
    for each in (chief, other):
        each.session.run(each.push[1], {each.given: [1.0, 1.0]})
    chief.session.run(chief.round)
    assert chief.values() == [[0.5, 0.5], [0.5], 1]


def test_who_was_replaced_makes_no_more_steps(cluster: SmallCluster, eventually: Eventually) -> None:
    chief, other = two_workers(cluster)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(chief.session.run, chief.round)
        eventually(lambda: sum([task.num_waiting for task in cluster.tasks]) > 0)
        second = pool.submit(other.session.run, other.round)
        with pytest.raises(AbortedError, match="worker:1 makes the steps now, in the place of worker:0"):
            first.result(TIMEOUT_S)
        chief.pushes([1.0, 1.0])
        other.pushes([3.0, 3.0])
        second.result(TIMEOUT_S)
    assert chief.values() == [[0.0, 0.0], [0.0], 1]
    assert [int(each.session.run(each.token)) for each in (chief, other)] == [0, 0]  # all hand in once more
    assert [int(each.session.run(each.token)) for each in (chief, other)] == [1, 1]


def test_who_takes_over_in_the_middle_of_a_step_has_it_made_again(cluster: SmallCluster) -> None:
    chief, other = two_workers(cluster)
    with pytest.raises(tf.errors.DeadlineExceededError):  # it leads now
        chief.session.run(chief.round, options=tf.RunOptions(timeout_in_ms=50))
    for each in (chief, other):
        each.pushes([1.0, 1.0])
    with chief.session.graph.as_default():
        lost = tf.ConditionalAccumulator(tf.float32, [2], shared_name="w:0/grad_accum").take_grad(2)
    chief.session.run(lost)  # as if the chief had died between two takes
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(other.session.run, other.round)
        for each in (chief, other):
            assert int(each.session.run(each.token)) == 0
            each.pushes([3.0, 3.0])
        making.result(TIMEOUT_S)
    assert chief.values() == [[-0.5, -0.5], [0.5], 1]  # of v the gradients from before were pending


def test_whoever_closes_its_session_is_waited_for_no_more(cluster: SmallCluster) -> None:
    chief, other = two_workers(cluster)
    for each, gradient in ((chief, 1.0), (other, 3.0)):
        each.pushes([gradient, gradient])
    chief.session.run(chief.round)
    for each in (chief, other):
        each.session.run(each.token)
    other.session.close()
    chief.pushes([2.0, 2.0])
    chief.session.run(chief.round)
    assert chief.values() == [[-1.0, -1.0], [-1.0], 2]


def test_who_waits_without_a_token_hands_in_for_a_worker_that_has_left_with_one(cluster: SmallCluster) -> None:
    chief, other = two_workers(cluster)
    third = Worker(cluster, 2)  # there are two tokens for three
    third.begin(False)
    for takers in ((chief, third), (chief, other)):
        for each in (chief, third):
            each.pushes([1.0, 1.0])
        chief.session.run(chief.round)
        for each in takers:
            each.session.run(each.token)
    other.session.close()
    chief.pushes([1.0, 1.0])
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(chief.session.run, chief.round)
        wait = tf.RunOptions(timeout_in_ms=1000 * int(TIMEOUT_S) // 2)
        assert int(third.session.run(third.token, options=wait)) == 2
        third.pushes([3.0, 3.0])
        making.result(TIMEOUT_S)
    assert chief.values() == [[-1.0, -1.0], [-1.0], 3]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_with_fewer_replicas_than_gradients_tokens_that_a_worker_took_with_it_are_handed_out_again(
    cluster: SmallCluster, is_replaced: bool
) -> None:
    chief, other = two_workers(cluster, aggregate=3, total=2)
    for each in (chief, other, other):
        each.pushes([1.0, 1.0])
    chief.session.run(chief.round)
    for each in (chief, other, other):
        assert int(each.session.run(each.token)) == 1
    if is_replaced:
        other = Worker(cluster, 1, aggregate=3, total=2)
        other.begin(False)
        other.pushes([2.0, 2.0])
    else:
        other.session.close()
    chief.pushes([2.0, 2.0])
    wait = tf.RunOptions(timeout_in_ms=1000 * int(TIMEOUT_S) // 2)
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(chief.session.run, chief.round)
        hands_in = other if is_replaced else chief
        assert int(hands_in.session.run(hands_in.token, options=wait)) == 1
        hands_in.pushes([2.0, 2.0])
        making.result(TIMEOUT_S)
    assert chief.values() == [[-0.5, -0.5], [-0.5], 2]


def test_an_earlier_session_that_is_closed_late_does_not_take_the_next_one_with_it(cluster: SmallCluster) -> None:
    chief, earlier = two_workers(cluster)
    with pytest.raises(tf.errors.DeadlineExceededError):  # it has come
        earlier.session.run(earlier.token, options=tf.RunOptions(timeout_in_ms=50))
    other = Worker(cluster, 1)
    other.begin(False)
    chief.pushes([1.0, 1.0])
    other.pushes([3.0, 3.0])
    chief.session.run(chief.round)
    for each in (chief, other):
        assert int(each.session.run(each.token)) == 1
    earlier.session.close()
    other.pushes([1.0, 1.0])
    with pytest.raises(tf.errors.DeadlineExceededError):
        chief.session.run(chief.round, options=tf.RunOptions(timeout_in_ms=1000 * int(2 * crew.LOOK_S)))
    chief.pushes([1.0, 1.0])
    chief.session.run(chief.round)
    assert chief.values() == [[-0.5, -0.5], [-0.5], 2]


def test_a_worker_makes_the_steps_though_those_before_it_have_not_come(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "PATIENCE_S", 0.1)
    chief, other = Worker(cluster, 0), Worker(cluster, 2)  # worker 1 does not come
    chief.begin(True)
    other.begin(False)
    for each in (chief, other):
        each.pushes([1.0, 1.0])
    chief.session.run(chief.round)
    assert int(other.session.run(other.token)) == 1
    chief.session.close()
    wait = tf.RunOptions(timeout_in_ms=1000 * int(TIMEOUT_S) // 2)
    steps = [int(other.session.run(other.train, {other.given: [1.0, 1.0]}, options=wait)) for _ in range(2)]
    assert steps == [1, 2]  # what the chief may have begun is made again
    other.session.close()


def token_beside_a_round(chief: Worker, other: Worker) -> int:
    """The token that a worker gets which waits while the chief makes a round, for which it pushes then."""
    chief.pushes([3.0, 3.0])
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(chief.session.run, chief.round)
        wait = tf.RunOptions(timeout_in_ms=1000 * int(TIMEOUT_S) // 2)
        token = int(other.session.run(other.token, options=wait))
        other.pushes([1.0, 1.0])
        making.result(TIMEOUT_S)
    return token


def test_a_worker_whose_gradient_came_before_the_chief_has_set_the_step_is_given_a_token(cluster: SmallCluster) -> None:
    chief, other = two_workers(cluster)
    chief.session.run(chief.restore)
    chief.session.run(chief.optimizer.chief_init_op)  # no token is handed out
    other.pushes([1.0, 1.0])  # for step 0, by what it has read before
    assert token_beside_a_round(chief, other) == 7
    assert chief.values() == [[0.0, 0.0], [0.0], 8]
    assert looked_at(cluster)()["lacking"] == []


def test_a_worker_whose_gradient_came_before_the_step_went_back_is_given_a_token(cluster: SmallCluster) -> None:
    chief, other = two_workers(cluster)
    chief.session.run(chief.restore)
    chief.session.run(chief.optimizer.chief_init_op)
    for each in (chief, other):
        each.session.run(each.init if each is chief else each.optimizer.local_step_init_op)
    other.pushes([1.0, 1.0])  # for step 0, and the accumulators are at step 7
    chief.session.run(chief.optimizer.chief_init_op)
    assert token_beside_a_round(chief, other) == 0
    assert chief.values() == [[0.0, 0.0], [0.0], 1]


class FailingThread:
    """Has the updates of a session fail, which makes the steps in a thread of its own."""

    def __init__(self, worker: Worker, error: Exception):
        self._exchange, self._error = worker.session.home.exchange, error  # type: ignore[attr-defined]
        self.num_failed = 0
        worker.session.home.exchange = self._failing  # type: ignore[attr-defined]

    def _failing(self, routed: Any) -> Any:
        if [each for each in routed if "receipts/" in each.operation.name and mutates((each.operation,))]:
            self.num_failed += 1
            raise self._error
        return self._exchange(routed)


@pytest.mark.parametrize(
    "error",
    [InvalidArgumentError("it does not fit"), AbortedError("it is gone", retryable=False)],
    ids=["refused", "lost"],
)
@pytest.mark.parametrize("has_runner", [True, False])
def test_others_make_the_steps_when_those_of_a_session_that_stays_open_fail(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, has_runner: bool, error: Exception
) -> None:
    monkeypatch.setattr(crew, "PATIENCE_S", 0.01)
    chief, other = two_workers(cluster)
    failing = FailingThread(chief, error)
    wait = tf.RunOptions(timeout_in_ms=1000 * int(TIMEOUT_S) // 2)
    for each in (chief, other):
        each.pushes([1.0, 1.0])
    if has_runner:
        monkeypatch.setattr("threading.excepthook", lambda _: None)  # its thread ends by the error
        chief.optimizer.get_chief_queue_runner().create_threads(chief.session, daemon=True, start=True)
    else:
        with contextlib.suppress(InvalidArgumentError, tf.errors.DeadlineExceededError):
            chief.session.run(chief.token, options=tf.RunOptions(timeout_in_ms=500))
    tokens = looked_at(cluster)
    steps = []
    while 1 not in steps:
        steps.append(int(other.session.run(other.token, options=wait)))
        other.pushes([1.0, 1.0])
        chief.pushes([1.0, 1.0])
    assert failing.num_failed
    assert tokens()["led"] == "worker:1"
    assert chief.values()[:2] == [[0.5, 0.5], [0.5]]
    other.session.close()


def test_a_program_that_makes_the_steps_itself_does_so_in_the_place_of_its_own_session(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(crew, "PATIENCE_S", 0.01)
    chief, other = two_workers(cluster)
    with ThreadPoolExecutor(2) as pool:
        wait = tf.RunOptions(timeout_in_ms=1000 * int(TIMEOUT_S) // 2)
        waiting = pool.submit(chief.session.run, chief.token, options=wait)
        tokens = looked_at(cluster)
        eventually(lambda: tokens()["led"] == "worker:0")  # a thread of its session
        making = pool.submit(chief.session.run, chief.round)
        eventually(lambda: tokens()["ticket"] == 2)
        for each in (chief, other):
            each.pushes([1.0, 1.0])
        making.result(TIMEOUT_S)
        assert int(waiting.result(TIMEOUT_S)) in (0, 1)  # it may have been given one to hand in once more
    assert chief.values() == [[0.5, 0.5], [0.5], 1]
    assert tokens()["leader"] == "worker:0"


def test_more_gradients_than_workers_are_refused_naming_both(cluster: SmallCluster) -> None:
    worker = Worker(cluster, 0, aggregate=5)
    worker.begin(True)
    for fetches in (worker.round, worker.train):
        with pytest.raises(InvalidArgumentError, match=r"aggregate 5 gradients of 5 replicas.* 4 workers \(worker:0, "):
            worker.session.run(fetches, {worker.given: [1.0, 1.0]})


def supervised(cluster: SmallCluster, task: int) -> list[int]:
    """What the replicas of TensorFlow's ``mnist_replica.py`` do."""
    with tf.Graph().as_default():
        step = tf.Variable(0, name="global_step", trainable=False)
        w = tf.Variable([1.0, 1.0], name="w")
        optimizer = tf.train.SyncReplicasOptimizer(
            tf.train.GradientDescentOptimizer(0.5), replicas_to_aggregate=2, total_num_replicas=2
        )
        train = optimizer.minimize(tf.reduce_sum(w * [1.0, task]), global_step=step)
        runner, tokens = optimizer.get_chief_queue_runner(), optimizer.get_init_tokens_op(0)
        supervisor = tf.train.Supervisor(
            is_chief=task == 0,
            init_op=tf.global_variables_initializer(),
            local_init_op=optimizer.chief_init_op if task == 0 else optimizer.local_step_init_op,
            ready_for_local_init_op=optimizer.ready_for_local_init_op,
            recovery_wait_secs=1,
            global_step=step,
        )
        session = supervisor.prepare_or_wait_for_session(cluster.client(task))
        if task == 0:
            session.run(tokens)
            supervisor.start_queue_runners(session, [runner])
        found = [int(session.run(train)) for _ in range(STEPS)]
        supervisor.stop()
        return found


def test_a_program_with_supervisors(cluster: SmallCluster) -> None:
    with ThreadPoolExecutor(2) as pool:
        workers = [pool.submit(supervised, cluster, task) for task in range(2)]
        assert [each.result(TIMEOUT_S) for each in workers] == [list(range(1, STEPS + 1))] * 2


def monitored(
    cluster: SmallCluster,
    task: int,
    last_step: int | None,
    *,
    total: int = 2,
    begin: Callable[[], object] = lambda: None,
    more_hooks: Sequence[tf.train.SessionRunHook] = (),
) -> list[int]:
    """What a worker of tutorials does, whose session calls ``begin`` before its first step."""
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
        optimizer = tf.train.SyncReplicasOptimizer(tf.train.AdamOptimizer(0.5), 2, total)
        train = optimizer.minimize(tf.reduce_sum(w * [1.0, task]), global_step=step)
        hooks: list[tf.train.SessionRunHook] = [optimizer.make_session_run_hook(task == 0), *more_hooks]
        if last_step is not None:
            hooks.append(tf.train.StopAtStepHook(last_step=last_step))
        found = []
        with tf.train.MonitoredTrainingSession(cluster.client(task), is_chief=task == 0, hooks=hooks) as session:
            begin()
            while not session.should_stop():
                found.append(int(session.run(train)))
        return found


def looked_at(cluster: SmallCluster) -> Callable[[], Any]:
    """Returns what says the state of the tokens."""
    looker = cluster.client(3, observer=True)
    return lambda: decode_json(looker.variable("tokens/sync_token_q").read_value().item(), "it")["state"]


def test_run_after_run_on_the_same_ps_tasks(cluster: SmallCluster) -> None:
    for last_step in (3, 6):
        with ThreadPoolExecutor(2) as pool:
            workers = [pool.submit(monitored, cluster, task, last_step) for task in range(2)]
            for each in workers:
                steps = each.result(TIMEOUT_S)
                assert steps == sorted(steps), [each.result() for each in workers]
    with tf.Graph().as_default():
        step = tf.train.get_or_create_global_step()
        with tf.Session(cluster.client(2)) as session:
            assert np.array_equal(session.run(step), 6)


def test_a_worker_that_comes_before_the_chief_of_another_run_waits_for_it(
    cluster: SmallCluster, eventually: Eventually
) -> None:
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(monitored, cluster, task, 3) for task in range(2)]:
            each.result(TIMEOUT_S)
        tokens = looked_at(cluster)
        assert tokens()["closed"]
        other = pool.submit(monitored, cluster, 1, 6)
        eventually(lambda: other.done() or tokens()["next"] == ["worker:1"])
        chief = pool.submit(monitored, cluster, 0, 6)
        assert chief.result(TIMEOUT_S)[-1] == 6
        assert other.result(TIMEOUT_S)[-1] >= 6


def test_a_chief_that_was_replaced_does_not_end_training_for_the_others(
    cluster: SmallCluster, eventually: Eventually
) -> None:
    may_go_on = Event()
    with ThreadPoolExecutor(2) as pool:
        chief = pool.submit(monitored, cluster, 0, 6, begin=lambda: may_go_on.wait(TIMEOUT_S))
        other = pool.submit(monitored, cluster, 1, 6)
        client, tokens = cluster.client(3, observer="update"), looked_at(cluster)
        try:
            eventually(lambda: other.done() or "tokens/sync_token_q" in [each.name for each in client.variables()])
            eventually(lambda: other.done() or tokens()["last"].get("worker:1") == tokens()["puts"] == 1)
            shared = client.object_on(0, "tokens/sync_token_q", "step_tokens")
            led = shared.act({"do": "lead", "by": "worker:3", "instead_of": 1})
            assert led == {"leads": True, "ticket": 2, "begins": False}
            shared.act({"do": "leave", "by": "worker:3"})
            (entry,) = [each for each in client.variables() if each.name.startswith("accumulator/")]
            accumulator = client.object_on(int(entry.task.removeprefix("ps:")), entry.name, "accumulator")
            accumulator.act({"do": "set_step", "step": 0, "ticket": 2})  # from now on the chief takes nothing
        finally:
            may_go_on.set()
        assert other.result(TIMEOUT_S)[-1] == 6
        assert chief.exception(TIMEOUT_S) is None or isinstance(chief.exception(), AbortedError)
    assert tokens()["ticket"] >= 3


class LosesItsSession(tf.train.SessionRunHook):
    """Fails once, at the third step, as if a task was away."""

    def __init__(self) -> None:
        self.num_runs = 0

    def before_run(self, run_context: Any) -> None:
        del run_context
        self.num_runs += 1
        if self.num_runs == 3:
            raise tf.errors.UnavailableError(None, None, "it is away")


def test_a_chief_whose_session_is_made_again_ends_training_for_nobody(cluster: SmallCluster) -> None:
    fault = LosesItsSession()
    with ThreadPoolExecutor(2) as pool:
        chief = pool.submit(monitored, cluster, 0, 6, more_hooks=[fault])
        other = pool.submit(monitored, cluster, 1, 6)
        assert [each.result(TIMEOUT_S)[-1] for each in (chief, other)] == [6, 6]
    assert fault.num_runs > 3
    assert looked_at(cluster)()["ticket"] == 2


@pytest.mark.parametrize("last_step", [3, None])
def test_a_worker_whose_first_step_is_after_the_end_ends(
    cluster: SmallCluster, eventually: Eventually, last_step: int | None
) -> None:
    has_begun, may_go_on = Event(), Event()

    def begin() -> None:
        has_begun.set()
        assert may_go_on.wait(TIMEOUT_S)

    with ThreadPoolExecutor(3) as pool:
        late = pool.submit(monitored, cluster, 2, last_step, total=3, begin=begin)
        others = [
            pool.submit(monitored, cluster, task, 3, total=3, begin=lambda: has_begun.wait(TIMEOUT_S))
            for task in range(2)
        ]
        tokens = looked_at(cluster)
        try:
            for each in others:
                each.result(TIMEOUT_S)
            eventually(lambda: tokens()["left"] == ["worker:0", "worker:1"])
            assert tokens()["closed"]
        finally:
            may_go_on.set()
        assert late.result(TIMEOUT_S) == ([1] if last_step else [1, 2, 3])
    eventually(lambda: tokens()["left"] == ["worker:0", "worker:1", "worker:2"])


def test_a_worker_that_comes_after_the_end_sees_that_there_is_no_more_to_do(cluster: SmallCluster) -> None:
    with ThreadPoolExecutor(3) as pool:
        for each in [pool.submit(monitored, cluster, task, 3, total=3) for task in range(2)]:
            each.result(TIMEOUT_S)
        assert pool.submit(monitored, cluster, 2, 3, total=3).result(TIMEOUT_S) == [3]


def test_a_worker_that_comes_after_the_end_waits_for_another_run_no_longer_than_for_a_session(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "MAX_WAIT_S", 0.0)
    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(monitored, cluster, task, 3) for task in range(2)]:
            each.result(TIMEOUT_S)
        with pytest.raises(tf.errors.DeadlineExceededError, match="no chief has begun another run within 0 s"):
            pool.submit(monitored, cluster, 1, 6).result(TIMEOUT_S)
