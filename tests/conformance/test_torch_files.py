"""Safetensors that PyTorch's libraries have written are read as they read them, and they read those of an export.

The second is tested with torch, safetensors and huggingface_hub where an interpreter is given that has them:
``TORCH_PYTHON=envs/torch/bin/python``, and ``TORCH_PYTHONPATH`` for those of them that are elsewhere.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import shardscope as ss
from ps_protocol.tensor_files.safetensors import SafetensorsCheckpoint
from tests.checkpoint_files import TORCH_ARCHIVE, Recorded, answer_of, extracted, is_as_recorded
from tests.unit.worker_client.checkpoints.small_clusters import SmallCluster

RECORDER = TORCH_ARCHIVE.parents[1] / "record_torch_files.py"
TORCH = os.environ.get("TORCH_PYTHON")


def recorded(case: str, folder: Path) -> Recorded:
    return extracted(case, folder, TORCH_ARCHIVE)


@pytest.mark.parametrize("case", ["single", "sharded", "every_dtype"])
def test_names_dtypes_shapes_and_values_are_those_that_torch_has(case: str, tmp_path: Path) -> None:
    found = recorded(case, tmp_path)
    for path in (found.path, found.folder):
        with ss.checkpoint.open(path) as checkpoint:
            assert set(checkpoint) == set(found.tensors)
            for name, expected in found.tensors.items():
                tensor = checkpoint[name]
                assert (tensor.dtype_name, list(tensor.shape)) == (expected["dtype"], expected["shape"])
                assert is_as_recorded(np.asarray(tensor), expected["data"]), name
    with SafetensorsCheckpoint(found.path) as checkpoint:
        assert checkpoint.metadata == ({} if case == "every_dtype" else {"format": "pt"})


@pytest.mark.parametrize("case", ["single", "sharded", "every_dtype"])
def test_a_state_dict_comes_back_from_a_cluster(case: str, tmp_path: Path) -> None:
    """Imported, restored on ps tasks, saved, and exported again: the same names, dtypes and bytes."""
    found = recorded(case, tmp_path / "theirs")
    ss.checkpoint.import_from(found.folder, tmp_path / "imported", format="pytorch")
    with SmallCluster(3) as cluster:
        client = cluster.client()
        client.restore(tmp_path / "imported")
        assert {each.ps_task for each in cluster.tasks[0].list_placements(timeout_s=30)} == {0, 1, 2}
        client.save(tmp_path / "saved")
    ss.checkpoint.export(tmp_path / "saved", tmp_path / "ours", format="pytorch", shard_size=200)
    compared = ss.checkpoint.diff(found.folder, tmp_path / "ours")
    assert (compared.is_equal, compared.num_equal) == (True, len(found.tensors)), str(compared)
    if case == "sharded":
        theirs, ours = [json.loads((each / found.path.name).read_text()) for each in (found.folder, tmp_path / "ours")]
        assert ours["metadata"] == theirs["metadata"]
        assert set(ours["weight_map"].values()) == set(theirs["weight_map"].values())


@pytest.mark.skipif(TORCH is None, reason="TORCH_PYTHON names no interpreter that has torch")
@pytest.mark.integration
@pytest.mark.parametrize("shard_size", [None, 200])
def test_torch_loads_what_is_exported(tmp_path: Path, shard_size: int | None) -> None:
    found = recorded("single", tmp_path / "theirs")
    ss.checkpoint.import_from(found.path, tmp_path / "imported", format="pytorch")
    made = ss.checkpoint.export(tmp_path / "imported", tmp_path / "ours", format="pytorch", shard_size=shard_size)
    assert Path(made).name == ("model.safetensors" if shard_size is None else "model.safetensors.index.json")
    assert TORCH is not None
    assert answer_of(TORCH, str(RECORDER), "--read", str(tmp_path / "ours")) == found.tensors


@pytest.mark.skipif(TORCH is None, reason="TORCH_PYTHON names no interpreter that has torch")
@pytest.mark.integration
def test_torch_loads_every_dtype(tmp_path: Path) -> None:
    found = recorded("every_dtype", tmp_path / "theirs")
    ss.checkpoint.export(found.path, tmp_path / "ours.safetensors", format="safetensors")
    assert TORCH is not None
    assert answer_of(TORCH, str(RECORDER), "--read", str(tmp_path / "ours.safetensors")) == found.tensors
