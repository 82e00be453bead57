"""Files of version 1 that say of themselves what cannot be. What TensorFlow writes is in ``tests/conformance``."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from ps_protocol.errors import DataLossError, UnimplementedError
from ps_protocol.tensorflow_files import checkpoint_pb2
from ps_protocol.tensorflow_files.checkpoint import open_tensorflow
from ps_protocol.tensorflow_files.slices import TensorSlice
from ps_protocol.tensorflow_files.table_writer import write_table

MEMORY_LIMIT_BYTES = 32 * 1024**2


def written(path: Path, *shape: int) -> Path:
    """Writes a file that says that there is a tensor "x" of floats, and has four bytes of it."""
    place = TensorSlice((0,) * len(shape), (None,) * len(shape))
    dimensions = [checkpoint_pb2.TensorShape.Dimension(size=size) for size in shape]
    listed = checkpoint_pb2.SavedTensorSlices.Meta.Tensor(
        name="x", shape=checkpoint_pb2.TensorShape(dim=dimensions), type=1, slice=[place.message()]
    )
    meta = checkpoint_pb2.SavedTensorSlices(meta=checkpoint_pb2.SavedTensorSlices.Meta(tensor=[listed]))
    data = checkpoint_pb2.SavedTensorSlices.Slice(data=checkpoint_pb2.Tensor(float_val=bytes(4)))
    values = checkpoint_pb2.SavedTensorSlices(data=data)
    with path.open("wb") as file:
        write_table(file, [(b"", meta.SerializeToString()), (place.key(b"x"), values.SerializeToString())])
    return path


def test_a_shape_gets_no_memory_that_the_file_cannot_fill(tmp_path: Path) -> None:
    with open_tensorflow(written(tmp_path / "m", 2**20, 2**8)) as checkpoint:
        assert checkpoint["x"].shape == (2**20, 2**8)
        tracemalloc.start()
        try:
            for read in (checkpoint["x"].read, lambda: checkpoint["x"][:5], checkpoint["x"].check_size):
                with pytest.raises(DataLossError, match=r"m is damaged .*'x' has 268435456 elements in what can have"):
                    read()
            assert tracemalloc.get_traced_memory()[1] < MEMORY_LIMIT_BYTES
        finally:
            tracemalloc.stop()


def test_as_many_elements_as_there_are_must_be_listed(tmp_path: Path) -> None:
    with (
        open_tensorflow(written(tmp_path / "m", 2)) as checkpoint,
        pytest.raises(DataLossError, match="it has 1 elements, and should have 2"),
    ):
        checkpoint["x"].read()
    with open_tensorflow(written(tmp_path / "m", 1)) as checkpoint:
        assert checkpoint["x"].read().tolist() == [0.0]


def test_more_dimensions_than_numpy_has_are_refused_by_name(tmp_path: Path) -> None:
    with open_tensorflow(written(tmp_path / "m", *[1] * 65)) as checkpoint:
        assert list(checkpoint) == ["x"]
        with pytest.raises(UnimplementedError, match=r"'x' has the shape .*, which NumPy's arrays cannot have"):
            checkpoint["x"].read()
