"""A checkpoint as a mapping: variables are whole, what is read is checked, and errors name the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import (
    BLOCK_BYTES,
    MANIFEST_FILE,
    SavedVariable,
    decode_manifest,
    encode_manifest,
)
from ps_protocol.errors import DataLossError, FailedPreconditionError, NotFoundError, UnknownError
from ps_protocol.operations import PartitionSlice
from tests.tensor_files import in_memory
from tests.unit.worker_client.checkpoints.small_clusters import PART, Model, SmallCluster, flip
from worker_client.checkpoints.new_checkpoint import write_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> dict[str, Any]:
    """Saves a model of which one variable is in parts; returns the values by name."""
    with SmallCluster(2) as cluster:
        client = cluster.client()
        model = Model(client, parts=3)
        model.train(0, 2)
        with client.as_default():
            text = worker_client.get_variable("text", initializer=np.array([b"one", b"three"]))
        client.save(tmp_path, step=2)
        names = ("layer/whole", "layer/divided", "steps")
        return dict(zip(names, model.values(), strict=True)) | {"text": text.read_value()}


def changed(folder: Path, change: Callable[[SavedVariable], SavedVariable | None]) -> None:
    """Changes what the manifest of a checkpoint says of its variables, or leaves some out."""
    path = folder / MANIFEST_FILE
    manifest = decode_manifest(path.read_bytes())
    parts = [
        replace(part, variables=tuple([found for each in part.variables if (found := change(each)) is not None]))
        for part in manifest.parts
    ]
    path.write_bytes(encode_manifest(replace(manifest, parts=tuple(parts))))


def written(tmp_path: Path, **arrays: Any) -> Path:
    write_checkpoint(FolderStore(tmp_path), "x", in_memory(arrays))
    return tmp_path / "x"


def test_variables_are_whole_and_slots_say_whose_they_are(saved: dict[str, Any], tmp_path: Path) -> None:
    with ss.checkpoint.open(tmp_path) as checkpoint:
        assert isinstance(checkpoint, ss.checkpoint.ShardscopeCheckpoint)
        assert (checkpoint.step, checkpoint.path) == (2, f"{tmp_path}/step-000000002")
        assert list(checkpoint) == sorted(checkpoint)
        assert len(checkpoint) == len(list(checkpoint))
        for name, expected in saved.items():
            np.testing.assert_array_equal(checkpoint[name].read(), expected)
            checkpoint[name].verify()
            checkpoint[name].check_size()
        divided = checkpoint["layer/divided"]
        assert [part.starts for part in divided.parts] == [(0, 0), (8, 0), (16, 0)]
        np.testing.assert_array_equal(divided[5:20, 1:], saved["layer/divided"][5:20, 1:])
        assert checkpoint["layer/divided/Adam/m"].slot_of == "layer/divided"
        assert checkpoint["layer/divided/Adam/m"].shape == divided.shape
        assert checkpoint["layer/divided/part_1/Adam/step"].slot_of == "layer/divided"
        assert divided.slot_of == ""
        assert "layer/divided/part_1" not in checkpoint
        assert checkpoint["text"].dtype_name == "string"


def test_rows_are_read_and_checked_by_the_blocks_that_they_are_in(tmp_path: Path) -> None:
    rows = np.arange(3 * BLOCK_BYTES // 8, dtype=np.int64).reshape(-1, 16)
    folder = written(tmp_path, rows=rows, beside=np.arange(5))
    (part,) = folder.glob("*.safetensors")
    flip(part, part.stat().st_size - BLOCK_BYTES // 2)
    with ss.checkpoint.open(folder) as checkpoint:
        np.testing.assert_array_equal(checkpoint["rows"][10:20], rows[10:20])
        np.testing.assert_array_equal(checkpoint["beside"].read(), np.arange(5))
        for read in (checkpoint["rows"].read, checkpoint["rows"].verify, lambda: checkpoint["rows"][-1]):
            with pytest.raises(DataLossError, match=rf"{part}.* the checksum of the bytes \d+ to \d+ does not fit"):
                read()


def test_parts_that_cut_rows_are_put_together(tmp_path: Path) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            wide = worker_client.get_variable(
                "wide", [5, 12], partitioner=worker_client.fixed_size_partitioner(3, axis=1)
            )
        expected: Any = wide.read_value()
        client.save(tmp_path, name="x")
    with ss.checkpoint.open(tmp_path / "x") as checkpoint:
        np.testing.assert_array_equal(checkpoint["wide"].read(), expected)
        np.testing.assert_array_equal(checkpoint["wide"][1:4], expected[1:4])


def test_a_variable_without_a_value_says_so_when_it_is_read(tmp_path: Path) -> None:
    folder = written(tmp_path, a=np.zeros(3), b=np.ones(2))
    changed(folder, lambda each: replace(each, initialized=False, checksums=()) if each.spec.name == "a" else each)
    with ss.checkpoint.open(folder) as checkpoint:
        assert not checkpoint["a"].has_value
        with pytest.raises(FailedPreconditionError, match="'a' had no value when it was saved"):
            checkpoint["a"].read()
        assert checkpoint["b"].read().tolist() == [1, 1]


def test_a_variable_of_which_parts_are_missing_says_so_when_it_is_read(tmp_path: Path) -> None:
    folder = written(tmp_path, a=np.zeros((3, 2)))
    place = PartitionSlice("whole", (6, 2), (3, 0))
    changed(folder, lambda each: replace(each, spec=replace(each.spec, slice=place)))
    with ss.checkpoint.open(folder) as checkpoint:
        assert checkpoint["whole"].shape == (6, 2)
        with pytest.raises(FailedPreconditionError, match=r"'whole' has the shape \[6, 2\].* \[3, 2\] at \[3, 0\]"):
            checkpoint["whole"].read()


@pytest.mark.parametrize("damage", ["missing", "cut off", "header"])
def test_a_damaged_file_is_named_and_hides_no_other(saved: dict[str, Any], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "step-000000002" / PART
    if damage == "missing":
        path.unlink()
    elif damage == "cut off":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        flip(path, 20)
    with ss.checkpoint.open(tmp_path) as checkpoint:
        np.testing.assert_array_equal(checkpoint["layer/whole"].read(), saved["layer/whole"])
        with pytest.raises(DataLossError, match=str(path)):
            checkpoint["layer/divided"].read()


def test_a_place_beyond_the_end_is_an_error(tmp_path: Path) -> None:
    folder = written(tmp_path, a=np.zeros(3))
    changed(folder, lambda each: replace(each, offset=10**9))
    with pytest.raises(FailedPreconditionError, match=r"parts\[0\]\.variables\[0\]\.offset is 1000000000"):
        ss.checkpoint.open(folder)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, a=np.zeros(3))
    (part,) = folder.glob("*.safetensors")
    part.unlink()
    part.mkdir()
    with ss.checkpoint.open(folder) as checkpoint, pytest.raises((UnknownError, DataLossError), match=str(part)):
        checkpoint["a"].read()


def test_a_closed_checkpoint_says_so(tmp_path: Path) -> None:
    for reads_first in (True, False):
        with ss.checkpoint.open(written(tmp_path / f"{reads_first}", a=np.zeros(3))) as checkpoint:
            if reads_first:
                checkpoint["a"].read()
        checkpoint.close()
        with pytest.raises(FailedPreconditionError, match="is closed; open the checkpoint again to read it"):
            checkpoint["a"].read()


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, a=np.zeros(3))
    flip(folder / MANIFEST_FILE, 100)
    with pytest.raises(FailedPreconditionError, match=str(folder / MANIFEST_FILE)):
        ss.checkpoint.open(folder)
    with pytest.raises(NotFoundError, match="there is no checkpoint"):
        ss.checkpoint.open(tmp_path / "other")
