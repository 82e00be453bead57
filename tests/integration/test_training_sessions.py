"""Training sessions on real ps tasks, which die and come back with their state or without: workers go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.errors import StateLostError
from worker_client.training.monitored.hook import SessionRunContext, SessionRunHook

pytestmark = pytest.mark.integration

TIMEOUT_S = 120.0
STEPS = 24
KILL_AT = 8


class KillsPs(SessionRunHook):
    """Kills a ps task once, at a step, and starts it again; before that, if asked, it waits for a checkpoint."""

    def __init__(self, cluster: LocalCluster, index: int, folder: Path | None):
        self.fired = 0
        self.has_fired = threading.Event()
        self._cluster, self._index, self._folder = cluster, index, folder

    def before_run(self, run_context: SessionRunContext) -> None:
        session = run_context.session
        if self.fired or session.step < KILL_AT:
            return
        self.fired += 1
        if self._folder is not None:
            session.client.save(self._folder, step=session.step)
        self._cluster.kill_ps(self._index)
        self._cluster.restart_ps(self._index)
        self.has_fired.set()


class WaitsForKill(SessionRunHook):
    """Holds a worker at the step of the kill, so that it does not make all the others before."""

    def __init__(self, killer: KillsPs):
        self._killer = killer

    def before_run(self, run_context: SessionRunContext) -> None:
        if run_context.session.step >= KILL_AT:
            assert self._killer.has_fired.wait(TIMEOUT_S)


class Restores(SessionRunHook):
    """Restores another checkpoint under the sessions, once, as an operator would; maybe a ps is lost right after."""

    def __init__(self, cluster: LocalCluster, path: Path, folder: Path | None, lost: int | None):
        self.fired = 0
        self._cluster, self._path, self._folder, self._lost = cluster, path, folder, lost

    def before_run(self, run_context: SessionRunContext) -> None:
        session = run_context.session
        if self.fired or session.step < KILL_AT:
            return
        self.fired += 1
        if self._folder is not None:
            session.client.save(self._folder, step=session.step)
        with ss.connect(self._cluster.cluster_spec, observer="update") as operator:
            operator.restore(self._path)
        if self._lost is not None:
            self._cluster.kill_ps(self._lost)
            self._cluster.restart_ps(self._lost)


def train(
    cluster: LocalCluster, index: int, sync: str | None, folder: Path | None, *hooks: SessionRunHook
) -> tuple[int, list[str], list[Any]]:
    """Trains to the end; returns how many connections that took, the verdicts, and what this worker has read last."""
    connections = []

    def build(client: ss.Client) -> tuple[Sequence[Any], Any]:
        connections.append(client)
        ones = ss.ones_initializer()
        made = [ss.get_variable(name, [3, 2], initializer=ones) for name in ("first", "second", "third")]
        return made, ss.train.Momentum(0.1, 0.5, name="momentum", sync=sync)

    session = ss.train.TrainingSession(
        build,
        steps=STEPS,
        checkpoint=None if folder is None else str(folder),
        connect=lambda: ss.connect(cluster.cluster_spec, task_index=index),
        hooks=hooks,
        show_progress=False,
    )
    verdicts: list[str] = []
    with session:
        while not session.should_stop():
            verdicts.append(session.apply_gradients([0.1 * each for each in session.parameters]).verdict)
        values = [np.array(each) for each in session.parameters]
    return len(connections), verdicts, values


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("sync", [None, "bsp(total=2)"])
def test_when_a_ps_has_lost_its_state_all_go_on_from_the_checkpoint(
    tmp_path: Path, index: int, sync: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with LocalCluster(num_ps=2, num_workers=2) as cluster, ThreadPoolExecutor(2) as pool:
        killer = KillsPs(cluster, index, tmp_path)
        runs = [
            pool.submit(train, cluster, 0, sync, tmp_path, killer),
            pool.submit(train, cluster, 1, sync, tmp_path, WaitsForKill(killer)),
        ]
        (connections, verdicts, values), (of_other, _, _) = [each.result(TIMEOUT_S) for each in runs]
        assert killer.fired == 1
        assert connections >= 2  # without a new process
        assert "stale" in verdicts
        assert "going on from the newest checkpoint" in caplog.text
        if sync is not None:
            assert of_other >= 2
        with ss.connect(cluster.cluster_spec, observer=True) as client:
            assert int(client.variable("first/momentum/step").numpy()) >= STEPS
    expected = alone(STEPS) if sync is not None else None
    if expected is not None:
        for found in values:
            np.testing.assert_allclose(found, expected, rtol=1e-5)


def foreign_checkpoint(folder: Path) -> Path:
    """One of the same model, after a step by a program without a session."""
    with LocalCluster(num_ps=1, num_workers=1) as cluster, ss.connect(cluster.cluster_spec) as client:
        with client.as_default():
            fives = ss.constant_initializer(5.0)
            made = [ss.get_variable(name, [3, 2], initializer=fives) for name in ("first", "second", "third")]
        zeros = np.zeros([3, 2], np.float32)
        ss.train.Momentum(0.1, 0.5, name="momentum").apply_gradients([(zeros, each) for each in made])
        return Path(client.save(folder).path)


@pytest.mark.parametrize(
    ("has_folder", "lost", "first"),
    [(False, None, 5.0), (True, None, 5.0), (True, 1, 1.0), (True, 0, 1.0)],
    ids=["no checkpoint of its own", "restored", "restored, then ps 1 lost", "restored, then ps 0 lost"],
)
def test_a_checkpoint_of_others_that_is_restored_under_sessions_is_what_they_go_on_from(
    tmp_path: Path, has_folder: bool, lost: int | None, first: float, caplog: pytest.LogCaptureFixture
) -> None:
    """But if a ps has lost of it what it has, they go on from their own."""
    caplog.set_level(logging.WARNING)
    path = foreign_checkpoint(tmp_path / "foreign")
    folder = tmp_path / "own" if has_folder else None
    with LocalCluster(num_ps=2, num_workers=2) as cluster, ThreadPoolExecutor(2) as pool:
        operator = Restores(cluster, path, folder, lost)
        runs = [
            pool.submit(train, cluster, 0, "bsp(total=2)", folder, operator),
            pool.submit(train, cluster, 1, "bsp(total=2)", folder),
        ]
        found = [each.result(TIMEOUT_S) for each in runs]
    assert operator.fired == 1
    assert caplog.text.count("going on from the checkpoint that the ps tasks were restored from") == (lost is None)
    assert caplog.text.count("going on from the newest checkpoint") == (lost is not None)
    done = 1 if lost is None else 0
    for connections, verdicts, values in found:
        assert connections >= 2
        assert "stale" in verdicts
        for each in values:
            np.testing.assert_allclose(each, first * alone(STEPS - done), rtol=1e-5)


def alone(steps: int) -> Any:
    """What the model comes to in so many rounds of which none is lost or counted twice."""
    value, momentum = np.ones([3, 2], np.float32), np.zeros([3, 2], np.float32)
    for _ in range(steps):
        momentum = 0.5 * momentum + 0.1 * value
        value = value - 0.1 * momentum
    return value


@pytest.mark.parametrize("index", [0, 1])
def test_with_a_journal_workers_wait_and_go_on(index: int) -> None:
    with LocalCluster(num_ps=2, num_workers=2, durability="journal") as cluster, ThreadPoolExecutor(2) as pool:
        killer = KillsPs(cluster, index, None)
        runs = [
            pool.submit(train, cluster, 0, "bsp(total=2)", None, killer),
            pool.submit(train, cluster, 1, "bsp(total=2)", None),
        ]
        found = [each.result(TIMEOUT_S) for each in runs]
    assert killer.fired == 1
    for connections, verdicts, values in found:
        assert connections == 1
        assert verdicts == ["applied"] * STEPS
        for each in values:
            np.testing.assert_allclose(each, alone(STEPS), rtol=1e-5)


def test_lost_state_without_a_checkpoint_is_an_error() -> None:
    with LocalCluster(num_ps=2, num_workers=1) as cluster:
        killer = KillsPs(cluster, 1, None)
        with pytest.raises(StateLostError, match="ps:1"):
            train(cluster, 0, None, None, killer)
        assert killer.fired == 1
