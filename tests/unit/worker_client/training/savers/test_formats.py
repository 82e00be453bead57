"""The forms of checkpoints: a saver asks all of the form that it is given, and blocks are read row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from ps_protocol.operations import PartitionSlice
from ps_protocol.tensor_files import stored_tensor
from worker_client.training.savers import formats
from worker_client.training.savers.formats import StoredSpec, TensorFlowFormat


class InMemory:
    """A form that keeps checkpoints in a dict, for one process."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    @contextmanager
    def open(self, path: str) -> Iterator[Any]:
        yield Opened(self.kept[path])

    @contextmanager
    def create(self, path: str, num_shards: int, specs: Any) -> Iterator[Any]:
        made = Opened({})
        yield made
        self.kept[path] = made.tensors

    def exists(self, path: str) -> bool:
        return path in self.kept

    def written_s(self, path: str) -> float | None:
        return 5.0 if path in self.kept else None

    def remove(self, path: str, meta_graph_suffix: str) -> None:
        del self.kept[path]


class Opened:
    def __init__(self, tensors: dict[str, Any]):
        self.tensors = tensors

    def add(self, shard: int, key: str, place: PartitionSlice | None, value: Any) -> None:
        assert place is None
        self.tensors[key] = value.copy()

    def find(self, key: str) -> StoredSpec | None:
        return StoredSpec(self.tensors[key].dtype, self.tensors[key].shape) if key in self.tensors else None

    def verify(self, key: str) -> None:
        assert key in self.tensors

    def read(self, key: str, place: PartitionSlice | None, shape: Sequence[int], room: Any = None) -> Any:
        return self.tensors[key]


def test_a_saver_asks_everything_of_its_form(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = InMemory()
    monkeypatch.setitem(formats.FORMATS, "memory", memory)
    with tf.Graph().as_default(), tf.Session() as session:
        variable = tf.get_variable("v", initializer=[1.0, 2.0])
        saver = tf.train.Saver(max_to_keep=2, write_format="memory")
        session.run(variable.initializer)
        paths = [saver.save(session, tmp_path / "m", step) for step in range(3)]
        assert list(memory.kept) == paths[1:]
        assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]
        session.run(variable.assign([9.0, 9.0]))
        saver.restore(session, paths[2])
        assert session.run(variable).tolist() == [1.0, 2.0]
        with pytest.raises(ValueError, match="not a valid checkpoint"):
            saver.restore(session, paths[0])
        again = tf.train.Saver(write_format="memory")
        again.recover_last_checkpoints([each or "" for each in paths])
        assert again.last_checkpoints == paths[1:]


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_a_block_is_read_few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rows_at_once: int) -> None:
    whole = np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3)
    ss.checkpoint.write_tensorflow(tmp_path / "m", {"v": whole})
    monkeypatch.setattr(stored_tensor, "_ROOM_BYTES", rows_at_once * whole[0].nbytes)
    with TensorFlowFormat().open(str(tmp_path / "m")) as checkpoint:
        place = PartitionSlice("v", (5, 4, 3), (1, 2, 0))
        np.testing.assert_array_equal(checkpoint.read("v", place, (3, 2, 3)), whole[1:4, 2:])
        rows = PartitionSlice("v", (5, 4, 3), (3, 0, 0))
        np.testing.assert_array_equal(checkpoint.read("v", rows, (2, 4, 3)), whole[3:])
        none = checkpoint.read("v", PartitionSlice("v", (5, 4, 3), (5, 1, 0)), (0, 1, 3))
        assert none.shape == (0, 1, 3)
