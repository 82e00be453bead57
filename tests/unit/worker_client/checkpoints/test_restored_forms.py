"""A restore through the client takes checkpoints of other forms as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import shardscope as ss
import worker_client
from ps_protocol.errors import DataLossError, InvalidArgumentError, NotFoundError
from tests.checkpoint_files import TORCH_ARCHIVE, extracted
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, assert_equal, flip

FORMS = {"tensorflow": "out/model.ckpt-3", "safetensors": "out/m.safetensors", "npz": "out/m.npz"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("parts", [1, 2, 4])
def test_each_form_is_restored_in_any_parts(tmp_path: Path, form: str, parts: int) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        model = Model(client, parts=3)
        model.train(0, 2)
        expected = model.values()
        client.save(tmp_path / "run")
    exported = ss.checkpoint.export(tmp_path / "run", tmp_path / FORMS[form], format=form, slots=True)
    with SmallCluster(3) as cluster:
        client = cluster.client()
        model = Model(client, parts=parts)
        report = client.restore(exported, through="client")
        assert set(report.names("restored")) == {"layer/whole", "layer/divided", "steps"}
        assert_equal(model.values(), expected)
        assert report.path == str(exported)
        model.train(2, 1)  # optimizers begin anew


def test_columns_are_restored(tmp_path: Path) -> None:
    wide = np.arange(60, dtype=np.float32).reshape(5, 12)
    np.savez(tmp_path / "m.npz", wide=wide)
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            partitioner = worker_client.fixed_size_partitioner(3, axis=1)
            made = worker_client.get_variable("wide", [5, 12], partitioner=partitioner)
        client.restore(tmp_path / "m.npz", through="client")
        np.testing.assert_array_equal(made.read_value(), wide)


def test_a_cluster_that_has_nothing_gets_all_of_a_state_dict_by_other_names(tmp_path: Path) -> None:
    recorded = extracted("sharded", tmp_path, TORCH_ARCHIVE)
    with SmallCluster(2) as cluster:
        client = cluster.client()
        report = client.restore(recorded.folder, through="client", names={"model/*": "*"})
        assert set(report.names("restored")) == {f"model/{name}" for name in recorded.tensors}
        found: Any = client.variable("model/3.weight").read_value()
        assert found.dtype == ml_dtypes.bfloat16
        assert found.tobytes().hex() == recorded.tensors["3.weight"]["data"]


def test_text_is_restored(tmp_path: Path) -> None:
    words = np.array([b"one\0", b"", b"three"], object)
    ss.checkpoint.write_tensorflow(tmp_path / "m", {"words": words})
    with SmallCluster(2) as cluster:
        client = cluster.client()
        client.restore(tmp_path / "m", through="client")
        client.save(tmp_path / "run")
    with ss.checkpoint.open(tmp_path / "run") as checkpoint:
        assert checkpoint["words"].read().tolist() == words.tolist()


def test_what_does_not_fit_or_is_damaged_changes_nothing(tmp_path: Path) -> None:
    ss.checkpoint.write_tensorflow(tmp_path / "m", {"a": np.ones(4, np.float32), "b": np.ones(4, np.float32)})
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            zeros = worker_client.zeros_initializer()
            made = [worker_client.get_variable(name, [4], initializer=zeros) for name in "ab"]
        flip(tmp_path / "m.data-00000-of-00001", 20)
        with pytest.raises(DataLossError, match=r"m\.data-00000-of-00001 is damaged"):
            client.restore(tmp_path / "m", through="client")
        ss.checkpoint.write_tensorflow(tmp_path / "n", {"a": np.ones(3, np.float32), "b": np.ones(4, np.float32)})
        with pytest.raises(InvalidArgumentError, match=r"float32\[4\] in the cluster, float32\[3\] in the checkpoint"):
            client.restore(tmp_path / "n", through="client")
        with pytest.raises(NotFoundError, match=f"there is no checkpoint {tmp_path}/none"):
            client.restore(tmp_path / "none", through="client")
        with pytest.raises(NotFoundError, match="there is no checkpoint at"):
            client.restore(tmp_path / "m")  # the ps tasks read only Shardscope's
        assert [each.read_value().tolist() for each in made] == [[0.0] * 4] * 2
