"""Checkpoints that TensorFlow has written are read as it reads them, and it reads those that are written here.

The second is tested with TensorFlow where its interpreter is given: ``TENSORFLOW_PYTHON=envs/tensorflow/bin/python``.
Without, what is written is compared with what TensorFlow wrote of the same tensors.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from ps_protocol.errors import UnimplementedError
from ps_protocol.tensor_files.checkpoint_file import CheckpointFile
from ps_protocol.tensorflow_files import checkpoint_pb2
from ps_protocol.tensorflow_files.bundle import HEADER_KEY, index_path, shard_path
from ps_protocol.tensorflow_files.bundle_writer import ShardWriter, new_checkpoint, write_index
from ps_protocol.tensorflow_files.dtypes import BY_NAME
from ps_protocol.tensorflow_files.slices import TensorSlice
from ps_protocol.tensorflow_files.table import Table
from tests.checkpoint_files import (
    ARCHIVE,
    CASES,
    KERAS_ARCHIVE,
    KERAS_CASES,
    Recorded,
    answer_of,
    extracted,
    is_as_recorded,
)
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster

RECORDER = ARCHIVE.parents[1] / "record_checkpoints.py"
TENSORFLOW = os.environ.get("TENSORFLOW_PYTHON")


@pytest.fixture(params=CASES)
def recorded(request: pytest.FixtureRequest, tmp_path: Path) -> Recorded:
    return extracted(request.param, tmp_path)


def test_names_dtypes_shapes_and_values_are_those_that_tensorflow_reads(recorded: Recorded) -> None:
    with ss.checkpoint.open_tensorflow(recorded.path) as checkpoint:
        assert set(checkpoint) == set(recorded.tensors)
        assert list(checkpoint) == sorted(checkpoint, key=str.encode)
        for name, expected in recorded.tensors.items():
            tensor = checkpoint[name]
            assert (tensor.dtype_name, list(tensor.shape)) == (expected["dtype"], expected["shape"])
            if tensor.dtype_name == "variant":
                continue
            array = np.asarray(tensor)
            assert array.shape == tensor.shape
            assert "data" not in expected or is_as_recorded(array, expected["data"]), name


def test_its_functions_read_the_same(recorded: Recorded) -> None:
    reader = tf.train.load_checkpoint(recorded.path)
    for name, expected in recorded.tensors.items():
        assert reader.has_tensor(name)
        if "data" in expected:
            as_array = np.asarray(reader.get_tensor(name), object if expected["dtype"] == "string" else None)
            assert is_as_recorded(as_array, expected["data"])


@pytest.mark.parametrize("case", ["version_1", "version_1_sharded"])
def test_parts_in_files_of_version_1_are_put_together(case: str, tmp_path: Path) -> None:
    """TensorFlow's own reader refuses to; the same program was recorded with version 2."""
    as_version_2 = extracted("adam", tmp_path).tensors
    with ss.checkpoint.open_tensorflow(extracted(case, tmp_path).path) as checkpoint:
        assert set(checkpoint) == set(as_version_2)
        assert len(checkpoint["embedding/rows/Adam"].parts) == 3
        for name, expected in as_version_2.items():
            assert is_as_recorded(checkpoint[name].read(), expected["data"])


def test_files_of_version_1_hold_the_same_elements(tmp_path: Path) -> None:
    """Also those that TensorFlow writes, and does not read: half floats, complex and quantized numbers."""
    as_version_2 = extracted("dtypes", tmp_path).tensors
    with ss.checkpoint.open_tensorflow(extracted("version_1_dtypes", tmp_path).path) as checkpoint:
        assert {"float16", "complex128", "qint32", "text"} < set(checkpoint) < set(as_version_2)
        for name, tensor in checkpoint.items():
            expected = as_version_2[name]
            assert (tensor.dtype_name, list(tensor.shape)) == (expected["dtype"], expected["shape"])
            assert is_as_recorded(tensor.read(), expected["data"]), name


def test_strings_in_parts_are_put_together(tmp_path: Path) -> None:
    with ss.checkpoint.open_tensorflow(extracted("sliced", tmp_path).path) as checkpoint:
        assert checkpoint["words"].read().tolist() == [b"one", b"two", b"three", b""]
        assert checkpoint["words"][2:4].tolist() == [b"three", b""]


def test_variables_of_objects_are_found_by_their_full_names(tmp_path: Path) -> None:
    with ss.checkpoint.open_tensorflow(extracted("objects", tmp_path).path) as checkpoint:
        assert checkpoint.full_names["first/kernel"] == "layers/0/kernel/.ATTRIBUTES/VARIABLE_VALUE"
        assert checkpoint.full_names["Adam/first/kernel/m"].endswith(
            ".OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE"
        )
        assert "second/bias" in checkpoint
        by_key = checkpoint["layers/1/bias/.ATTRIBUTES/VARIABLE_VALUE"]
        assert checkpoint["second/bias"] is by_key
        assert checkpoint["step"].read() == 2
        assert "third/bias" not in checkpoint
    assert tf.train.load_variable(tmp_path / "objects", "step") == 2


def test_a_full_name_of_several_variables_is_an_error_that_lists_their_keys(tmp_path: Path) -> None:
    with ss.checkpoint.open_tensorflow(extracted("objects_in_shards", tmp_path).path) as checkpoint:
        assert "same" not in checkpoint
        with pytest.raises(KeyError, match=r"same is the full name of 2 variables, with the keys same/0/.*, same/1/"):
            checkpoint["same"]
        with pytest.raises(KeyError, match="'none'"):
            checkpoint["none"]


def test_a_directory_stands_for_its_newest_checkpoint(tmp_path: Path) -> None:
    objects = extracted("objects", tmp_path)
    assert tf.train.latest_checkpoint(objects.folder) == str(objects.path)
    with ss.checkpoint.open_tensorflow(objects.folder) as checkpoint:
        assert checkpoint["save_counter"].read() == 2


def test_a_saved_model_is_opened_by_its_directory(tmp_path: Path) -> None:
    model = extracted("saved_model", tmp_path).folder / "model"
    for directory in (model, model / "variables"):
        with ss.checkpoint.open_tensorflow(directory) as checkpoint:
            assert checkpoint["layer/kernel"].shape == (3, 2)


@pytest.mark.parametrize("case", KERAS_CASES)
def test_saved_models_of_keras_are_imported_by_the_names_of_the_model(case: str, tmp_path: Path) -> None:
    recorded = extracted(case, tmp_path, KERAS_ARCHIVE)
    variables = json.loads((recorded.folder / "expected.json").read_text(encoding="utf-8"))["variables"]
    assert len(variables) == 8
    made = ss.checkpoint.import_from(recorded.path, tmp_path / "imported")
    assert set(made.names) >= set(variables)
    assert not [name for name in made.names if "VARIABLE_VALUE" in name]
    with ss.checkpoint.open(tmp_path / "imported") as imported, ss.checkpoint.open(recorded.path) as model:
        for name, data in variables.items():
            assert is_as_recorded(imported[name].read(), data), name
            assert is_as_recorded(model[name].read(), data), name


def test_what_only_tensorflow_can_read_is_refused_by_name_and_hides_nothing(tmp_path: Path) -> None:
    with ss.checkpoint.open_tensorflow(extracted("tensor_lists", tmp_path).path) as checkpoint:
        with pytest.raises(UnimplementedError, match="'list' are of variant, which only TensorFlow can read"):
            checkpoint["list"].read()
        assert checkpoint["beside"].read().tolist() == [1, 2]


@pytest.mark.parametrize("case", ["adam", "dtypes", "sliced", "many_names", "saved_model"])
def test_what_is_written_is_what_tensorflow_writes(case: str, tmp_path: Path) -> None:
    """The same data, byte for byte, and the same entries in the index."""
    recorded = extracted(case, tmp_path)
    wanted = index_entries(recorded.path)
    prefix = tmp_path / "ours" / "model"
    with ss.checkpoint.open_tensorflow(recorded.path) as checkpoint, new_checkpoint(prefix) as writer:
        placed = [
            (entry.offset, entry.size, name, tensor, part)
            for name, tensor in checkpoint.items()
            for part, entry in zip(tensor.parts, parts_of(wanted, name), strict=True)
        ]
        for _, _, name, tensor, part in sorted(placed, key=lambda each: each[:3]):
            inside = tuple([slice(start, start + size) for start, size in zip(part.starts, part.shape, strict=True)])
            dtype = tensor.dtype_name if tensor.dtype_name.startswith("q") else None
            writer.add_slice(name, tensor.shape, part.starts, tensor.read()[inside], dtype)
    assert shard_path(prefix, 0, 1).read_bytes() == shard_path(recorded.path, 0, 1).read_bytes()
    found = index_entries(prefix)
    for entry in (*found.values(), *wanted.values()):
        entry.slices.sort(key=lambda each: each.SerializeToString())
    assert {name: each for name, each in found.items() if each.size or each.slices} == {
        name: each for name, each in wanted.items() if each.size or each.slices
    }
    assert set(found) == set(wanted)


def index_entries(prefix: Path) -> dict[bytes, checkpoint_pb2.BundleEntry]:
    entries = dict(Table(CheckpointFile(index_path(prefix))).items())
    header = checkpoint_pb2.BundleHeader.FromString(bytes(entries.pop(HEADER_KEY)))
    assert (header.num_shards, header.version.producer) == (1, 1)
    return {key: checkpoint_pb2.BundleEntry.FromString(bytes(value)) for key, value in entries.items()}


def parts_of(entries: dict[bytes, checkpoint_pb2.BundleEntry], name: str) -> list[checkpoint_pb2.BundleEntry]:
    whole = entries[name.encode()]
    return [entries[TensorSlice.of(each).key(name.encode())] for each in whole.slices] or [whole]


@pytest.mark.skipif(TENSORFLOW is None, reason="TENSORFLOW_PYTHON names no interpreter that has TensorFlow")
@pytest.mark.integration
def test_tensorflow_reads_what_is_written_here(tmp_path: Path) -> None:
    prefix = tmp_path / "model.ckpt-7"
    random = np.random.default_rng(0)
    tensors: dict[str, Any] = {f"many/{number:05d}/weights": np.float32(number) for number in range(6000)}
    for each in BY_NAME.values():
        if not each.is_string and "int2" not in each.name and "float4" not in each.name:
            tensors[f"of/{each.name}"] = random.integers(0, 4, (3, 5)).astype(each.dtype)
    tensors |= {"text": np.array([b"a\0", "ä" * 300, b""], object), "one": b"text", "none": np.zeros((0, 2))}
    rows = random.random((1000, 7), np.float32)
    shards = []
    for number in range(3):
        with ShardWriter(prefix, number, 3) as writer:
            for name, value in list(tensors.items())[number::3]:
                kind = name.removeprefix("of/")
                writer.add(name, value, kind if kind.startswith(("qint", "quint")) else None)
            writer.add_slice("rows", rows.shape, [334 * number, 0], rows[334 * number : 334 * (number + 1)])
            shards.append(writer.finish())
    write_index(prefix, shards)
    assert TENSORFLOW is not None
    found = answer_of(TENSORFLOW, str(RECORDER), "--read", str(prefix))
    assert set(found) == {*tensors, "rows"}
    with ss.checkpoint.open_tensorflow(prefix) as checkpoint:
        for name, expected in found.items():
            assert (checkpoint[name].dtype_name, list(checkpoint[name].shape)) == (expected["dtype"], expected["shape"])
            assert is_as_recorded(checkpoint[name].read(), expected["data"]), name


@pytest.mark.skipif(TENSORFLOW is None, reason="TENSORFLOW_PYTHON names no interpreter that has TensorFlow")
@pytest.mark.integration
@pytest.mark.parametrize("how", ["--read", "--restore"])
def test_tensorflow_opens_an_exported_checkpoint_with_slots_and_parts(tmp_path: Path, how: str) -> None:
    with SmallCluster(3) as cluster:
        client = cluster.client()
        model = Model(client, parts=3)
        model.train(0, 4)
        client.save(tmp_path, step=4)
        values = dict(zip(("layer/whole", "layer/divided", "steps"), model.values(), strict=True))
    prefix = tmp_path / "exported" / "model.ckpt-4"
    made = ss.checkpoint.export(tmp_path, prefix, format="tensorflow")
    assert TENSORFLOW is not None
    found = answer_of(TENSORFLOW, str(RECORDER), how, str(prefix))
    assert set(found) == set(made.names) > {"layer/divided/Adam/m", "layer/whole/Adam/step", *values}
    with ss.checkpoint.open(tmp_path) as checkpoint:
        for name, expected in found.items():
            array = checkpoint[name].read()
            assert (array.dtype, list(array.shape)) == (expected["dtype"], expected["shape"])
            assert is_as_recorded(array, expected["data"]), name
            assert name not in values or array.tobytes() == values[name].tobytes()
