"""What goes through any form comes back: names, dtypes, shapes and bits, read whole, in rows and in pieces."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.operations import Array
from ps_protocol.tensor_files import stored_tensor
from ps_protocol.tensor_files.npz import write_npz
from ps_protocol.tensor_files.safetensors_writer import write_safetensors
from ps_protocol.tensor_files.stored_tensor import StoredTensor
from ps_protocol.tensorflow_files.bundle_writer import new_checkpoint
from tests.tensor_files import tensor_of
from worker_client.checkpoints.new_checkpoint import write_checkpoint
from worker_client.checkpoints.opening import open_checkpoint

DTYPES = ("float32", "float64", "int64", "uint8", "bool", "float16", "bfloat16", "complex64", "float8_e5m2")
TEXT = st.lists(st.sampled_from([b"", b"a", b"bc\1", b"d" * 300]), max_size=5)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[Array, int]:
    """An array, and in how many parts it was saved."""
    if draw(st.integers(0, 5)) == 0:
        return np.array([*draw(TEXT), None], object)[:-1], draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(0, 5), max_size=3)))
    dtype = draw(st.sampled_from(DTYPES))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 2, shape)
    return values.astype(getattr(ml_dtypes, dtype, dtype)), draw(st.integers(1, 3))


def written(form: str, folder: Path, tensors: Mapping[str, StoredTensor]) -> Path:
    if form == "shardscope":
        write_checkpoint(FolderStore(folder), "x", tensors)
        return folder / "x"
    if form == "tensorflow":
        with new_checkpoint(folder / "m") as writer:
            for name, tensor in tensors.items():
                writer.add_stored(name, tensor)
        return folder / "m"
    if form == "npz":
        return write_npz(folder / "m.npz", tensors)[-1]
    return write_safetensors(folder / "m.safetensors", tensors, shard_bytes=64)[-1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms")


def same(found: Array, expected: Array) -> bool:
    if expected.dtype.hasobject:
        return bool(found.tolist() == expected.tolist())
    if found.dtype != expected.dtype:  # NumPy's format has no name for it
        return bool(found.dtype == np.float32) and bool(np.array_equal(found, expected.astype(np.float32)))
    return found.shape == expected.shape and found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("form", ["shardscope", "tensorflow", "safetensors", "npz"])
@settings(max_examples=40)
@given(drawn=st.lists(arrays(), min_size=1, max_size=4), piece_bytes=st.integers(1, 40), data=st.data())
def test_any_form_gives_back_what_was_written(
    folder: Path, form: str, drawn: list[tuple[Array, int]], piece_bytes: int, data: Any
) -> None:
    drawn = [each for each in drawn if form != "safetensors" or each[0].dtype != object]
    whole = {f"scope/v{number}": array for number, (array, _) in enumerate(drawn)}
    tensors = {name: tensor_of(name, whole[name], parts) for name, (_, parts) in zip(whole, drawn, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_tensor, "_PIECE_BYTES", piece_bytes)
        shutil.rmtree(folder / form, ignore_errors=True)
        path = written(form, folder / form, tensors)
        with open_checkpoint(path) as checkpoint:
            assert sorted(checkpoint) == sorted(tensors)
            for name in tensors:
                found, expected = checkpoint[name], whole[name]
                found.verify()
                assert same(found.read(), expected)
                pieces = [piece.copy() for piece in found.pieces()]
                assert same(np.concatenate(pieces) if expected.ndim else pieces[0], expected)
                for part in found.parts:
                    box = tuple([slice(a, a + n) for a, n in zip(part.starts, part.shape, strict=True)])
                    of_part = [piece.copy() for piece in found.pieces_of(part)]
                    assert same(np.concatenate(of_part) if expected.ndim and of_part else expected[box], expected[box])
                if expected.ndim:
                    starts = [data.draw(st.integers(0, size)) for size in expected.shape]
                    ends = [data.draw(st.integers(a, n)) for a, n in zip(starts, expected.shape, strict=True)]
                    box = tuple([slice(a, b) for a, b in zip(starts, ends, strict=True)])
                    assert same(found.read_block(starts, expected[box].shape), expected[box])
                    assert same(found[box[0]], expected[box[0]])
