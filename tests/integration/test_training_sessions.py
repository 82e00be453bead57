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
