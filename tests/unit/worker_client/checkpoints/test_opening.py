"""A checkpoint of any form is opened by what is at the path; what is none says what was looked for."""

from __future__ import annotations

import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import shardscope as ss
import worker_client.compat.v1 as tf
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.errors import DataLossError, InvalidArgumentError, NotFoundError, UnimplementedError
from ps_protocol.tensor_files.safetensors_writer import write_safetensors
from ps_protocol.tensor_files.stored_tensor import StoredTensors
from ps_protocol.tensorflow_files import checkpoint_pb2
from ps_protocol.tensorflow_files.checkpoint import OBJECT_GRAPH_KEY
from tests.checkpoint_files import extracted
from tests.tensor_files import in_memory
from worker_client.checkpoints.new_checkpoint import write_checkpoint
from worker_client.checkpoints.opening import variables_of

ARRAYS: dict[str, Any] = {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Has the same tensors in each form."""
    for name in ("old", "new"):
        write_checkpoint(FolderStore(tmp_path / "run"), name, in_memory(ARRAYS))
    ss.checkpoint.write_tensorflow(tmp_path / "tf" / "m-7", ARRAYS)
    tf.train.update_checkpoint_state(tmp_path / "tf", "m-7")
    write_safetensors(tmp_path / "one" / "weights.safetensors", in_memory(ARRAYS))
    write_safetensors(tmp_path / "many" / "model.safetensors", in_memory(ARRAYS), shard_bytes=20)
    np.savez(tmp_path / "a.npz", **ARRAYS)
    (tmp_path / "a.npz").rename(tmp_path / "archive")
    np.savez(tmp_path / "a.npz", **ARRAYS)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("run", "Shardscope"),
        ("run/old", "Shardscope"),
        ("run/old/manifest.json", "Shardscope"),
        ("tf", "TensorFlow"),
        ("tf/m-7", "TensorFlow"),
        ("tf/m-7.index", "TensorFlow"),
        ("tf/m-7.data-00000-of-00001", "TensorFlow"),
        ("one", "safetensors"),
        ("one/weights.safetensors", "safetensors"),
        ("many", "safetensors"),
        ("many/model.safetensors.index.json", "safetensors"),
        ("a.npz", "npz"),
        ("archive", "npz"),
    ],
)
def test_each_form_is_found_out(root: Path, path: str, form: str) -> None:
    with ss.checkpoint.open(root / path) as checkpoint:
        assert checkpoint.form == form
        assert sorted(checkpoint) == sorted(ARRAYS)
        assert repr(checkpoint).startswith(f"<{form} checkpoint {root}")
        for name, expected in ARRAYS.items():
            np.testing.assert_array_equal(checkpoint[name].read(), expected)
            assert checkpoint[name].dtype == expected.dtype


def test_a_form_can_be_said(root: Path) -> None:
    (root / "one" / "weights.safetensors").rename(root / "weights")
    with ss.checkpoint.open(root / "weights", format="safetensors") as checkpoint:
        assert sorted(checkpoint) == sorted(ARRAYS)
    with pytest.raises(InvalidArgumentError, match=r"'tf' is no form .* shardscope, .*, npz"):
        ss.checkpoint.open(root / "weights", format="tf")
    with pytest.raises(NotFoundError, match=r"has no file \*\.safetensors, and no \*\.safetensors\.index\.json"):
        ss.checkpoint.open(root / "tf", format="safetensors")


def test_other_files_of_tensorflow_are_found_out(tmp_path: Path) -> None:
    for case, path in (("version_1", ""), ("version_1_sharded", ""), ("saved_model", "model"), ("objects", "")):
        recorded = extracted(case, tmp_path)
        with ss.checkpoint.open(recorded.folder / path if path else recorded.path) as checkpoint:
            assert checkpoint.form == "TensorFlow"


def test_variables_of_objects_have_their_full_names(tmp_path: Path) -> None:
    with ss.checkpoint.open(extracted("objects", tmp_path).folder) as checkpoint:
        found = variables_of(checkpoint)
        assert {"first/kernel", "second/bias", "step"} < set(found)
        assert [name for name in found if "OBJECT_GRAPH" in name or "kernel/.ATTRIBUTES" in name] == []
        assert len(found) == len(checkpoint) - 1


def test_a_name_of_several_variables_is_that_of_one_only_if_all_of_them_are_copies(tmp_path: Path) -> None:
    """Biases of two models are alike before the first step; their kernels are not."""
    keys = {name: [f"{model}/{name}" for model in "ab"] for name in ("bias", "kernel")}
    node = checkpoint_pb2.ObjectGraph.TrackableObject
    graph = checkpoint_pb2.ObjectGraph(
        nodes=[
            node(attributes=[checkpoint_pb2.ObjectGraph.SerializedTensor(full_name=name, checkpoint_key=key)])
            for name, both in keys.items()
            for key in both
        ]
    ).SerializeToString()
    for second, expected in ((2.0, {*keys["bias"], *keys["kernel"]}), (1.0, {"bias", "kernel"})):
        tensors = {key: np.zeros(2) for key in keys["bias"]}
        tensors |= {"a/kernel": np.ones(2), "b/kernel": np.full(2, second)}
        ss.checkpoint.write_tensorflow(tmp_path / "m", {OBJECT_GRAPH_KEY: graph, **tensors})
        with ss.checkpoint.open(tmp_path / "m") as checkpoint:
            assert set(variables_of(checkpoint)) == expected
            assert set(checkpoint) == {OBJECT_GRAPH_KEY, *tensors}


@pytest.mark.parametrize("path", ["run", "tf", "many", "a.npz"])
def test_many_threads_read_at_once(root: Path, path: str) -> None:
    def read(checkpoint: StoredTensors, seed: int) -> bool:
        draw = np.random.default_rng(seed)
        found = []
        for _ in range(40):
            name = str(draw.choice(list(ARRAYS)))
            start = int(draw.integers(len(ARRAYS[name])))
            found.append(np.array_equal(checkpoint[name][start:], ARRAYS[name][start:]))
        return all(found)

    with ss.checkpoint.open(root / path) as checkpoint, ThreadPoolExecutor(8) as threads:
        assert all(list(threads.map(lambda seed: read(checkpoint, seed), range(8))))


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_a_pickle_is_refused_with_a_remedy(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps({}))
    for _ in range(2):
        with pytest.raises(UnimplementedError, match=rf"{path} is a pickle.* safetensors\.torch\.save_file"):
            ss.checkpoint.open(path)
        with zipfile.ZipFile(path, "w") as archive:  # as newer versions of PyTorch write it
            archive.writestr("model/data.pkl", b"")


def test_files_of_keras_are_refused_with_a_remedy(tmp_path: Path) -> None:
    weights, model = tmp_path / "model.weights.h5", tmp_path / "model.keras"
    weights.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with zipfile.ZipFile(model, "w") as archive:
        archive.writestr("model.weights.h5", weights.read_bytes())
    for path in (weights, model):
        with pytest.raises(UnimplementedError, match=rf"{path} is HDF5, .*model\.export\('folder'\)"):
            ss.checkpoint.open(path)


def test_what_is_of_no_form_says_which_are_known(tmp_path: Path) -> None:
    path = tmp_path / "something"
    path.write_bytes(b"x" * 100)
    with pytest.raises(DataLossError, match=rf"{path} has none of the forms that are known, which are shardscope, ten"):
        ss.checkpoint.open(path)


def test_what_is_not_there_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=rf"no checkpoint {tmp_path}/x: neither {tmp_path}/x\.index nor a file"):
        ss.checkpoint.open(tmp_path / "x")
    with pytest.raises(NotFoundError, match=rf"and there is no directory {tmp_path}/y"):
        ss.checkpoint.open(tmp_path / "y" / "x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"manifest\.json of .*'checkpoint' or .*TensorFlow.*safetensors"):
        ss.checkpoint.open(tmp_path / "empty")
    for name in ("a", "b"):
        save_file({"x": np.zeros(1)}, tmp_path / "empty" / f"{name}.safetensors")
    with pytest.raises(NotFoundError, match=r"has 2 files of the form: a\.safetensors, b\.safetensors"):
        ss.checkpoint.open(tmp_path / "empty")
