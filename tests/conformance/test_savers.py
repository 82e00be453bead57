"""What a saver here has saved is restored and trained on by TensorFlow, and the other way round, with equal values.

The first is tested with TensorFlow where its interpreter is given: ``TENSORFLOW_PYTHON=envs/tensorflow/bin/python``.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf
from tests.checkpoint_files import extracted
from tests.conformance import replay
from tests.conformance.reference.train_on import train_on

PROGRAM = replay.REFERENCE / "train_on.py"
TENSORFLOW = os.environ.get("TENSORFLOW_PYTHON")


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.skipif(TENSORFLOW is None, reason="needs TENSORFLOW_PYTHON, an interpreter that has TensorFlow")
def test_tensorflow_trains_on_from_what_is_saved_here_and_here_it_goes_on_from_that(tmp_path: Path) -> None:
    train_on(tf, None, f"{tmp_path}/ours", parts=3)
    notes = tmp_path / "notes.json"
    subprocess.run(
        [TENSORFLOW or "", PROGRAM, f"{tmp_path}/ours-3", f"{tmp_path}/theirs", notes],
        check=True,
        timeout=160,
        capture_output=True,
    )
    theirs = json.loads(notes.read_text(encoding="utf-8"))
    same(train_on(tf, f"{tmp_path}/ours-3", f"{tmp_path}/six", parts=4), theirs)
    nine = train_on(tf, f"{tmp_path}/theirs-6", f"{tmp_path}/nine", parts=1)
    same(nine, train_on(tf, f"{tmp_path}/six-6", f"{tmp_path}/again", parts=3))
    assert nine["global_step"] == 9


def test_a_run_that_is_cut_by_saving_ends_where_the_whole_one_does(tmp_path: Path) -> None:
    train_on(tf, None, f"{tmp_path}/a", parts=3)
    cut = train_on(tf, f"{tmp_path}/a-3", f"{tmp_path}/b", parts=2)
    assert cut["global_step"] == 6
    assert cut.keys() == {
        *("beta1_power", "beta2_power", "global_step"),
        *(f"model/{name}{slot}" for name in ("table", "weights") for slot in ("", "/Adam", "/Adam_1")),
    }


@pytest.mark.parametrize("of_model", [False, True])
def test_variables_of_tensorflow_2_are_restored_by_their_full_names(of_model: bool, tmp_path: Path) -> None:
    recorded = extracted("saved_model" if of_model else "objects", tmp_path)
    path = recorded.folder / "model" if of_model else recorded.path
    prefix, key = ("layer", "kernel") if of_model else ("first", "layers/0/kernel")
    with tf.Graph().as_default(), tf.Session() as session, tf.variable_scope(prefix):
        kernel = tf.get_variable("kernel", [3, 2], partitioner=tf.fixed_size_partitioner(3))
        tf.train.Saver().restore(session, path)
        found = session.run(tf.convert_to_tensor(kernel))
    stored = tf.train.load_variable(recorded.path, f"{key}/.ATTRIBUTES/VARIABLE_VALUE")
    np.testing.assert_array_equal(found, stored)


def test_variables_with_one_full_name_are_restored_by_their_keys(tmp_path: Path) -> None:
    path = extracted("objects_in_shards", tmp_path).path
    with tf.Graph().as_default(), tf.Session() as session:
        same, big = tf.get_variable("same", [3, 50], tf.int32), tf.get_variable("big", [40, 7])
        with pytest.raises(
            tf.errors.NotFoundError, match=r"same is the full name of 2 variables in .* keys same/0/.*, s"
        ):
            tf.train.Saver().restore(session, path)
        tf.train.Saver({"same/0/.ATTRIBUTES/VARIABLE_VALUE": same, "big": big}).restore(session, path)
        assert session.run(same).ravel().tolist() == list(range(150))
        assert session.run(big).ravel().tolist() == list(range(280))


@pytest.mark.parametrize("case", ["adam", "version_1", "sharded"])
def test_what_tensorflow_has_saved_is_restored(case: str, tmp_path: Path) -> None:
    recorded = extracted(case, tmp_path)
    shapes = dict(tf.train.list_variables(recorded.path))
    reader = tf.train.load_checkpoint(recorded.path)
    dtypes = reader.get_variable_to_dtype_map()
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {
            name: tf.get_variable(f"here/{name}", shape, dtypes[name], initializer=tf.zeros_initializer())
            for name, shape in shapes.items()
        }
        tf.train.Saver(variables).restore(session, recorded.path)
        assert len(variables) > 3
        for name, value in session.run(variables).items():
            np.testing.assert_array_equal(value, reader.get_tensor(name), err_msg=name)
