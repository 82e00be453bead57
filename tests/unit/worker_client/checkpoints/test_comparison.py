"""What is different in two checkpoints is said by name: presence, shape, dtype, values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import shardscope as ss
import worker_client
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.errors import DataLossError, InvalidArgumentError
from ps_protocol.tensor_files import stored_tensor
from ps_protocol.tensor_files.safetensors_writer import write_safetensors
from tests.tensor_files import in_memory
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, flip
from worker_client.checkpoint import Difference
from worker_client.checkpoints.new_checkpoint import write_checkpoint


def written(tmp_path: Path, name: str, **arrays: Any) -> Path:
    write_checkpoint(FolderStore(tmp_path), name, in_memory(arrays))
    return tmp_path / name


@pytest.fixture(params=[1, 1000], ids=["row by row", "whole"], autouse=True)
def piece_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_tensor, "_PIECE_BYTES", request.param)


def test_the_same_model_in_other_parts_is_equal(tmp_path: Path) -> None:
    for parts in (1, 3):
        with SmallCluster(parts) as cluster:
            client = cluster.client()
            model = Model(client, parts=parts)
            model.whole.assign(np.arange(185, dtype=np.float32).reshape(37, 5))
            model.divided.assign(np.arange(69, dtype=np.float32).reshape(23, 3))
            client.save(tmp_path, name=f"{parts}")
    found = ss.checkpoint.diff(tmp_path / "1", tmp_path / "3")
    assert (found.is_equal, found.num_equal, str(found)) == (True, 3, "")


def test_each_difference_is_said(tmp_path: Path) -> None:
    same = np.arange(10, dtype=np.float32).reshape(5, 2)
    other = same.copy()
    other[3, 1] += 0.5
    other[4, 0] -= 2
    one = written(tmp_path, "one", same=same, values=same, shape=same, kind=same, gone=same, text=[b"a", b"b"])
    two = written(
        tmp_path,
        *("two",),
        same=same,
        values=other,
        shape=same[1:],
        kind=same.astype(ml_dtypes.bfloat16),
        new=same[:1],
        text=np.array([b"a", b"longer"], object),
    )
    found = ss.checkpoint.diff(one, two)
    rows = {each.name: each for each in found.tensors}
    assert list(rows) == ["gone", "kind", "new", "shape", "text", "values"]
    assert found.num_equal == 1
    assert {name: each.difference for name, each in rows.items()} == {
        "gone": Difference.ONLY_FIRST,
        "kind": Difference.DTYPE,
        "new": Difference.ONLY_SECOND,
        "shape": Difference.SHAPE,
        "text": Difference.VALUES,
        "values": Difference.VALUES,
    }
    assert (rows["values"].num_different, rows["values"].max_difference) == (2, 2.0)
    assert rows["values"].detail == "2 of 10 elements differ by at most 2"
    assert (rows["kind"].num_different, rows["kind"].max_difference) == (0, 0.0)
    assert rows["kind"].detail == "float32[5, 2] and bfloat16[5, 2]; 0 of 10 elements differ"
    assert rows["text"].detail == "1 of 2 elements differ"
    assert math.isnan(rows["text"].max_difference)
    assert str(found).splitlines()[0] == "only in the first   gone    float32[5, 2]"


@pytest.mark.parametrize(
    ("one", "other", "count", "largest"),
    [
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), 0, 0.0),
        (np.array([np.nan, 1.0]), np.array([0.0, 1.5]), 2, math.nan),
        (np.array([np.inf, -np.inf]), np.array([np.inf, np.inf]), 1, math.inf),
        (np.array([0.0, 2.0]), np.array([-0.0, 2.0]), 0, 0.0),
        (np.array([-(2**63), 5]), np.array([2**63 - 1, 5]), 1, float(2**64 - 1)),
        (np.array([2**62 + 1, 2**62]), np.array([2**62, 2**62]), 1, 1.0),
        (np.array([0, 2**64 - 1], np.uint64), np.array([2**64 - 1, 0], np.uint64), 2, float(2**64 - 1)),
        (np.array([-128, 5], np.int8), np.array([127, 5], np.int8), 1, 255.0),
        (np.array([True, False]), np.array([True, True]), 1, 1.0),
        (np.array([1 + 1j, 0]), np.array([1 + 4j, 4]), 2, 4.0),
        (np.array([1, 2], ml_dtypes.bfloat16), np.array([1, 3], ml_dtypes.bfloat16), 1, 1.0),
        (np.array([-8, 2], ml_dtypes.int4), np.array([7, 2], ml_dtypes.int4), 1, 15.0),
        (np.zeros((0, 3)), np.zeros((0, 3)), 0, 0.0),
        (np.array(3), np.array(5), 1, 2.0),
    ],
)
def test_values_are_compared_as_numbers(tmp_path: Path, one: Any, other: Any, count: int, largest: float) -> None:
    found = ss.checkpoint.diff(written(tmp_path, "one", v=one), written(tmp_path, "two", v=other))
    rows = [(each.num_different, each.max_difference) for each in found.tensors]
    assert found.is_equal == (count == 0)
    np.testing.assert_equal(rows, [(count, largest)] if count else [])


def test_only_names_that_fit_are_compared(tmp_path: Path) -> None:
    one = written(tmp_path, "one", **{"a/w": np.zeros(2), "a/b": np.zeros(2), "c/w": np.zeros(2)})
    two = written(tmp_path, "two", **{"a/w": np.ones(2), "a/b": np.zeros(2)})
    assert [each.name for each in ss.checkpoint.diff(one, two).tensors] == ["a/w", "c/w"]
    assert ss.checkpoint.diff(one, two, names="*/b").is_equal
    found = ss.checkpoint.diff(one, two, names=["a/*", "x"])
    assert ([each.name for each in found.tensors], found.num_equal) == (["a/w"], 1)
    with pytest.raises(InvalidArgumentError, match=r"neither checkpoint has a name that fits x or y/\*"):
        ss.checkpoint.diff(one, two, names=["x", "y/*"])


def test_names_only_reads_no_values(tmp_path: Path) -> None:
    one = written(tmp_path, "one", v=np.zeros(2), w=np.zeros(2))
    two = written(tmp_path, "two", v=np.ones(2), w=np.zeros(2, np.float32))
    (part,) = one.glob("*.safetensors")
    flip(part, part.stat().st_size - 1)
    found = ss.checkpoint.diff(one, two, names_only=True)
    assert [(each.name, each.difference, each.detail) for each in found.tensors] == [
        ("w", Difference.DTYPE, "float64[2] and float32[2]")
    ]
    assert (found.num_equal, found.compared_values) == (1, False)
    with pytest.raises(DataLossError, match=str(part)):
        ss.checkpoint.diff(one, two)


def test_forms_may_differ(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"a/w": np.arange(6.0).reshape(2, 3), "step": np.array(3)}
    one = written(tmp_path, "one", **arrays)
    ss.checkpoint.write_tensorflow(tmp_path / "m-1", arrays)
    write_safetensors(tmp_path / "m.safetensors", in_memory(arrays))
    np.savez(tmp_path / "m.npz", **arrays)
    shown: list[tuple[int, int]] = []
    for other in ("m-1", "m.safetensors", "m.npz"):
        found = ss.checkpoint.diff(one, tmp_path / other, show_progress=lambda *sizes: shown.append(sizes))
        assert (found.is_equal, found.num_equal) == (True, 2)
    assert shown[-1] == (56, 56)


def test_a_variable_without_a_value_is_equal_to_none_but_its_like(tmp_path: Path) -> None:
    with SmallCluster(1) as cluster:
        client = cluster.client()
        with client.as_default():
            worker_client.get_variable("v", [2])
        client.save(tmp_path, name="with")
    folders = []
    for name in ("without", "neither"):
        with SmallCluster(1) as cluster:
            client = cluster.client(initialize=False)
            with client.as_default():
                worker_client.get_variable("v", [2])
            client.save(tmp_path, name=name)
            folders.append(tmp_path / name)
    assert ss.checkpoint.diff(*folders).is_equal
    for names_only in (False, True):
        (row,) = ss.checkpoint.diff(tmp_path / "with", folders[0], names_only=names_only).tensors
        assert row.detail == "float32[2] and float32[2], without a value"
        assert row.difference is Difference.VALUES
