"""TensorFlow's checkpoints by the functions of ``ss.checkpoint`` and of TensorFlow 1."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from tests.checkpoint_files import extracted


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    path = str(tmp_path / "d" / "m")
    rows = np.arange(6.0).reshape(2, 3)
    ss.checkpoint.write_tensorflow(
        path,
        {"a": np.float32(3), "b": rows, "s": b"abc", "t": [b"x", b"yy"], "h": np.ones(3, ml_dtypes.bfloat16)},
    )
    tf.train.update_checkpoint_state(tmp_path / "d", path)
    return path


def test_what_is_written_is_opened(prefix: str) -> None:
    with ss.checkpoint.open_tensorflow(prefix) as checkpoint:
        assert isinstance(checkpoint, ss.checkpoint.TensorFlowCheckpoint)
        assert {name: tensor.dtype_name for name, tensor in checkpoint.items()} == {
            "a": "float32",
            "b": "float64",
            "h": "bfloat16",
            "s": "string",
            "t": "string",
        }


def test_a_reader_gives_what_tensorflows_gives(prefix: str) -> None:
    reader = tf.train.NewCheckpointReader(prefix)
    assert type(reader.get_tensor("a")) is np.float32
    assert reader.get_tensor(b"b").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert reader.get_tensor("s") == b"abc"
    assert reader.get_tensor("t").tolist() == [b"x", b"yy"]
    assert reader.get_variable_to_shape_map() == {"a": [], "b": [2, 3], "h": [3], "s": [], "t": [2]}
    assert reader.get_variable_to_dtype_map() == {
        "a": tf.float32,
        "b": tf.float64,
        "h": tf.bfloat16,
        "s": tf.string,
        "t": tf.string,
    }
    assert reader.debug_string() == (
        b"a (DT_FLOAT) []\nb (DT_DOUBLE) [2,3]\nh (DT_BFLOAT16) [3]\ns (DT_STRING) []\nt (DT_STRING) [2]\n"
    )
    assert reader.has_tensor("a")
    assert not reader.has_tensor("a:0")
    with pytest.raises(tf.errors.NotFoundError, match="Key zz not found in checkpoint"):
        reader.get_tensor("zz")
    with pytest.raises(TypeError, match="Expected binary or unicode string, got 3"):
        reader.get_tensor(3)  # type: ignore[arg-type]


def test_variables_are_listed_and_loaded(prefix: str) -> None:
    for path in (prefix, Path(prefix).parent, Path(prefix)):
        assert tf.train.list_variables(path) == [("a", []), ("b", [2, 3]), ("h", [3]), ("s", []), ("t", [2])]
        assert tf.train.load_variable(path, "a:0") == 3
        assert tf.train.load_checkpoint(path).has_tensor("b")


def test_what_is_not_there_or_no_checkpoint_is_tensorflows_error(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(tf.errors.NotFoundError, match=r"Failed to find any matching files for .*/nope"):
        tf.train.load_variable(f"{prefix}/nope", "a")
    with pytest.raises(tf.errors.NotFoundError, match="Key zz not found in checkpoint"):
        tf.train.load_variable(prefix, "zz")
    with pytest.raises(ValueError, match="Couldn't find 'checkpoint' file or checkpoints in given directory"):
        tf.train.list_variables(tmp_path)
    with pytest.raises(tf.errors.DataLossError, match="it is a directory; give the prefix of a checkpoint in it"):
        tf.train.NewCheckpointReader(str(tmp_path))
    Path(prefix).write_bytes(b"hello" * 30)
    Path(f"{prefix}.index").unlink()
    with pytest.raises(tf.errors.DataLossError, match="is no table of TensorFlow's"):
        tf.train.NewCheckpointReader(prefix)


def test_tensors_of_variants_are_listed_without_a_dtype(tmp_path: Path) -> None:
    reader = tf.train.load_checkpoint(extracted("tensor_lists", tmp_path).path)
    assert reader.get_variable_to_shape_map() == {"beside": [2], "list": []}
    assert reader.get_variable_to_dtype_map() == {"beside": tf.float32}
    with pytest.raises(tf.errors.UnimplementedError, match="'list'"):
        reader.get_tensor("list")


def test_a_tensor_is_assigned_to_a_variable(prefix: str) -> None:
    with ss.checkpoint.open_tensorflow(prefix) as checkpoint, tf.Graph().as_default(), tf.Session() as session:
        weights = tf.get_variable("b", initializer=np.asarray(checkpoint["b"]))
        session.run(tf.global_variables_initializer())
        session.run(weights.assign_add(weights))
        assert session.run(weights).tolist() == [[0, 2, 4], [6, 8, 10]]
        weights.load(checkpoint["b"], session)
        assert session.run(weights).tolist() == [[0, 1, 2], [3, 4, 5]]
