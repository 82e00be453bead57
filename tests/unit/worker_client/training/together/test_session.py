"""The training loop of workers together: who initialises, who waits, what hooks see, how it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError, InvalidArgumentError
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster
from worker_client.client import Client
from worker_client.optimizers.optimizer import Optimizer
from worker_client.optimizers.outcomes import Applied
from worker_client.training.monitored.hook import SessionRunArgs, SessionRunContext, SessionRunHook, SessionRunValues
from worker_client.training.together import session as session_module
from worker_client.training.together import start
from worker_client.training.together.session import TrainingSession

TIMEOUT_S = 60.0
ONES = [np.ones([4, 2], np.float32), np.ones([2], np.float32)]


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


def builder(sync: str | None = None, initial: float = 0.0) -> Callable[[Client], tuple[Sequence[Any], Optimizer]]:
    def build(client: Client) -> tuple[Sequence[Any], Optimizer]:
        del client
        initializer = ss.constant_initializer(initial)
        weights = ss.get_variable("weights", [4, 2], initializer=initializer)
        bias = ss.get_variable("bias", [2], initializer=initializer)
        return [weights, bias], ss.train.GradientDescent(1.0, name="sgd", sync=sync)

    return build


def session(cluster: SmallCluster, index: int = 0, sync: str | None = None, **more: Any) -> TrainingSession:
    return ss.train.TrainingSession(
        builder(sync, more.pop("initial", 0.0)),
        connect=lambda: cluster.client(index),
        **{"steps": 3, "show_progress": False, **more},
    )


def train(made: TrainingSession) -> tuple[list[Applied], float]:
    with made as running:
        applied = []
        while not running.should_stop():
            applied.append(running.apply_gradients(ONES))
        return applied, float(running.parameters[1][0])


def test_it_makes_its_steps(cluster: SmallCluster) -> None:
    applied, bias = train(session(cluster))
    assert [each.verdict for each in applied] == ["applied"] * 3
    assert bias == -3.0
    assert train(session(cluster, steps=3)) == ([], -3.0)  # they have been made
    assert len(train(session(cluster, steps=5))[0]) == 2


def test_workers_train_in_rounds_and_end_together(cluster: SmallCluster) -> None:
    made = [session(cluster, index, "bsp(total=2)", steps=4) for index in range(2)]
    with ThreadPoolExecutor(2) as pool:
        results = [each.result(TIMEOUT_S) for each in [pool.submit(train, one) for one in made]]
    for applied, bias in results:
        assert [each.verdict for each in applied] == ["applied"] * 4
        assert bias == -4.0
    for each in made:
        assert each.report is not None
        assert [one.status for one in each.report.workers] == ["finished", "finished"]
        assert each.report.first_finished == "worker:0"


def test_with_local_steps_a_step_is_a_round(cluster: SmallCluster) -> None:
    sync = "local(2, total=2, outer_learning_rate=1, outer_momentum=0)"
    made = [session(cluster, index, sync, steps=3) for index in range(2)]
    with ThreadPoolExecutor(2) as pool:
        results = [each.result(TIMEOUT_S) for each in [pool.submit(train, one) for one in made]]
    for applied, bias in results:
        assert [each.verdict for each in applied] == ["pending", "applied"] * 3
        assert bias == -6.0
    for each in made:
        assert each.report is not None
        assert (each.report.round, each.report.quorum) == (3, 0)


def test_with_local_steps_its_bar_counts_rounds(cluster: SmallCluster) -> None:
    made = session(cluster, sync="local(2)", steps=3, show_progress=True)
    applied, _ = train(made)
    assert [each.verdict for each in applied] == ["pending", "applied"] * 3
    assert made.report is not None
    assert (made.report.policy, made.report.round) == ("local(2)", 3)


def test_the_others_wait_for_the_chief_and_say_so(cluster: SmallCluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with pytest.raises(
        DeadlineExceededError, match=r"worker:1 has waited 0\.1 s for the chief, worker:0, which has not"
    ):
        train(session(cluster, 1, wait_timeout_s=0.1))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(train, session(cluster, 1, initial=7.0))
        with session(cluster, 0, initial=5.0) as chief:
            assert waiting.result(TIMEOUT_S)[1] == 2.0
            assert chief.client.is_chief


def test_who_knows_another_state_than_the_chief_has_made_ready_connects_again(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one who has connected while a ps was being restored: ps task 0, which it asks, was by then."""
    start.say_ready(cluster.client(0))
    early, made = cluster.client(1), list[Client]()
    monkeypatch.setattr(early.fanout, "store", lambda _ps_task: "00000000-0000-4000-8000-000000000000")

    def connect() -> Client:
        made.append(cluster.client(1))
        return made[-1]

    assert start.wait_until_ready(early, connect, TIMEOUT_S) is made[0]


def test_the_chief_restores_the_newest_checkpoint_and_saves_at_the_end(tmp_path: Path) -> None:
    folder = f"{tmp_path}/run"
    with SmallCluster(2) as cluster:
        assert train(session(cluster, checkpoint=folder))[1] == -3.0
    with SmallCluster(3) as cluster:
        made = session(cluster, checkpoint=folder, steps=5, initial=9.0)
        with made as running:
            assert running.step == 3
            assert float(running.parameters[1][0]) == -3.0
            waiting = session(cluster, 1, steps=3, initial=9.0)
            assert train(waiting) == ([], -3.0)  # the steps are in the checkpoint
            while not running.should_stop():
                running.apply_gradients(ONES)
    with SmallCluster(1) as cluster, cluster.client() as client:
        assert client.restore(folder).step == 5


def lose_state(cluster: SmallCluster, folder: str, step: int) -> str:
    """Puts a state in the place of the ps tasks' own; returns which."""
    with cluster.client(2) as client:
        return client.restore(client.save(folder, step=step).path).path


def test_a_state_that_is_lost_while_a_session_begins_is_waited_for_again(cluster: SmallCluster, tmp_path: Path) -> None:
    folder, lost, sync = str(tmp_path), threading.Event(), "bsp(total=2)"
    with session(cluster, 0, sync, checkpoint=folder) as chief, ThreadPoolExecutor(1) as pool:

        def build(client: Client) -> tuple[Sequence[Any], Optimizer]:
            if not lost.is_set():
                lose_state(cluster, folder, 0)
                lost.set()
            return builder(sync)(client)

        other = ss.train.TrainingSession(
            build, steps=3, checkpoint=folder, connect=lambda: cluster.client(1), show_progress=False
        )
        waiting = pool.submit(train, other)
        assert lost.wait(TIMEOUT_S)
        verdicts = []
        while not chief.should_stop():
            verdicts.append(chief.apply_gradients(ONES).verdict)
        assert verdicts == ["stale", *["applied"] * 3]
        chief.optimizer.finish()
        applied, bias = waiting.result(TIMEOUT_S)
        assert ([each.verdict for each in applied], bias) == (["applied"] * 3, -3.0)


def test_a_state_that_is_lost_before_a_step_is_shown_is_found_out_by_the_next_one(
    cluster: SmallCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, report = str(tmp_path), Client.training_report
    lost: list[str] = []

    def losing(client: Client, name: str) -> Any:
        if not lost:
            lost.append(lose_state(cluster, folder, 1))
        return report(client, name)

    monkeypatch.setattr(Client, "training_report", losing)
    applied, bias = train(session(cluster, 0, "bsp", checkpoint=folder, show_progress=True))
    assert [each.verdict for each in applied] == ["applied", "stale", "applied", "applied"]
    assert bias == -3.0


@pytest.mark.parametrize("sync", ["bsp", "local(1)"])
def test_a_step_that_has_lost_the_state_is_shown_though_nobody_has_joined_since(
    cluster: SmallCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sync: str
) -> None:
    monkeypatch.setattr(session_module, "_LOOK_EVERY_S", 0.0)
    with session(cluster, 0, sync, checkpoint=str(tmp_path), show_progress=True) as running:
        verdicts = [running.apply_gradients(ONES).verdict]
        lose_state(cluster, str(tmp_path), 1)
        verdicts += [running.apply_gradients(ONES).verdict for _ in range(2)]
    assert verdicts == ["applied", "stale", "applied"]


class Recorder(SessionRunHook):
    """Notes what it is called for; asks for the end after some steps."""

    def __init__(self, last: int):
        self.calls: list[str] = []
        self._last = last

    def begin(self) -> None:
        self.calls.append("begin")

    def after_create_session(self, session: Any, coord: Any) -> None:
        assert coord is None
        self.calls.append(f"created at {session.step}")

    def before_run(self, run_context: SessionRunContext) -> None:
        self.calls.append(f"before {run_context.session.step}")

    def after_run(self, run_context: SessionRunContext, run_values: SessionRunValues) -> None:
        self.calls.append(f"after {run_context.session.step} {run_values.results.verdict}")
        if run_context.session.step == self._last:
            run_context.request_stop()

    def end(self, session: Any) -> None:
        self.calls.append(f"end at {session.step}")


@pytest.mark.parametrize("sync", ["bsp", "local(1)"])
def test_a_checkpoint_that_the_chief_restores_itself_is_what_all_go_on_from(
    cluster: SmallCluster, tmp_path: Path, sync: str
) -> None:
    made = [session(cluster, index, sync, steps=9, wait_timeout_s=TIMEOUT_S) for index in range(2)]
    with ThreadPoolExecutor(2) as pool, made[0] as chief, made[1] as other:

        def both() -> list[str]:
            steps = [pool.submit(each.apply_gradients, ONES) for each in (chief, other)]
            return [each.result(TIMEOUT_S).verdict for each in steps]

        other.optimizer.join(other.variables)
        chief.optimizer.join(chief.variables)
        assert both() == ["applied", "applied"]
        bias = float(chief.parameters[1][0])
        saved = chief.client.save(tmp_path / "saved", step=1).path
        assert both() == ["applied", "applied"]
        assert chief.step == other.step == 2
        connection = chief.client
        chief.client.restore(saved)
        assert both() == ["stale", "stale"]
        assert chief.client is connection
        assert chief.step == other.step == 1
        assert [float(each.parameters[1][0]) for each in (chief, other)] == [bias, bias]
        other.optimizer.join(other.variables)
        assert both() == ["applied", "applied"]
        chief.request_stop()
        other.optimizer.finish()
        chief.optimizer.finish()


def test_hooks_are_called_around_steps_and_may_end_it(cluster: SmallCluster) -> None:
    hook = Recorder(2)
    train(session(cluster, steps=None, hooks=[hook]))
    steps = ["before 0", "after 1 applied", "before 1", "after 2 applied"]
    assert hook.calls == ["begin", "created at 0", *steps, "end at 2"]


def test_an_error_ends_it_without_the_end_of_hooks_and_without_a_wait(cluster: SmallCluster) -> None:
    hook = Recorder(2)
    made = session(cluster, hooks=[hook], sync="bsp")
    with pytest.raises(ZeroDivisionError), made as running:
        _ = running.step // 0
    assert not [each for each in hook.calls if each.startswith("end")]
    assert made.report is None
    with pytest.raises(FailedPreconditionError, match="use it in a with statement"):
        _ = made.client


class Fetches(SessionRunHook):
    def before_run(self, run_context: SessionRunContext) -> SessionRunArgs:
        return SessionRunArgs("loss")


def test_what_it_cannot_do_is_refused(cluster: SmallCluster) -> None:
    with pytest.raises(InvalidArgumentError, match="steps is -1"):
        session(cluster, steps=-1)
    with pytest.raises(InvalidArgumentError, match="Fetches asks for fetches, which there are only in graphs"):
        train(session(cluster, hooks=[Fetches()]))
    nothing = ss.train.TrainingSession(
        lambda _client: ([], ss.train.Adam(0.1)), connect=cluster.client, show_progress=False
    )
    with pytest.raises(InvalidArgumentError, match="has returned no variables"), nothing:
        pass
