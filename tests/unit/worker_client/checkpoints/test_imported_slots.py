"""Slots of TensorFlow 1's optimizers come along as the variables that they are: programs go on as if never stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from tests.checkpoint_files import extracted
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster

OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "Adam": lambda: tf.train.AdamOptimizer(0.1),
    "Momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
    "Adagrad": lambda: tf.train.AdagradOptimizer(0.1),
    "RMSProp": lambda: tf.train.RMSPropOptimizer(0.1, momentum=0.5),
    "Adadelta": lambda: tf.train.AdadeltaOptimizer(0.1),
    "Ftrl": lambda: tf.train.FtrlOptimizer(0.1),
}


class Program:
    """A graph with a variable in two parts, one that is whole, and an optimizer."""

    def __init__(self, optimizer: str, client: Any):
        self._client = client
        with tf.Graph().as_default() as graph:
            cut = tf.fixed_size_partitioner(2)
            initial = tf.random_uniform_initializer(seed=1)
            self.variables = [
                tf.get_variable("whole", [3], initializer=initial),
                tf.get_variable("divided", [4, 2], initializer=initial, partitioner=cut),
            ]
            loss = sum([tf.reduce_sum(tf.square(tf.convert_to_tensor(each) - 1.0)) for each in self.variables])
            self.step = OPTIMIZERS[optimizer]().minimize(loss)
            self.initialize = tf.global_variables_initializer()
            self.saver = tf.train.Saver()
            self.graph = graph

    def run(self, steps: int, *, initialize: bool, save: Path | None = None) -> list[Any]:
        """Takes steps; returns what the variables have."""
        with self.graph.as_default(), tf.Session(self._client) as session:
            if initialize:
                session.run(self.initialize)
            for _ in range(steps):
                session.run(self.step)
            if save is not None:
                self.saver.save(session, save)
            return [session.run(tf.convert_to_tensor(each)).tolist() for each in self.variables]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_program_goes_on_with_the_slots_of_an_imported_checkpoint(tmp_path: Path, optimizer: str) -> None:
    with SmallCluster(2) as cluster:
        program = Program(optimizer, cluster.client())
        program.run(3, initialize=True, save=tmp_path / "m")
        expected = program.run(4, initialize=False)
    made = ss.checkpoint.import_from(tmp_path / "m", tmp_path / "imported", name="x")
    assert {f"whole/{optimizer}", f"divided/{optimizer}"} <= set(made.tensorflow_slots)
    assert set(made.names) - set(made.tensorflow_slots) == {"whole", "divided"}
    assert made.left_out == {}
    with SmallCluster(3) as cluster:
        client = cluster.client()
        program = Program(optimizer, client)
        program.run(0, initialize=True)  # declares it, in its parts
        client.restore(tmp_path / "imported")
        assert program.run(4, initialize=False) == expected


def test_what_tensorflow_itself_has_saved_is_told_apart(tmp_path: Path) -> None:
    made = ss.checkpoint.import_from(extracted("adam", tmp_path).path, tmp_path / "imported")
    assert "embedding/rows/Adam_1" in made.tensorflow_slots
    assert {"beta1_power", "beta2_power"} < set(made.tensorflow_slots)
    assert {"layer/weights", "embedding/rows", "global_step"} < set(made.names) - set(made.tensorflow_slots)


def test_only_what_is_as_its_variable_counts_as_a_slot(tmp_path: Path) -> None:
    arrays = {"w": np.zeros(3), "w/Adam": np.zeros(2), "x/Adam": np.zeros(3), "beta1_power": np.int64(1)}
    ss.checkpoint.write_tensorflow(tmp_path / "m", arrays)
    assert ss.checkpoint.import_from(tmp_path / "m", tmp_path / "imported").tensorflow_slots == ()
