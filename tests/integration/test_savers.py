"""Savers on real ps processes: many batches through sockets and shared memory, interrupted between two of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from ps_cluster import LocalCluster
from worker_client.training.savers import transfer
from worker_client.training.savers.formats import TensorFlowFormat
from worker_client.training.savers.saved_variables import SavedVariable

pytestmark = pytest.mark.integration

NUM_VALUES = 10
ELEMENTS = 50_000
WAIT_S = 10.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2) as started:
        yield started


@pytest.fixture(params=["socket", "shm"])
def session(request: pytest.FixtureRequest, cluster: LocalCluster) -> Iterator[tf.Session]:
    spec = cluster.cluster_spec
    with ss.connect(spec, transport=request.param) as client, tf.Graph().as_default(), tf.Session(client) as session:
        for number in range(NUM_VALUES):
            with tf.variable_scope(request.param):
                tf.get_variable(f"v{number}", [ELEMENTS], initializer=tf.constant_initializer(float(number)))
        session.run(tf.global_variables_initializer())
        yield session


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    size_bytes = ELEMENTS * 4
    monkeypatch.setattr(transfer.save_variables, "__kwdefaults__", {"sharded": False, "batch_bytes": size_bytes})
    monkeypatch.setattr(transfer.restore_variables, "__kwdefaults__", {"reshape": False, "batch_bytes": size_bytes})


def check(session: tf.Session, more: float) -> None:
    for number, value in enumerate(session.run(tf.global_variables())):
        np.testing.assert_array_equal(value, np.full(ELEMENTS, number + more, np.float32))


@pytest.mark.parametrize("form", ["tensorflow", "shardscope"])
def test_many_batches_are_saved_and_restored(session: tf.Session, tmp_path: Path, form: str) -> None:
    saver = tf.train.Saver(write_format=form)
    for more in (0.0, 1.0):
        path = saver.save(session, tmp_path / "m", int(more))
        session.run([each.assign_add(tf.ones_like(each)) for each in tf.global_variables()])
        check(session, more + 1.0)
    saver.restore(session, path)
    check(session, 1.0)


def test_an_interrupt_while_the_next_values_come_leaves_a_connection_that_works(
    session: tf.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saver = tf.train.Saver()
    path = saver.save(session, tmp_path / "m", 1)
    files = sorted(tmp_path.iterdir())
    everything = [SavedVariable(each.op.name, each) for each in tf.global_variables()]
    interrupts, values_of, others = 0, transfer._values, threading.Semaphore(0)

    class Interrupted(TensorFlowFormat):
        def create(self, path: str, num_shards: int, specs: Any) -> Any:
            created = super().create(path, num_shards, specs)
            add = created.add  # type: ignore[attr-defined]

            def interrupted(shard: int, key: str, *arguments: Any) -> None:
                nonlocal interrupts
                add(shard, key, *arguments)
                assert others.acquire(timeout=WAIT_S)
                interrupts += 1
                raise KeyboardInterrupt

            created.add = interrupted  # type: ignore[attr-defined]
            return created

    def noted(home: Any, batch: Any) -> Any:
        if threading.current_thread() is not threading.main_thread():
            others.release()
        return values_of(home, batch)

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_values", noted)
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                transfer.save_variables(session._runtime, everything, str(tmp_path / "n"), Interrupted())
    assert interrupts == 5
    assert sorted(tmp_path.iterdir()) == files
    saver.restore(session, path)
    check(session, 0.0)
