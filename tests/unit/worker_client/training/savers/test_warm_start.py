"""Initial values from checkpoints: what is refused changes nothing, and what initializers do then.

That they do what TensorFlow's do is in ``tests/conformance``: its programs ``variables_from_a_checkpoint`` and
``warm_starts``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from tests.unit.worker_client.clusters import InProcessCluster


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


@pytest.fixture
def path(tmp_path: Path) -> str:
    tensors = {
        "a": np.arange(4, dtype=np.float32),
        "b": np.arange(6.0, dtype=np.float32).reshape(3, 2),
        "n": np.int64(7),
    }
    ss.checkpoint.write_tensorflow(tmp_path / "m", tensors)
    return str(tmp_path / "m")


def zeros(name: str, shape: list[int], **arguments: Any) -> Any:
    return tf.get_variable(name, shape, initializer=tf.zeros_initializer(), **arguments)


@pytest.mark.parametrize(
    ("assignments", "error", "words"),
    [
        ({"a": "a", "missing": "b"}, ValueError, r"Tensor missing \(b in the graph\) is not found.*list_variables"),
        ({"a": "a", "b": "a2"}, ValueError, r"variable a2:0 \(\(4,\)\) doesn't match .* b \(\(3, 2\)\)"),
        ({"a": "a", "n": "i"}, tf.errors.InvalidArgumentError, "n; expected dtype int32 .* int64"),
        ({"a": "a", "b": "nothing"}, ValueError, "no variable 'nothing'"),
        ({"a": "a", "b": 5}, ValueError, "which is no variable"),
    ],
    ids=["name", "shape", "dtype", "variable", "kind"],
)
def test_what_is_refused_changes_no_initializer(
    path: str, graph: tf.Graph, assignments: dict[str, Any], error: type[Exception], words: str
) -> None:
    made = [zeros("a", [4]), zeros("b", [3, 2]), zeros("a2", [4]), tf.get_variable("i", initializer=3)]
    before, number = [each.initializer for each in made], len(graph.get_operations())
    with pytest.raises(error, match=words):
        tf.train.init_from_checkpoint(path, assignments)
    assert [each.initializer for each in made] == before
    assert len(graph.get_operations()) == number


def test_parts_on_ps_tasks_get_what_belongs_to_them(cluster: InProcessCluster, path: str) -> None:
    variable = zeros("b", [3, 2], partitioner=tf.fixed_size_partitioner(2, axis=1))
    follower = tf.Variable(list(variable)[1].initialized_value() * 2.0, name="follower")
    tf.train.init_from_checkpoint(path, {"b": variable})
    late = tf.Variable(list(variable)[1].initialized_value() * 2.0, name="late")
    with tf.Session(cluster.client()) as session:
        session.run(tf.global_variables_initializer())
        assert session.run(tf.convert_to_tensor(variable)).tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
        assert session.run(late).tolist() == [[2.0], [6.0], [10.0]]
    del follower  # whose initial value was built before, and is that of before


@pytest.mark.parametrize("number", [0, 1])
def test_one_part_gets_what_belongs_to_it_and_the_others_stay_as_they_are(path: str, number: int) -> None:
    variable = zeros("b", [3, 2], partitioner=tf.fixed_size_partitioner(2))
    tf.train.init_from_checkpoint(path, {"b": [list(variable)[number]]})
    expected = np.arange(6.0).reshape(3, 2)
    expected[2:] *= number
    expected[:2] *= 1 - number
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(tf.convert_to_tensor(variable)).tolist() == expected.tolist()


def test_a_file_that_is_gone_when_it_is_read_is_named(path: str) -> None:
    variable = zeros("a", [4])
    tf.train.init_from_checkpoint(path, {"a": variable})
    Path(f"{path}.index").unlink()
    with tf.Session() as session, pytest.raises(tf.errors.NotFoundError, match=r"m\.index is missing"):
        session.run(variable.initializer)


def test_a_directory_without_checkpoints_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Couldn't find 'checkpoint' file"):
        tf.train.init_from_checkpoint(tmp_path, {"a": zeros("a", [4])})


def test_vocabularies_are_refused(path: str) -> None:
    zeros("a", [4])
    with pytest.raises(NotImplementedError, match=r"Variable\.load"):
        tf.train.warm_start(path, var_name_to_vocab_info={"a": object()})


@pytest.mark.parametrize("chosen", ["", None, []])
def test_nothing_is_chosen(path: str, chosen: Any) -> None:
    variable = zeros("a", [4])
    tf.train.warm_start(path, chosen)
    with tf.Session() as session:
        session.run(variable.initializer)
        assert not session.run(variable).any()
    if chosen is None:
        tf.train.warm_start(path, None, var_name_to_prev_var_name={"a": "a"})


def test_names_that_are_not_used_are_told_with_those_that_could_be(path: str) -> None:
    zeros("a", [4])
    with pytest.raises(ValueError, match=r"not used: \['typo'\].*\['a'\]"):
        tf.train.warm_start(path, var_name_to_prev_var_name={"typo": "a"})
